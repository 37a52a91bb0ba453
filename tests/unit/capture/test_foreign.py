"""Spans that other libraries make natively reach the store once, without content."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from agentguard.capture import CaptureEnvironment, ForeignSpanProcessor, Span, context_with
from agentguard.values import SpanRecord, Usage
from tests.support.clock import FrozenClock
from tests.support.ids import SequentialIds

CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "m",
    "gen_ai.response.id": "r",
    "gen_ai.usage.input_tokens": 9,
    "gen_ai.usage.output_tokens": 2,
    "gen_ai.input.messages": "needle in the prompt",
    "gen_ai.prompt.0.content": "needle in an old name",
    "input.value": "needle of another convention",
    "http.request.resend_count": 1,
}


@pytest.fixture
def records() -> list[SpanRecord]:
    """What reached the sink."""
    return []


@pytest.fixture
def environment(clock: FrozenClock, records: list[SpanRecord], on_internal_error: Any) -> CaptureEnvironment:
    """One whose sink makes the records at once."""
    return CaptureEnvironment(
        clock=clock,
        ids=SequentialIds(),
        sink=lambda source: records.append(source.record()),
        on_internal_error=on_internal_error,
    )


@pytest.fixture
def tracer(environment: CaptureEnvironment) -> Iterator[Callable[[str], trace.Tracer]]:
    """Tracers of a real provider with our processor."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(ForeignSpanProcessor(environment))  # type: ignore[arg-type] # by shape
    yield provider.get_tracer
    provider.shutdown()


def test_a_native_span(tracer: Callable[[str], trace.Tracer], records: list[SpanRecord]) -> None:
    """Names, numbers, scope and times are kept; content of any convention is not."""
    with tracer("com.anthropic.sdk.python").start_as_current_span(
        "chat m", kind=trace.SpanKind.CLIENT
    ) as span:
        span.set_attributes(CHAT)
        span.add_event("exception", {"exception.type": "ValueError", "exception.message": "needle"})
        span.set_status(trace.StatusCode.ERROR, "needle in a message")
    (record,) = records
    assert "needle" not in repr(record)
    assert record.scope == "com.anthropic.sdk.python"
    assert (record.kind, record.otel_kind, record.status) == ("model", "client", "error")
    assert record.attributes["gen_ai.usage.input_tokens"] == 9
    assert record.attributes["http.request.resend_count"] == 1
    assert record.events[0].attributes == {"exception.type": "ValueError"}


def test_other_spans_are_not_ours_to_keep(
    tracer: Callable[[str], trace.Tracer], records: list[SpanRecord]
) -> None:
    """Spans of web servers and databases, and mirrors of our own, stay out."""
    tracer("http").start_span("GET /", attributes={"http.request.method": "GET"}).end()
    tracer("agentguard").start_span("chat m", attributes=CHAT).end()
    assert records == []


def test_protocol_spans(tracer: Callable[[str], trace.Tracer], records: list[SpanRecord]) -> None:
    """A tool call of the Model Context Protocol is a tool call."""
    tracer("mcp").start_span(
        "tools/call x", attributes={"mcp.method.name": "tools/call", "gen_ai.tool.name": "x"}
    ).end()
    assert records[0].kind == "tool"


def test_tokens_inside_a_model_call_of_ours(
    tracer: Callable[[str], trace.Tracer], environment: CaptureEnvironment, records: list[SpanRecord]
) -> None:
    """Our call takes the tokens; the native span says who counted them."""
    ours = Span(environment, "chat m", "model")
    tracer("sdk").start_span("chat m", context_with(ours), attributes=CHAT).end()
    ours.record_usage(Usage(9, 2, response_id="r"))
    ours.end()
    native, own = records
    assert native.attributes["agentguard.usage.counted_by"] == ours.call_id
    assert native.parent_span_id == ours.call_id
    assert own.attributes["gen_ai.usage.input_tokens"] == 9
    assert sum(int(r.attributes.get("gen_ai.usage.input_tokens", 0)) for r in records) == 9  # type: ignore[arg-type]
    assert "agentguard.usage.billed.input_tokens" not in own.attributes


def test_tokens_inside_an_agent_of_ours(
    tracer: Callable[[str], trace.Tracer], environment: CaptureEnvironment, records: list[SpanRecord]
) -> None:
    """The agent's totals grow by what native spans inside it used."""
    agent = Span(environment, "invoke_agent a", "agent")
    for _ in range(2):
        tracer("sdk").start_span("chat m", context_with(agent), attributes=CHAT).end()
    agent.end()
    assert records[-1].attributes["agentguard.usage.total.input_tokens"] == 18
    assert records[0].attributes["gen_ai.usage.input_tokens"] == 9


def test_runs_hear_of_usage(environment: CaptureEnvironment) -> None:
    """Whoever keeps budgets is told of tokens that no span of ours will report."""
    heard: list[tuple[Span | None, Usage]] = []
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(
        ForeignSpanProcessor(environment, on_usage=lambda owner, usage: heard.append((owner, usage)))  # type: ignore[arg-type]
    )
    provider.get_tracer("sdk").start_span("chat m", attributes=CHAT).end()
    provider.shutdown()
    ((owner, usage),) = heard
    assert owner is None
    assert (usage.input_tokens, usage.model) == (9, "m")


def test_nothing_reaches_the_application(clock: FrozenClock) -> None:
    """Spans of unknown shape are reported, not raised."""
    seen: list[str] = []
    environment = CaptureEnvironment(
        clock=clock,
        ids=SequentialIds(),
        sink=lambda _s: None,
        on_internal_error=lambda where, _e: seen.append(where),
    )
    processor = ForeignSpanProcessor(environment)
    processor.on_start(object())
    processor.on_end(5)
    processor.shutdown()
    assert processor.force_flush()
    assert seen == ["capture.foreign"]


def test_what_only_a_native_span_counted_has_its_price(
    clock: FrozenClock, records: list[SpanRecord], on_internal_error: Any
) -> None:
    """On the native span and in the totals around it, once; inside a model call of ours it is that call's."""
    environment = CaptureEnvironment(
        clock=clock,
        ids=SequentialIds(),
        sink=lambda source: records.append(source.record()),
        on_internal_error=on_internal_error,
        price_usd=lambda usage: 0.5 if usage.model == "m" else None,
    )
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(ForeignSpanProcessor(environment))  # type: ignore[arg-type] # by shape
    tracer = provider.get_tracer("sdk")
    agent = Span(environment, "invoke_agent a", "agent")
    tracer.start_span("chat m", context_with(agent), attributes=CHAT).end()
    tracer.start_span("chat x", context_with(agent), attributes={**CHAT, "gen_ai.request.model": "x"}).end()
    model = Span(environment, "chat m", "model", parent=agent, owner=agent)
    tracer.start_span("chat m", context_with(model), attributes=CHAT).end()
    model.end()
    agent.end()
    provider.shutdown()
    assert [record.attributes.get("agentguard.cost.usd") for record in records] == [
        0.5,
        None,
        None,
        0.5,
        None,
    ]
    assert records[-1].attributes["agentguard.cost.total_usd"] == 1.0
