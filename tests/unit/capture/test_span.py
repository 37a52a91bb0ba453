"""The span keeps what the OpenTelemetry API promises, and what a guarded call needs."""

from __future__ import annotations

import asyncio
import enum
import gc
import sys
import threading
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, Status, StatusCode, TraceFlags, TraceState
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from agentguard.capture import CaptureEnvironment, Span, SpanLimits, context_with, current_span, find_parent
from agentguard.values import SpanRecord, Usage
from tests.support.clock import START_UNIX_NS, FrozenClock
from tests.support.ids import SequentialIds

REMOTE = SpanContext(
    0xABC, 0xDEF, is_remote=True, trace_flags=TraceFlags(0), trace_state=TraceState([("k", "v")])
)
LOCAL = SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=TraceFlags(1))


@pytest.fixture
def ended() -> list[Span]:
    """What the sink got."""
    return []


@pytest.fixture
def make(clock: FrozenClock, ended: list[Span], on_internal_error: Any) -> Callable[..., CaptureEnvironment]:
    """Environments with the frozen clock."""

    def build(**options: Any) -> CaptureEnvironment:
        options.setdefault("sink", ended.append)
        options.setdefault("on_internal_error", on_internal_error)
        return CaptureEnvironment(clock=clock, ids=SequentialIds(), **options)

    return build


@pytest.fixture
def environment(make: Callable[..., CaptureEnvironment]) -> CaptureEnvironment:
    """One with defaults."""
    return make()


def test_record_of_a_plain_call(
    environment: CaptureEnvironment, clock: FrozenClock, ended: list[Span]
) -> None:
    """Ids, times, names and attributes arrive in the record."""
    span = Span(environment, "execute_tool refund", "tool", attributes={"gen_ai.tool.name": "refund"})
    span.set_attribute("n", 3)
    clock.advance(0.25)
    span.end()
    assert ended == [span]
    assert span.record() == SpanRecord(
        trace_id=f"{1:032x}",
        span_id=f"{1:016x}",
        parent_span_id="",
        name="execute_tool refund",
        kind="tool",
        otel_kind="internal",
        start_unix_ns=START_UNIX_NS,
        duration_ns=250_000_000,
        status="unset",
        status_description="",
        attributes={
            "gen_ai.tool.name": "refund",
            "n": 3,
            "agentguard.semconv": "1.41.0",
            "agentguard.load.in_flight": 1,
        },
    )


def test_is_a_span_of_the_api(environment: CaptureEnvironment) -> None:
    """The API takes it for a span, and its context propagates as W3C trace context."""
    span = Span(environment, "x", "tool")
    assert isinstance(span, trace.Span)
    headers: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(headers, context_with(span))
    assert headers["traceparent"] == f"00-{1:032x}-{1:016x}-01"


def test_children_and_remote_parents(environment: CaptureEnvironment) -> None:
    """A child continues the trace; a remote parent's flags and state are kept, and it is not foreign."""
    root = Span(environment, "a", "agent")
    child = Span(environment, "b", "tool", parent=root)
    assert child.trace_id == root.trace_id
    assert child.record().parent_span_id == root.call_id
    remote = Span(environment, "c", "tool", parent=REMOTE)
    assert remote.record().trace_state == "k=v"
    assert remote.get_span_context().trace_flags == 0
    assert remote.get_span_context().is_remote is False
    assert "agentguard.parent.foreign" not in remote.attributes


def test_foreign_parent_is_said_so(environment: CaptureEnvironment) -> None:
    """Under a local span of another provider ours keeps both parents."""
    outer = Span(environment, "a", "agent")
    context = trace.set_span_in_context(NonRecordingSpan(LOCAL), context_with(outer))
    parent, owner = find_parent(context)
    span = Span(environment, "b", "tool", parent=parent, owner=owner)
    record = span.record()
    assert record.parent_span_id == f"{0xDEF:016x}"
    assert record.attributes["agentguard.parent.foreign"] is True
    assert record.attributes["agentguard.parent.call_id"] == outer.call_id


