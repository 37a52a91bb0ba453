"""What commands that change the machine's state share: opening it, and recording what they did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from agentguard.cli._common import Place, note
from agentguard.errors import AuditError
from agentguard.runtime import SystemClock

if TYPE_CHECKING:
    from agentguard.state import MachineState


@contextmanager
def open_state(place: Place, *, accept_reset: bool = False) -> Iterator[MachineState]:
    """
    Open the state of the store's machine.

    Args:
        place:
            Which store.
        accept_reset:
            Begin anew where the state was removed or replaced.

    Yields:
        The state.

    Raises:
        StoreError: It was removed, replaced, altered, or cannot be opened.
    """
    # Imported late: help and errors of other commands need no cryptography.
    from agentguard.state import MachineState

    state = MachineState.open(
        place.config.store,
        place.open_keystore(),
        SystemClock(),
        on_internal_error=_raise,
        accept_reset=accept_reset,
    )
    try:
        yield state
    finally:
        state.close()


def record_event(place: Place, kind: str, details: Mapping[str, object]) -> None:
    """
    Chain what a command did into the decision log.

    Args:
        place:
            Which store.
        kind:
            Dotted name of the event.
        details:
            Plain data without secrets.

    Raises:
        AuditError: It was done, but could not be recorded.
    """
    from agentguard.audit import DecisionJournal

    keystore = place.open_keystore()
    journal = DecisionJournal.open(
        place.config.store,
        keystore=keystore,
        clock=SystemClock(),
        on_internal_error=lambda where, error: note(f"{where}: {type(error).__name__}"),
        details={"program": "agentguard command line", **keystore.opened_with},
    )
    journal.append_event(kind, details, is_durable=True)
    if not journal.close(5.0):
        raise AuditError("it was done and recorded, but the checkpoint could not be written")


def _raise(where: str, error: BaseException) -> None:
    """Hide nothing in a command: the person who typed it is told."""
    error.add_note(f"while doing {where}")
    raise error
