"""The real instrumentation, the real client, a model server on loopback, and a provider of the application."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import agentguard
from agentguard.cli.demo.server import ModelServer
from agentguard.runtime.core import Runtime
from agentguard.seal import create_key_file

openai = pytest.importorskip("openai")
instrumentation = pytest.importorskip("opentelemetry.instrumentation.genai.openai")

Start = Callable[..., Runtime]


@pytest.fixture
def client() -> Iterator[openai.OpenAI]:
    """The real client against a server on loopback."""
    with ModelServer(seed=11) as server:
        http = openai.DefaultHttpxClient(trust_env=False)
        with openai.OpenAI(base_url=server.url, api_key="none", http_client=http) as made:
            yield made


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """What the application's own tracer provider exports."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    yield exporter
    provider.shutdown()


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemoryMetricReader]:
    """What the application's own meter provider was given."""
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    monkeypatch.setattr(metrics._internal, "_METER_PROVIDER", provider)
    yield reader
    provider.shutdown()


@pytest.fixture
def instrumented(
    exported: InMemorySpanExporter, measured: InMemoryMetricReader, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """The openai client, instrumented with our completion hook."""
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_COMPLETION_HOOK", "agentguard")
    instrumentor = instrumentation.OpenAIInstrumentor()
    instrumentor.instrument(
        tracer_provider=trace.get_tracer_provider(), meter_provider=metrics.get_meter_provider()
    )
    yield
    instrumentor.uninstrument()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Initialise agentguard with an empty store, strictly."""
    key = tmp_path / "key"
    create_key_file(key)

    def make(**settings: object) -> Runtime:
        runtime = agentguard.init(
            store=tmp_path / "store", key=f"file:{key}", drift_interval_s=0, strict=True, **settings
        )
        assert runtime is not None
        return runtime

    yield make
    agentguard.shutdown(10)