def test_a_no_op_tracer_inside_does_not_hide_us(environment: CaptureEnvironment) -> None:
    """The span that a no-op tracer makes current carries our identity: ours is the parent."""
    span = Span(environment, "a", "agent")
    context = context_with(span)
    inner = trace.NoOpTracer().start_span("x", context)
    inside = trace.set_span_in_context(inner, context)
    assert trace.get_current_span(inside) is not span
    assert current_span(inside) is span
    assert find_parent(inside) == (span, span)
    assert find_parent(otel_context.Context()) == (None, None)


@pytest.mark.parametrize(
    "value",
    [None, object(), {"a": object()}, [1, object()], {1: 2}, 2**63, -(2**63) - 1, [2**63], [1, {"a": 2**63}]],
)
def test_values_that_are_not_allowed(environment: CaptureEnvironment, value: object) -> None:
    """They are dropped, and the span says how many."""
    span = Span(environment, "a", "tool")
    span.set_attribute("k", value)
    span.set_attribute("", "x")
    span.end()
    assert "k" not in span.attributes
    assert span.attributes["agentguard.dropped.attributes"] == 2


class Colour(enum.StrEnum):
    """A string that is more than a string."""

    RED = "red"


class Level(enum.IntEnum):
    """The same for integers."""

    HIGH = 3


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        ([1, 2], (1, 2)),
        ((), ()),
        (["a"], ("a",)),
        (True, True),
        (2**63 - 1, 2**63 - 1),
        (["a", None], ("a", "")),
        ([1, None, 2], (1, 0, 2)),
        (b"x", "eA=="),
        ([1, "a"], '[1,"a"]'),
        ([True, 1], "[true,1]"),
        ([[1]], "[[1]]"),
        ([None], "[null]"),
        ({"a": 1, "b": [None, 0.5, float("nan")]}, '{"a":1,"b":[null,0.5,"NaN"]}'),
        ({}, "{}"),
    ],
)
def test_values_become_plain(environment: CaptureEnvironment, value: object, kept: object) -> None:
    """Subclasses become the plain type, sequences tuples."""
    span = Span(environment, "a", "tool")
    span.set_attribute("k", value)
    found = span.attributes["k"]
    assert found == kept
    assert type(found) is type(kept)


def test_a_list_is_kept_as_it_was(environment: CaptureEnvironment) -> None:
    """Later changes of the caller's list do not reach the span."""
    span = Span(environment, "a", "tool")
    items = ["a"]
    span.set_attribute("k", items)
    items.append("b")
    assert span.attributes["k"] == ("a",)


def test_limits(make: Callable[..., CaptureEnvironment]) -> None:
    """Attributes, events, links, lengths: what exceeds a limit is counted."""
    environment = make(
        limits=SpanLimits(
            attributes_max=2, events_max=1, links_max=1, attribute_chars_max=100, sequence_items_max=2
        )
    )
    span = Span(environment, "a", "tool")
    for key in "abc":
        span.set_attribute(key, "x" * 200)
    span.set_attribute("a", [1, 2, 3])
    for _ in range(3):
        span.add_event("e", {"k": "v"})
        span.add_link(REMOTE)
    span.add_link(trace.INVALID_SPAN_CONTEXT)
    record = span.record()
    assert record.attributes["a"] == (1, 2)
    assert record.attributes["b"] == "x" * 100
    assert record.attributes["agentguard.dropped.attributes"] == 1
    assert record.attributes["agentguard.dropped.events"] == 2
    assert record.attributes["agentguard.dropped.links"] == 2
    assert len(record.events) == len(record.links) == 1


def test_status_precedence(environment: CaptureEnvironment) -> None:
    """OK is final, UNSET is ignored, the last of the others wins."""
    span = Span(environment, "a", "tool")
    span.set_status(StatusCode.UNSET)
    assert span.record().status == "unset"
    span.set_status(StatusCode.ERROR, "ValueError")
    span.set_status(StatusCode.UNSET)
    assert (span.record().status, span.record().status_description) == ("error", "ValueError")
    span.set_status(Status(StatusCode.OK))
    span.set_status(StatusCode.ERROR, "KeyError")
    assert (span.record().status, span.record().status_description) == ("ok", "")


