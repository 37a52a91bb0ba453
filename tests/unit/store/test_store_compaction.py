"""Compaction: many small segments become packs, and nobody who reads notices."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentguard.store import Disk, Query, Store, _backup, _compaction, restore
from agentguard.store._folder import SegmentFolder
from agentguard.store._segment import SegmentFile
from agentguard.values import GapRecord, OutcomeRecord, SpanRecord
from tests.support.clock import START_UNIX_NS
from tests.support.faulty_disk import FaultyDisk
from tests.support.spans import FinishedSpan, make_span
from tests.support.stores import KnownKey, fill, new_store, new_writer, open_store, segment_files

DAY_NS = 86_400 * 10**9
COUNT = 12


def _spans(process: int, count: int = 3, day: int = 0) -> list[SpanRecord]:
    """What one short process leaves."""
    start = START_UNIX_NS + day * DAY_NS + process * 1000
    return [make_span(process * 10 + i, start_unix_ns=start + i) for i in range(count)]


def _many(store: Store, processes: range = range(COUNT), day: int = 0) -> list[SpanRecord]:
    """Segments of short processes."""
    spans = []
    for process in processes:
        mine = _spans(process, day=day)
        fill(store, mine, is_sealed=True)
        spans += mine
    store.seal_segments()
    return spans


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store on a disk that can be made to fail."""
    return new_store(tmp_path / "store", FaultyDisk())


def _packs(store: Store) -> list[Path]:
    return sorted(store.segments.glob("*.agp"))


def _everything(query: Query) -> list[object]:
    """All that a query gives, in an order of its own."""
    return [
        sorted(query.spans()),
        list(query.spans(newest_first=True)),
        sorted((place.cursor, place.span, sorted(place.resource.items())) for place in query.positions()),
        sorted(outcome[:4] for outcome in query.outcomes()),
        sorted(query.gaps()),
        sorted(start for block in query.features(["start_unix_ns"]) for start in block.columns["start_unix_ns"].values),
        sorted((writer, sorted(resource.items())) for writer, resource in query.resources()),
        query.damage.total,
    ]  # fmt: skip


def test_nothing_changes_but_the_number_of_files(store: Store) -> None:
    """Spans, places, outcomes, features and resources are the same before and after, and for who knew the old files."""
    _many(store)
    before = _everything(store.query())
    done = store.compact()
    assert (done.files, done.packs) == (COUNT, 1)
    assert (len(segment_files(store)), len(_packs(store))) == (0, 1)
    assert _everything(store.query()) == before
    assert _everything(open_store(store.folder).query()) == before
    count, damage = store.verify()
    assert (count, damage.total) == (COUNT * 3, 0)
    assert store.compact().packs == 0


def test_look_ups_open_one_chunk(store: Store) -> None:
    """A trace, a call and a time are found in a pack."""
    spans = _many(store)
    store.compact()
    wanted = spans[17]
    assert list(store.query().spans(trace_id=wanted.trace_id)) == [
        span for span in spans if span.trace_id == wanted.trace_id
    ]
    assert wanted in list(store.query().spans(call_id=wanted.span_id[:8]))
    since = START_UNIX_NS + 5000
    assert sorted(store.query().spans(since_unix_ns=since)) == sorted(
        s for s in spans if s.start_unix_ns >= since
    )
    rows = sum(block.rows for block in store.query().features(["duration_ns"], since_unix_ns=since))
    assert rows == sum(span.start_unix_ns >= since for span in spans)


def test_packs_are_packed_again(store: Store) -> None:
    """Eight packs of a day become one, which takes the place of the last of them."""
    spans = []
    for first in range(0, 8 * 8, 8):
        spans += _many(store, range(first, first + 8))
        store.compact()
    assert len(_packs(store)) == 1
    assert sorted(store.query().spans()) == sorted(spans)
    assert len(list(store.query().positions())) == len(spans)


def test_days_stay_apart(store: Store) -> None:
    """A pack holds one day, so that retention stays exact; of a day that is past two segments are enough."""
    _many(store, range(2), day=0)
    _many(store, range(10, 20), day=1)
    _many(store, range(30, 33), day=2)
    store.compact()
    ranges = [info.start_range_unix_ns for info in store.query().segments() if info.is_pack]
    assert len(ranges) == 2
    assert all(high - low < DAY_NS for low, high in ranges)
    assert len(segment_files(store)) == 3, "the current day has too few yet"


