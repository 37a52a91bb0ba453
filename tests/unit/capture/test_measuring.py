"""Metrics and events of the conventions: names, units, buckets, and nothing that names a person."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader

from agentguard.capture import CaptureEnvironment, Events, Meters, Refiner, Span, span_context
from agentguard.capture.measuring import CallsMade, measurements
from agentguard.values import SpanRecord, Usage
from agentguard.values.attributes import PROFILES, Profile
from agentguard.values.metric_names import METRICS
from tests.support.clock import FrozenClock
from tests.support.ids import SequentialIds

FORBIDDEN = ("conversation", "run", "user", "session", "label", "message", "content", "principal", "call")


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemoryMetricReader]:
    """The application's MeterProvider, for the time of the test."""
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    monkeypatch.setattr(metrics._internal, "_METER_PROVIDER", provider)
    yield reader
    provider.shutdown()


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemoryLogRecordExporter]:
    """The application's LoggerProvider, for the time of the test."""
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    monkeypatch.setattr(_logs._internal, "_LOGGER_PROVIDER", provider)
    yield exporter
    provider.shutdown()


@pytest.fixture
def make(
    clock: FrozenClock, on_internal_error: Any
) -> Callable[..., tuple[CaptureEnvironment, list[SpanRecord]]]:
    """Environments whose records are refined at once."""

    def build(profile: Profile = "compat", **options: Any) -> tuple[CaptureEnvironment, list[SpanRecord]]:
        records: list[SpanRecord] = []
        environment: CaptureEnvironment

        def metered(is_metered: bool) -> None:
            environment.measures_chunks = is_metered

        refiner = Refiner(
            profile=profile,
            meters=Meters(profile, "1"),
            events=Events(profile, "1"),
            late_prices=options.pop("late_prices", None),
            on_internal_error=on_internal_error,
            on_metered=metered,
        )
        environment = CaptureEnvironment(
            clock=clock,
            ids=SequentialIds(),
            sink=lambda span: records.append(span.record()),
            on_internal_error=on_internal_error,
            profile=profile,
            refine=refiner,
            **options,
        )
        return environment, records

    return build


def points(reader: InMemoryMetricReader) -> dict[str, list[Any]]:
    """All data points by metric."""
    data = reader.get_metrics_data()
    found: dict[str, list[Any]] = {}
    for resource in data.resource_metrics if data is not None else ():
        for scope in resource.scope_metrics:
            assert scope.scope.name == "agentguard"
            for metric in scope.metrics:
                spec = next(spec for spec in METRICS if spec.name == metric.name)
                assert metric.unit == spec.unit
                for point in metric.data.data_points:
                    assert set(point.attributes or {}) <= set(spec.attributes)
                    if isinstance(point, HistogramDataPoint):
                        assert tuple(point.explicit_bounds) == spec.buckets
                    found.setdefault(metric.name, []).append(point)
    return found


def chat(
    environment: CaptureEnvironment, clock: FrozenClock, parent: Span | None = None, **usage: Any
) -> Span:
    """A streamed model call of one second."""
    span = Span(
        environment, "chat gpt-5", "model", otel_kind="client", parent=parent,
        attributes={
            "gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-5", "gen_ai.conversation.id": "c",
            "agentguard.run.id": "r", "user.id": "ann", "agentguard.label.team": "x",
        },
    )  # fmt: skip
    for _ in range(3):
        clock.advance(0.25)
        span.chunk()
    clock.advance(0.25)
    span.record_usage(Usage(**{"input_tokens": 100, "output_tokens": 20, "cache_read_tokens": 60, **usage}))
    return span


def test_compat(make: Any, reader: InMemoryMetricReader, clock: FrozenClock) -> None:
    """The released generation: durations, tokens by type, chunks."""
    environment, _ = make("compat")
    Span(environment, "x", "plan").end()
    chat(environment, clock).end()
    found = points(reader)
    assert set(found) == {
        "gen_ai.client.operation.duration",
        "gen_ai.client.token.usage",
        "gen_ai.client.operation.time_to_first_chunk",
        "gen_ai.client.operation.time_per_output_chunk",
    }
    assert found["gen_ai.client.operation.duration"][0].sum == pytest.approx(1.0)
    assert found["gen_ai.client.operation.time_to_first_chunk"][0].sum == pytest.approx(0.25)
    gaps = found["gen_ai.client.operation.time_per_output_chunk"][0]
    assert (gaps.count, gaps.sum) == (2, pytest.approx(0.5))
    tokens = {
        point.attributes["gen_ai.token.type"]: point.sum for point in found["gen_ai.client.token.usage"]
    }
    assert tokens == {"input": 100, "output": 20}


