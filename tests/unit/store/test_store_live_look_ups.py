"""Look-ups in segments that are still written to: cheap, right, and right again after the file changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agentguard.store import Store, _row_reader
from agentguard.values import SpanRecord
from tests.support.spans import FinishedSpan, make_span
from tests.support.stores import fill, new_store, new_writer, segment_files

SPANS = [make_span(i) for i in range(400)]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many frames were decoded since this was asked last."""
    count = [0]
    decode = vars(_row_reader)["decode_spans"]

    def counting(*arguments: object) -> object:
        count[0] += 1
        return decode(*arguments)

    def taken() -> int:
        found, count[0] = count[0], 0
        return found

    monkeypatch.setattr(_row_reader, "decode_spans", counting)
    return taken


def _of(trace_id: str, spans: list[SpanRecord] = SPANS) -> list[SpanRecord]:
    return [span for span in spans if span.trace_id == trace_id]


def _look_up(store: Store, number: int, spans: list[SpanRecord] = SPANS) -> None:
    trace_id = SPANS[number].trace_id
    assert list(store.query().spans(trace_id=trace_id)) == _of(trace_id, spans)


def test_the_third_look_up_decodes_what_it_needs(tmp_path: Path, decoded: Callable[[], int]) -> None:
    """One look-up decodes the frames with the id in them, the second all, and each one after that a few."""
    store = new_store(tmp_path / "store")
    writer = new_writer(store, frame_spans_max=10, is_sealing=False)
    for first in range(0, 380, 10):
        for span in SPANS[first : first + 10]:
            writer.append(FinishedSpan(span))
        writer.flush(5)
    there = SPANS[:380]
    _look_up(store, 7, there)
    assert decoded() <= 3
    _look_up(store, 77, there)
    assert decoded() == 38
    for number in (7, 200, 379):
        _look_up(store, number, there)
        assert decoded() <= 4
    for span in SPANS[380:]:
        writer.append(FinishedSpan(span))
    writer.flush(5)
    _look_up(store, 399)
    assert decoded() <= 6, "what is new is read"
    since = SPANS[350].start_unix_ns
    assert list(store.query().spans(since_unix_ns=since)) == SPANS[350:]
    assert decoded() <= 8, "times are known as well"
    writer.close(5)


def test_names_and_beginnings_of_ids(tmp_path: Path, decoded: Callable[[], int]) -> None:
    """A frame whose bytes do not hold what is asked for is not decoded."""
    store = new_store(tmp_path / "store")
    named = [span._replace(name="rare tool") if i == 123 else span for i, span in enumerate(SPANS)]
    fill(store, named, is_sealed=False, frame_spans_max=10)
    query = store.query()
    assert list(query.spans(name="rare tool")) == [named[123]]
    assert list(query.spans(call_id=named[5].span_id[:9])) == [
        span for span in named if span.span_id.startswith(named[5].span_id[:9])
    ]
    decoded()
    assert list(query.spans(agent="nobody")) == []
    assert list(query.spans(trace_id="deadbeef")) == []
    assert decoded() == 0


def test_ids_that_are_no_ids(tmp_path: Path) -> None:
    """An id that is not hexadecimal is found, live and sealed, once and again."""
    store = new_store(tmp_path / "store")
    odd = [span._replace(trace_id=f"order-{i // 10}") for i, span in enumerate(SPANS[:60])]
    fill(store, odd, is_sealed=False, frame_spans_max=10)
    for _ in range(3):
        assert list(store.query().spans(trace_id="order-3")) == odd[30:40]
    store.seal_segments()
    assert list(store.query().spans(trace_id="order-3")) == odd[30:40]


def test_a_tail_that_was_cut_off(tmp_path: Path) -> None:
    """Where the end that was remembered is gone, the file is read from its beginning."""
    store = new_store(tmp_path / "store")
    fill(store, SPANS, is_sealed=False, frame_spans_max=10)
    for _ in range(3):
        _look_up(store, 200)
    (path,) = segment_files(store)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    left = list(store.query().spans())
    assert 100 < len(left) < 300
    for number in (5, 100, 390):
        _look_up(store, number, left)
