"""Beside the official instrumentation of OpenTelemetry: one span, one measurement, its content in our store."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import agentguard
from agentguard.capture import LatePrices
from agentguard.cli.demo.server import MODEL, ModelServer
from agentguard.runtime.core import Runtime
from agentguard.values import SpanRecord, Usage

openai = pytest.importorskip("openai")
pytestmark = pytest.mark.usefixtures("instrumented")

SECRET = "write to ann@example.org"
HELLO = [{"role": "user", "content": f"Hello, {SECRET}"}]


@agentguard.model(provider="openai", model=MODEL)
def ask(client: Any, **options: Any) -> Any:
    """One request, guarded."""
    return client.chat.completions.create(model=MODEL, messages=HELLO, temperature=0.5, **options)


@agentguard.agent
def answer(client: Any) -> Any:
    """One request that is not guarded itself, inside an agent."""
    return client.chat.completions.create(model=MODEL, messages=HELLO)


def spans(runtime: Runtime) -> list[SpanRecord]:
    """All spans of its store, flushed first."""
    assert runtime.flush(10).is_complete
    return sorted(runtime.store.query().spans(), key=lambda span: span.start_unix_ns)


def durations(reader: InMemoryMetricReader) -> int:
    """How many model calls the application's provider was told of."""
    data = reader.get_metrics_data()
    return sum(
        point.count
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "gen_ai.client.operation.duration"
        for point in metric.data.data_points
    )


def test_one_call_is_one_span_and_one_measurement(
    start: Any, client: Any, exported: InMemorySpanExporter, measured: InMemoryMetricReader
) -> None:
    """Inside a model call of ours the instrumentation makes no span; what it knows stands on ours."""
    runtime = start()
    response = ask(client)
    (ours,) = spans(runtime)
    assert ours.attributes["gen_ai.usage.input_tokens"] == response.usage.prompt_tokens
    assert ours.attributes["gen_ai.request.temperature"] == 0.5
    assert ours.attributes["server.address"] == "127.0.0.1"
    assert [span.instrumentation_scope.name for span in exported.get_finished_spans()] == ["agentguard"]
    assert durations(measured) == 1


def test_a_stream(start: Any, client: Any, exported: InMemorySpanExporter) -> None:
    """The same where the answer comes piece by piece."""
    runtime = start()
    assert list(ask(client, stream=True, stream_options={"include_usage": True}))
    (ours,) = spans(runtime)
    assert ours.attributes["gen_ai.usage.output_tokens"] > 0
    assert ours.attributes["gen_ai.request.stream"] is True
    assert len(exported.get_finished_spans()) == 1


def test_its_own_span_where_we_have_none(
    start: Any, client: Any, exported: InMemorySpanExporter, measured: InMemoryMetricReader
) -> None:
    """Outside a model call of ours its span exists, is taken in, and its tokens are counted once."""
    runtime = start()
    response = answer(client)
    agent, native = spans(runtime)
    assert native.scope.startswith("opentelemetry.instrumentation")
    assert native.parent_span_id == agent.span_id
    assert native.attributes["gen_ai.usage.input_tokens"] == response.usage.prompt_tokens
    assert agent.attributes["agentguard.usage.total.input_tokens"] == response.usage.prompt_tokens
    assert len(exported.get_finished_spans()) == 2
    assert durations(measured) == 1


def test_a_call_inside_a_tool_of_a_model_call_is_its_own(start: Any, client: Any) -> None:
    """What a model call announced ends at the tool inside it: that is another call."""
    runtime = start()

    @agentguard.tool
    def lookup() -> Any:
        return client.chat.completions.create(model=MODEL, messages=HELLO)

    @agentguard.model(provider="openai", model=MODEL)
    def route() -> Any:
        return lookup()

    route()
    assert {span.kind for span in spans(runtime)} == {"model", "tool"}
    assert len(spans(runtime)) == 3


@pytest.mark.parametrize(("capture", "kept"), [("full", SECRET), ("redacted", "write to"), ("metadata", "")])
@pytest.mark.parametrize("call", [ask, answer])
def test_content_comes_through_the_hook(start: Any, client: Any, call: Any, capture: str, kept: str) -> None:
    """Messages reach the store as the setting says, on our span or on the native one."""
    runtime = start(capture=capture)
    call(client)
    found = [span for span in spans(runtime) if span.kind == "model"]
    assert len(found) == 1
    text = str(found[0].attributes.get("gen_ai.input.messages", ""))
    assert kept in text
    assert ("ann@example.org" in repr(found)) is (capture == "full")
    assert ("gen_ai.output.messages" in found[0].attributes) is (capture != "metadata")
    if capture == "full":
        assert json.loads(text)[0]["role"] == "user"


