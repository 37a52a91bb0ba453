"""Power cuts: what was acknowledged is on the disk; a store that does not force it there loses it."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentguard.audit import read_decisions, verify
from tests.support.decisions import decision, open_journal
from tests.support.power import PowerRig, why_not
from tests.support.spans import FinishedSpan, make_span
from tests.support.stores import new_store, new_writer, open_store

# Newer interpreters warn of a fork beside threads: that is what is tested here.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "-"),
]
_FIRST_SPAN = 0xB000_0000_0000_0000


@pytest.fixture
def rig(request: pytest.FixtureRequest) -> Iterator[PowerRig]:
    """A file system in memory: the cut is what is tested, not the speed of this machine's disk."""
    base = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=base if base.is_dir() else None))
    try:
        yield PowerRig(folder, getattr(request, "param", "ext4"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write(place: Path, acknowledge: Callable[[str], None]) -> None:
    """Write spans and decisions, with rotation and sealing in between; say what is safe."""
    store = open_store(place / "store")
    first = len(list(store.query().spans()))
    decided = len(list(read_decisions(store.folder, store.keystore)))
    writer = new_writer(store, lambda *_: None, segment_spans_max=60, frame_spans_max=16)
    journal = open_journal(store.folder, store.keystore, on_internal_error=lambda *_: None)
    for step in itertools.count():
        for number in range(first + 7 * step, first + 7 * step + 7):
            writer.append(FinishedSpan(make_span(number)))
        if not writer.flush(10).is_complete:
            return
        acknowledge(f"span {first + 7 * step + 6}")
        journal.append(decision(decided + step))
        acknowledge(f"decision {decided + step}")


def cut_store(rig: PowerRig, times: int) -> tuple[int, int]:
    """Cut the power *times* times, and look; returns how much was acknowledged, and how much of it lost."""
    total = lost = 0
    for seed in range(times):
        if seed % 20 == 0:
            # Anew now and then: each life reads first what all before it left.
            with rig.mounted() as place:
                shutil.rmtree(place / "store", ignore_errors=True)
                new_store(place / "store")
        said = rig.cut(_write, seed=seed)
        with rig.mounted() as place:
            store = open_store(place / "store")
            query = store.query()
            spans = {int(span.span_id, 16) - _FIRST_SPAN for span in query.spans()}
            log = {
                int(found.record.decision_id, 16) for found in read_decisions(store.folder, store.keystore)
            }
            safe_spans = max((int(line.split()[1]) for line in said if line.startswith("span")), default=-1)
            safe_log = max((int(line.split()[1]) for line in said if line.startswith("decision")), default=-1)
            total += len(said)
            lost += len(set(range(safe_spans + 1)) - spans) + len(set(range(safe_log + 1)) - log)
            assert set(query.damage.counts) <= {"torn", "damaged"}, query.damage.first
            report = verify(store.folder, store.keystore)
            assert report.is_good, report.first_bad
            # What came after the last acknowledgement goes on from what is there.
            assert spans == set(range(len(spans))), "a hole between spans"
    return total, lost


def test_power_cuts(rig: PowerRig) -> None:
    """A few cuts in the core suite: nothing that was acknowledged is lost."""
    total, lost = cut_store(rig, 5)
    assert total > 5
    assert lost == 0


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_power_cuts_often(rig: PowerRig) -> None:
    """A thousand cuts."""
    assert cut_store(rig, 1000)[1] == 0


def _write_without_sync(place: Path, acknowledge: Callable[[str], None]) -> None:
    """Write rows with SQLite's `synchronous=OFF`; every commit is taken for safe."""
    database = sqlite3.connect(place / "rows.db", isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = OFF")
    first = database.execute("SELECT count(*) FROM rows").fetchone()[0]
    for number in itertools.count(first):
        database.execute("INSERT INTO rows VALUES (?, ?)", (number, "x" * 500))
        acknowledge(str(number))


def cut_sqlite(rig: PowerRig, times: int) -> tuple[int, int]:
    """Do the same to a store that forces nothing to disk; returns acknowledged and lost rows."""
    total = lost = 0
    for seed in range(times):
        with rig.mounted() as place:
            for path in place.glob("rows.db*"):
                path.unlink()
            # The file and its table are safe: unmounting in order writes all.
            with contextlib.closing(sqlite3.connect(place / "rows.db")) as database:
                database.execute("CREATE TABLE rows (number INTEGER PRIMARY KEY, text TEXT)")
        said = rig.cut(_write_without_sync, seed=seed)
        total += len(said)
        with rig.mounted() as place:
            found: set[int] = set()
            database = sqlite3.connect(place / "rows.db")
            with contextlib.closing(database), contextlib.suppress(sqlite3.Error):
                found = {row[0] for row in database.execute("SELECT number FROM rows")}
        lost += len(set(map(int, said)) - found)
    return total, lost


def test_the_control_arm_loses(rig: PowerRig) -> None:
    """Were nothing lost here, the cuts would cut nothing, and the other test would say nothing."""
    total, lost = cut_sqlite(rig, 3)
    assert total > 0
    assert lost > 0


@pytest.mark.parametrize(
    "rig",
    [
        pytest.param(kind, marks=pytest.mark.skipif(bool(why_not(kind)), reason=why_not(kind) or "-"))
        for kind in ("xfs", "btrfs")
    ],
    indirect=True,
)
def test_power_cuts_of_other_file_systems(rig: PowerRig) -> None:
    """A few cuts of XFS and Btrfs: nothing that was acknowledged is lost."""
    assert cut_store(rig, 3)[1] == 0
