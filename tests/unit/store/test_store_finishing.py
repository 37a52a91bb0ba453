"""A writer whose frames are long seals its file where it lies; nothing is read again, nor written twice."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from agentguard.store import Disk, Store
from agentguard.store._facts import facts_of
from agentguard.store._footer import trace_tag
from agentguard.store._grid import Grid, grid_of, trace_ids, unpack_grid
from agentguard.store._layout import HEADER_BYTES, Kind, State, unpack_header
from agentguard.store._segment import SegmentFile
from agentguard.values import SpanRecord
from tests.support.clock import START_UNIX_NS
from tests.support.faulty_disk import FaultyDisk
from tests.support.spans import FinishedSpan, make_span
from tests.support.stores import fill, new_store, new_writer, open_store, segment_files

COUNT = 600


def _spans(count: int = COUNT) -> list[SpanRecord]:
    """Spans that do not begin in the order in which they end."""
    return [make_span(i, start_unix_ns=START_UNIX_NS + i * 37 % 1000) for i in range(count)]


def _state(path: Path) -> State:
    header = unpack_header(path.read_bytes()[:HEADER_BYTES])
    assert header is not None
    return State(header.state)


def _check(store: Store, spans: list[SpanRecord]) -> None:
    """All of it is there, by every way of asking, and nothing is wrong."""
    query = open_store(store.folder).query()
    assert list(query.spans()) == spans
    assert list(query.spans(trace_id=spans[7].trace_id)) == [
        span for span in spans if span.trace_id == spans[7].trace_id
    ]
    assert len(list(query.outcomes())) == 1
    durations = [v for block in query.features(["duration_ns"]) for v in block.columns["duration_ns"].values]
    assert durations == [span.duration_ns for span in spans]
    assert not query.damage.counts


def test_a_file_of_long_frames_is_not_written_anew(tmp_path: Path) -> None:
    """Its footer says what reading the file would have said."""
    store = new_store(tmp_path / "store")
    fill(store, _spans(), is_sealed=True, frame_spans_max=128)
    (path,) = segment_files(store)
    assert _state(path) is State.FINISHED
    with SegmentFile.open(path, store.keystore, pytest.fail) as segment:  # type: ignore[union-attr, arg-type]
        footer = segment.footer
        assert footer is not None
        grids: list[Grid] = []
        for frame, place in zip(segment.frames(frozenset(Kind)), footer.places, strict=True):
            assert (frame.kind, frame.offset, frame.size_bytes) == place[:3]
            if frame.kind == Kind.SPANS:
                grids.append(unpack_grid(frame.plain))
            if frame.kind in {Kind.SPANS, Kind.FEATURES}:
                starts = min(grids[-1].start), max(grids[-1].start)
                assert place[3:] == (grids[-1].first_sequence, grids[-1].count, *starts)
    assert (footer.spans, footer.outcomes, footer.damage) == (COUNT, 1, {})
    said = set(zip(footer.tags, footer.chunks, strict=True))
    assert said == {(trace_tag(t), chunk) for chunk, grid in enumerate(grids) for t in trace_ids(grid)}
    assert store.seal_segments() == 0
    _check(store, _spans())


def test_short_frames_are_put_together(tmp_path: Path) -> None:
    """A file of them is written anew, in longer ones."""
    store = new_store(tmp_path / "store")
    fill(store, _spans(), is_sealed=True, frame_spans_max=16, frame_bytes_max=1)
    (path,) = segment_files(store)
    assert _state(path) is State.SEALED
    _check(store, _spans())


@pytest.mark.parametrize(("conversations", "state"), [(1, State.FINISHED), (60, State.SEALED)])
def test_long_pieces_of_content_stay(tmp_path: Path, conversations: int, state: State) -> None:
    """What was said in a conversation is put together where that is many short pieces; both are read back."""
    store = new_store(tmp_path / "store")
    spans = [
        span._replace(
            attributes={
                "gen_ai.conversation.id": f"talk {place % conversations}",
                "agentguard.input.content": f"what was asked in the {place}th question " * 3,
            }
        )
        for place, span in enumerate(_spans())
    ]
    fill(store, spans, is_sealed=True, frame_spans_max=128, frame_bytes_max=2**30)
    (path,) = segment_files(store)
    assert _state(path) is state
    query = store.query()
    assert (list(query.spans()), dict(query.damage.counts)) == (spans, {})
    assert list(query.spans(trace_id=spans[7].trace_id)) == [
        span for span in spans if span.trace_id == spans[7].trace_id
    ]


def test_rotation_leaves_sealed_files(tmp_path: Path) -> None:
    """No thread has to come for them."""
    store = new_store(tmp_path / "store")
    spans = _spans()
    writer = new_writer(store, segment_spans_max=100, frame_spans_max=100, frame_bytes_max=2**30)
    for first in range(0, COUNT, 100):
        for span in spans[first : first + 100]:
            writer.append(FinishedSpan(span, bytes_estimate=100))
        writer.flush(10)
    assert [_state(path) for path in segment_files(store)] == [State.FINISHED] * (COUNT // 100)
    assert writer.close(10).is_complete


class _NoHeader(Disk):
    """Ends before the header says that the file is sealed."""

    def overwrite(self, fd: int, data: bytes) -> None:
        raise OSError(errno.EIO, "no")


def test_a_header_that_was_not_changed_costs_nothing(tmp_path: Path) -> None:
    """Footer and trailer are there, the header is of before: read as a live file, then sealed by others."""
    heard: list[str] = []
    store = new_store(tmp_path / "store", _NoHeader())
    writer = new_writer(store, lambda where, _: heard.append(where), is_sealing=True)
    spans = _spans()
    for span in spans:
        writer.append(FinishedSpan(span, bytes_estimate=100))
    assert writer.flush(10).is_complete
    outlet = writer._outlet
    assert outlet is not None
    outlet.close()
    assert heard == ["store.disk"]
    (path,) = segment_files(store)
    assert _state(path) is State.LIVE
    query = open_store(store.folder).query()
    assert (list(query.spans()), dict(query.damage.counts)) == (spans, {})
    assert open_store(store.folder).seal_segments() == 1
    assert _state(path) is State.SEALED
    query = open_store(store.folder).query()
    assert (list(query.spans()), dict(query.damage.counts)) == (spans, {})


def test_a_disk_without_room_for_the_footer(tmp_path: Path) -> None:
    """What was written of it is cut off, and the file is sealed later."""
    heard: list[str] = []
    disk = FaultyDisk()
    store = new_store(tmp_path / "store", disk)
    writer = new_writer(store, lambda where, _: heard.append(where), is_sealing=True)
    for span in _spans():
        writer.append(FinishedSpan(span, bytes_estimate=100))
    assert writer.flush(10).is_complete
    disk.room_bytes = 100
    assert writer.close(10).is_complete
    assert heard
    disk.room_bytes = None
    (path,) = segment_files(store)
    assert _state(path) is State.LIVE
    assert store.seal_segments() == 1
    query = store.query()
    assert (list(query.spans()), dict(query.damage.counts)) == (_spans(), {})


def test_a_file_that_is_cut_off_is_no_live_one(tmp_path: Path) -> None:
    """Spans that are missing behind the last frame are missed: the header says that there was a footer."""
    store = new_store(tmp_path / "store")
    fill(store, _spans(), is_sealed=True, frame_spans_max=128)
    (path,) = segment_files(store)
    with SegmentFile.open(path, store.keystore, pytest.fail) as segment:  # type: ignore[union-attr, arg-type]
        assert segment.footer is not None
        places = list(segment.footer.places)
    path.write_bytes(path.read_bytes()[: places[3].offset])
    query = open_store(store.folder).query()
    assert len(list(query.spans())) < COUNT
    assert query.damage.counts["footer"]


def test_a_damaged_file_that_was_written_anew_is_not_held_to_its_first_length(tmp_path: Path) -> None:
    """It has fewer frames since it was sealed: repairing it finds none of them missing."""
    store = new_store(tmp_path / "store")
    writer = new_writer(store, segment_spans_max=300, is_sealing=False)
    for place, span in enumerate(_spans()):
        writer.append(FinishedSpan(span, bytes_estimate=100))
        if place % 30 == 29:
            writer.flush(10)
    assert writer.close(10).is_complete
    assert store.seal_segments() == 2
    first_file, _ = segment_files(store)
    data = bytearray(first_file.read_bytes())
    data[-1] ^= 1
    first_file.write_bytes(data)
    assert open_store(store.folder).repair().rebuilt == (first_file.name,)
    query = open_store(store.folder).query()
    assert (len(list(query.spans())), dict(query.damage.counts)) == (COUNT, {"footer": 1})


def test_a_cut_that_says_the_file_is_live_is_missed_by_the_next_file(tmp_path: Path) -> None:
    """Its header can be put back by who can write; the writer's next file knows how long it was."""
    store = new_store(tmp_path / "store")
    spans = _spans()
    writer = new_writer(store, segment_spans_max=300, frame_spans_max=100, frame_bytes_max=2**30)
    for first in range(0, COUNT, 100):
        for span in spans[first : first + 100]:
            writer.append(FinishedSpan(span, bytes_estimate=100))
        writer.flush(10)
    assert writer.close(10).is_complete
    first_file, _ = segment_files(store)
    with SegmentFile.open(first_file, store.keystore, pytest.fail) as segment:  # type: ignore[union-attr, arg-type]
        assert segment.footer is not None
        places, header = list(segment.footer.places), segment.header
    data = first_file.read_bytes()
    first_file.write_bytes(header._replace(state=State.LIVE).pack() + data[HEADER_BYTES : places[3].offset])
    store = open_store(store.folder)
    assert store.seal_segments() == 1
    query = store.query()
    assert len(list(query.spans())) == COUNT - 200
    assert query.damage.counts == {"missing": 1}
    assert (store.folder / "quarantine" / first_file.name).exists()


def test_facts_of_odd_spans() -> None:
    """An id that is none, and times beyond 64 bits, have a place in the footer too."""
    spans = [make_span(0)._replace(trace_id="odd"), make_span(1, start_unix_ns=2**70)]
    facts = facts_of(grid_of(spans, 5))
    assert facts[:4] == (5, 2, spans[0].start_unix_ns, 2**63 - 1)
    assert set(facts.tags) == {trace_tag("odd"), trace_tag(bytes.fromhex(spans[1].trace_id))}