def test_a_callable_that_asked_for_less(start: Any, client: Any) -> None:
    """`capture` of the callable holds for what the hook brings, too."""
    runtime = start(capture="full")

    @agentguard.model(provider="openai", model=MODEL, capture="metadata")
    def quiet() -> Any:
        return client.chat.completions.create(model=MODEL, messages=HELLO)

    quiet()
    assert SECRET not in repr(spans(runtime))


def test_isolated_and_off_leave_it_alone(start: Any, client: Any, exported: InMemorySpanExporter) -> None:
    """Where our span does not go to the application's provider, the instrumentation's does."""
    for mode in ("isolated", "off"):
        runtime = start(otel=mode)
        ask(client)
        assert [span.scope for span in spans(runtime)] == ["agentguard"] * len(spans(runtime))
        assert exported.get_finished_spans()[-1].instrumentation_scope.name != "agentguard"
        agentguard.shutdown(10)
    assert len(exported.get_finished_spans()) == 2


def test_embeddings(start: Any, exported: InMemorySpanExporter) -> None:
    """The key for embeddings is announced like that for inference."""
    from opentelemetry.util.genai.handler import TelemetryHandler

    runtime = start()
    handler = TelemetryHandler(tracer_provider=trace.get_tracer_provider())

    @agentguard.model(provider="openai", model="embedder", operation="embeddings")
    def embed() -> list[float]:
        invocation = handler.embedding("openai", request_model="embedder")
        invocation.input_tokens = 7
        invocation.stop()
        return [0.5]

    embed()
    (ours,) = spans(runtime)
    assert ours.attributes["gen_ai.usage.input_tokens"] == 7
    assert len(exported.get_finished_spans()) == 1


def test_prices_of_genai_prices() -> None:
    """The library prices what the table does not know; what it does not know either has no price."""
    seen: list[object] = []
    prices = LatePrices(lambda *problem: seen.append(problem))
    assert prices.is_there
    assert prices.price_usd(Usage(1_000_000, 0, model="gpt-4o", provider="openai")) == 2.5
    assert prices.price_usd(Usage(1_000_000, 0, model="claude-sonnet-4-5", provider="gcp.gen_ai")) is not None
    assert prices.price_usd(Usage(5, 5, model="no such model")) is None
    assert prices.price_usd(Usage(5, 5, model="no such model")) is None
    assert prices.price_usd(Usage(None, 5, model="gpt-4o")) is None
    assert seen == []


def test_a_model_without_a_pinned_price(start: Any) -> None:
    """Its cost stands on the span, and in the totals of the agent around it."""
    runtime = start()

    @agentguard.model(provider="mistral_ai", model="mistral-large-latest")
    def call() -> Any:
        return {
            "model": "mistral-large-latest",
            "usage": {"prompt_tokens": 1_000_000, "completion_tokens": 0},
        }

    @agentguard.agent
    def agent() -> None:
        call()

    agent()
    outer, inner = spans(runtime)
    assert inner.attributes["agentguard.cost.usd"] > 0
    assert outer.attributes["agentguard.cost.total_usd"] == inner.attributes["agentguard.cost.usd"]


def test_an_asynchronous_stream(start: Any, exported: InMemorySpanExporter) -> None:
    """The instrumentation's stand-in for an asynchronous stream is one to us."""
    runtime = start()

    @agentguard.model(provider="openai", model=MODEL)
    async def ask_async(client: Any) -> Any:
        return await client.chat.completions.create(
            model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True}
        )

    async def read() -> int:
        with ModelServer(seed=11) as server:
            http = openai.DefaultAsyncHttpxClient(trust_env=False)
            async with openai.AsyncOpenAI(base_url=server.url, api_key="none", http_client=http) as client:
                return len([chunk async for chunk in await ask_async(client)])

    assert asyncio.run(read()) > 0
    (ours,) = spans(runtime)
    assert ours.attributes["gen_ai.usage.output_tokens"] > 0
    assert len(exported.get_finished_spans()) == 1
