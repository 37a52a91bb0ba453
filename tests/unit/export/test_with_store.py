"""The exporter on a real sealed store: while it is written, sealed, and after a restart."""

from __future__ import annotations

import contextlib
import secrets
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from agentguard.errors import ExportError
from agentguard.export import OtlpExporter, decode_cursor, feature_rows, otlp_config
from agentguard.export._encode import Item, encode_request
from agentguard.export._transport import Answer, Ending
from agentguard.seal import FileKey, create_key_file
from agentguard.store import SegmentWriter, Store, WriterConfig
from agentguard.values import OutcomeRecord, SpanRecord
from tests.support.clock import FrozenClock
from tests.support.otlp import OK, RESOURCE, Receiver, Reply, make_span


class Finished:
    """A span source with a record that is made already."""

    def __init__(self, record: SpanRecord) -> None:
        self.bytes_estimate = 500
        self._record = record

    def record(self) -> SpanRecord:
        return self._record


def fail(where: str, error: BaseException) -> None:
    raise AssertionError(where) from error


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store with a key of its own."""
    key = tmp_path / "key"
    create_key_file(key)
    return Store.create(tmp_path / "store", provider=FileKey(key), clock=FrozenClock())


def writer_of(store: Store) -> SegmentWriter:
    return store.writer(resource=RESOURCE, on_internal_error=fail, config=WriterConfig())


def write(writer: SegmentWriter, numbers: range) -> None:
    for number in numbers:
        assert writer.append(Finished(make_span(number)))
    assert writer.flush(10).is_complete


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver that takes everything."""
    with Receiver() as own:
        yield own


def export(store: Store, receiver: Receiver, **options: bool) -> int:
    exporter = OtlpExporter(
        store, otlp_config(receiver.endpoint), clock=FrozenClock(), on_internal_error=lambda *_: None
    )
    return exporter.run_once(10, **options).sent


def ids(numbers: range) -> list[str]:
    return [make_span(number).span_id for number in numbers]


def test_spans_of_a_live_and_of_a_sealed_segment_arrive_once(store: Store, receiver: Receiver) -> None:
    """Sealing a segment between two exports neither repeats nor loses a span."""
    writer = writer_of(store)
    write(writer, range(300))
    assert export(store, receiver) == 300
    write(writer, range(300, 450))
    assert writer.close(10).is_complete
    store.seal_segments()
    assert export(store, receiver) == 150
    assert export(store, receiver) == 0
    assert receiver.names == ids(range(450))


def test_spans_of_several_writers_arrive(store: Store, receiver: Receiver) -> None:
    """Each writer has a place of its own in the cursor."""
    first, second = writer_of(store), writer_of(store)
    write(first, range(100))
    write(second, range(100, 150))
    assert export(store, receiver) == 150
    write(first, range(150, 160))
    write(second, range(160, 175))
    assert export(store, receiver) == 25
    assert sorted(receiver.names) == ids(range(175))
    first.close(10)
    second.close(10)


@pytest.mark.parametrize("is_sealed", [False, True])
def test_a_frame_is_cut_wherever_a_request_ends(store: Store, receiver: Receiver, is_sealed: bool) -> None:
    """Requests that end within a frame, and a backend that goes away after each: nothing twice, nothing left out."""
    writer = writer_of(store)
    write(writer, range(300))
    if is_sealed:
        assert writer.close(10).is_complete
        store.seal_segments()
    config = replace(otlp_config(receiver.endpoint), batch_spans_max=7, batch_bytes_max=1200)
    answers: Iterator[Reply] = iter(())
    receiver.judge = lambda _: next(answers, (503, {}, b""))
    for taken in range(1, 20):
        answers = iter([OK] * taken)
        exporter = OtlpExporter(store, config, clock=FrozenClock(), on_internal_error=lambda *_: None)
        with contextlib.suppress(ExportError):
            exporter.run_once(0.01)
        assert receiver.names == ids(range(len(receiver.names)))
    assert receiver.names == ids(range(300))
    sizes = [
        [len(c.spans) for r in request.resource_spans for c in r.scope_spans]
        for _, request in receiver.requests
    ]
    assert max(map(sum, sizes)) == 7
    writer.close(10)