def test_latest(make: Any, reader: InMemoryMetricReader, clock: FrozenClock) -> None:
    """The generation in development: counters of what was spent, histograms a call."""
    environment, _ = make("latest")
    Span(environment, "x", "plan").end()
    chat(environment, clock).end()
    failed = Span(environment, "chat", "model")
    failed.fail(TimeoutError())
    failed.end()
    found = points(reader)
    assert {name.removeprefix("gen_ai.client.inference.") for name in found} == {
        "duration", "time_to_first_chunk", "time_per_output_chunk", "usage.input_tokens", "usage.output_tokens",
        "usage.cache_read.input_tokens", "operation.input_tokens", "operation.output_tokens",
    }  # fmt: skip
    spent = {p.attributes.get("error.type"): p for p in found["gen_ai.client.inference.usage.input_tokens"]}
    assert (spent[None].value, spent["TimeoutError"].value) == (100, 0)
    assert spent[None].attributes["gen_ai.token.modality"] == "unknown"
    assert (
        "gen_ai.token.modality" not in found["gen_ai.client.inference.operation.input_tokens"][0].attributes
    )


@pytest.mark.parametrize("profile", PROFILES)
def test_embeddings(make: Any, reader: InMemoryMetricReader, profile: Profile) -> None:
    """Embeddings have metrics of their own in the later generation."""
    environment, _ = make(profile)
    span = Span(environment, "embeddings m", "embeddings")
    span.record_usage(Usage(input_tokens=8))
    span.end()
    compat = {"gen_ai.client.operation.duration", "gen_ai.client.token.usage"}
    latest = {"gen_ai.client.embeddings.duration", "gen_ai.client.embeddings.operation.input_tokens"}
    expected = {"compat": compat, "latest": latest, "both": compat | latest}
    assert set(points(reader)) == expected[profile]


def test_agents_count_what_they_do_themselves(
    make: Any, reader: InMemoryMetricReader, clock: FrozenClock
) -> None:
    """Calls inside a plan count for the agent around it; those of an inner agent do not."""
    environment, _ = make("compat")
    outer = Span(environment, "invoke_agent outer", "agent", attributes={"gen_ai.agent.name": "outer"})
    plan = Span(environment, "plan", "plan", parent=outer)
    chat(environment, clock, plan).end()
    plan.end()
    inner = Span(
        environment, "invoke_agent inner", "agent", parent=outer, attributes={"gen_ai.agent.name": "inner"}
    )
    chat(environment, clock, inner).end()
    Span(environment, "execute_tool t", "tool", parent=inner).end()
    inner.end()
    Span(environment, "execute_tool t", "tool", parent=outer).end()
    outer.end()
    found = points(reader)

    def by_agent(metric: str) -> dict[str, float]:
        return {p.attributes["gen_ai.agent.name"]: p.sum for p in found[f"gen_ai.invoke_agent.{metric}"]}

    assert by_agent("inference_calls") == {"outer": 1, "inner": 1}
    assert by_agent("tool_calls") == {"outer": 1, "inner": 1}
    assert found["gen_ai.execute_tool.duration"][0].count == 2


@pytest.mark.parametrize(
    ("kind", "metric"),
    [
        ("workflow", "gen_ai.invoke_workflow.duration"),
        ("tool", "gen_ai.execute_tool.duration"),
        ("agent", "gen_ai.invoke_agent.duration"),
    ],
)
@pytest.mark.parametrize("profile", PROFILES)
def test_the_same_in_all_profiles(kind: str, metric: str, profile: Profile, make: Any) -> None:
    """What both generations have is measured in each."""
    environment, records = make(profile)
    Span(environment, kind, kind).end()
    assert metric in {m.metric for m in measurements(records[0], profile=profile, calls=CallsMade(0, 0))}


