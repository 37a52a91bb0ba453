"""Spans of the application's SDK that are made late: to everybody else they are the SDK's own."""

from __future__ import annotations

import copy
import gc
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import (
    ConcurrentMultiSpanProcessor,
    ReadableSpan,
    SpanLimits,
    SpanProcessor,
    Tracer,
    TracerProvider,
)
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanContext, SpanKind, StatusCode, TraceFlags

import agentguard
from agentguard.runtime import late_span
from agentguard.runtime.late_span import LateRecord, LateSpan, late_tracer

from .conftest import Start, spans
from .test_call_work import _calls_of as calls_of

Provide = Callable[..., InMemorySpanExporter]
OTHER = SpanContext(0xA, 0xB, is_remote=True, trace_flags=TraceFlags(1))


@pytest.fixture
def provide(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provide]:
    """Make an SDK provider the global one; what it exports is in the memory."""
    made: list[TracerProvider] = []

    def make(*processors: SpanProcessor, is_batched: bool = False, **settings: Any) -> InMemorySpanExporter:
        exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False, **settings)
        for processor in processors:
            provider.add_span_processor(processor)
        provider.add_span_processor(
            BatchSpanProcessor(exporter, schedule_delay_millis=60_000)
            if is_batched
            else SimpleSpanProcessor(exporter)
        )
        monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
        made.append(provider)
        return exporter

    yield make
    for provider in made:
        provider.shutdown()


@agentguard.tool(effect="read")
def look(_: object = None) -> Any:
    """Give the span that OpenTelemetry sees."""
    return trace.get_current_span()


