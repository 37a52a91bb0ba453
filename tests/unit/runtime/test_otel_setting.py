"""The setting `otel`: who sees whom, in each of its values."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry import baggage, propagate, trace
from opentelemetry import context as otel_context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import Sampler, SamplingResult
from opentelemetry.util._once import Once

import agentguard
from agentguard.runtime import provider as own
from tests.unit.runtime.conftest import Start, spans

CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "m",
    "gen_ai.usage.input_tokens": 10,
    "gen_ai.usage.output_tokens": 5,
}


@pytest.fixture(autouse=True)
def no_provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process in which nobody has set a provider yet."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", Once())
    own._OWN.clear()
    yield
    own._OWN.clear()


@agentguard.tool
def headers() -> dict[str, str]:
    """What would be sent with a request from inside a call."""
    found: dict[str, str] = {}
    propagate.inject(found)
    return found


@agentguard.agent
def ask() -> str:
    """Let an SDK make a native span."""
    with trace.get_tracer("com.example.sdk").start_as_current_span("chat m", attributes=CHAT):
        return "answer"


def test_global_takes_in_native_spans(start: Start) -> None:
    """Without a provider of the application, native spans exist, are children of ours, and counted once."""
    runtime = start(otel="global")
    ask()
    provider = trace.get_tracer_provider()
    assert hasattr(provider, "add_span_processor")
    by_scope = {span.scope: span for span in spans(runtime)}
    assert set(by_scope) == {"agentguard", "com.example.sdk"}
    ours, native = by_scope["agentguard"], by_scope["com.example.sdk"]
    assert (native.parent_span_id, native.trace_id) == (ours.span_id, ours.trace_id)
    assert ours.attributes["agentguard.usage.total.input_tokens"] == 10


def test_global_leaves_the_applications_provider(start: Start) -> None:
    """Where there is one, it stays, and `global` is `auto`."""
    made = TracerProvider(shutdown_on_exit=False)
    trace.set_tracer_provider(made)
    runtime = start(otel="global")
    ask()
    assert trace.get_tracer_provider() is made
    assert {span.scope for span in spans(runtime)} == {"agentguard", "com.example.sdk"}


class BrokenSampler(Sampler):
    """Raises."""

    def should_sample(self, *_: object, **__: object) -> SamplingResult:
        raise RuntimeError

    def get_description(self) -> str:
        return "broken"


def test_a_broken_sampler_stops_no_call(start: Start) -> None:
    """A provider that cannot begin a span is told of in health; calls run, and are recorded by us."""
    trace.set_tracer_provider(TracerProvider(sampler=BrokenSampler(), shutdown_on_exit=False))
    runtime = start(strict=False)
    headers()
    (span,) = spans(runtime)
    assert (span.name, span.status) == ("execute_tool headers", "unset")
    assert runtime.health.counts == {"capture.mirror: RuntimeError": 1}


def test_global_outlives_a_shutdown(start: Start) -> None:
    """The provider is set once; the next runtime has it, the last one hears nothing more."""
    first = start(otel="global")
    provider = trace.get_tracer_provider()
    assert first.shutdown(5.0).is_complete
    with trace.get_tracer("com.example.sdk").start_as_current_span("chat m", attributes=CHAT):
        pass
    assert first.health.counts == {}
    second = start(otel="global")
    ask()
    assert trace.get_tracer_provider() is provider
    assert len(spans(second)) == 2


def test_global_keeps_what_upstream_decided(start: Start) -> None:
    """Under an unsampled remote parent native spans are recorded, and sent on as unsampled."""
    runtime = start(otel="global")
    context = propagate.extract({"traceparent": f"00-{0xC:032x}-{0xD:016x}-00"})
    token = otel_context.attach(context)
    try:
        ask()
        assert headers()["traceparent"].endswith("-00")
    finally:
        otel_context.detach(token)
    found = spans(runtime)
    assert {span.trace_id for span in found} == {f"{0xC:032x}"}
    assert "com.example.sdk" in {span.scope for span in found}


@pytest.mark.parametrize("mode", ["auto", "isolated", "global"])
def test_our_span_is_sent_on(start: Start, mode: str) -> None:
    """`propagate` inside a call names the call, and keeps the baggage of outside."""
    runtime = start(otel=mode)
    token = otel_context.attach(baggage.set_baggage("tenant", "t1"))
    try:
        sent = headers()
    finally:
        otel_context.detach(token)
    (span,) = spans(runtime)
    assert sent == {"traceparent": f"00-{span.trace_id}-{span.span_id}-01", "baggage": "tenant=t1"}


@pytest.mark.parametrize("mode", ["auto", "isolated", "global"])
def test_a_remote_caller_is_the_parent(start: Start, mode: str) -> None:
    """What `propagate.extract` found is the parent of the first call."""
    runtime = start(otel=mode)
    token = otel_context.attach(propagate.extract({"traceparent": f"00-{0xC:032x}-{0xD:016x}-01"}))
    try:
        headers()
    finally:
        otel_context.detach(token)
    (span,) = spans(runtime)
    assert (span.trace_id, span.parent_span_id) == (f"{0xC:032x}", f"{0xD:016x}")


def test_off_sees_and_shows_nothing(start: Start) -> None:
    """OpenTelemetry's current span is what it was; a remote parent and a provider are not looked at."""
    made = TracerProvider(shutdown_on_exit=False)
    trace.set_tracer_provider(made)
    runtime = start(otel="off")

    @agentguard.agent
    def outer() -> dict[str, str]:
        with agentguard.span("inside", kind="plan"):
            return headers()

    with made.get_tracer("app").start_as_current_span("request") as request:
        sent = outer()
    assert sent["traceparent"].split("-")[2] == f"{request.get_span_context().span_id:016x}"
    agent, plan, tool = sorted(spans(runtime), key=lambda span: span.start_unix_ns)
    assert agent.parent_span_id == ""
    assert agent.trace_id != f"{request.get_span_context().trace_id:032x}"
    assert (plan.parent_span_id, tool.parent_span_id) == (agent.span_id, plan.span_id)
    assert "agentguard.parent.foreign" not in tool.attributes


def test_off_takes_no_native_spans(start: Start) -> None:
    """What SDKs make for the application's provider stays the application's."""
    trace.set_tracer_provider(TracerProvider(shutdown_on_exit=False))
    runtime = start(otel="off")
    ask()
    assert [span.scope for span in spans(runtime)] == ["agentguard"]


def test_samplers_see_what_is_called(start: Start) -> None:
    """A provider's sampler is asked with the attributes that are known before the call."""
    seen: list[object] = []

    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    class Sampler(type(ALWAYS_ON)):  # type: ignore[misc]
        """Notes what it is asked."""

        def should_sample(self, *args: object, **kwargs: object) -> object:
            seen.append(kwargs.get("attributes") or args[4])
            return super().should_sample(*args, **kwargs)

    trace.set_tracer_provider(TracerProvider(sampler=Sampler(ALWAYS_ON._decision), shutdown_on_exit=False))
    start()
    headers()
    assert seen[0]["gen_ai.tool.name"] == "headers"  # type: ignore[index]
