"""A disk that fails: full, torn, failing to sync, read-only. Nothing is lost that could be kept, each loss is counted."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import resource
import sys
from pathlib import Path

import pytest

from agentguard.errors import StoreError
from tests.support.clock import FrozenClock
from tests.support.faulty_disk import FaultyDisk
from tests.support.spans import FinishedSpan, make_span
from tests.support.stores import new_store, new_writer, segment_files

QUICK = {"retry_interval_s": 0.02, "frame_interval_s": 0.01, "sync_interval_s": 0.02, "frame_spans_max": 8}


@pytest.mark.parametrize("room_bytes", [0, 50, 127, 128, 200, 400, 900, 1500, 2500, 4000, 5555])
def test_full_disk(tmp_path: Path, room_bytes: int) -> None:
    """However much fits: whole frames are there, and all the rest once there is room again."""
    disk = FaultyDisk()
    store = new_store(tmp_path / "store", disk)
    errors: list[str] = []
    writer = new_writer(store, lambda where, _: errors.append(where), is_sealing=False, **QUICK)
    disk.room_bytes = room_bytes
    spans = [make_span(i) for i in range(100)]
    for span in spans:
        assert writer.append(FinishedSpan(span))
    assert not writer.flush(0.15).is_complete
    assert "store.disk" in errors
    query = store.query()
    found = list(query.spans())
    assert found == spans[: len(found)]
    assert not query.damage
    disk.room_bytes = None
    result = writer.close(10)
    assert result.is_complete
    assert (result.stored, result.dropped) == (100, 0)
    query = store.query()
    assert list(query.spans()) == spans
    assert not query.damage


def test_a_disk_that_stays_full_drops_and_counts(tmp_path: Path) -> None:
    """The queue is bounded; drops say why; the gap is written once there is room."""
    disk = FaultyDisk()
    store = new_store(tmp_path / "store", disk)
    writer = new_writer(store, lambda *_: None, queue_bytes_max=50_000, backpressure_s_max=0.0, **QUICK)
    disk.room_bytes = 300
    taken = 0
    for i in range(400):
        taken += writer.append(FinishedSpan(make_span(i, attributes={"x": os.urandom(250).hex()}), 1000))
        if i == 100:
            assert not writer.flush(0.1).is_complete
    dropped = writer.dropped
    assert set(dropped) <= {"disk_full", "queue_full"}
    assert dropped["disk_full"] > 0
    assert taken + sum(dropped.values()) == 400
    disk.room_bytes = None
    assert writer.close(10).stored == taken
    assert sum(gap.count for gap in store.query().gaps()) == 400 - taken
    assert len(list(store.query().spans())) == taken


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS, errno.ESTALE])
def test_failed_sync_begins_a_new_file(tmp_path: Path, number: int) -> None:
    """After a failed sync the file is given up, what was not safe is written anew, and read once."""
    disk = FaultyDisk()
    store = new_store(tmp_path / "store", disk)
    errors: list[str] = []
    writer = new_writer(store, lambda where, _: errors.append(where), is_sealing=False, **QUICK)
    spans = [make_span(i) for i in range(60)]
    for span in spans[:20]:
        writer.append(FinishedSpan(span))
    assert writer.flush(5).is_complete
    for span in spans[20:40]:
        writer.append(FinishedSpan(span))
    disk.sync_errors = [number]
    assert writer.flush(5).is_complete
    for span in spans[40:]:
        writer.append(FinishedSpan(span))
    assert writer.close(5).stored == 60
    assert len(segment_files(store)) == 2
    assert errors.count("store.disk") == 1
    assert list(store.query().spans()) == spans
    assert sorted(store.query().spans(newest_first=True)) == sorted(spans)
    assert sum(block.rows for block in store.query().features()) == 60
    store.seal_segments()
    assert list(store.query().spans()) == spans
    assert store.verify()[0] == 60


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EPERM])
@pytest.mark.parametrize("truncate_fails", [False, True])
def test_torn_write(tmp_path: Path, number: int, truncate_fails: bool) -> None:
    """Half a frame arrives and an error comes: every span is there once, nothing wrong is read."""
    disk = FaultyDisk()
    store = new_store(tmp_path / "store", disk)
    writer = new_writer(store, lambda *_: None, is_sealing=False, **QUICK)
    spans = [make_span(i) for i in range(50)]
    for span in spans[:25]:
        writer.append(FinishedSpan(span))
    assert writer.flush(5).is_complete
    disk.write_errors, disk.truncate_fails = [number], truncate_fails
    for span in spans[25:]:
        writer.append(FinishedSpan(span))
    assert writer.flush(5).is_complete
    disk.truncate_fails = False
    assert writer.close(5).stored == 50
    query = store.query()
    assert list(query.spans()) == spans
    assert set(query.damage.counts) <= {"torn"}
    assert bool(query.damage) == truncate_fails
    assert not query.damage.is_tampering


def test_no_file_can_be_made(tmp_path: Path) -> None:
    """Creating fails a few times: the spans wait, and are written afterwards."""
    disk = FaultyDisk()
    store = new_store(tmp_path / "store", disk)
    writer = new_writer(store, lambda *_: None, **QUICK)
    disk.create_errors = [errno.EROFS, errno.EACCES, errno.EMFILE]
    writer.append(FinishedSpan(make_span(1)))
    assert writer.flush(5).is_complete
    assert writer.close(5).stored == 1


def test_read_only_store_can_be_read(tmp_path: Path) -> None:
    """A store on a read-only disk opens and is read; writing is counted, not raised."""
    disk = FaultyDisk()
    store = new_store(tmp_path / "store", disk)
    first = new_writer(store, is_sealing=False)
    first.append(FinishedSpan(make_span(1)))
    first.close(5)
    disk.create_errors = [errno.EROFS] * 1000
    writer = new_writer(store, lambda *_: None, **QUICK)
    writer.append(FinishedSpan(make_span(2)))
    assert not writer.flush(0.1).is_complete
    assert not writer.close(0.2).is_complete
    assert writer.pending == 1
    assert list(store.query().spans()) == [make_span(1)]


@pytest.mark.parametrize("after", range(14))
def test_sealing_on_a_failing_disk_changes_nothing(tmp_path: Path, after: int) -> None:
    """Whichever write of the sealing fails, the live segment stays, and sealing works later."""
    from agentguard.errors import StoreError

    disk = FaultyDisk()
    store = new_store(tmp_path / "store", disk)
    writer = new_writer(store, is_sealing=False, frame_spans_max=16)
    spans = [make_span(i) for i in range(300)]
    for span in spans:
        writer.append(FinishedSpan(span))
    writer.close(5)
    disk.room_bytes = after * 700
    try:
        store.seal_segments()
    except StoreError:
        assert list(store.query().spans()) == spans
        assert not list(store.segments.glob(".*"))
    disk.room_bytes = None
    store.seal_segments()
    assert store.info().live_segments == 0
    query = store.query()
    assert list(query.spans()) == spans
    assert not query.damage


def test_a_sealing_that_was_killed_leaves_no_harm(tmp_path: Path) -> None:
    """A temporary file of a killed sealing is written over; a locked segment is left alone."""
    store = new_store(tmp_path / "store")
    writer = new_writer(store, is_sealing=False)
    writer.append(FinishedSpan(make_span(1)))
    writer.flush(5)
    assert store.seal_segments() == 0, "somebody writes to it"
    writer.close(5)
    path = segment_files(store)[0]
    path.with_name(f".{path.name}.tmp").write_bytes(b"half of a sealed file")
    assert store.seal_segments() == 1
    assert list(store.segments.iterdir()) == [path]
    assert list(store.query().spans()) == [make_span(1)]


def test_the_clock_may_jump(tmp_path: Path) -> None:
    """Spans from 1970, 2038 and the far future keep their order by sequence, and can be asked for."""
    store = new_store(tmp_path / "store")
    times = [2**62, 0, 2_145_916_800 * 10**9, 5, 10**18]
    spans = [make_span(i, start_unix_ns=start) for i, start in enumerate(times)]
    writer = new_writer(store)
    for span in spans:
        writer.append(FinishedSpan(span))
    writer.close(5)
    assert list(store.query().spans()) == spans
    newest = [span.start_unix_ns for span in store.query().spans(newest_first=True)]
    assert newest == sorted(times, reverse=True)
    assert [s.start_unix_ns for s in store.query().spans(since_unix_ns=0, until_unix_ns=6)] == [0, 5]


class _FailingOnce(FaultyDisk):
    """Fails one write, of which a part arrives."""

    def __init__(self, at: int, number: int, share: float) -> None:
        super().__init__()
        self._at, self._number, self._share = at, number, share
        self.has_failed = False

    def write(self, fd: int, data: bytes) -> None:
        if self.writes == self._at and not self.has_failed:
            self.has_failed = True
            os.write(fd, data[: int(len(data) * self._share)])
            raise OSError(self._number, os.strerror(self._number))
        super().write(fd, data)


def fail_every_write(folder: Path, number: int, share: float) -> int:
    """Let each write of a run fail in turn, once, with a part of it written; returns how many there were."""
    spans = [make_span(i) for i in range(40)]
    for at in range(10_000):
        disk = _FailingOnce(at, number, share)
        store = new_store(folder / f"{number}-{share}-{at}", disk)
        writer = new_writer(store, lambda *_: None, **QUICK, segment_spans_max=16)
        for span in spans:
            assert writer.append(FinishedSpan(span))
            if int(span.span_id, 16) % 8 == 7:
                writer.flush(5)
        assert writer.close(10).is_complete
        with contextlib.suppress(StoreError):
            store.seal_segments()  # Where this is what fails, the segments stay as they were.
        store.seal_segments()
        query = store.query()
        assert list(query.spans()) == spans, f"write {at}"
        assert not query.damage, f"write {at}: {query.damage.first}"
        if not disk.has_failed:
            return at
    raise AssertionError("a run never ends")


@pytest.mark.parametrize(("number", "share"), [(errno.ENOSPC, 0.5), (errno.EIO, 0.0), (errno.EDQUOT, 1.0)])
def test_every_write_fails_once(tmp_path: Path, number: int, share: float) -> None:
    """Whichever write fails, sealing included, and however much of it arrived: no span is lost or doubled."""
    assert fail_every_write(tmp_path, number, share) >= 10


def test_a_clock_that_jumps(tmp_path: Path) -> None:
    """A year ahead, a year back, to the epoch: nothing is lost, and the order is that of the numbers."""
    store = new_store(tmp_path / "store")
    clock = store.clock
    assert isinstance(clock, FrozenClock)
    writer = new_writer(store, segment_spans_max=20, frame_spans_max=8)
    year_ns = 365 * 86_400 * 10**9
    spans, number = [], 0
    now = clock.unix_ns()
    for moment in (now, now + year_ns, now - year_ns, 1, 2**31 * 10**9, now):
        clock.set_unix_ns(moment)
        for _ in range(25):
            spans.append(make_span(number, start_unix_ns=clock.unix_ns()))
            writer.append(FinishedSpan(spans[-1]))
            number += 1
        assert writer.flush(10).is_complete
    assert writer.close(10).is_complete
    positions = list(store.query().positions(None))
    assert [position.span for position in positions] == spans
    assert [position.cursor[2] for position in positions] == list(range(len(spans)))
    (newest,) = store.query().spans(newest_first=True, limit=1)
    assert newest.start_unix_ns == 2**31 * 10**9
    assert not store.query().damage


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_million_spans_in_a_burst(tmp_path: Path) -> None:
    """A loop that does nothing but append, at the default settings: nothing is lost, memory stays bounded."""
    store = new_store(tmp_path / "store")
    writer = new_writer(store)
    spans = [make_span(i) for i in range(1000)]
    gc.collect()
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(1_000_000):
        assert writer.append(FinishedSpan(spans[number % 1000]))
    result = writer.close(60)
    assert (result.stored, result.dropped) == (1_000_000, 0)
    unit = 1024 if sys.platform != "darwin" else 1
    grown_bytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) * unit
    assert grown_bytes <= writer.config.queue_bytes_max + 40 * 2**20, f"{grown_bytes / 2**20:.0f} MiB"