@agentguard.model(provider="openai", model="m")
def ask(error: Exception | None = None) -> dict[str, Any]:
    """Answer, or fail."""
    if error is not None:
        raise error
    return {
        "id": "r", "model": "m-1", "choices": [{"finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2},
    }  # fmt: skip


@agentguard.agent(version="1")
def work() -> None:
    """Make calls of every kind, one of which fails."""
    ask()
    look()
    with agentguard.span("think", kind="plan") as span:
        assert span is not None
        span.set("k", [1, 2]).event("noted", {"n": 1})
    with pytest.raises(ValueError, match="x"):
        ask(ValueError("x"))


def shown(span: ReadableSpan) -> dict[str, Any]:
    """Everything that a backend gets, but for what differs from run to run."""
    found = json.loads(span.to_json())
    for key in ("context", "parent_id", "start_time", "end_time"):
        found.pop(key)
    for event in found["events"]:
        event.pop("timestamp")
    found["attributes"].pop("agentguard.run.id")
    assert span.context is not None
    return {
        **found,
        "scope": span.instrumentation_scope,
        "flags": span.context.trace_flags,
        "is_root": span.parent is None,
        "dropped": (span.dropped_attributes, span.dropped_events, span.dropped_links),
        "order": sorted(found["attributes"]),
    }


@pytest.mark.parametrize(
    "limits",
    [
        SpanLimits(),
        SpanLimits(max_attribute_length=3),
        SpanLimits(max_span_attributes=4),
        SpanLimits(max_events=0, max_event_attributes=0),
    ],
    ids=["default", "length", "count", "events"],
)
def test_a_backend_sees_no_difference(
    start: Start, provide: Provide, monkeypatch: pytest.MonkeyPatch, limits: SpanLimits
) -> None:
    """Late spans and spans that the tracer itself begins are exported alike, whatever the limits."""
    exported: list[list[dict[str, Any]]] = []
    for is_late in (True, False):
        if not is_late:
            monkeypatch.setattr(late_span, "late_tracer", lambda _: None)
        exporter = provide(span_limits=limits)
        start()
        work()
        found = exporter.get_finished_spans()
        assert isinstance(found[0], LateRecord) is is_late
        if limits.max_span_attributes == 4:  # Which of them are kept depends on the order they came in.
            assert {len(span.attributes or ()) for span in found} == {4}
            found = ()
        exported.append([shown(span) for span in found])
    assert exported[0] == exported[1]
    assert len(exported[0]) in {0, 5}


def test_ids_times_and_parents(start: Start, provide: Provide) -> None:
    """The exported span and our record are one span: same ids, same start, same duration."""
    exporter = provide()
    runtime = start()
    work()
    theirs = {f"{s.context.span_id:016x}": s for s in exporter.get_finished_spans() if s.context is not None}
    ours = spans(runtime)
    assert len(ours) == len(theirs) == 5
    for record in ours:
        span = theirs[record.span_id]
        assert span.start_time == record.start_unix_ns
        assert span.end_time == record.start_unix_ns + record.duration_ns
        assert record.parent_span_id == ("" if span.parent is None else f"{span.parent.span_id:016x}")


def test_what_the_application_writes_is_exported(start: Start, provide: Provide) -> None:
    """The current span takes all that the SDK's takes, messages included, and hands them to the exporter."""
    exporter = provide()
    runtime = start()

    @agentguard.tool
    def step() -> None:
        span = trace.get_current_span()
        assert isinstance(span, SdkSpan)
        assert (span.name, span.kind, span.parent) == ("execute_tool step", SpanKind.INTERNAL, None)
        assert span.attributes is not None
        assert span.attributes["gen_ai.tool.name"] == "step"
        span.set_attribute("app.key", "a value")
        span.set_attributes({"app.more": [1, 2]})
        span.add_event("seen", {"n": 1})
        span.add_link(OTHER)
        span.record_exception(ValueError("told in full"))
        span.set_status(StatusCode.ERROR, "a sentence")
        assert not hasattr(span, "no_such_thing")

    step()
    (span,) = exporter.get_finished_spans()
    assert span.attributes is not None
    assert (span.attributes["app.key"], span.attributes["app.more"]) == ("a value", (1, 2))
    assert span.attributes["gen_ai.tool.name"] == "step"
    assert [event.name for event in span.events] == ["seen", "exception"]
    assert (span.events[1].attributes or {})["exception.message"] == "told in full"
    assert span.links[0].context == OTHER
    assert span.status.description == "a sentence"
    # Ours is the business of nobody else.
    assert "app.key" not in spans(runtime)[0].attributes


def test_whoever_ends_it_ends_it_once(
    start: Start, provide: Provide, caplog: pytest.LogCaptureFixture
) -> None:
    """An application that ends the current span has it exported as it is then; ours goes on."""
    exporter = provide()
    runtime = start()

    @agentguard.tool
    def step() -> None:
        trace.get_current_span().end()

    step()
    assert len(exporter.get_finished_spans()) == 1
    assert len(spans(runtime)) == 1
    assert "ended span" in caplog.text


def test_a_late_write_changes_nothing(
    start: Start, provide: Provide, caplog: pytest.LogCaptureFixture
) -> None:
    """After the end the SDK says so, and what was exported stands."""
    exporter = provide()
    start()
    span = look()
    assert not span.is_recording()
    span.set_attribute("app.key", 1)
    assert "ended span" in caplog.text
    assert span.attributes["gen_ai.tool.name"] == "look"
    assert "app.key" not in (exporter.get_finished_spans()[0].attributes or {})


class Watcher(SpanProcessor):
    """Writes to each span when it starts, as the one for baggage does, and notes what it sees."""

    def __init__(self, *, writes: bool = True) -> None:
        self.writes = writes
        self.seen: list[tuple[str, Any]] = []

    def on_start(self, span: SdkSpan, parent_context: Context | None = None) -> None:
        """Write."""
        self.seen.append(("start", parent_context))
        if self.writes:
            span.set_attribute("app.tenant", "t1")

    def _on_ending(self, span: SdkSpan) -> None:
        self.seen.append(("ending", dict(span.attributes or {})))

    def on_end(self, span: ReadableSpan) -> None:
        """Read."""
        self.seen.append(("end", dict(span.attributes or {})))


@pytest.mark.parametrize("writes", [True, False])
def test_processors_see_and_write(start: Start, provide: Provide, writes: bool) -> None:
    """A processor of any make hears of start and end in order, and what it writes is exported."""
    watcher = Watcher(writes=writes)
    exporter = provide(watcher)
    start()
    look()
    (_, context), (_, ending), (_, ended) = watcher.seen
    assert [what for what, _ in watcher.seen] == ["start", "ending", "end"]
    assert isinstance(context, Context)
    assert ending == ended == dict(exporter.get_finished_spans()[0].attributes or {})
    assert ended["gen_ai.tool.name"] == "look"
    assert ("app.tenant" in ended) is writes


class Chooser(Sampler):
    """Decides as it is told to, and adds an attribute."""

    def __init__(self, decision: Decision) -> None:
        self.decision = decision

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Any = None,
        links: Sequence[Link] | None = None,
        trace_state: Any = None,
    ) -> SamplingResult:
        """Decide."""
        return SamplingResult(
            self.decision, {**attributes, "sampler.rule": [name, kind.name if kind else ""]}
        )

    def get_description(self) -> str:
        """Name it."""
        return "chooser"


def test_a_sampler_may_add(start: Start, provide: Provide) -> None:
    """What a sampler hands back stands on the exported span, as the SDK would have it."""
    exporter = provide(sampler=Chooser(Decision.RECORD_AND_SAMPLE))
    start()
    look()
    (span,) = exporter.get_finished_spans()
    assert (span.attributes or {})["sampler.rule"] == ("execute_tool look", "INTERNAL")
    assert (span.attributes or {})["gen_ai.tool.name"] == "look"


def test_what_is_not_sampled_is_not_exported(start: Start, provide: Provide) -> None:
    """Dropped spans record nothing, recorded ones are not exported; the flags go on to children."""
    for decision, is_recording in ((Decision.DROP, False), (Decision.RECORD_ONLY, True)):
        exporter = provide(sampler=Chooser(decision))
        runtime = start()
        recording: list[bool] = []

        @agentguard.tool
        def step(recording: list[bool] = recording) -> TraceFlags:
            span = trace.get_current_span()
            recording.append(span.is_recording())
            return span.get_span_context().trace_flags

        assert not step().sampled
        assert recording == [is_recording]
        assert exporter.get_finished_spans() == ()
        assert len(spans(runtime)) >= 1


def test_a_parents_decision_holds(start: Start, provide: Provide) -> None:
    """The common sampler follows the application's own span around a call."""
    exporter = provide(sampler=ParentBased(ALWAYS_OFF))
    start()
    context = trace.set_span_in_context(trace.NonRecordingSpan(OTHER), Context())
    with trace.use_span(trace.get_current_span(context)):
        inside = look().get_span_context()
    assert (inside.trace_id, inside.trace_flags.sampled) == (OTHER.trace_id, True)
    assert not look().get_span_context().trace_flags.sampled
    assert len(exporter.get_finished_spans()) == 1


class Counted(RandomIdGenerator):
    """Gives ids that one can tell."""

    def generate_span_id(self) -> int:
        """Give the same one."""
        return 0xABCD

    def generate_trace_id(self) -> int:
        """Give the same one."""
        return 0xDCBA


def test_the_applications_ids(start: Start, provide: Provide) -> None:
    """Ids come from the generator of the provider: some backends want the time in them."""
    provide(id_generator=Counted())
    start()
    identity = look().get_span_context()
    assert (identity.trace_id, identity.span_id) == (0xDCBA, 0xABCD)


def test_flushed_means_exported(start: Start, provide: Provide) -> None:
    """What has ended is with the application's processor: its own flush brings it to the backend."""
    exporter = provide(is_batched=True)
    start()
    work()
    provider = trace.get_tracer_provider()
    assert isinstance(provider, TracerProvider)
    assert provider.force_flush(5_000)
    assert len(exporter.get_finished_spans()) == 5


def test_nothing_is_made_in_a_call(start: Start, provide: Provide, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that nobody looks into has the SDK construct nothing, and checks no attribute again."""
    made: list[object] = []
    begin = SdkSpan.__init__

    def noted(self: Any, *args: Any, **kwargs: Any) -> None:
        made.append(self)
        begin(self, *args, **kwargs)

    exporter = provide(is_batched=True)
    start()
    look()
    monkeypatch.setattr(SdkSpan, "__init__", noted)
    monkeypatch.setattr(LateRecord, "_complete", lambda record, _: made.append(record))
    work()
    assert made == []
    monkeypatch.undo()
    assert exporter.get_finished_spans() == ()


def test_two_threads_in_one_span(start: Start, provide: Provide) -> None:
    """Threads that write to one span at once make one of it, and nothing is lost."""
    exporter = provide()
    start()

    @agentguard.tool
    def step() -> None:
        span = trace.get_current_span()
        together = threading.Barrier(8)

        def write(number: int) -> None:
            together.wait()
            span.set_attribute(f"app.{number}", number)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    for _ in range(20):
        step()
    for span in exporter.get_finished_spans():
        assert {f"app.{number}" for number in range(8)} <= set(span.attributes or {})


def test_a_fork_in_the_middle(start: Start, provide: Provide) -> None:
    """A child that is forked while another thread makes a span waits for nobody: that thread does not live there."""
    provide()
    start()
    made, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with late_span._MAKING:
            made.set()
            go_on.wait(10.0)

    thread = threading.Thread(target=hold)
    thread.start()
    made.wait(10.0)
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        late_span._late_span(
            cast("Tracer", trace.get_tracer_provider().get_tracer("x")),
            "x",
            SpanKind.INTERNAL,
            OTHER,
            None,
            {},
        ).set_attribute("k", 1)
        os._exit(0)
    go_on.set()
    thread.join()
    assert os.waitpid(child, 0)[1] == 0


def test_a_copy_is_whole(start: Start, provide: Provide) -> None:
    """Exporters that redact copy a span first."""
    kept: list[ReadableSpan] = []

    class Copying(InMemorySpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> Any:
            kept.extend(copy.copy(span) for span in spans)
            return super().export(spans)

    provide(SimpleSpanProcessor(Copying()))
    start()
    look()
    (span,) = kept
    span._attributes = {"redacted": True}
    assert dict(span.attributes or {}) == {"redacted": True}
    assert span.name == "execute_tool look"
    assert not hasattr(span, "no_such_thing")


def test_attributes_that_cannot_be_read(provide: Provide, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of ours is reported, and does not reach the exporter."""
    exporter = provide()
    provider = trace.get_tracer_provider()
    late = late_tracer(provider.get_tracer("agentguard"))
    assert late is not None
    span = late.start_span("x", None, SpanKind.INTERNAL, {"known": 1})
    assert isinstance(span, LateSpan)
    reported: list[str] = []

    class Ended:
        name, start_unix_ns, duration_ns, events, status, status_description = "x", 1, 2, (), "ok", ""

        @property
        def attributes(self) -> dict[str, Any]:
            raise RuntimeError

        def report(self, where: str, error: BaseException) -> None:
            reported.append(where)

    assert span.end_late(Ended())
    (exported,) = exporter.get_finished_spans()
    assert dict(exported.attributes or {}) == {"known": 1}
    assert exported.status.status_code is StatusCode.OK
    assert set(reported) == {"capture.mirror"}


def test_tracers_that_are_not_replaced(provide: Provide, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tracer of another make, a version that is not known, and one that counts its spans begin their own."""
    provide()
    tracer = trace.get_tracer_provider().get_tracer("agentguard")
    assert late_tracer(tracer) is not None
    assert late_tracer(trace.NoOpTracer()) is None

    class Other(type(tracer)):  # type: ignore[misc] # an SDK tracer that somebody has built upon
        pass

    other = copy.copy(tracer)
    other.__class__ = Other
    assert late_tracer(other) is None
    monkeypatch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
    assert late_tracer(tracer) is None
    monkeypatch.undo()
    broken = copy.copy(tracer)
    del broken._span_limits  # type: ignore[attr-defined]
    assert late_tracer(broken) is None
    monkeypatch.setattr(ReadableSpan, "__init__", lambda self, **_: None)
    assert late_tracer(tracer) is None


def test_a_tracer_that_is_switched_off(
    start: Start, provide: Provide, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the SDK has disabled the tracer, its spans record nothing and ours are kept."""
    exporter = provide()
    runtime = start()
    look()
    tracer: Any = trace.get_tracer_provider().get_tracer(
        "agentguard", agentguard.__version__, schema_url="https://opentelemetry.io/schemas/1.41.0"
    )
    monkeypatch.setattr(type(tracer), "_is_enabled", lambda _: False)
    assert not look().is_recording()
    assert len(exporter.get_finished_spans()) == 1
    assert len(spans(runtime)) == 2


def test_processors_that_run_at_once(start: Start, provide: Provide) -> None:
    """A provider that calls its processors in threads of its own has the same."""
    exporter = provide(active_span_processor=ConcurrentMultiSpanProcessor(2))
    start()
    work()
    assert len(exporter.get_finished_spans()) == 5


def test_the_provider_may_change(start: Start, provide: Provide) -> None:
    """Each call goes to the provider that is the global one when it begins."""
    first = provide()
    start()
    look()
    second = provide()
    look()
    look()
    assert [len(exporter.get_finished_spans()) for exporter in (first, second)] == [1, 2]


# What the code makes today, and a little room; a span of the SDK takes three times as many.
CALLS_MORE_MAX = 54


def test_beside_an_sdk_a_call_stays_as_short_as_it_is(start: Start, provide: Provide) -> None:
    """The functions that a call runs more for a provider of the application are no more than they were."""
    runtime = start()
    runtime.flush(10.0)
    with agentguard.run():
        alone = calls_of(ask)
    provide(is_batched=True)
    with agentguard.run():
        beside = calls_of(ask)
    assert beside - alone <= CALLS_MORE_MAX


def test_beside_an_sdk_a_call_leaves_no_circles(start: Start, provide: Provide) -> None:
    """What stands for a call at the application's provider is gone once it is exported."""
    provide()
    runtime = start()
    gc.disable()
    try:
        for calls in (20, 200):
            for _ in range(calls):
                ask()
                look()
            runtime.flush(10.0)
            left = gc.collect()
        assert left < 50
    finally:
        gc.enable()
