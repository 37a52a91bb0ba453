"""
What the OpenTelemetry API promises of a span, as its specification says it.

Source: OpenTelemetry specification 1.50, trace/api.md; the headings are its.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import baggage, propagate, trace
from opentelemetry import context as otel_context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

from agentguard.capture import CaptureEnvironment, Span, context_with, find_parent
from agentguard.values import SpanRecord
from tests.support.clock import START_UNIX_NS, FrozenClock
from tests.support.ids import SequentialIds

OTHER = SpanContext(
    0xA, 0xB, is_remote=False, trace_flags=TraceFlags(1), trace_state=TraceState([("v", "1")])
)
REMOTE_UNSAMPLED = SpanContext(0xC, 0xD, is_remote=True, trace_flags=TraceFlags(0))


class Raises:
    """Raises whatever it is asked."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __hash__(self) -> int:
        raise RuntimeError

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    def __bool__(self) -> bool:
        raise RuntimeError

    def __str__(self) -> str:
        raise RuntimeError


class Word(str, enum.Enum):  # noqa: UP042 - its `str()` is not its value, which is what is tested
    """A text that is more than text."""

    KEY = "key"


@pytest.fixture
def make(clock: FrozenClock, on_internal_error: Any) -> Callable[..., Span]:
    """Make spans of one environment, that keeps messages: what the API says is not hidden."""
    environment = CaptureEnvironment(
        clock=clock,
        ids=SequentialIds(),
        sink=lambda _span: None,
        on_internal_error=on_internal_error,
        captures_messages=True,
    )
    return lambda name="x", kind="tool", **options: Span(environment, name, kind, **options)


# SpanContext ------------------------------------------------------------------


def test_the_context_is_the_same_for_the_whole_life(make: Callable[..., Span]) -> None:
    """GetContext: may be used after the span has ended, and does not change."""
    span = make()
    before = span.get_span_context()
    span.update_name("other")
    span.end()
    assert span.get_span_context() is before
    assert before.is_valid
    assert not before.is_remote
    assert before.trace_flags.sampled
    assert len(trace.format_trace_id(before.trace_id)) == 32
    assert len(trace.format_span_id(before.span_id)) == 16


def test_trace_state_is_that_of_the_parent(make: Callable[..., Span]) -> None:
    """TraceState: passed on unchanged to children and to children of children."""
    child = make(parent=make(parent=OTHER))
    assert child.get_span_context().trace_state.to_header() == "v=1"
    assert child.record().trace_state == "v=1"


# Span creation ----------------------------------------------------------------


def test_a_root_has_no_parent_and_an_own_trace(make: Callable[..., Span]) -> None:
    """Each root begins a trace of its own; a child has its parent's."""
    first, second = make(), make()
    child = make(parent=first)
    assert first.trace_id != second.trace_id
    assert (first.record().parent_span_id, child.record().parent_span_id) == ("", first.call_id)
    assert child.trace_id == first.trace_id
    assert child.call_id != first.call_id


def test_a_given_start_time_is_kept(make: Callable[..., Span]) -> None:
    """Start timestamp: the caller's, else now."""
    assert make(start_unix_ns=7).record().start_unix_ns == 7
    assert make().record().start_unix_ns == START_UNIX_NS


@pytest.mark.parametrize("otel_kind", ["internal", "client", "server", "producer", "consumer"])
def test_span_kinds(make: Callable[..., Span], otel_kind: str) -> None:
    """SpanKind: all five."""
    assert make(otel_kind=otel_kind).record().otel_kind == otel_kind


def test_recording_whatever_is_sampled(make: Callable[..., Span]) -> None:
    """Sampling: flags are passed on as they came, and our record is kept all the same."""
    span = make(parent=REMOTE_UNSAMPLED)
    child = make(parent=span)
    assert span.is_recording()
    assert not span.get_span_context().trace_flags.sampled
    assert not child.get_span_context().trace_flags.sampled
    assert span.trace_id == f"{0xC:032x}"


# Span operations --------------------------------------------------------------


