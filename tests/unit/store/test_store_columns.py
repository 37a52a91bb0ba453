"""Spans that give columns: written without a record of each, and with one where that must be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agentguard.capture import CaptureEnvironment, Span
from agentguard.errors import SegmentCorruptError
from agentguard.store import WriterConfig
from agentguard.store._batch import Batcher, Drops
from agentguard.store._block import pack_integers
from agentguard.store._derive import encode_features
from agentguard.store._encoding import Encoding, QueuedOutcome
from agentguard.store._features import decode_features
from agentguard.store._grid import grid_of, pack_grid
from agentguard.store._msgpack import encode
from agentguard.store._starts import unpack_starts
from agentguard.values import OutcomeRecord, SpanRecord, Usage
from tests.support.clock import FrozenClock
from tests.support.ids import SequentialIds
from tests.support.spans import FinishedSpan, make_span
from tests.support.stores import new_store, new_writer


@pytest.fixture
def spans(clock: FrozenClock) -> list[Span]:
    """Forty ended spans of two kinds, some of which failed."""
    ended: list[Any] = []
    environment = CaptureEnvironment(
        clock=clock, ids=SequentialIds(), sink=ended.append, on_internal_error=_fail, scope_version="1"
    )
    for number in range(40):
        span = Span(
            environment, f"call {number}", "model" if number % 2 else "tool", attributes={"n": number}
        )
        if number % 2:
            span.record_usage(Usage(number, 2, model="gpt-5"))
        if number % 7 == 0:
            span.fail(ValueError("no"))
        span.end()
    return ended


def _fail(where: str, error: BaseException) -> None:
    raise AssertionError(where) from error


def test_columns_are_written(tmp_path: Path, spans: list[Span], monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans arrive as their records say, and nobody makes a record of them."""
    records = [span.record() for span in spans]
    monkeypatch.setattr(Span, "record", _no_record)
    assert _stored(tmp_path, spans, _fail) == records


def _no_record(_: Span) -> SpanRecord:
    raise AssertionError("a record was made")


def test_spans_of_two_kinds_in_one_frame(tmp_path: Path, spans: list[Span]) -> None:
    """Beside spans that give no columns, all of them become records, in their order."""
    others = [make_span(1), make_span(2)]
    mixed = [FinishedSpan(others[0]), *spans, FinishedSpan(others[1])]
    records = [others[0], *[span.record() for span in spans], others[1]]
    assert _stored(tmp_path, mixed, _fail) == records


def test_columns_that_cannot_be_made(
    tmp_path: Path, spans: list[Span], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of our own is reported, and costs no span."""
    seen: list[str] = []
    monkeypatch.setattr(Span, "columns", _broken)
    records = [span.record() for span in spans]
    assert _stored(tmp_path, spans, lambda where, _: seen.append(where)) == records
    assert set(seen) == {"store.columns"}


def _broken(_: object) -> None:
    raise ValueError("no columns")


def test_one_span_of_a_batch_is_too_long(tmp_path: Path, spans: list[Span]) -> None:
    """The others are stored, and it is counted."""
    spans[5]._make_own()["text"] = "x" * 30_000
    records = [span.record() for span in spans if span is not spans[5]]
    assert _stored(tmp_path, spans, _fail, record_bytes_max=20_000) == records


def _stored(
    tmp_path: Path,
    sources: list[Any],
    on_internal_error: Callable[[str, BaseException], None],
    **settings: Any,
) -> list[SpanRecord]:
    """What a store holds once these were written."""
    store = new_store(tmp_path / "store")
    writer = new_writer(store, on_internal_error, **settings)
    for source in sources:
        writer.append(source)
    writer.close(10)
    return list(store.query().spans())


def test_a_batch_ends_at_either_limit(clock: FrozenClock) -> None:
    """What is taken out of the queue is as much as both limits allow, one item at least, in order."""
    batcher = Batcher(Drops(), _fail, 2**20)
    encoding = Encoding(batcher, WriterConfig(frame_spans_max=6, frame_bytes_max=1_000), clock)
    sources: list[Any] = [
        FinishedSpan(make_span(i), size) for i, size in enumerate((400, 500, 200, 5_000, 1, 1, 1, 1, 1, 1))
    ]
    encoding.queue.extend(sources)
    outcome = OutcomeRecord("c", 1, "a", "b", None)
    encoding.queue.appendleft(QueuedOutcome(outcome))
    taken: list[tuple[list[int], int, int]] = []
    while encoding.queue:
        found, outcomes, size = encoding._take(6, 1_000)
        taken.append(([sources.index(each) for each in found], len(outcomes), size))
    assert taken == [([0, 1], 1, 1_412), ([2, 3], 0, 5_200), ([4, 5, 6, 7, 8, 9], 0, 6)]


def test_pressed_the_writer_leaves_what_fills_no_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under pressure frames are whole; the rest is written with the next look, or in a flush."""
    writer = new_writer(new_store(tmp_path / "store"), _fail, frame_spans_max=10)
    monkeypatch.setattr(writer, "_start", lambda: None)
    for number in range(25):
        writer.append(FinishedSpan(make_span(number)))
    writer._is_pressed = True
    writer._step()
    assert len(writer._queue) == 5
    writer._step()
    assert not writer._queue
    assert writer.close(10).is_complete


@pytest.mark.parametrize("offsets", [
    (0, 2**31 - 1, 2**31, 2**32 - 1), (7, 2**31 - 9), (2**31, 2**32 - 1), (2**32 - 1, 2**32), (5, 2**33),
])  # fmt: skip
@pytest.mark.parametrize("base", [2**32, 1_800_000_000 << 30, 2**63 - 2**34, -(2**40)])
def test_times_come_back_as_they_were(base: int, offsets: tuple[int, ...]) -> None:
    """Where their upper halves are the same only the lower ones are written; that changes none."""
    base -= base % 2**32
    starts = [base + offset for offset in offsets]
    records = [make_span(number, start_unix_ns=start) for number, start in enumerate(starts)]
    column = decode_features(encode_features(grid_of(records, 0))).columns["start_unix_ns"]
    assert list(column.values) == starts


def test_times_of_a_few_seconds_take_half_the_room() -> None:
    """A frame has four bytes for each of them, wherever in the half of their range they are."""
    starts = [(5 << 32) + offset for offset in (0, 2**31, 2**32 - 1, 9, 2**31 - 1)]
    assert [len(data) for _, data, _ in map(pack_integers, (starts, [start * 2 for start in starts]))] == [
        32,
        40,
    ]


@pytest.mark.parametrize(
    "changes",
    [{"version": 2}, {"count": 4}, {"start": (1, 2)}, {"start": ("soon",)}, {"start": (1,), "count": 2**62}],
)
def test_starts_of_no_frame(changes: dict[str, Any]) -> None:
    """What is no frame of spans, as far as that is looked at, has no starts."""
    grid = msgspec.structs.replace(grid_of([make_span(number) for number in range(3)], 7), **changes)
    with pytest.raises(SegmentCorruptError):
        unpack_starts(encode(grid))


def test_one_start_may_stand_for_all() -> None:
    """A column of one value is that of each span; no span has none."""
    grid = grid_of([make_span(number, start_unix_ns=9) for number in range(3)], 7)
    assert unpack_starts(pack_grid(msgspec.structs.replace(grid, start=(9,)))) == (7, [9, 9, 9])
    assert unpack_starts(pack_grid(grid_of([], 4))) == (4, [])
