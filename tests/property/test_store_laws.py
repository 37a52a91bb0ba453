"""Laws of the store: what was written is read, whatever it was and whatever happened in between."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agentguard.errors import SegmentCorruptError
from agentguard.store import SegmentWriter, Store, _codec
from agentguard.store._derive import encode_features
from agentguard.store._features import decode_features, numbers_of, texts_of
from agentguard.store._footer import unpack_footer
from agentguard.store._grid import cut, grid_of, joined, pack_grid, unpack_grid
from agentguard.store._msgpack import decode_map
from agentguard.store._records import records_of
from agentguard.store._rows import decode_gaps, decode_outcomes, decode_spans, encode_spans, span_record
from agentguard.values import SpanEvent, SpanLink, SpanRecord
from agentguard.values import attributes as names
from tests.support.faulty_disk import FaultyDisk
from tests.support.spans import FinishedSpan, make_span
from tests.support.stores import new_store, new_writer

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
INT64 = st.integers(-(2**63), 2**63 - 1)
SCALAR: st.SearchStrategy[Any] = st.one_of(TEXT, st.booleans(), INT64, st.floats(allow_nan=False))
VALUE = st.one_of(SCALAR, st.lists(TEXT, max_size=3).map(tuple), st.lists(INT64, max_size=3).map(tuple))
ATTRIBUTES = st.dictionaries(TEXT, VALUE, max_size=6)


def hexadecimal(digits: int) -> st.SearchStrategy[str]:
    """An id of that many digits, or now and then something that is no id."""
    return st.one_of(
        st.text("0123456789abcdef", min_size=digits, max_size=digits),
        st.just(""),
        TEXT.map(lambda t: t + "?"),
    )


SPANS = st.builds(
    SpanRecord,
    trace_id=hexadecimal(32),
    span_id=hexadecimal(16),
    parent_span_id=hexadecimal(16),
    name=TEXT,
    kind=TEXT,
    otel_kind=TEXT,
    start_unix_ns=INT64,
    duration_ns=INT64,
    status=TEXT,
    status_description=TEXT,
    attributes=ATTRIBUTES,
    events=st.lists(st.builds(SpanEvent, TEXT, INT64, ATTRIBUTES), max_size=2).map(tuple),
    links=st.lists(st.builds(SpanLink, hexadecimal(32), hexadecimal(16), ATTRIBUTES), max_size=2).map(tuple),
    scope=TEXT,
    scope_version=TEXT,
    trace_state=TEXT,
)


@given(st.lists(SPANS, max_size=5), st.integers(0, 2**40))
@settings(max_examples=60)
def test_rows_come_back(spans: list[SpanRecord], first: int) -> None:
    """decode(encode(x)) == x for every list of spans."""
    decoded = decode_spans(encode_spans(spans, first))
    assert decoded.first_sequence == first
    # The text tells 1 from True, and 0.0 from -0.0.
    assert repr([span_record(row, decoded.shapes) for row in decoded.rows]) == repr(spans)
    assert repr(records_of(unpack_grid(encode_spans(spans, first)))) == repr(spans)


@given(st.lists(SPANS, min_size=1, max_size=8), st.integers(0, 8), st.integers(0, 8))
@settings(max_examples=60)
def test_spans_are_cut_and_joined(spans: list[SpanRecord], one: int, other: int) -> None:
    """Cut anywhere and put together again, spans and their features are the same."""
    edges = sorted({0, min(one, len(spans)), min(other, len(spans)), len(spans)})
    grid = unpack_grid(pack_grid(grid_of(spans, 3)))
    parts = [cut(grid, start, stop) for start, stop in itertools.pairwise(edges)]
    assert [part.first_sequence for part in parts] == [3 + edge for edge in edges[:-1]]
    assert repr([span for part in parts for span in _records_of(pack_grid(part))]) == repr(spans)
    whole = unpack_grid(pack_grid(joined(parts)))
    assert repr(_records_of(pack_grid(whole))) == repr(spans)
    assert encode_features(whole) == encode_features(grid)


@given(st.lists(SPANS, min_size=1, max_size=5))
@settings(max_examples=60)
def test_features_of_any_span(spans: list[SpanRecord]) -> None:
    """Every span has features, and they decode to as many rows."""
    block = decode_features(encode_features(grid_of(spans, 7)))
    assert (block.rows, block.first_sequence) == (len(spans), 7)
    assert all(len(column.values) == len(spans) for column in block.columns.values())


_VALUES = st.sampled_from(
    (0, -1, 5, 2**63, 2**70, -(2**64), True, 0.5, float("nan"), float("inf"), "", "USD", "EUR", "x" * 600,
     None, (), ("stop", "length"), ["stop"], (3,), "7")
)  # fmt: skip
WANTED = {
    names.TIME_TO_FIRST_CHUNK_S, names.INPUT_TOKENS, names.OUTPUT_TOKENS, names.COST_USD, names.COST_AMOUNT,
    names.COST_CURRENCY, names.HTTP_RESEND_COUNT, names.ATTEMPTS, names.USAGE_MISSING, names.AGENT_NAME,
    names.TOOL_NAME, names.RESPONSE_MODEL, names.REQUEST_MODEL, names.PROMPT_VERSION,
    names.RESPONSE_FINISH_REASONS, names.ERROR_TYPE,
}  # fmt: skip
_FEATURE_ATTRIBUTES = st.dictionaries(
    st.sampled_from((*sorted(WANTED), "other", "more")), _VALUES, max_size=9
)


@given(
    st.lists(
        st.builds(
            SpanRecord, hexadecimal(32), hexadecimal(16), hexadecimal(16), st.just("n"),
            st.sampled_from(("model", "tool")), st.just("client"), INT64, INT64,
            st.sampled_from(("ok", "error", "unset")), st.just(""), _FEATURE_ATTRIBUTES,
        ),
        min_size=1, max_size=6,
    )
)  # fmt: skip
@settings(max_examples=40)
def test_columns_say_what_spans_say(spans: list[SpanRecord]) -> None:
    """Features derived a column at a time are those derived span by span, whatever the values."""
    columns = decode_features(encode_features(grid_of(spans, 0))).columns.values()
    whole = [column.texts() if column.dtype == "dict" else column.values.tolist() for column in columns]
    found = [list(map(repr, row)) for row in zip(*whole, strict=True)]
    assert found == [list(map(repr, (*numbers_of(span), *texts_of(span)))) for span in spans]


def _records_of(plain: bytes) -> list[SpanRecord]:
    """The spans of a frame."""
    rows = decode_spans(plain)
    return [span_record(row, rows.shapes) for row in rows.rows]


def _features_of(spans: list[SpanRecord], first: int) -> bytes:
    """The feature block of some spans."""
    return encode_features(grid_of(spans, first))


@given(st.binary(max_size=3000), st.integers(1, 6))
def test_codec_comes_back(plain: bytes, level: int) -> None:
    """decompress(compress(x)) == x."""
    assert _codec.decompress(*_codec.compress(plain, level)) == plain


@given(st.binary(max_size=400), st.integers(0, 255))
@settings(max_examples=300)
def test_parsers_raise_one_kind_of_error(data: bytes, codec: int) -> None:
    """Arbitrary bytes give an answer or a SegmentCorruptError, never another exception."""
    for parse in (
        decode_spans,
        lambda d: [list(decode_outcomes(d))],
        lambda d: [list(decode_gaps(d))],
        decode_features,
        unpack_footer,
        lambda d: decode_map(d, "map"),
        lambda d: _codec.decompress(codec, d),
    ):
        with contextlib.suppress(SegmentCorruptError):
            parse(data)


@given(st.lists(st.sampled_from(range(6)), min_size=1, max_size=4), st.data())
@settings(max_examples=80)
def test_mutated_frames_raise_one_kind_of_error(numbers: list[int], data: st.DataObject) -> None:
    """Rows and features with some bytes changed decode to something or raise SegmentCorruptError."""
    spans = [make_span(number) for number in numbers]
    for encode, decode in ((encode_spans, _records_of), (_features_of, decode_features)):
        plain = bytearray(encode(spans, 0))
        for _ in range(3):
            plain[data.draw(st.integers(0, len(plain) - 1))] = data.draw(st.integers(0, 255))
        with contextlib.suppress(SegmentCorruptError):
            decode(bytes(plain))


class StoreModel(RuleBasedStateMachine):
    """Writers that come and go on a disk that fails, and a reader; a list is the model."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.disk = FaultyDisk()
        self.written: list[SpanRecord] = []
        self.waiting: list[SpanRecord] = []
        self.writer: SegmentWriter | None = None

    @initialize()
    def begin(self) -> None:
        self.store: Store = new_store(self.folder / "store", self.disk)

    def _writer(self) -> SegmentWriter:
        if self.writer is None:
            self.writer = new_writer(
                self.store, lambda *_: None, frame_spans_max=4, segment_spans_max=12, is_sealing=False,
                retry_interval_s=0.001, frame_interval_s=0.005,
            )  # fmt: skip
        return self.writer

    @rule(count=st.integers(1, 9))
    def append(self, count: int) -> None:
        for _ in range(count):
            span = make_span(len(self.written) + len(self.waiting))
            assert self._writer().append(FinishedSpan(span))
            self.waiting.append(span)

    @rule()
    def flush(self) -> None:
        if self.writer is not None and self.writer.flush(10).is_complete:
            self.written += self.waiting
            self.waiting = []

    @rule()
    def close(self) -> None:
        if self.writer is not None:
            assert self.writer.close(10).is_complete
            self.written += self.waiting
            self.waiting, self.writer = [], None

    @rule(number=st.sampled_from([5, 28, 30]))
    def fail_a_write(self, number: int) -> None:
        self.disk.write_errors.append(number)

    @rule(number=st.sampled_from([5, 28]))
    def fail_a_sync(self, number: int) -> None:
        self.disk.sync_errors.append(number)

    @rule()
    def seal(self) -> None:
        self.disk.write_errors.clear()
        self.disk.sync_errors.clear()
        self.store.seal_segments()

    @invariant()
    def all_that_was_flushed_is_there_once(self) -> None:
        query = self.store.query()
        found = sorted(query.spans())
        everything = sorted(self.written + self.waiting)
        assert not query.damage, query.damage.first
        ids = [span.span_id for span in found]
        assert len(set(ids)) == len(ids)
        assert set(ids) >= {span.span_id for span in self.written}
        known = {span.span_id: span for span in everything}
        assert all(known[span.span_id] == span for span in found)

    def teardown(self) -> None:
        if self.writer is not None:
            self.disk.write_errors.clear()
            self.disk.sync_errors.clear()
            self.writer.close(10)
        shutil.rmtree(self.folder)


StoreModel.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
TestStoreModel = pytest.mark.timeout(120)(StoreModel.TestCase)