def test_work_of_a_span_is_a_few_instructions(store: Store) -> None:
    """Most of a span is written with others at once: no function of ours is called for each attribute."""
    writer = writer_of(store)
    attributes = {f"name.{number}": number for number in range(20)}
    for number in range(1000):
        writer.append(
            Finished(make_span(number, attributes={**attributes, "n": number, "text": f"t{number}"}))
        )
    writer.close(10)

    class Transport:
        """Takes everything."""

        def send(self, items: Sequence[Item]) -> Answer:
            encode_request(items)
            return Answer(Ending.SENT)

        def close(self) -> None:
            pass

    config = otlp_config("http://127.0.0.1:1")
    exporter = OtlpExporter(
        store, config, clock=FrozenClock(), on_internal_error=fail, transport=Transport
    )  # fmt: skip
    calls = 0

    def count(_: object, event: str, __: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        assert exporter.run_once(5).sent == 1000
    finally:
        sys.setprofile(None)
    assert calls < 5 * 1000


def test_what_arrives_is_what_was_stored(store: Store, receiver: Receiver) -> None:
    """Names, parents, times, attributes and the resource come through the store whole."""
    writer = writer_of(store)
    write(writer, range(20))
    writer.close(10)
    export(store, receiver)
    (resource_spans,) = receiver.requests[0][1].resource_spans
    assert {
        a.key: a.value.string_value for a in resource_spans.resource.attributes
    }.items() >= RESOURCE.items()
    for number, span in enumerate(receiver.taken):
        expected = make_span(number)
        assert span.name == expected.name
        assert span.trace_id.hex() == expected.trace_id
        assert span.parent_span_id.hex() == expected.parent_span_id
        assert span.start_time_unix_nano == expected.start_unix_ns
        assert span.end_time_unix_nano == expected.end_unix_ns
        assert {a.key: a.value.string_value for a in span.attributes} == expected.attributes


def test_a_cursor_that_was_altered_sends_again(store: Store, receiver: Receiver, tmp_path: Path) -> None:
    """At least once holds where somebody writes into the cursor's file."""
    writer = writer_of(store)
    write(writer, range(10))
    writer.close(10)
    export(store, receiver)
    (path,) = (tmp_path / "store").rglob("cursor-*.agb")
    path.chmod(0o600)
    path.write_bytes(secrets.token_bytes(200))
    assert export(store, receiver) == 10
    assert export(store, receiver) == 0


def test_cursor_tells_nothing_in_clear(store: Store, receiver: Receiver, tmp_path: Path) -> None:
    """Neither the lock nor the cursor shows the destination."""
    writer = writer_of(store)
    write(writer, range(3))
    writer.close(10)
    export(store, receiver)
    for path in (tmp_path / "store").rglob("*"):
        if path.is_file():
            assert str(receiver.port).encode() not in path.read_bytes()
            assert str(receiver.port) not in path.name


def test_background_export_beside_a_writer(store: Store, receiver: Receiver) -> None:
    """Whatever is flushed to the store arrives while the writer goes on."""
    writer = writer_of(store)
    config = replace(otlp_config(receiver.endpoint), poll_interval_s=0.02)
    exporter = OtlpExporter(store, config, clock=FrozenClock(), on_internal_error=fail)
    exporter.start()
    for start in range(0, 500, 50):
        write(writer, range(start, start + 50))
    assert exporter.flush(10)
    assert receiver.names == ids(range(500))
    exporter.stop(5)
    writer.close(10)


def test_rows_of_a_store_have_its_outcomes(store: Store) -> None:
    """Labels that were recorded later stand in the row of the call."""
    writer = writer_of(store)
    writer.append(Finished(make_span(1, kind="model", attributes={"gen_ai.usage.output_tokens": 5})))
    writer.append(Finished(make_span(2)))
    writer.append_outcome(OutcomeRecord(make_span(1).span_id, 5, "a", "b", 0.5))
    writer.close(10)
    (row,) = feature_rows(store.query())
    assert (row.token_count, row.predicted_label, row.true_label, row.score) == (5, "a", "b", 0.5)
    assert len(list(feature_rows(store.query(), kind=None))) == 2


def test_a_cursor_forgets_writers_that_are_gone(
    store: Store, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What retention has removed is not remembered for ever; who is still there, sends nothing twice."""
    monkeypatch.setattr("agentguard.export._exporter.WRITERS_MIN", 4)
    blob = store.sealed_blob(f"cursor-{otlp_config(receiver.endpoint).destination}")
    for first in range(0, 60, 10):
        writer = writer_of(store)
        write(writer, range(first, first + 10))
        assert writer.close(10).is_complete
        assert export(store, receiver) == 10
    assert len(decode_cursor(blob.read())) == 6
    store.remove_old(size_bytes_max=max(path.stat().st_size for path in store.segments.iterdir()))
    left = store.query().writers()
    assert len(left) == 1
    assert export(store, receiver) == 0
    assert set(decode_cursor(blob.read())) == left
    assert export(store, receiver) == 0