def test_messages_leak_only_with_content(make: Callable[..., CaptureEnvironment]) -> None:
    """Descriptions and exception texts stay out, unless messages are captured."""
    for captures in (False, True):
        span = Span(make(captures_messages=captures), "a", "tool")
        span.set_status(StatusCode.ERROR, "no user ann@example.org")
        span.record_exception(ValueError("card 4111"), {"exception.stacktrace": "in f: card 4111"})
        text = repr(span.record())
        assert ("ann@example.org" in text) is captures
        assert ("card 4111" in text) is captures
        assert span.record().events[0].attributes["exception.type"] == "ValueError"
        assert "agentguard.dropped.attributes" not in span.attributes


def test_immutable_after_end(environment: CaptureEnvironment, ended: list[Span], clock: FrozenClock) -> None:
    """Whatever comes later is ignored and counted; the sink hears once."""
    span = Span(environment, "a", "model")
    span.end()
    before = span.record()
    clock.advance(1)
    span.set_attribute("k", 1)
    span.set_attributes({"k": 1, "l": 2})
    span.add_event("e")
    span.add_link(REMOTE)
    span.update_name("b")
    span.set_status(StatusCode.OK)
    span.record_exception(ValueError())
    span.record_retry()
    span.first_chunk()
    span.fail(ValueError())
    span.abandon()
    span.deny()
    assert span.record_usage(input_tokens=1) is False
    span.end()
    assert span.record() == before
    assert not span.is_recording()
    assert ended == [span]
    assert environment.late_writes == 13


def test_end_time_of_the_caller(environment: CaptureEnvironment) -> None:
    """A given end time makes the duration; one before the start makes it 0."""
    span = Span(environment, "a", "tool", start_unix_ns=1_000)
    span.end(1_500)
    assert (span.record().start_unix_ns, span.duration_ns) == (1_000, 500)
    early = Span(environment, "a", "tool", start_unix_ns=1_000)
    early.end(10)
    assert early.duration_ns == 0


def test_wall_clock_jumps_do_not_touch_durations(environment: CaptureEnvironment, clock: FrozenClock) -> None:
    """Duration and event times follow the monotonic clock."""
    span = Span(environment, "a", "tool")
    clock.advance(0.1)
    clock.set_unix_ns(5)
    span.add_event("e")
    span.end()
    assert span.duration_ns == 100_000_000
    assert span.record().events[0].time_unix_ns == START_UNIX_NS + 100_000_000


