"""A machine's state and a process's own, which must answer alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentguard.seal import Keystore
from agentguard.state import MachineState, MemoryState
from tests.support.clock import FrozenClock
from tests.support.decisions import make_keystore, raise_it

AnyState = MachineState | MemoryState


@pytest.fixture
def place(tmp_path: Path) -> tuple[Path, Keystore]:
    """The folder of a store, and its keys."""
    return make_keystore(tmp_path)


@pytest.fixture
def open_machine(place: tuple[Path, Keystore], clock: FrozenClock) -> Iterator[Callable[..., MachineState]]:
    """Open the same machine's state as often as asked, as several processes would."""
    opened: list[MachineState] = []

    def open_it(**options: object) -> MachineState:
        store, keystore = place
        state = MachineState.open(store, keystore, clock, on_internal_error=raise_it, **options)  # type: ignore[arg-type]
        opened.append(state)
        return state

    yield open_it
    for state in opened:
        state.close()


@pytest.fixture(params=["machine", "memory"])
def state(
    request: pytest.FixtureRequest,
    open_machine: Callable[..., MachineState],
    place: tuple[Path, Keystore],
    clock: FrozenClock,
) -> AnyState:
    """Both kinds of state in turn."""
    if request.param == "machine":
        return open_machine()
    return MemoryState(clock, store_id=place[1].store_id)
