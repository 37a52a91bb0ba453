"""The database of the machine: sealed, private, never silently begun anew."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from agentguard.errors import AgentGuardError, KeyUnavailableError, StoreError
from agentguard.seal import Keystore
from agentguard.state import MachineState, freeze_action
from agentguard.values import ApprovalTerms
from tests.support.clock import FrozenClock
from tests.support.decisions import make_keystore, raise_it

Open = Callable[..., MachineState]
Place = tuple[Path, Keystore]


def fill(state: MachineState) -> None:
    """Put something of every kind into the state."""
    state.rates.record("needle-tool", True)
    state.spend.add(123.456, 789)
    state.kill.set("tool:needle-killed", reason="needle-reason", by="needle-by")
    action = freeze_action(
        "tool.before", tool="needle-tool", args={"needle-arg": "needle-value"}, principal="needle-who"
    )
    state.approvals.request(
        action, ApprovalTerms(("needle-bob",), 1, 60.0), title="needle-title", reason="needle-words"
    )
    state.flush()


def test_nothing_readable(open_machine: Open, place: Place) -> None:
    """No name, reason, argument or amount stands in clear in any file, and all files are private."""
    state = open_machine()
    fill(state)
    for _ in range(2):
        for path in place[0].iterdir():
            assert path.stat().st_mode & 0o077 == 0, path
            data = path.read_bytes()
            assert b"needle" not in data, path
            assert b"123456" not in data, path
        state.close()


def test_the_files(open_machine: Open, place: Place) -> None:
    """These and no others lie in the store's folder."""
    state = open_machine()
    fill(state)
    state.close()
    names = {path.name for path in place[0].iterdir()} - {
        "STORE",
        "state.db-journal",
        "state.db-wal",
        "state.db-shm",
    }
    assert names == {"state.db", "state.lock", "state.mark", "control"}


def test_removed_state_is_not_begun_anew(open_machine: Open, place: Place) -> None:
    """Without the file nothing opens, until a person says so; then everything is at zero."""
    state = open_machine()
    fill(state)
    state.close()
    (place[0] / "state.db").unlink()
    with pytest.raises(StoreError, match="was removed") as caught:
        open_machine()
    assert "--accept-reset" in caught.value.__notes__[0]
    state = open_machine(accept_reset=True)
    assert state.spend.usd_today() == 0.0
    assert not state.kill.is_set("tool:needle-killed")
    state.close()
    assert open_machine().spend.usd_today() == 0.0


def test_replaced_state(open_machine: Open, place: Place, tmp_path: Path, clock: FrozenClock) -> None:
    """The state of another store, and another one of the same store, are refused."""
    state = open_machine()
    fill(state)
    state.close()
    other = tmp_path / "other"
    other.mkdir()
    store, keystore = make_keystore(other)
    MachineState.open(store, keystore, clock, on_internal_error=raise_it).close()
    kept = (place[0] / "state.db").read_bytes()
    shutil.copy(store / "state.db", place[0] / "state.db")
    with pytest.raises(KeyUnavailableError, match="another key"):
        open_machine()
    (place[0] / "state.db").write_bytes(kept)
    mark = (place[0] / "state.mark").read_bytes()
    (place[0] / "state.db").unlink()
    open_machine(accept_reset=True).close()
    (place[0] / "state.mark").write_bytes(mark)
    with pytest.raises(StoreError, match="not the state"):
        open_machine()


def test_altered_rows(open_machine: Open, place: Place, clock: FrozenClock) -> None:
    """An amount that is edited, or moved from another row, is noticed when it is read."""
    state = open_machine()
    fill(state)
    state.close()
    for sql in (
        "UPDATE cells SET payload = substr(payload, 1, length(payload) - 1) || x'00'",
        "UPDATE cells SET payload = CAST(payload || x'00' AS BLOB)",
        "UPDATE cells SET expires = expires + 1",
        "UPDATE cells SET payload = (SELECT payload FROM cells WHERE kind = 'rate') WHERE kind = 'spend'",
    ):
        saved = (place[0] / "state.db").read_bytes()
        connection = sqlite3.connect(place[0] / "state.db")
        connection.execute(sql)
        connection.commit()
        connection.close()
        with pytest.raises(StoreError, match="altered from outside"):
            opened = open_machine()
            opened.spend.usd_today()
        (place[0] / "state.db").write_bytes(saved)


def test_rubbish_instead_of_a_database(open_machine: Open, place: Place) -> None:
    """Any damage to the first page is one clear error."""
    state = open_machine()
    fill(state)
    state.close()
    path = place[0] / "state.db"
    whole = path.read_bytes()
    for content in (b"x" * 5000, whole[:100], b"SQLite format 3\x00" + os.urandom(4080)):
        path.write_bytes(content)
        with pytest.raises(AgentGuardError):
            open_machine()


def test_a_new_generation_of_keys(open_machine: Open, place: Place) -> None:
    """State that was made before a rotation goes on with the keys it was made with."""
    state = open_machine()
    state.spend.add(1.0, 1)
    state.close()
    place[1].add_generation()
    state = open_machine()
    assert state.spend.usd_today() == 1.0
    state.spend.add(1.0, 1)
    state.close()
    assert open_machine().spend.usd_today() == 2.0


def test_a_newer_version(open_machine: Open, place: Place) -> None:
    """A database of a newer version is refused by its number."""
    open_machine().close()
    connection = sqlite3.connect(place[0] / "state.db")
    connection.execute("UPDATE meta SET version = 2")
    connection.commit()
    connection.close()
    with pytest.raises(StoreError, match="version 2"):
        open_machine()


@pytest.mark.parametrize("name", ["state.db", "state.lock", "control"])
def test_planted_links(name: str, open_machine: Open, place: Place, tmp_path: Path) -> None:
    """A link in place of a file is not followed."""
    target = tmp_path / "target"
    target.write_bytes(b"")
    (place[0] / name).symlink_to(target)
    with pytest.raises(StoreError):
        open_machine()
    assert target.read_bytes() == b""


def test_a_folder_that_others_may_write_to(place: Place, clock: FrozenClock) -> None:
    """State in a shared folder is refused."""
    place[0].chmod(0o770)
    with pytest.raises(StoreError, match="write"):
        MachineState.open(*place, clock, on_internal_error=raise_it)