def test_is_recording_until_the_end(make: Callable[..., Span]) -> None:
    """IsRecording: true, and false once ended."""
    span = make()
    assert span.is_recording() is True
    span.end()
    assert span.is_recording() is False


def test_setting_a_key_again_overwrites(make: Callable[..., Span]) -> None:
    """SetAttribute: the last value of a key stands, of whatever type."""
    span = make()
    span.set_attribute("k", "a")
    span.set_attributes({"k": 2, "l": [1.5, 2.5]})
    assert (span.attributes["k"], span.attributes["l"]) == (2, (1.5, 2.5))


def test_keys_are_case_sensitive(make: Callable[..., Span]) -> None:
    """Attribute: case is kept, and tells keys apart."""
    span = make()
    span.set_attributes({"Key": 1, "key": 2})
    assert (span.attributes["Key"], span.attributes["key"]) == (1, 2)


@pytest.mark.parametrize("value", ["", 0, 0.0, False, (), -0.5, 2**63 - 1, -(2**63), "ü" * 3, [True], [""]])
def test_empty_and_extreme_values_are_values(make: Callable[..., Span], value: Any) -> None:
    """Attribute: zero, empty string and empty array are meaningful, and kept."""
    span = make()
    span.set_attribute("k", value)
    found = span.attributes["k"]
    assert found == (tuple(value) if isinstance(value, list) else value)
    assert type(found) is (tuple if isinstance(value, list) else type(value))


def test_events_keep_their_order_and_times(make: Callable[..., Span], clock: FrozenClock) -> None:
    """AddEvent: order of the calls, own timestamps, attributes."""
    span = make()
    clock.advance(1)
    span.add_event("a", {"k": 1}, timestamp=5)
    span.add_event("b")
    span.add_event("c", timestamp=3)
    events = span.record().events
    assert [event.name for event in events] == ["a", "b", "c"]
    assert [event.time_unix_ns for event in events] == [5, START_UNIX_NS + 1_000_000_000, 3]
    assert events[0].attributes == {"k": 1}


def test_links(make: Callable[..., Span]) -> None:
    """Link: several, also to one span twice, in order; without an id only if they say something."""
    span = make()
    span.add_link(OTHER, {"k": "v"})
    span.add_link(OTHER)
    span.add_link(REMOTE_UNSAMPLED)
    span.add_link(trace.INVALID_SPAN_CONTEXT)
    span.add_link(trace.INVALID_SPAN_CONTEXT, {"why": "batch"})
    links = span.record().links
    assert [link.span_id for link in links] == [f"{number:016x}" for number in (0xB, 0xB, 0xD, 0)]
    assert links[0].attributes == {"k": "v"}
    assert links[-1].attributes == {"why": "batch"}


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([], ("unset", "")),
        ([(StatusCode.ERROR, "a")], ("error", "a")),
        ([(StatusCode.ERROR, "a"), (StatusCode.ERROR, "b")], ("error", "b")),
        ([(StatusCode.ERROR, "a"), (StatusCode.OK, None)], ("ok", "")),
        ([(StatusCode.OK, None), (StatusCode.ERROR, "a")], ("ok", "")),
        ([(StatusCode.OK, None), (StatusCode.UNSET, None)], ("ok", "")),
        ([(StatusCode.ERROR, "a"), (StatusCode.UNSET, None)], ("error", "a")),
        ([(StatusCode.UNSET, "a")], ("unset", "")),
        ([(StatusCode.OK, "ignored")], ("ok", "")),
        ([(StatusCode.ERROR, None)], ("error", "")),
    ],
)
def test_set_status(make: Callable[..., Span], calls: list[Any], expected: tuple[str, str]) -> None:
    """SetStatus: Ok > Error > Unset; a description belongs to an error only."""
    by_code, by_status = make(), make()
    for code, description in calls:
        by_code.set_status(code, description)
        by_status.set_status(Status(code, description if code is StatusCode.ERROR else None))
    assert (by_code.record().status, by_code.record().status_description) == expected
    assert (by_status.record().status, by_status.record().status_description) == expected


def test_update_name(make: Callable[..., Span]) -> None:
    """UpdateName: the last one stands."""
    span = make("a")
    span.update_name("b")
    assert span.record().name == "b"


