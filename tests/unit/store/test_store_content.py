"""Content wherever it lies: look-ups find it in live, sealed and packed files, and damage of it costs nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agentguard.store import Store
from agentguard.store._layout import FRAME_HEAD_BYTES, Kind
from agentguard.store._segment import SegmentFile
from tests.support.content import UNREADABLE, by_id, content_span
from tests.support.spans import FinishedSpan
from tests.support.stores import fill, new_store, new_writer, open_store, segment_files

SPANS = [content_span(i, of_user=f"user-{i % 3}", of_conversation=f"talk-{i // 90}") for i in range(700)]
"""Every tenth names nobody: of it there is no content that is sealed for somebody."""
for _place in range(0, 700, 10):
    SPANS[_place] = content_span(_place)


def stores(tmp_path: Path) -> Iterator[tuple[str, Store]]:
    """The same spans in files of every kind."""
    for name, is_sealed, frame_spans_max in (
        ("live", False, 30), ("sealed", True, 30), ("whole", True, 128), ("odd", True, 101),
    ):  # fmt: skip
        store = new_store(tmp_path / name)
        fill(store, SPANS, is_sealed=is_sealed, frame_spans_max=frame_spans_max)
        yield name, store
    store = new_store(tmp_path / "packed")
    for first in range(0, 700, 50):
        fill(store, SPANS[first : first + 50], is_sealed=True, frame_spans_max=20)
    assert store.compact().packs == 1
    yield "packed", store
    store = new_store(tmp_path / "packs")
    for begin in (0, 350):
        for first in range(begin, begin + 350, 35):
            fill(store, SPANS[first : first + 35], is_sealed=True, frame_spans_max=20)
        assert store.compact().packs
    yield "packs", store


def test_every_way_to_read_finds_it(tmp_path: Path) -> None:
    """All of them, one trace, a time, from a place on: each gives whole spans, cold and with an index."""
    for name, made in stores(tmp_path):
        store = open_store(made.folder)
        assert by_id(store.query().spans()) == by_id(SPANS), name
        for _ in range(3):
            for span in SPANS[::97]:
                found = list(store.query().spans(trace_id=span.trace_id))
                assert span in found, name
                assert all(UNREADABLE not in each.attributes for each in found)
        since = SPANS[333].start_unix_ns
        late = store.query().spans(since_unix_ns=since)
        assert by_id(late) == by_id(s for s in SPANS if s.start_unix_ns >= since), name
        placed = list(store.query().positions())
        assert by_id(one.span for one in placed) == by_id(SPANS), name
        if name in {"live", "sealed"}:
            writer, n, sequence = placed[400].cursor
            rest = list(store.query().positions({writer: (n, sequence)}))
            assert [one.span for one in rest] == [one.span for one in placed[401:]], name


def test_following_a_live_file_finds_it(tmp_path: Path) -> None:
    """Who reads a file that grows, and remembers how far, gets the content of what came since."""
    store = new_store(tmp_path / "s")
    reader = open_store(tmp_path / "s")
    writer = new_writer(store, is_sealing=False)
    for first in range(0, 60, 20):
        for span in SPANS[first : first + 20]:
            writer.append(FinishedSpan(span))
        assert writer.flush(10).is_complete
        wanted = SPANS[first + 5]
        for _ in range(2):
            assert wanted in list(reader.query().spans(trace_id=wanted.trace_id))
        assert by_id(one.span for one in reader.query().positions()) == by_id(SPANS[: first + 20])
    writer.close(10)


def _frames(store: Store, path: Path, kind: Kind) -> list[tuple[int, int]]:
    """Offset and length of all frames of a kind."""
    segment = SegmentFile.open(path, store.keystore, lambda damage: None)
    assert segment is not None
    with segment:
        return [(frame.offset, frame.size_bytes) for frame in segment.frames({kind})]


@pytest.mark.parametrize("is_sealed", [False, True])
def test_damage_of_content_costs_only_content(tmp_path: Path, is_sealed: bool) -> None:
    """Where a frame of content is damaged its spans are given without what is personal, and it is told."""
    store = new_store(tmp_path / "s")
    fill(store, SPANS, is_sealed=is_sealed, frame_spans_max=100)
    (path,) = segment_files(store)
    offset, _ = _frames(store, path, Kind.CONTENT)[0]
    data = bytearray(path.read_bytes())
    data[offset + FRAME_HEAD_BYTES + 40] ^= 1
    path.write_bytes(data)
    query = open_store(tmp_path / "s").query()
    found = by_id(query.spans())
    assert query.damage.counts == {"damaged": 1}
    assert len(found) == len(SPANS)
    whole = by_id(SPANS)
    for span in found.values():
        assert span == whole[span.span_id] or "gen_ai.input.messages" not in span.attributes
    if is_sealed:
        store.repair()
        assert by_id(open_store(tmp_path / "s").query().spans()) == found


def test_repair_keeps_content(tmp_path: Path) -> None:
    """A sealed file that is written anew, for damage of a chunk, has the content of all others."""
    store = new_store(tmp_path / "s")
    fill(store, SPANS, is_sealed=True, frame_spans_max=30)
    (path,) = segment_files(store)
    chunks = _frames(store, path, Kind.SPANS)
    data = bytearray(path.read_bytes())
    data[chunks[1][0] + FRAME_HEAD_BYTES + 40] ^= 1
    path.write_bytes(data)
    assert store.repair().rebuilt
    found = by_id(open_store(tmp_path / "s").query().spans())
    assert all(span == by_id(SPANS)[i] for i, span in found.items())
    places = [place for place, span in enumerate(SPANS) if span.span_id not in found]
    # One chunk, whatever its size is.
    assert 0 < len(places) <= 128
    assert places == list(range(places[0], places[-1] + 1))


def test_a_stretch_ends_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a file is, no frame of content is of more than so many spans, or much longer than so many bytes."""
    monkeypatch.setattr("agentguard.store._sealing._STRETCH_SPANS", 128)
    store = new_store(tmp_path / "spans")
    fill(store, SPANS, is_sealed=True, frame_spans_max=30)
    (path,) = segment_files(store)
    assert len(_frames(store, path, Kind.CONTENT)) >= 3
    assert by_id(open_store(tmp_path / "spans").query().spans()) == by_id(SPANS)
    monkeypatch.setattr("agentguard.store._sealing._STRETCH_BYTES", 2000)
    store = new_store(tmp_path / "bytes")
    fill(store, SPANS, is_sealed=True, frame_spans_max=7)
    (path,) = segment_files(store)
    assert len(_frames(store, path, Kind.CONTENT)) >= 8
    assert by_id(open_store(tmp_path / "bytes").query().spans()) == by_id(SPANS)
    for span in SPANS[::53]:
        assert span in list(open_store(tmp_path / "bytes").query().spans(trace_id=span.trace_id))