def test_only_one_of_many_threads_ends_it(environment: CaptureEnvironment, ended: list[Span]) -> None:
    """Sixteen threads end one span at one barrier; the sink hears once."""
    for _ in range(30):
        ended.clear()
        span = Span(environment, "a", "tool")
        barrier = threading.Barrier(16)

        def end(span: Span = span, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            span.end()

        threads = [threading.Thread(target=end) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ended == [span]


def test_a_sink_that_raises_is_reported_not_raised(make: Callable[..., CaptureEnvironment]) -> None:
    """Law 1: the caller never sees an error of the sink."""
    seen: list[tuple[str, BaseException]] = []

    def sink(_span: object) -> None:
        raise OSError

    environment = make(sink=sink, on_internal_error=lambda where, error: seen.append((where, error)))
    Span(environment, "a", "tool").end()
    assert [(where, type(error)) for where, error in seen] == [("capture.end", OSError)]


class ProviderError(Exception):
    """Looks like an exception of a provider's SDK."""

    code = "rate_limit_exceeded"


ProviderError.__module__ = "openai"


class MyError(Exception):
    """An exception of an application; its `code` is not a provider's."""

    code = "E17"


MyError.__module__ = "billing"


@pytest.mark.parametrize(
    ("error", "kind", "outcome"),
    [
        (ValueError("x"), "ValueError", "error"),
        (ProviderError("x"), "rate_limit_exceeded", "error"),
        (asyncio.CancelledError(), "cancelled", "cancelled"),
        (KeyboardInterrupt(), "KeyboardInterrupt", "error"),
        (MyError("x"), "billing.MyError", "error"),
    ],
)
def test_failures(environment: CaptureEnvironment, error: BaseException, kind: str, outcome: str) -> None:
    """error.type is the provider's code, else the class; the description is the class."""
    with pytest.raises(type(error)), Span(environment, "a", "tool") as span:
        raise error
    record = span.record()
    assert record.status == "error"
    assert record.attributes["error.type"] == kind
    assert record.attributes["agentguard.outcome"] == outcome
    assert record.status_description.rpartition(".")[2] == type(error).__name__


def test_abandoned_streams(environment: CaptureEnvironment) -> None:
    """An abandoned stream is `_OTHER`, and its usage is missing, not zero."""
    span = Span(environment, "chat", "model")
    span.abandon()
    span.end()
    assert span.record().status == "error"
    assert span.attributes["error.type"] == "_OTHER"
    assert span.attributes["agentguard.stream.outcome"] == "abandoned"
    assert span.attributes["agentguard.usage.missing"] is True
    assert "gen_ai.usage.input_tokens" not in span.attributes


def test_usage_of_a_model_call(make: Callable[..., CaptureEnvironment]) -> None:
    """All counts have their names; the cache's name depends on the profile."""
    usage = Usage(10, 4, 3, 2, 1, "m-1", "r", ("stop",), "openai", 0.5)
    expected = {
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 4,
        "gen_ai.usage.cache_read.input_tokens": 3,
        "gen_ai.usage.reasoning.output_tokens": 1,
        "gen_ai.response.model": "m-1",
        "gen_ai.response.id": "r",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.provider.name": "openai",
        "agentguard.cost.usd": 0.5,
    }
    created = {"gen_ai.usage.cache_creation.input_tokens": 2}
    written = {
        "gen_ai.usage.cache_write.input_tokens": 2,
        "gen_ai.usage.cost.amount": 0.5,
        "gen_ai.usage.cost.currency": "USD",
        "gen_ai.usage.cost.source": "provider",
    }
    versions = {"compat": "1.41.0", "latest": "1.42.0-dev", "both": "1.41.0+1.42.0-dev"}
    for profile, more in (("compat", created), ("latest", written), ("both", created | written)):
        span = Span(make(profile=profile), "chat", "model")
        assert span.record_usage(usage)
        span.end()
        assert span.record().attributes == expected | more | {
            "agentguard.semconv": versions[profile],
            "agentguard.load.in_flight": 1,
        }


def test_reports_of_one_response_become_one(environment: CaptureEnvironment) -> None:
    """The same id, the same numbers, and numbers that complete each other are one response."""
    span = Span(environment, "chat", "model")
    span.record_usage(input_tokens=10)
    span.record_usage(output_tokens=4)
    span.record_usage(Usage(10, 4, response_id="r"))
    span.record_usage(Usage(10, 4, response_id="r", model="m"))
    assert (span.usage.input_tokens, span.usage.output_tokens, span.usage.model) == (10, 4, "m")  # type: ignore[union-attr]
    assert "agentguard.usage.billed.input_tokens" not in span.attributes


def test_attempts_are_billed_together(environment: CaptureEnvironment) -> None:
    """The last response is the usage; all that were paid for are summed as billed."""
    span = Span(environment, "chat", "model")
    span.record_usage(Usage(10, 4, response_id="r1"))
    span.record_usage(Usage(11, 5, response_id="r2"))
    span.record_usage(Usage(12, 6, response_id="r3"))
    attributes = span.attributes
    assert attributes["gen_ai.usage.input_tokens"] == 12
    assert attributes["agentguard.usage.billed.input_tokens"] == 33
    assert attributes["agentguard.usage.billed.output_tokens"] == 15


def test_numbers_that_are_no_counts(environment: CaptureEnvironment) -> None:
    """Negative numbers, booleans, NaN and text are unknown."""
    span = Span(environment, "chat", "model")
    for value in (-1, True, float("nan"), "7", 2**63):
        span.record_usage(input_tokens=value, cost_usd=value)  # type: ignore[arg-type]
    span.record_usage(cost_usd=float("nan"))
    assert "gen_ai.usage.input_tokens" not in span.attributes


def test_tokens_of_a_trace_are_counted_once(environment: CaptureEnvironment) -> None:
    """Agents carry totals under our own name; of nested reports the innermost owns the tokens."""
    agent = Span(environment, "invoke_agent a", "agent")
    for number in (1, 2):
        outer = Span(environment, "chat", "model", parent=agent)
        inner = Span(environment, "chat", "model", parent=outer)
        inner.record_usage(Usage(10 * number, 1, response_id=f"r{number}", cost_usd=0.25))
        inner.end()
        outer.record_usage(Usage(10 * number, 1, response_id=f"r{number}"))
        outer.end()
        assert "gen_ai.usage.input_tokens" not in outer.attributes
        assert outer.attributes["agentguard.usage.total.input_tokens"] == 10 * number
    agent.record_usage(Usage(999, 999))
    agent.end()
    assert "gen_ai.usage.input_tokens" not in agent.attributes
    assert agent.attributes["agentguard.usage.total.input_tokens"] == 30
    assert agent.attributes["agentguard.usage.total.output_tokens"] == 2
    assert agent.attributes["agentguard.cost.total_usd"] == 0.5


def test_totals_from_many_threads(environment: CaptureEnvironment) -> None:
    """Additions of parallel children are not lost."""
    agent = Span(environment, "a", "agent")

    def work() -> None:
        for _ in range(200):
            child = Span(environment, "chat", "model", parent=agent)
            child.record_usage(Usage(1, 1))
            child.end()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert agent.totals is not None
    assert agent.totals.input_tokens == 1_600


def test_price(make: Callable[..., CaptureEnvironment]) -> None:
    """A price is looked up when the call ends; an unknown model has none, which is not zero."""
    environment = make(profile="latest", price_usd=lambda usage: 0.125 if usage.model == "known" else None)
    for model, cost in (("known", 0.125), ("unknown", None)):
        span = Span(environment, "chat", "model")
        span.record_usage(Usage(1, 1, model=model))
        span.end()
        assert span.attributes.get("agentguard.cost.usd") == cost
        assert span.attributes.get("gen_ai.usage.cost.source") == ("local" if cost else None)


def test_retries(environment: CaptureEnvironment, clock: FrozenClock) -> None:
    """Each retry is an event with cause and wait; the span carries the count."""
    span = Span(environment, "chat", "model")
    span.record_retry(1, TimeoutError("x"), 0.5, "tenacity")
    clock.advance(1)
    span.record_retry(error="overloaded", status_code=529)
    span.end()
    record = span.record()
    assert record.attributes["http.request.resend_count"] == 2
    assert record.attributes["agentguard.attempts"] == 3
    assert [dict(event.attributes) for event in record.events] == [
        {
            "agentguard.retry.attempt": 1,
            "agentguard.retry.source": "tenacity",
            "error.type": "TimeoutError",
            "agentguard.retry.backoff_s": 0.5,
        },
        {
            "agentguard.retry.attempt": 2,
            "agentguard.retry.source": "agentguard",
            "error.type": "overloaded",
            "http.response.status_code": 529,
        },
    ]


def test_first_chunk_counts_once(environment: CaptureEnvironment, clock: FrozenClock) -> None:
    """Time to first chunk is that of the first."""
    span = Span(environment, "chat", "model")
    for _ in range(3):
        clock.advance(0.2)
        span.first_chunk()
    assert span.attributes["gen_ai.response.time_to_first_chunk"] == pytest.approx(0.2)


def test_mirror(environment: CaptureEnvironment) -> None:
    """A span of the application's provider gives its ids and gets the content."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    mirror = provider.get_tracer("app").start_span("begun")
    span = Span(environment, "execute_tool x", "tool")
    span.adopt(mirror)
    assert span.get_span_context() == mirror.get_span_context()
    span.set_attribute("k", 1)
    span.fail(ValueError("secret"))
    span.end()
    (exported,) = exporter.get_finished_spans()
    assert exported.name == "execute_tool x"
    assert exported.attributes is not None
    assert exported.attributes["k"] == 1
    assert exported.attributes["error.type"] == "ValueError"
    assert exported.status.description == "ValueError"
    assert [event.name for event in exported.events] == ["exception"]
    provider.shutdown()


def test_a_broken_mirror_costs_nothing(make: Callable[..., CaptureEnvironment]) -> None:
    """What the application's provider raises is reported, and the sink still gets the span."""
    seen: list[str] = []
    got: list[object] = []

    class Broken(NonRecordingSpan):
        def end(self, end_time: int | None = None) -> None:
            raise RuntimeError

    environment = make(sink=got.append, on_internal_error=lambda where, _error: seen.append(where))
    span = Span(environment, "x", "tool")
    span.adopt(Broken(LOCAL))
    span.end()
    assert got == [span]
    assert seen == ["capture.mirror"]


def test_an_ended_span_holds_no_ancestors(environment: CaptureEnvironment, ended: list[Span]) -> None:
    """A chain of finished spans is not kept in memory by its last one."""
    root = Span(environment, "a", "agent")
    child = Span(environment, "b", "tool", parent=root)
    child.end()
    root.end()
    ended.clear()
    seen = weakref.ref(root)
    del root
    gc.collect()
    assert seen() is None
    assert child.record().name == "b"


def test_bytes_estimate_grows_with_text(environment: CaptureEnvironment) -> None:
    """The estimate follows long texts and the number of entries."""
    span = Span(environment, "a", "tool")
    small = span.bytes_estimate
    span.set_attribute("k", "x" * 10_000)
    assert span.bytes_estimate >= small + 10_000
    span.add_event("e", {"k": "é" * 1_000})
    assert span.bytes_estimate >= small + 14_000


def test_what_calls_share_is_not_changed(make: Callable[..., CaptureEnvironment]) -> None:
    """A span reads the attributes of its callable where they are; what is set on it is its own, and wins."""
    shared: Mapping[str, Any] = MappingProxyType({"a": 1, "b": 2})
    begin = partial(Span, make(), "x", "tool", attributes=shared, run_id="r", agent_name="n")
    first, second = begin(), begin(own={"b": 3})
    first.set_attribute("a", 7)
    assert first.held == {"a": 7, "b": 2, "agentguard.run.id": "r", "gen_ai.agent.name": "n"}
    assert second.held == {"a": 1, "b": 3, "agentguard.run.id": "r", "gen_ai.agent.name": "n"}


def test_the_limit_counts_names_once(make: Callable[..., CaptureEnvironment]) -> None:
    """Attributes of the callable, of the run and of the call have one limit; to set one again is no new one."""
    environment = make(limits=SpanLimits(attributes_max=4))
    span = Span(environment, "x", "tool", attributes={"a": 1, "b": 2}, run_id="r")
    for key in ("a", "agentguard.run.id", "c", "d", "b", "c"):
        span.set_attribute(key, "set")
    assert span.held == {"a": "set", "b": "set", "agentguard.run.id": "set", "c": "set"}
    assert span.attributes["agentguard.dropped.attributes"] == 1


def test_threads_that_set_the_first_attribute_lose_none(environment: CaptureEnvironment) -> None:
    """Two threads that meet at a span on which nothing was set yet, nor anything rare: all of it is kept."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(200):
            span = Span(environment, "x", "tool")
            together = threading.Barrier(2)

            def write(key: str, span: Span = span, together: threading.Barrier = together) -> None:
                together.wait()
                span.set_attribute(key, 1)
                span.add_event(key)

            threads = [threading.Thread(target=write, args=(key,)) for key in "ab"]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert set(span.held) == {"a", "b"}
            assert {event.name for event in span.events} == {"a", "b"}
    finally:
        sys.setswitchinterval(before)