def test_end_touches_neither_children_nor_the_current_span(make: Callable[..., Span]) -> None:
    """End: children go on; the span stays current where it was; it can still be a parent."""
    span = make()
    child = make(parent=span)
    context = context_with(span)
    span.end()
    assert child.is_recording()
    assert trace.get_current_span(context) is span
    assert find_parent(context)[0] is span
    assert make(parent=span).record().parent_span_id == span.call_id


def test_everything_after_the_end_is_ignored(make: Callable[..., Span]) -> None:
    """End: later calls change nothing, and raise nothing."""
    span = make()
    span.end(START_UNIX_NS + 5)
    before = span.record()
    span.set_attribute("k", 1)
    span.set_attributes({"k": 1})
    span.add_event("e", {"k": 1})
    span.add_link(OTHER)
    span.update_name("y")
    span.set_status(Status(StatusCode.ERROR))
    span.record_exception(ValueError())
    span.end(START_UNIX_NS + 9)
    assert span.record() == before


def test_record_exception(make: Callable[..., Span], clock: FrozenClock) -> None:
    """RecordException: an event `exception`; attributes of the caller go before; status is not touched."""
    span = make()
    span.record_exception(KeyError("k"), {"exception.message": "mine", "n": 1}, timestamp=9, escaped=True)
    span.record_exception(ValueError("text"))
    clock.advance(1)
    first, second = span.record().events
    assert (first.name, first.time_unix_ns) == ("exception", 9)
    assert first.attributes == {"exception.type": "KeyError", "exception.message": "mine", "n": 1}
    assert second.attributes == {"exception.type": "ValueError", "exception.message": "text"}
    assert span.record().status == "unset"


def test_use_span_of_the_api(make: Callable[..., Span]) -> None:
    """The API's own `use_span` makes it current, records what is raised, and ends it."""
    span = make()
    with pytest.raises(ValueError, match="boom"), trace.use_span(span, end_on_exit=True):
        assert trace.get_current_span() is span
        raise ValueError("boom")
    record = span.record()
    assert not span.is_recording()
    assert record.status == "error"
    assert [event.name for event in record.events] == ["exception"]
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_as_a_context_manager_of_the_api(make: Callable[..., Span]) -> None:
    """`with span` ends it; an exception goes on."""
    with pytest.raises(ValueError, match="boom"), make() as span:
        raise ValueError("boom")
    assert span.record().status == "error"


@pytest.mark.parametrize(
    "call",
    [
        lambda span: span.set_attribute(None, 1),
        lambda span: span.set_attribute(5, 1),
        lambda span: span.set_attribute("k", object()),
        lambda span: span.add_event(None),
        lambda span: span.add_event("e", {"k": object(), None: 1}),
        lambda span: span.add_link(OTHER, {"k": object()}),
        lambda span: span.record_exception(ValueError(), {"k": object()}),
        lambda span: span.set_attribute(Raises(), 1),
        lambda span: span.set_attribute([], 1),
        lambda span: span.set_attribute("k", Raises()),
        lambda span: span.set_attribute("k", [Raises()]),
        lambda span: span.set_attributes(None),
        lambda span: span.set_attributes(Raises()),
        lambda span: span.add_event(Raises(), Raises()),
        lambda span: span.add_event("e", [1]),
        lambda span: span.add_event("e", None, "now"),
        lambda span: span.add_link(None),
        lambda span: span.add_link(OTHER, Raises()),
        lambda span: span.set_status(Raises()),
        lambda span: span.set_status(StatusCode.ERROR, Raises()),
        lambda span: span.update_name(Raises()),
        lambda span: span.record_exception(Raises(), Raises(), Raises()),
        lambda span: span.record_retry(Raises(), Raises(), Raises(), Raises()),
        lambda span: span.end("now"),
        lambda span: span.end(Raises()),
    ],
)
def test_wrong_arguments_never_raise(make: Callable[..., Span], call: Callable[[Span], object]) -> None:
    """Error handling: API methods must not throw; what cannot be kept is dropped."""
    span = make()
    call(span)
    span.end()
    record = span.record()
    assert isinstance(record, SpanRecord)
    assert type(record.name) is str
    for event in record.events:
        assert (type(event.name), type(event.time_unix_ns)) == (str, int)


