"""States that a disk may be in after a cut, of the decision log: what was acknowledged is there and verifies."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentguard.audit import JournalLimits, read_decisions, verify
from agentguard.seal import FileKey, open_keystore
from agentguard.values import RecordMode
from tests.support.clock import FrozenClock
from tests.support.decisions import decision, make_keystore, open_journal
from tests.support.sim_disk import crash_state, write_state
from tests.support.sim_disk_os import RecordedFolder

LIMITS = JournalLimits(
    window_s=0.001, checkpoint_interval_s=0.01, checkpoint_records_max=5, journal_bytes_max=6_000
)
_RECORDS = 60


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory, where there is one."""
    base = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=base if base.is_dir() else None))
    yield folder
    shutil.rmtree(folder)


def record(folder: Path, monkeypatch: pytest.MonkeyPatch, skip: tuple[str, ...] = ()) -> RecordedFolder:
    """Write decisions with rotation and checkpoints, acknowledge each required one, and keep the record."""
    store, keystore = make_keystore(folder)
    with monkeypatch.context() as patch:
        disk = RecordedFolder(store, patch, skip=skip)
        clock = FrozenClock()
        journal = open_journal(store, keystore, clock=clock, limits=LIMITS)
        for number in range(_RECORDS):
            journal.append(decision(number, mode=RecordMode.REQUIRED))
            disk.acknowledge(number)
            if number % 7 == 0:
                journal.append(decision(1000 + number, mode=RecordMode.ASYNC))
            if number % 20 == 19:
                assert journal.close(5.0)
                journal = open_journal(store, keystore, clock=clock, limits=LIMITS)
        assert journal.close(5.0)
    return disk


def explore(folder: Path, disk: RecordedFolder, states: int, seed: int = 0, verify_each: int = 2) -> int:
    """Look at so many states; returns how many had a torn or missing end that nobody was promised."""
    store = folder / "store"
    chance = random.Random(seed)
    shorter = 0
    for state in range(states):
        files, acknowledged = crash_state(disk.steps, chance.randint(disk.setup, len(disk.steps)), chance)
        write_state(store, files)
        keystore = open_keystore(store, FileKey(folder / "key"))
        found = [int(entry.record.decision_id, 16) for entry in read_decisions(store, keystore)]
        assert len(found) == len(set(found)), "a decision is there twice"
        missing = set(range(acknowledged + 1)) - set(found)
        assert not missing, f"acknowledged and lost: {len(missing)}"
        assert all(number < _RECORDS or number % 7 == 6 for number in found), "a decision that nobody wrote"
        shorter += len(found) < _RECORDS
        if state % verify_each == 0:
            report = verify(store, keystore)
            assert report.is_good, report.first_bad
    return shorter


def test_crash_states(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few hundred in the core suite."""
    assert explore(memory, record(memory, monkeypatch), 300) > 100


@pytest.mark.parametrize("skip", ["sync", "names"])
def test_without_syncs_acknowledged_decisions_are_lost(
    memory: Path, monkeypatch: pytest.MonkeyPatch, skip: str
) -> None:
    """The control arms: were nothing lost here, the simulation would lose nothing."""
    disk = record(memory, monkeypatch, (skip,))
    with pytest.raises(AssertionError, match="acknowledged and lost"):
        explore(memory, disk, 300)
