"""Two hundred damaged stores: one clear error or a counted damage each, never wrong data, nothing readable lost."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from agentguard.errors import AgentGuardError
from agentguard.store import Store, _compaction
from agentguard.values import SpanRecord
from tests.support.damage import Hostile, frame_offsets, hostile_stores
from tests.support.spans import make_span
from tests.support.stores import fill, new_store, open_store

SPANS = [make_span(i) for i in range(240)]
KNOWN = {span.span_id: span for span in SPANS}
FRAME_SPANS = 4 * 16
"""At most: where so many wait, four batches share a frame."""
CASES = list(hostile_stores())
HARMLESS = ("planted-strange-names", "planted-temporary", "deleted-")
"""These leave nothing to notice in what is read: the names are not ours, or a whole file is gone."""


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two sealed segments and a live one, and another store beside it."""
    base = tmp_path_factory.mktemp("good")
    store = new_store(base / "store")
    fill(store, SPANS[:80], is_sealed=True)
    fill(store, SPANS[80:160], is_sealed=True)
    fill(store, SPANS[160:], is_sealed=False)
    fill(new_store(base / "other"), [make_span(i) for i in range(5000, 5100)], is_sealed=True)
    return base


def test_there_are_enough() -> None:
    """More than two hundred, all different."""
    assert len(CASES) > 200
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_hostile_store(case: Hostile, good: Path, tmp_path: Path) -> None:
    """Every reading function gives only what was written, or raises an error of ours, and counts the damage."""
    shutil.copytree(good, tmp_path / "copy", symlinks=True)
    folder = tmp_path / "copy" / "store"
    intact = sum(1 for _ in open_store(folder).query().spans())
    assert intact == len(SPANS)
    case.apply(folder)
    store = open_store(folder)
    spans, is_noticed = _read_everything(store)
    assert is_noticed or case.name.startswith(HARMLESS), "nothing was noticed"
    # One segment in three was touched: the other two must be there whole.
    assert len(spans) >= len(SPANS) - 80, f"lost {len(SPANS) - len(spans)} spans"
    # Sealing what is left live, and reading again, gives the same spans.
    store.seal_segments()
    again, _ = _read_everything(store)
    assert sorted(again) == sorted(spans)


def _read_everything(store: Store) -> tuple[list[SpanRecord], bool]:
    """Read all there is, and see that it is what was written."""
    query = store.query()
    spans = list(query.spans())
    ids = [span.span_id for span in spans]
    assert len(set(ids)) == len(ids), "a span was given twice"
    for span in spans:
        assert KNOWN[span.span_id] == span, "a span is not what was written"
    newest = list(store.query().spans(newest_first=True))
    assert sorted(newest) == sorted(spans)
    assert all(outcome.true_label == "refund" for outcome in query.outcomes())
    assert not list(query.gaps())
    for _, resource in query.resources():
        assert resource in ({}, {"service.name": "test"})
    starts = {span.start_unix_ns: span for span in SPANS}
    for block in query.features():
        for start, tokens in zip(
            block.columns["start_unix_ns"].values, block.columns["input_tokens"].values, strict=True
        ):
            assert starts[start].attributes["gen_ai.usage.input_tokens"] == tokens
    for position in query.positions():
        assert KNOWN[position.span.span_id] == position.span
    trace = SPANS[100].trace_id
    assert len(list(query.spans(trace_id=trace))) <= 10
    try:
        store.info()
        store.verify()
    except AgentGuardError:
        return spans, True
    return spans, bool(query.damage)