def test_a_writer_that_goes_on(store: Store) -> None:
    """What a process writes after its first segments were packed comes after them."""
    # Not sealed in the background: a file that is being sealed just now is left alone.
    writer = new_writer(store, segment_spans_max=3, is_sealing=False)
    spans = [make_span(i, start_unix_ns=START_UNIX_NS + i) for i in range(60)]
    for first in range(0, 45, 3):
        for span in spans[first : first + 3]:
            writer.append(FinishedSpan(span))
        assert writer.flush(60).is_complete
    writer.append(FinishedSpan(spans[45]))
    assert writer.flush(60).is_complete
    store.seal_segments()
    assert store.compact().packs == 1
    assert len(segment_files(store)) == 1, "the live segment stays"
    for span in spans[46:]:
        writer.append(FinishedSpan(span))
    assert writer.close(60).is_complete
    positions = list(store.query().positions())
    assert [place.span for place in positions] == spans
    assert [place.cursor[2] for place in positions] == list(range(60))
    cursor = {positions[0].cursor[0]: positions[50].cursor[1:]}
    assert [place.span for place in store.query().positions(cursor)] == spans[51:]


def test_a_cursor_from_before_is_good_after(store: Store) -> None:
    """An exporter that stood in the middle of a segment goes on behind the same span in the pack."""
    _many(store)
    places = [place.cursor for place in store.query().positions()]
    cursor = {writer: (n, sequence) for writer, n, sequence in places[: len(places) // 2]}
    rest = [place.cursor for place in store.query().positions(cursor)]
    store.compact()
    assert sorted(place.cursor for place in store.query().positions(cursor)) == sorted(rest)
    assert list(store.query().positions(store.query().end())) == []


def test_what_a_hold_keeps_is_left_alone(store: Store) -> None:
    """Held segments are not packed, and a held pack is not packed again."""
    _many(store)
    names = {path.name for path in segment_files(store)}
    store.holds.add(reason="lawsuit", by="anna", now_unix_ns=START_UNIX_NS)
    assert store.compact().packs == 0
    assert {path.name for path in segment_files(store)} == names
    assert store.remove_old(age_s_max=0.000001).segments == 0


def test_retention_of_a_pack(store: Store) -> None:
    """A pack goes when its latest span is too old; what was not exported is counted for each writer in it."""
    _many(store)
    taken = {place.cursor[0]: place.cursor[1:] for place in store.query().positions() if place.cursor[2] < 1}
    store.compact()
    _many(store, range(100, 103), day=3)
    removed = store.remove_old(age_s_max=3600.0 - 3 * 86_400, exported=taken)
    assert (removed.segments, removed.spans, removed.unexported_spans) == (COUNT, COUNT * 3, COUNT * 2)
    assert not _packs(store)


def test_damaged_segments_stay(store: Store) -> None:
    """A segment that cannot be read whole is left for repair; the others are packed."""
    _many(store)
    path = segment_files(store)[3]
    data = bytearray(path.read_bytes())
    data[300] ^= 1
    path.write_bytes(data)
    store.compact()
    assert segment_files(store) == [path]
    assert store.query().damage.total == 0
    _, damage = store.verify()
    assert damage.counts["damaged"] == 1


def test_damage_that_was_counted_stays_counted(store: Store, tmp_path: Path) -> None:
    """What a torn live segment lost before it was sealed is still told of in the pack."""
    fill(store, _spans(90), is_sealed=False)
    (path,) = segment_files(store)
    path.write_bytes(path.read_bytes()[:-90])
    store.seal_segments()
    _many(store)
    before = store.verify()[1].counts
    assert before["torn"] == 1
    store.compact()
    assert store.verify()[1].counts == before


def test_gaps_and_outcomes_go_along(store: Store) -> None:
    """Counted losses and outcomes are in the pack, once."""
    for process in range(COUNT):
        writer = new_writer(store)
        writer.append(FinishedSpan(make_span(process)))
        writer.append_gap(GapRecord("queue_full", process + 1, 1, 2))
        writer.append_outcome(OutcomeRecord(f"{process:016x}", 5, "a", "b", 0.5, {}))
        writer.close(5)
    store.seal_segments()
    before = _everything(store.query())
    store.compact()
    assert len(segment_files(store)) == 0
    assert _everything(store.query()) == before
    assert store.info().gaps == sum(range(1, COUNT + 1))
    assert store.info().outcomes == COUNT


class _Stopping(Disk):
    """A disk that ends the process at its n-th change of names."""

    def __init__(self, at: int) -> None:
        self.left = at

    def _step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise _Gone

    def rename(self, source: Path, target: Path) -> None:
        self._step()
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        self._step()
        super().unlink(path)


class _Gone(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("at", range(COUNT + 2))
def test_interrupted_at_every_step(store: Store, at: int) -> None:
    """Wherever packing ends, each span is read once, and the next pass tidies up."""
    _many(store)
    before = _everything(store.query())
    store._disk = _Stopping(at)
    with contextlib.suppress(_Gone):
        store.compact()
    assert _everything(store.query()) == before
    assert _everything(open_store(store.folder).query()) == before
    store._disk = FaultyDisk()
    store.compact()
    assert _everything(store.query()) == before
    assert len(segment_files(store)) == 0
    assert len(_packs(store)) == 1


def test_a_reader_in_the_middle(store: Store) -> None:
    """Who began to read before gets the rest out of the pack, each span once and each writer's in order."""
    spans = _many(store)
    for taken in (0, 1, 7, COUNT * 3 - 1):
        query, found = store.query(), []
        reading = query.positions()
        found = [next(reading) for _ in range(taken)]
        store.compact()
        _many(store, range(200 + taken * 10, 208 + taken * 10))
        found += list(reading)
        kept = {span.span_id for span in spans}
        assert sorted(p.span for p in found if p.span.span_id in kept) == sorted(spans)
        assert len({p.cursor for p in found}) == len(found)
    newest = store.query().spans(newest_first=True)
    first = next(newest)
    store.compact()
    rest = [first, *newest]
    assert [s.start_unix_ns for s in rest] == sorted((s.start_unix_ns for s in rest), reverse=True)
    assert {span.span_id for span in spans} <= {span.span_id for span in rest}
    assert len({span.span_id for span in rest}) == len(rest)


class _Interrupted:
    """Has something done, so many times in a row, before a reader opens its file number *at*, or behind its listing."""

    def __init__(self, patch: pytest.MonkeyPatch, does: Callable[[], object], at: int, times: int) -> None:
        self.seen, self._is_at_it = 0, False
        self._at, self._left, self._does = at, times, does
        opens, names = SegmentFile.open, SegmentFolder._names

        def opening(*given: Any, **named: Any) -> SegmentFile | None:
            self._moment()
            return opens(*given, **named)

        def naming(folder: SegmentFolder) -> list[str]:
            found = names(folder)
            self._moment()
            return found

        patch.setattr(SegmentFile, "open", opening)
        patch.setattr(SegmentFolder, "_names", naming)

    def _moment(self) -> None:
        if self._is_at_it:
            return  # What is done looks at files as well.
        self.seen += 1
        if self.seen > self._at and self._left:
            self._left -= 1
            self._is_at_it = True
            self._does()
            self._is_at_it = False


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("how", ["positions", "newest_first"])
def test_packed_at_any_moment_of_a_reader(
    store: Store, monkeypatch: pytest.MonkeyPatch, how: str, times: int
) -> None:
    """Between any two looks of a reader at files packs go into others: it gets each span, once."""
    monkeypatch.setattr(_compaction, "FILES_MIN", 2)
    spans = {span.span_id for span in _many(store, range(4))}
    store.compact()
    added = itertools.count(100, 2)

    def go_on() -> None:
        first = next(added)
        _many(store, range(first, first + 2))
        assert open_store(store.folder).compact().packs

    at, is_over = 0, False
    while not is_over:
        query = open_store(store.folder).query()
        with monkeypatch.context() as patch:
            reader = _Interrupted(patch, go_on, at, times)
            if how == "positions":
                found = [place.span.span_id for place in query.positions()]
            else:
                found = [span.span_id for span in query.spans(newest_first=True)]
        assert spans <= set(found), f"at {at}"
        assert len(set(found)) == len(found), f"at {at}"
        at, is_over = at + 1, reader.seen <= at
    assert at > 2


@pytest.mark.parametrize("number", range(3))
def test_a_pack_that_cannot_be_read_just_now(
    store: Store, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """What an interrupted pass left is packed again beside others: no pack makes another superfluous by halves."""
    _many(store)
    store._disk = _Stopping(1 + 3 + number)
    with contextlib.suppress(_Gone):
        store.compact()
    store._disk = FaultyDisk()
    _many(store, range(50, 52))
    before = [sorted(store.query().spans()), len(list(store.query().positions()))]
    (pack,) = _packs(store)
    opens = os.open

    def failing(path: str | Path, *rest: int, **named: int) -> int:
        if str(path).endswith(pack.name):
            raise OSError(errno.EMFILE, "too many open files")
        return opens(path, *rest, **named)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", failing)
        assert open_store(store.folder).compact().packs == 1
    for _ in range(2):
        query = open_store(store.folder).query()
        assert [sorted(query.spans()), len(list(query.positions()))] == before
        assert len(list(query.spans(newest_first=True))) == before[1]
        monkeypatch.setattr(_compaction, "FILES_MIN", 2)
        open_store(store.folder).compact()
    (left,) = open_store(store.folder).query().segments()
    assert left.spans == before[1]


def test_it_rests_and_stops(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The work leaves most of the time to others, and ends at once when it is told to."""
    _many(store)
    monkeypatch.setattr(_compaction, "_WORK_S", 0.0)
    waits: list[float] = []
    before = _everything(store.query())

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        return False

    assert store.compact(wait).packs == 1
    assert len(waits) > COUNT
    _many(store, range(50, 62))
    assert store.compact(lambda _: True).packs == 0
    assert not [path for path in store.segments.iterdir() if path.suffix == ".tmp"]
    assert len(_everything(store.query())[0]) == len(before[0]) + 36  # type: ignore[arg-type]


def test_a_full_disk_loses_nothing(store: Store) -> None:
    """Without room for the pack everything stays as it is."""
    _many(store)
    before = _everything(store.query())
    disk = store._disk
    assert isinstance(disk, FaultyDisk)
    disk.room_bytes = 200
    with pytest.raises(Exception, match="cannot be packed"):
        store.compact()
    disk.room_bytes = None
    assert _everything(store.query()) == before
    assert not [path for path in store.segments.iterdir() if path.suffix == ".tmp"]


def test_a_footer_of_a_pack_that_is_damaged(store: Store) -> None:
    """The frames of a pack say whose they are, so that it can be read without its footer."""
    _many(store)
    before = _everything(store.query())
    store.compact()
    (path,) = _packs(store)
    data = bytearray(path.read_bytes())
    data[-30] ^= 1
    path.write_bytes(data)
    query = open_store(store.folder).query()
    assert _everything(query)[:3] == before[:3]
    assert query.damage.counts["footer"] == 1


def test_repair_writes_a_damaged_pack_anew(store: Store) -> None:
    """What can be read of a damaged pack goes into a new one; the damaged one is put aside."""
    spans = _many(store)
    store.compact()
    (path,) = _packs(store)
    data = bytearray(path.read_bytes())
    data[-30] ^= 1
    path.write_bytes(data)
    repaired = open_store(store.folder).repair()
    assert repaired.rebuilt == (path.name,)
    assert (store.folder / "quarantine" / path.name).exists()
    assert not path.exists()
    again = open_store(store.folder)
    assert sorted(again.query().spans()) == sorted(spans)
    assert [info.is_pack for info in again.query().segments()] == [True]
    assert _packs(store)[0].stat().st_mode & 0o777 == 0o600


def test_a_backup_while_segments_are_packed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What goes into a pack while a backup is taken is in the backup, in the pack."""
    spans = _many(store)
    copy, copied = _backup._copy, [0]

    def copying(source: Path, target: Path, **how: bool) -> tuple[int, str]:
        copied[0] += source.suffix == ".ags"
        if copied[0] == 4:
            store.compact()
        return copy(source, target, **how)

    monkeypatch.setattr(_backup, "_copy", copying)
    store.back_up(tmp_path / "copy")
    monkeypatch.undo()
    restore(tmp_path / "copy", tmp_path / "again", provider=KnownKey())
    assert sorted(open_store(tmp_path / "again").query().spans()) == sorted(spans)