def test_texts_of_other_kinds_are_kept_as_text(make: Callable[..., Span]) -> None:
    """Keys, names and times may be members of enumerations, or numbers of a library; plain ones are kept."""
    span = make()
    span.set_attribute(Word.KEY, 1)
    span.set_attribute("key", 2)
    begin: Any = float(START_UNIX_NS)
    span.add_event(Word.KEY, {Word.KEY: Word.KEY}, begin)
    span.update_name(Word.KEY)
    span.end(begin + 2**40)
    record = span.record()
    assert record.attributes["key"] == 2
    assert [type(key) for key in record.attributes] == [str] * len(record.attributes)
    assert (record.name, type(record.name), record.duration_ns) == ("key", str, 2**40)
    [(name, time_unix_ns, attributes)] = record.events
    assert (name, time_unix_ns, dict(attributes)) == ("key", START_UNIX_NS, {"key": "key"})


def test_names_and_keys_are_bounded(make: Callable[..., Span]) -> None:
    """A name is cut, a key that long is dropped: both may come from outside."""
    span = make()
    span.update_name("n" * 10_000)
    span.set_attribute("k" * 10_000, 1)
    span.end()
    assert len(span.name) == 1_024
    assert span.attributes["agentguard.dropped.attributes"] == 1


def test_concurrent_writers(make: Callable[..., Span]) -> None:
    """Concurrency: all methods of a span are safe to call at once."""
    span = make()
    barrier = threading.Barrier(8)

    def write(number: int) -> None:
        barrier.wait()
        for round_ in range(10):
            span.set_attribute(f"k{number}", round_)
            span.add_event(f"e{number}")
            span.add_link(OTHER)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    record = span.record()
    assert {f"k{number}": 9 for number in range(8)}.items() <= record.attributes.items()
    assert (len(record.events), len(record.links)) == (80, 80)


# Propagation ------------------------------------------------------------------


def test_trace_context_and_baggage_go_out(make: Callable[..., Span]) -> None:
    """W3C: `propagate.inject` with our span current writes traceparent, tracestate and baggage."""
    span = make(parent=OTHER)
    headers: dict[str, str] = {}
    propagate.inject(headers, context_with(span, baggage.set_baggage("tenant", "t 1")))
    assert headers == {
        "traceparent": f"00-{0xA:032x}-{span.call_id}-01",
        "tracestate": "v=1",
        "baggage": "tenant=t+1",
    }


def test_trace_context_and_baggage_come_in(make: Callable[..., Span]) -> None:
    """W3C: a span begun under an extracted context continues the trace of the caller, flags included."""
    headers = {
        "traceparent": f"00-{0xC:032x}-{0xD:016x}-00",
        "tracestate": "v=1,w=2",
        "baggage": "tenant=t1",
    }
    context = propagate.extract(headers)
    parent, owner = find_parent(context)
    span = make(parent=parent, owner=owner)
    inner = context_with(span, context)
    assert span.record().parent_span_id == f"{0xD:016x}"
    assert "agentguard.parent.foreign" not in span.attributes
    assert baggage.get_baggage("tenant", inner) == "t1"
    again: dict[str, str] = {}
    propagate.inject(again, inner)
    assert again == headers | {"traceparent": f"00-{0xC:032x}-{span.call_id}-00"}


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        "00-zz-1-01",
        f"00-{0:032x}-{1:016x}-01",
        f"00-{1:032x}-{0:016x}-01",
        f"ff-{1:032x}-{1:016x}-01",
        "00-" + "1" * 500,
    ],
)
def test_a_broken_header_begins_a_new_trace(make: Callable[..., Span], traceparent: str) -> None:
    """W3C: what does not parse is as if it were not there."""
    parent, owner = find_parent(propagate.extract({"traceparent": traceparent}))
    assert (parent, owner) == (None, None)


