"""Housekeeping: one process at a time, once an hour, and what an exporter has not sent is counted."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from agentguard.export import decode_cursor
from agentguard.store import Housekeeper, Store
from tests.support.clock import START_UNIX_NS
from tests.support.faulty_disk import FaultyDisk
from tests.support.spans import make_span
from tests.support.stores import fill, new_store, open_store, segment_files

HOUR_NS = 3600 * 10**9
DESTINATION = "0123456789abcdef"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Three segments of forty spans: of this hour, of the one before, and of the one before that."""
    store = new_store(tmp_path / "store", FaultyDisk())
    for hour in range(3):
        start = START_UNIX_NS - hour * HOUR_NS
        fill(store, [make_span(hour * 100 + i, start_unix_ns=start) for i in range(40)], is_sealed=True)
    return store


def _keeper(store: Store, **changes: object) -> Housekeeper:
    settings: dict[str, object] = {"age_s_max": 1.5 * 3600, "size_bytes_max": None, **changes}
    return Housekeeper(store, decode_cursor=decode_cursor, **settings)  # type: ignore[arg-type]


def test_removes_once_an_hour(store: Store, tmp_path: Path) -> None:
    """The first pass removes; another process that asks within the hour is told that it was done."""
    removed = _keeper(store).run_once()
    assert removed is not None
    assert (removed.segments, removed.spans, removed.unexported_spans) == (1, 40, 0)
    assert _keeper(open_store(tmp_path / "store")).run_once() is None
    again = _keeper(store, interval_s=0).run_once()
    assert again is not None
    assert again.segments == 0


def test_a_clock_that_was_wrong_does_not_stop_it(store: Store, tmp_path: Path) -> None:
    """A last pass in the time to come counts as none."""
    assert _keeper(store).run_once() is not None
    later = START_UNIX_NS + 1000 * HOUR_NS
    os.utime(tmp_path / "store" / "keep.lock", ns=(later, later))
    assert _keeper(store).run_once() is not None


def test_one_process_at_a_time(store: Store, tmp_path: Path) -> None:
    """While another process is at it, nothing is done."""
    keeper = _keeper(store, interval_s=0)
    assert keeper.run_once() is not None
    fd = os.open(tmp_path / "store" / "keep.lock", os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    assert keeper.run_once() is None
    os.close(fd)
    assert keeper.run_once() is not None


@pytest.mark.parametrize(("sent", "unsent"), [(None, 40), (14, 25), (39, 0), (10**6, 0)])
def test_what_a_live_exporter_has_not_sent_is_counted(
    store: Store, tmp_path: Path, sent: int | None, unsent: int
) -> None:
    """A segment goes all the same, and the answer says how many spans nobody has sent."""
    oldest = min(store.query().positions(None), key=lambda position: position.span.start_unix_ns)
    writer, n, _ = oldest.cursor
    if sent is not None:
        cursor = f'{{"version": 1, "writers": {{"{writer}": [{n}, {sent}]}}}}'.encode()
        store.sealed_blob(f"cursor-{DESTINATION}").write(cursor)
    fd = os.open(tmp_path / "store" / f"export-{DESTINATION}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    removed = _keeper(store).run_once()
    os.close(fd)
    assert removed is not None
    assert (removed.spans, removed.unexported_spans) == (40, unsent)


def test_an_exporter_that_is_gone_does_not_count(store: Store, tmp_path: Path) -> None:
    """Nobody holds its lock."""
    (tmp_path / "store" / f"export-{DESTINATION}.lock").touch()
    removed = _keeper(store).run_once()
    assert removed is not None
    assert removed.unexported_spans == 0


def test_a_full_disk_is_no_obstacle(store: Store) -> None:
    """Removing and remembering the time of the pass need no room."""
    disk = store._disk
    assert isinstance(disk, FaultyDisk)
    disk.room_bytes = 0
    removed = _keeper(store, age_s_max=None, size_bytes_max=1).run_once()
    assert removed is not None
    assert removed.segments == 3
    assert segment_files(store) == []


def test_removing_counts_where_packing_fails(store: Store) -> None:
    """On a full disk what is too old goes and is told of, and so is why nothing was packed."""
    for process in range(9):
        fill(store, [make_span(1000 + process, start_unix_ns=START_UNIX_NS)], is_sealed=False)
    disk = store._disk
    assert isinstance(disk, FaultyDisk)
    disk.room_bytes = 0
    keeper = _keeper(store, interval_s=0)
    removed = keeper.run_once()
    assert removed is not None
    assert removed.segments == 1
    assert keeper.trouble is not None
    disk.room_bytes = None
    assert keeper.run_once() is not None
    assert keeper.trouble is None
    assert keeper.sealed == 9
    assert keeper.packed is not None
    assert keeper.packed.files == 11