def test_protocol_requests(make: Any) -> None:
    """A request of the Model Context Protocol is measured on its side."""
    environment, records = make()
    for otel_kind in ("client", "server"):
        Span(
            environment,
            "tools/call x",
            "tool",
            otel_kind=otel_kind,
            attributes={"mcp.method.name": "tools/call"},
        ).end()
    found = [{m.metric for m in measurements(record, profile="compat")} for record in records]
    assert "mcp.client.operation.duration" in found[0]
    assert "mcp.server.operation.duration" in found[1]


def test_no_metric_may_name_a_person() -> None:
    """Not one instrument allows an attribute with an id of a run, a conversation or a user, or with text."""
    for spec in METRICS:
        for attribute in spec.attributes:
            assert not any(word in attribute.split(".") for word in FORBIDDEN)


def test_measurements_point_to_their_trace(
    make: Any, reader: InMemoryMetricReader, clock: FrozenClock
) -> None:
    """An exemplar names the span, so that a backend can go from a bucket to the call."""
    environment, records = make()
    chat(environment, clock).end()
    exemplars = points(reader)["gen_ai.client.operation.duration"][0].exemplars
    assert [f"{exemplar.span_id:016x}" for exemplar in exemplars] == [records[0].span_id]


def test_without_providers_nothing_happens(make: Any, clock: FrozenClock) -> None:
    """No provider of the application: no instruments, no log records, and nothing is set."""
    environment, records = make()
    span = chat(environment, clock)
    span.fail(ValueError())
    span.end()
    assert len(records) == 1
    assert not environment.measures_chunks
    assert metrics._internal._METER_PROVIDER is None
    assert _logs._internal._LOGGER_PROVIDER is None


def test_a_record_is_measured_once(make: Any, reader: InMemoryMetricReader) -> None:
    """Asking a span for its record again measures nothing."""
    environment, _ = make()
    span = Span(environment, "t", "tool")
    span.end()
    span.record()
    assert points(reader)["gen_ai.execute_tool.duration"][0].count == 1


def test_exceptions_of_client_operations_are_events(
    make: Any, logs: InMemoryLogRecordExporter, clock: FrozenClock
) -> None:
    """Severity WARN, the class, and the text only where texts are kept; linked to the span."""
    for captures in (False, True):
        environment, records = make(captures_messages=captures)
        logs.clear()
        Span(environment, "t", "tool").fail(ValueError("not a client operation"))
        span = Span(environment, "chat", "model", otel_kind="client")
        span.fail(ValueError("card 4111"))
        span.end()
        (entry,) = logs.get_finished_logs()
        record = entry.log_record
        assert record.event_name == "gen_ai.client.operation.exception"
        assert record.severity_number is not None
        assert record.severity_number.value == 13
        expected = {"exception.type": "ValueError"} | ({"exception.message": "card 4111"} if captures else {})
        assert dict(record.attributes or {}) == expected
        assert f"{record.span_id:016x}" == records[0].span_id
        assert f"{record.trace_id:032x}" == records[0].trace_id


def test_judgements_are_events(logs: InMemoryLogRecordExporter) -> None:
    """`gen_ai.evaluation.result` stands at the judged call."""
    events = Events("compat", "1")
    events.evaluation({"gen_ai.evaluation.name": "n"}, 5, span_context("1" * 32, "2" * 16))
    events.evaluation({"gen_ai.evaluation.name": "n"}, 6, None)
    first, second = (entry.log_record for entry in logs.get_finished_logs())
    assert first.event_name == "gen_ai.evaluation.result"
    assert (first.timestamp, f"{first.span_id:016x}") == (5, "2" * 16)
    assert second.span_id in {0, None}


def test_late_prices(make: Any, clock: FrozenClock) -> None:
    """What the table does not price is priced when it is written, and added to the totals around it."""

    class Prices:
        """Knows one model."""

        def price_usd(self, usage: Usage) -> float | None:
            return 0.5 if usage.model == "rare" else None

    environment, records = make("both", late_prices=Prices())
    agent = Span(environment, "a", "agent")
    chat(environment, clock, agent, model="rare").end()
    chat(environment, clock, agent, model="unknown").end()
    chat(environment, clock, agent, model="rare", cost_usd=0.25).end()
    agent.end()
    assert [record.attributes.get("agentguard.cost.usd") for record in records] == [0.5, None, 0.25, None]
    assert records[0].attributes["gen_ai.usage.cost.source"] == "local"
    assert records[-1].attributes["agentguard.cost.total_usd"] == 0.75


