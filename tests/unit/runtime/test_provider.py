"""Beside the application's own OpenTelemetry provider: one trace, two records, nothing replaced."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

import agentguard
from tests.unit.runtime.conftest import Start, spans


@agentguard.tool
def work() -> str:
    """Do something under the current span."""
    return f"{trace.get_current_span().get_span_context().span_id:016x}"


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[TracerProvider, InMemorySpanExporter]]:
    """A global SDK provider, for the time of the test."""
    exporter = InMemorySpanExporter()
    made = TracerProvider(shutdown_on_exit=False)
    made.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", made)
    yield made, exporter
    made.shutdown()


def test_span_joins_the_applications_trace(
    start: Start, provider: tuple[TracerProvider, InMemorySpanExporter]
) -> None:
    """The provider's span and ours share ids, parent and attributes."""
    made, exporter = provider
    runtime = start()
    with made.get_tracer("app").start_as_current_span("request") as request:
        inner = work()
    [ours] = spans(runtime)
    theirs = {span.name: span for span in exporter.get_finished_spans()}
    mirror = theirs["execute_tool work"]
    assert f"{mirror.context.span_id:016x}" == ours.span_id == inner
    assert ours.parent_span_id == f"{request.get_span_context().span_id:016x}"
    assert ours.trace_id == f"{request.get_span_context().trace_id:032x}"
    assert mirror.attributes is not None
    assert mirror.attributes["gen_ai.tool.name"] == "work"
    assert trace.get_tracer_provider() is made


def test_own_record_is_kept_whatever_is_sampled(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that samples nothing does not empty the store."""
    made = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", made)
    runtime = start()
    work()
    assert len(spans(runtime)) == 1


def test_isolated_leaves_the_provider_alone(
    start: Start, provider: tuple[TracerProvider, InMemorySpanExporter]
) -> None:
    """`otel = isolated`: the application's provider hears nothing."""
    runtime = start(otel="isolated")
    work()
    assert len(spans(runtime)) == 1
    assert provider[1].get_finished_spans() == ()


def test_without_a_provider_ours_is_current(start: Start) -> None:
    """Other instrumentations see our span as their parent."""
    runtime = start()
    inner = work()
    assert spans(runtime)[0].span_id == inner


def test_native_spans_of_an_sdk_are_taken_in_and_counted_once(
    start: Start, provider: tuple[TracerProvider, InMemorySpanExporter]
) -> None:
    """A model span that an SDK makes inside ours is stored, and its tokens stand on ours only."""
    runtime = start()
    tracer = provider[0].get_tracer("com.example.sdk")

    @agentguard.model(model="m", provider="example")
    def ask() -> str:
        with tracer.start_as_current_span(
            "chat m",
            attributes={
                "gen_ai.operation.name": "chat",
                "gen_ai.usage.input_tokens": 10,
                "gen_ai.usage.output_tokens": 5,
                "gen_ai.response.model": "m",
            },
        ):
            return "answer"

    with tracer.start_as_current_span("GET /", attributes={"http.request.method": "GET"}):
        ask()
    by_scope = {span.scope: span for span in spans(runtime)}
    assert set(by_scope) == {"agentguard", "com.example.sdk"}
    ours, native = by_scope["agentguard"], by_scope["com.example.sdk"]
    assert ours.attributes["gen_ai.usage.input_tokens"] == 10
    assert "gen_ai.usage.input_tokens" not in native.attributes
    assert native.parent_span_id == ours.span_id
