"""Laws of packing: whatever is written, sealed, packed, removed and read in between, each span is given once."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agentguard.errors import SegmentCorruptError
from agentguard.store import Positioned, SegmentWriter, _compaction
from agentguard.store._footer import unpack_footer
from agentguard.store._parts import Part, decode_parts, encode_parts
from agentguard.values import SpanRecord
from tests.support.clock import START_UNIX_NS
from tests.support.spans import FinishedSpan, make_span
from tests.support.stores import new_store, new_writer, open_store

HOUR_NS = 3600 * 10**9


class Packing(RuleBasedStateMachine):
    """A store with short and long processes, a packer, retention, and readers that take their time."""

    @initialize()
    def begin(self) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(_compaction, "FILES_MIN", 2)
        self.folder = Path(tempfile.mkdtemp())
        self.store = new_store(self.folder / "store")
        self.count = 0
        self.here: dict[str, SpanRecord] = {}
        self.long: SegmentWriter | None = None
        self.readers: list[tuple[Iterator[Positioned], list[Positioned], set[str]]] = []

    def _write(self, writer: SegmentWriter, count: int, hours: int) -> None:
        for _ in range(count):
            span = make_span(self.count, start_unix_ns=START_UNIX_NS + hours * HOUR_NS + self.count)
            self.count += 1
            self.here[span.span_id] = span
            assert writer.append(FinishedSpan(span))
        assert writer.flush(10).is_complete

    @rule(processes=st.integers(1, 4), count=st.integers(1, 4), hours=st.integers(0, 60))
    def short_processes(self, processes: int, count: int, hours: int) -> None:
        for _ in range(processes):
            writer = new_writer(self.store, frame_spans_max=2, is_sealing=False)
            self._write(writer, count, hours)
            writer.close(10)

    @rule(count=st.integers(1, 5), hours=st.integers(0, 60))
    def long_process(self, count: int, hours: int) -> None:
        self.long = self.long or new_writer(
            self.store, segment_spans_max=3, frame_spans_max=2, is_sealing=False
        )
        self._write(self.long, count, hours)

    @rule()
    def long_process_ends(self) -> None:
        if self.long is not None:
            self.long.close(10)
            self.long = None

    @rule()
    def seal(self) -> None:
        self.store.seal_segments()

    @rule(is_stopped=st.booleans())
    def pack(self, is_stopped: bool) -> None:
        chance = random.Random(self.count)
        self.patch.setattr(_compaction, "_WORK_S", 0.0)
        self.store.compact(lambda _: is_stopped and chance.random() < 0.05)

    @rule(keep=st.integers(1, 6))
    def remove(self, keep: int) -> None:
        sizes = sum(info.size_bytes for info in self.store.query().segments())
        self.store.remove_old(size_bytes_max=sizes * keep // 6)
        left = {span.span_id for span in self.store.query().spans()}
        self.here = {key: span for key, span in self.here.items() if key in left}

    @rule()
    def open_again(self) -> None:
        self.store = open_store(self.store.folder)

    @rule(first=st.integers(0, 5))
    def begin_to_read(self, first: int) -> None:
        reading = self.store.query().positions()
        found = [place for _, place in zip(range(first), reading, strict=False)]
        self.readers.append((reading, found, set(self.here)))

    @rule()
    def read_on(self) -> None:
        if self.readers:
            reading, found, then = self.readers.pop(0)
            found += list(reading)
            ids = [place.span.span_id for place in found]
            assert len(set(ids)) == len(ids), "a span was given twice"
            assert then & set(self.here) <= set(ids), "a span was not given"
            last: dict[str, tuple[int, int]] = {}
            for place in found:
                writer, *where = place.cursor
                assert last.get(writer, (-1, -1)) < tuple(where), "a writer's spans came in another order"
                last[writer] = (where[0], where[1])

    @invariant()
    def everything_is_there_once(self) -> None:
        if not hasattr(self, "here"):
            return
        query = self.store.query()
        found = list(query.spans())
        assert sorted(found) == sorted(self.here.values())
        newest = list(query.spans(newest_first=True))
        assert [s.start_unix_ns for s in newest] == sorted((s.start_unix_ns for s in found), reverse=True)
        assert sum(block.rows for block in query.features(["duration_ns"])) == len(found)
        for span in found[:3]:
            assert span in list(query.spans(trace_id=span.trace_id))
        assert not query.damage.total

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.long_process_ends()
            self.patch.undo()
            shutil.rmtree(self.folder)


TestPacking = Packing.TestCase
TestPacking.settings = settings(max_examples=20, stateful_step_count=20, deadline=None)


@given(
    st.lists(
        st.builds(
            Part, st.binary(min_size=8, max_size=8), st.integers(0, 2**32 - 1), st.integers(0, 2**62),
            st.integers(0, 2**31), st.binary(max_size=40),
        ),
        max_size=5,
    )
)  # fmt: skip
def test_parts_come_back(parts: list[Part]) -> None:
    """decode(encode(x)) == x for any parts."""
    assert decode_parts(encode_parts(parts)) == parts


@given(st.binary(max_size=200))
def test_strange_parts_raise_one_kind_of_error(data: bytes) -> None:
    """Arbitrary bytes are parts, or a `SegmentCorruptError`."""
    for parse in (decode_parts, unpack_footer):
        try:
            parse(data)
        except SegmentCorruptError:
            continue