def test_errors_of_ours_leave_the_record(clock: FrozenClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that raises costs the measurement, not the span."""
    seen: list[str] = []

    class Broken:
        """A MeterProvider of somebody."""

        def get_meter(self, *_: object) -> object:
            raise OSError

    monkeypatch.setattr(metrics._internal, "_METER_PROVIDER", Broken())
    refiner = Refiner(
        profile="compat", meters=Meters("compat", "1"), events=None, late_prices=None,
        on_internal_error=lambda where, _error: seen.append(where), on_metered=lambda _is_metered: None,
    )  # fmt: skip
    environment = CaptureEnvironment(
        clock=clock,
        ids=SequentialIds(),
        sink=lambda _s: None,
        on_internal_error=lambda *_: None,
        refine=refiner,
    )
    span = Span(environment, "t", "tool")
    span.end()
    assert span.record().name == "t"
    assert seen == ["capture.refine"]
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_calls_whose_parents_never_come(make: Any, reader: InMemoryMetricReader) -> None:
    """Parents in other processes do not fill the memory."""
    environment, _ = make("compat")
    for number in range(1, 10_050):
        remote = trace.SpanContext(1, number, is_remote=True)
        Span(environment, "t", "tool", parent=remote).end()
    assert len(environment.refine._inside) == 10_000


class _Priced:
    """Prices of a library, which knows every model."""

    is_there = True

    def price_usd(self, usage: Usage) -> float:
        return 0.5


@pytest.mark.parametrize("has_prices", [False, True])
def test_records_are_made_only_for_who_looks(has_prices: bool, on_internal_error: Any) -> None:
    """Without a provider nobody looks, but for prices that the table does not have."""
    told: list[bool] = []
    refiner = Refiner(
        profile="compat",
        meters=Meters("compat", "1"),
        events=Events("compat", "1"),
        late_prices=_Priced() if has_prices else None,  # type: ignore[arg-type]
        on_internal_error=on_internal_error,
        on_metered=told.append,
    )
    priced, unpriced = Usage(1, 1, model="m", cost_usd=1.0), Usage(1, 1, model="m")
    assert refiner.is_idle([None, priced], has_events=True)
    assert told == [False]
    assert refiner.is_idle([None, unpriced], has_events=False) is not has_prices
    record = SpanRecord(
        "1" * 32,
        "2" * 16,
        "3" * 16,
        "n",
        "model",
        "client",
        1,
        1,
        "unset",
        "",
        {"gen_ai.usage.input_tokens": 1},
    )
    refined = refiner(record, unpriced, ())
    assert refined.attributes.get("agentguard.cost.usd") == (0.5 if has_prices else None)
    # The call around it hears of the price, so its record is needed too.
    assert refiner.is_idle([None], has_events=False) is not has_prices
    refiner(record._replace(span_id="3" * 16, parent_span_id="", kind="agent", attributes={}), None, ())
    assert refiner.is_idle([None], has_events=False)


def test_records_are_made_for_providers(reader: InMemoryMetricReader, on_internal_error: Any) -> None:
    """A MeterProvider wants to see every record."""
    refiner = Refiner(
        profile="compat", meters=Meters("compat", "1"), events=None, late_prices=None,
        on_internal_error=on_internal_error, on_metered=lambda _: None,
    )  # fmt: skip
    assert not refiner.is_idle([None], has_events=False)


def test_records_are_made_for_events(logs: InMemoryLogRecordExporter, on_internal_error: Any) -> None:
    """A LoggerProvider wants to see records with events."""
    refiner = Refiner(
        profile="compat", meters=None, events=Events("compat", "1"), late_prices=None,
        on_internal_error=on_internal_error, on_metered=lambda _: None,
    )  # fmt: skip
    assert refiner.is_idle([None], has_events=False)
    assert not refiner.is_idle([None], has_events=True)