def test_content_of_many_stays_near_in_a_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However packs are made of packs, the content of a span is in one of the last frames of content before it."""
    monkeypatch.setattr("agentguard.store._packing._GROUP_BYTES_MAX", 20_000)
    store = new_store(tmp_path / "s")
    sizes = [3, 90, 130, 1, 20, 257, 5, 64, 40, 90]
    first = 0
    for turn, size in enumerate(sizes):
        fill(store, SPANS[first : first + size], is_sealed=True, frame_spans_max=17)
        first += size
        if turn % 2:
            _pack_all(store)
    assert by_id(open_store(tmp_path / "s").query().spans()) == by_id(SPANS[:first])
    for span in SPANS[:first:29]:
        assert span in list(open_store(tmp_path / "s").query().spans(trace_id=span.trace_id))


def _pack_all(store: Store) -> None:
    """Make one pack of all there is, however little."""
    monkey = pytest.MonkeyPatch()
    monkey.setattr("agentguard.store._compaction.FILES_MIN", 2)
    store.compact()
    store.compact()
    monkey.undo()


def test_a_pack_has_what_was_sealed(tmp_path: Path) -> None:
    """Frames of content are copied as they are, and not compressed again."""
    store = new_store(tmp_path / "s")
    for number in range(8):
        fill(store, [content_span(number, of_user="ann", says=f"{number}" * 300)], is_sealed=True)
    sealed = sum(len(group) for path in segment_files(store) for group in _blobs(store, path))
    assert store.compact().packs == 1
    (pack,) = store.segments.glob("*.agp")
    assert sum(map(len, _blobs(store, pack))) == sealed


def _blobs(store: Store, path: Path) -> list[bytes]:
    """What the frames of content of a file hold."""
    segment = SegmentFile.open(path, store.keystore, lambda damage: None)
    assert segment is not None
    with segment:
        return [frame.plain for frame in segment.frames({Kind.CONTENT})]