def test_one_flipped_bit_costs_one_frame(good: Path, tmp_path: Path) -> None:
    """Whatever is whole is read: a flip in a frame of a live segment loses the spans of that frame only."""
    shutil.copytree(good, tmp_path / "copy")
    folder = tmp_path / "copy" / "store"
    live = next(p for p in (folder / "seg").glob("*.ags") if p.read_bytes()[10] == 0)
    data = live.read_bytes()
    for offset, length in frame_offsets(data):
        broken = bytearray(data)
        broken[offset + length // 2] ^= 4
        live.write_bytes(broken)
        query = open_store(folder).query()
        assert len(list(query.spans())) >= len(SPANS) - FRAME_SPANS
        assert dict(query.damage.counts) == {"damaged": 1}


def test_every_byte_of_a_live_segment(tmp_path: Path) -> None:
    """Flip every byte of a small live segment, and cut it at every place: never wrong data, never a foreign error."""
    store = new_store(tmp_path / "store")
    written = [make_span(i) for i in range(6)]
    fill(store, written, is_sealed=False, frame_spans_max=3)
    path = next(store.segments.glob("*.ags"))
    good = path.read_bytes()
    for place in range(len(good)):
        data = bytearray(good)
        data[place] ^= 1 << place % 8
        path.write_bytes(data)
        query = store.query()
        assert [span for span in query.spans() if span not in written] == []
        assert list(query.features())[:0] == []
        assert query.damage, f"byte {place} was not noticed"
    for length in range(len(good)):
        path.write_bytes(good[:length])
        query = store.query()
        found = list(query.spans())
        assert found == written[: len(found)]


def test_every_byte_of_a_sealed_segment(tmp_path: Path) -> None:
    """Flip every byte of a small sealed segment, and cut it at every place."""
    store = new_store(tmp_path / "store")
    written = [make_span(i) for i in range(6)]
    fill(store, written, is_sealed=True)
    path = next(store.segments.glob("*.ags"))
    good = path.read_bytes()
    for place in range(len(good)):
        data = bytearray(good)
        data[place] ^= 1 << place % 8
        path.write_bytes(data)
        count, damage = open_store(tmp_path / "store").verify()
        assert count in {0, 6}
        assert damage, f"byte {place} was not noticed"
    for length in range(0, len(good), 3):
        path.write_bytes(good[:length])
        query = open_store(tmp_path / "store").query()
        found = list(query.spans())
        assert found in ([], written)
        assert query.damage


def test_flipped_bytes_of_a_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flip bytes all over a small pack, and cut it in many places: what is wrong is noticed, and never given."""
    monkeypatch.setattr(_compaction, "FILES_MIN", 2)
    store = new_store(tmp_path / "store")
    written = [make_span(i) for i in range(6)]
    for first in range(0, 6, 3):
        fill(store, written[first : first + 3], is_sealed=True)
    store.seal_segments()
    assert store.compact().packs == 1
    path = next(store.segments.glob("*.agp"))
    good = path.read_bytes()
    for place in range(0, len(good), 3):
        data = bytearray(good)
        data[place] ^= 1 << place % 8
        path.write_bytes(data)
        query = store.query()
        assert [span for span in query.spans() if span not in written] == []
        assert [each for each in query.positions() if each.span not in written] == []
        count, damage = store.verify()
        assert count in {0, 6}
        assert damage, f"byte {place} was not noticed"
    for length in range(0, len(good), 9):
        path.write_bytes(good[:length])
        query = store.query()
        assert [span for span in query.spans() if span not in written] == []
        assert query.damage, f"a cut at {length} was not noticed"


def test_swapped_replayed_and_planted_packs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pack under another name, of another store, or beside a copy of what is in it is noticed, or changes nothing."""
    monkeypatch.setattr(_compaction, "FILES_MIN", 2)
    store, other = new_store(tmp_path / "store"), new_store(tmp_path / "other")
    for each in (store, other):
        for first in range(0, 6, 3):
            fill(each, SPANS[first : first + 3], is_sealed=True)
        each.seal_segments()
    singles = {path.name: path.read_bytes() for path in store.segments.glob("*.ags")}
    for each in (store, other):
        assert each.compact().packs == 1
    path, foreign = next(store.segments.glob("*.agp")), next(other.segments.glob("*.agp"))
    good = path.read_bytes()
    for name, data in singles.items():
        (store.segments / name).write_bytes(data)
    assert sorted(store.query().spans()) == SPANS[:6], "old segments put back"
    assert len(store.query()._folder.listing().superseded) == 2
    copy = store.segments / f"00000007-{'f' * 16}.agp"
    copy.write_bytes(good)
    query = store.query()
    assert sorted(query.spans()) == SPANS[:6], "a copy of the pack"
    copy.write_bytes(foreign.read_bytes())
    query = store.query()
    assert sorted(query.spans()) == SPANS[:6]
    assert query.damage.counts["foreign"] == 1
    copy.unlink()
    path.rename(copy)
    query = store.query()
    assert sorted(query.spans()) == SPANS[:6], "under another name"
    assert query.damage.counts["misnamed"] == 1