def test_a_non_recording_parent(make: Callable[..., Span]) -> None:
    """A span of another provider that is not recorded is a parent all the same, and said to be foreign."""
    context = trace.set_span_in_context(NonRecordingSpan(OTHER))
    parent, owner = find_parent(context)
    span = make(parent=parent, owner=owner)
    assert span.record().parent_span_id == f"{0xB:016x}"
    assert span.attributes["agentguard.parent.foreign"] is True


# Beside an SDK ----------------------------------------------------------------


@pytest.fixture
def exporter() -> Iterator[tuple[TracerProvider, InMemorySpanExporter]]:
    """A provider of an application, and what it exports."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider, exporter
    provider.shutdown()


def test_children_of_ours_in_an_sdk(
    make: Callable[..., Span], exporter: tuple[TracerProvider, InMemorySpanExporter]
) -> None:
    """A tracer of the SDK takes our current span as parent, with its sampling decision."""
    provider, spans = exporter
    sampled, unsampled = make(), make(parent=REMOTE_UNSAMPLED)
    for ours in (sampled, unsampled):
        provider.get_tracer("app").start_span("inner", context_with(ours)).end()
    (inner,) = spans.get_finished_spans()
    assert inner.parent is not None
    assert inner.parent.span_id == sampled.get_span_context().span_id
    assert inner.context.trace_id == sampled.get_span_context().trace_id


def test_a_link_to_ours_in_an_sdk(
    make: Callable[..., Span], exporter: tuple[TracerProvider, InMemorySpanExporter]
) -> None:
    """Our context serves as a link."""
    provider, spans = exporter
    ours = make()
    provider.get_tracer("app").start_span("later", links=[Link(ours.get_span_context())]).end()
    assert spans.get_finished_spans()[0].links[0].context == ours.get_span_context()


def test_the_mirror_has_what_ours_has(
    make: Callable[..., Span], exporter: tuple[TracerProvider, InMemorySpanExporter], clock: FrozenClock
) -> None:
    """The application's span gets the name, attributes, events, links, status and end of ours."""
    provider, spans = exporter
    ours = make()
    ours.adopt(provider.get_tracer("agentguard").start_span("x"))
    ours.update_name("y")
    ours.set_attribute("k", [1, 2])
    ours.add_event("e", {"n": 1}, timestamp=7)
    ours.add_link(OTHER, {"why": "retry"})
    ours.set_status(StatusCode.ERROR, "ValueError")
    clock.advance(1)
    ours.end()
    (mirror,) = spans.get_finished_spans()
    assert mirror.context.span_id == ours.get_span_context().span_id
    assert (mirror.name, mirror.status.status_code) == ("y", StatusCode.ERROR)
    assert mirror.attributes is not None
    assert mirror.attributes["k"] == (1, 2)
    assert [(event.name, event.timestamp) for event in mirror.events] == [("e", 7)]
    assert [(link.context.span_id, dict(link.attributes or {})) for link in mirror.links] == [
        (0xB, {"why": "retry"})
    ]


def test_an_unsampled_mirror_leaves_our_record(make: Callable[..., Span]) -> None:
    """A provider that drops everything gives ids and flags; what we record is ours."""
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    mirror = provider.get_tracer("agentguard").start_span("x")
    ours = make()
    ours.adopt(mirror)
    ours.set_attribute("k", 1)
    ours.end()
    assert not ours.get_span_context().trace_flags.sampled
    assert ours.record().attributes["k"] == 1
    assert ours.call_id == f"{mirror.get_span_context().span_id:016x}"


def test_out_of_sight(make: Callable[..., Span]) -> None:
    """With `otel = off` OpenTelemetry's current span stays what it was; our own parents hold."""
    foreign = NonRecordingSpan(OTHER)
    outside = trace.set_span_in_context(foreign, otel_context.Context())
    span = make()
    inside = context_with(span, outside, is_visible=False)
    assert trace.get_current_span(inside) is foreign
    assert find_parent(inside, only_ours=True) == (span, span)
    assert find_parent(outside, only_ours=True) == (None, None)
    assert find_parent(inside)[0] == OTHER
