"""The kill switch: at once, in every process, and never lifted by accident."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from agentguard.errors import StoreError
from agentguard.seal import Keystore
from agentguard.state import MachineState, MemoryState
from agentguard.state.page import KILL
from tests.support.clock import FrozenClock

AnyState = MachineState | MemoryState

# Newer Pythons warn of forks beside threads; what then happens is what these tests are about.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
Open = Callable[..., MachineState]


def test_scopes(state: AnyState) -> None:
    """An order stops what its scope names, an order for all stops everything."""
    assert not state.kill.is_set("tool:pay", "agent:support")
    order = state.kill.set("tool:pay", reason="odd payments", by="dana")
    assert state.kill.find("agent:support", "tool:pay") == order
    assert not state.kill.is_set("tool:search", "agent:support")
    state.kill.set("all", reason="stop", by="dana")
    assert state.kill.is_set("tool:search")
    assert [order.scope for order in state.kill.orders()] == ["all", "tool:pay"]
    assert state.kill.clear("all")
    assert not state.kill.clear("all")
    assert state.kill.is_set("tool:pay")
    assert state.kill.clear("tool:pay")
    assert not state.kill.is_set("tool:pay")


@pytest.mark.parametrize("scope", ["", "everything", "tool:", "user:x", "tool"])
def test_scopes_that_are_none(state: AnyState, scope: str) -> None:
    """A scope that would stop nothing is refused instead of kept."""
    with pytest.raises(StoreError, match="scope"):
        state.kill.set(scope, reason="r", by="b")


def test_it_acts_on_the_next_call_of_another_process(open_machine: Open) -> None:
    """No time passes between the order and its effect; the clock stands still."""
    first, second = open_machine(), open_machine()
    assert not second.kill.is_set("tool:pay")
    first.kill.set("tool:pay", reason="r", by="b")
    assert second.kill.is_set("tool:pay")
    first.kill.clear("tool:pay")
    assert not second.kill.is_set("tool:pay")


def test_it_acts_in_a_forked_child(open_machine: Open) -> None:
    """A worker that was forked before the order obeys it too."""
    state = open_machine()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write)
        os.read(read, 1)
        os._exit(0 if state.kill.is_set("tool:pay") else 1)
    os.close(read)
    state.kill.set("tool:pay", reason="r", by="b")
    os.write(write, b"x")
    os.close(write)
    assert os.waitpid(child, 0)[1] == 0


def test_a_page_that_was_wiped(open_machine: Open, place: tuple[Path, Keystore], clock: FrozenClock) -> None:
    """Zeros in the control page lift nothing."""
    state = open_machine()
    state.kill.set("all", reason="r", by="b")
    state._page.write(KILL, 0)
    assert state.kill.is_set("tool:pay")
    assert open_machine().kill.is_set("tool:pay")


def test_orders_that_were_set_back(open_machine: Open, place: tuple[Path, Keystore]) -> None:
    """An older state file under a newer page stops everything until a person looks."""
    state = open_machine()
    state.kill.orders()
    state.close()
    path = place[0] / "state.db"
    old = path.read_bytes()
    state = open_machine()
    state.kill.set("all", reason="r", by="b")
    state.close()
    path.write_bytes(old)
    with pytest.raises(StoreError, match="set back"):
        open_machine().kill.is_set("tool:pay")
    again = open_machine()
    again.kill.set("all", reason="looked", by="dana")
    assert again.kill.is_set("tool:pay")


def test_orders_that_were_removed(
    open_machine: Open, place: tuple[Path, Keystore], clock: FrozenClock
) -> None:
    """A row deleted from outside stops everything."""
    state = open_machine()
    state.kill.set("tool:x", reason="r", by="b")
    connection = sqlite3.connect(place[0] / "state.db")
    connection.execute("DELETE FROM cells WHERE kind = 'kill'")
    connection.commit()
    connection.close()
    clock.advance(1.1)
    with pytest.raises(StoreError, match="removed"):
        state.kill.is_set("tool:pay")
    with pytest.raises(StoreError, match="removed"):
        open_machine()


def test_a_dead_writer_between_database_and_page(open_machine: Open, clock: FrozenClock) -> None:
    """Orders that reached the database but not the page count within a second."""
    first, second = open_machine(), open_machine()
    assert not second.kill.is_set("tool:pay")
    page = first._page.read(KILL)
    first.kill.set("tool:pay", reason="r", by="b")
    first._page.write(KILL, page)
    clock.advance(1.1)
    assert second.kill.is_set("tool:pay")


def test_too_many_orders(state: AnyState, monkeypatch: pytest.MonkeyPatch) -> None:
    """Orders are bounded."""
    monkeypatch.setattr("agentguard.state.kill.ORDERS_MAX", 3)
    for number in range(3):
        state.kill.set(f"tool:{number}", reason="r", by="b")
    with pytest.raises(StoreError, match="4 orders"):
        state.kill.set("tool:more", reason="r", by="b")
    assert not state.kill.is_set("tool:more")
