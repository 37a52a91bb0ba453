"""Beside a provider of the application too, the fast path says exactly what the long way says, to it and to us."""

from __future__ import annotations

import contextvars
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)

import agentguard
from agentguard.runtime.active import ACTIVE
from agentguard.runtime.core import Runtime
from agentguard.runtime.runs import RUN_KEY
from tests.support.ids import SequentialIds
from tests.support.two_ways import World, normal, program_of, register_mood
from tests.unit.runtime.conftest import Start, spans

PROGRAMS = st.binary(min_size=1, max_size=150).map(program_of)


class Ids(IdGenerator):
    """Ids in sequence, so that the same spans are sampled both ways."""

    def __init__(self) -> None:
        self._ids = SequentialIds(1 << 30)
        self.draw = random.Random(1)

    def generate_span_id(self) -> int:
        """Give the next one."""
        return self._ids.span_id()

    def generate_trace_id(self) -> int:
        """Give the next one, with low bits at random, which is where samplers look."""
        return self._ids.trace_id() ^ self.draw.getrandbits(64)


class Heard(SpanProcessor):
    """Notes what a processor hears, in order."""

    def __init__(self, *, looks: bool = False, writes: bool = False, raises: bool = False) -> None:
        self.looks, self.writes, self.raises = looks, writes, raises
        self.heard: list[Any] = []

    def on_start(self, span: SdkSpan, parent_context: Context | None = None) -> None:
        """Note it, and, where it is told to, look at what is around it, and write to it."""
        self.heard.append(("start", *_ids_of(span.get_span_context())))
        if self.looks:
            self.heard.append(
                (
                    *_ids_of(trace.get_current_span(parent_context).get_span_context()),
                    dict(baggage.get_all(parent_context)),
                )
            )
            self.heard.append((span.name, span.kind.name, dict(span.attributes or {}), span.is_recording()))
        if self.writes:
            span.set_attribute("app.tenant", "t1")
        if self.raises and span.name.endswith(("read", "meth", " a")):
            raise RuntimeError

    def _on_ending(self, span: SdkSpan) -> None:
        self.heard.append(("ending", *_ids_of(span.get_span_context())))

    def on_end(self, span: ReadableSpan) -> None:
        """Note all of it, to be read later."""
        self.heard.append(("end", *_ids_of(span.context), _ids_of(span.parent)))
        self.heard.append(span)
        if self.raises and span.name.endswith(("write", "shared", " b", "-5")):
            raise RuntimeError

    def story(self) -> list[Any]:
        """What was heard; the spans are read now, long after they ended."""
        return [_shown(item) if isinstance(item, ReadableSpan) else item for item in self.heard]


def _ids_of(context: trace.SpanContext | None) -> tuple[Any, ...]:
    if context is None:
        return ()
    return (
        f"{context.trace_id:032x}",
        f"{context.span_id:016x}",
        int(context.trace_flags),
        context.trace_state.to_header(),
        context.is_remote,
    )


def _shown(span: ReadableSpan) -> Any:
    return (
        span.name, span.kind.name, dict(span.attributes or {}), span.status.status_code.name,
        span.status.description, [(event.name, dict(event.attributes or {})) for event in span.events],
        [_ids_of(link.context) for link in span.links], span.dropped_attributes,
    )  # fmt: skip


class Adding(Sampler):
    """Adds an attribute and a trace state, and records what it does not sample."""

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: Any = None,
        attributes: Any = None,
        links: Any = None,
        trace_state: Any = None,
    ) -> SamplingResult:
        """Decide by the trace."""
        decision = Decision.RECORD_ONLY if trace_id % 3 == 0 else Decision.RECORD_AND_SAMPLE
        state = trace.TraceState([("app", f"s{trace_id % 7}")])
        return SamplingResult(decision, {**attributes, "rule": len(attributes)} if attributes else {}, state)

    def get_description(self) -> str:
        """Name it."""
        return "adding"


class Broken(Adding):
    """Raises for some calls."""

    def should_sample(
        self, parent_context: Context | None, trace_id: int, name: str, *args: Any, **named: Any
    ) -> SamplingResult:
        """Decide, or raise: under another span, whose trace it is, so that asking twice changes no ids."""
        around = trace.get_current_span(parent_context).get_span_context()
        if around.is_valid and ("read" in name or "gpt" in name):
            raise RuntimeError
        return super().should_sample(parent_context, trace_id, name, *args, **named)


SAMPLERS: dict[str, Callable[[], Sampler]] = {
    "all": lambda: ParentBased(ALWAYS_ON),
    "some": lambda: ParentBased(TraceIdRatioBased(0.5)),
    "adding": Adding,
    "broken": Broken,
}


class Way:
    """A world, and the provider of the application that it runs in."""

    def __init__(self, world: World, sampler: Sampler, processor: Heard) -> None:
        self.world = world
        self.ids, self.processor = Ids(), processor
        self.provider = TracerProvider(sampler=sampler, id_generator=self.ids, shutdown_on_exit=False)
        self.provider.add_span_processor(self.processor)

    def play(self, program: Sequence[Any], pattern: Sequence[bool]) -> Any:
        """Run a program; what the store, the log and the application's processor have heard of it."""
        before = trace._TRACER_PROVIDER
        trace._TRACER_PROVIDER = self.provider
        self.processor.heard = []
        self.ids.draw.seed(1)
        try:
            ours = self.world.play(program, pattern)
        finally:
            trace._TRACER_PROVIDER = before
        return ours, normal(self.processor.story())


Pair = tuple[Way, Way]
KINDS = ["all", "some", "adding", "broken", "looks", "writes", "raises"]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Pair]]:
    """Ways in pairs, the first with the fast path."""
    register_mood()
    kinds: dict[str, tuple[str, str]] = {
        "all": ("all", ""), "some": ("some", ""), "adding": ("adding", ""), "broken": ("broken", ""),
        "looks": ("all", "looks"), "writes": ("some", "writes"), "raises": ("some", "raises"),
        "stored": ("adding", ""),
    }  # fmt: skip
    made: dict[str, Pair] = {}
    for name, (sampler, does) in kinds.items():
        fast, slow = (
            Way(
                World(
                    tmp_path_factory.mktemp(name),
                    is_fast=is_fast,
                    rules="agents",
                    is_real=name == "stored",
                    strict=False,
                ),
                SAMPLERS[sampler](),
                Heard(**({does: True} if does else {})),
            )
            for is_fast in (True, False)
        )
        made[name] = fast, slow
    yield made
    for pair in made.values():
        for way in pair:
            way.world.close()
            way.provider.shutdown()
    ACTIVE.runtime, ACTIVE.is_off = None, False


def _check(pair: Pair, seeds: range) -> None:
    """Compare two ways in programs drawn at random, then in those that hypothesis thinks of."""
    fast, slow = pair
    for seed in seeds:
        draw = random.Random(seed)
        program = program_of(draw.randbytes(draw.choice([10, 40, 100, 200])))
        pattern = [draw.random() < 0.5 for _ in range(5)]
        assert fast.play(program, pattern) == slow.play(program, pattern), seed

    @settings(max_examples=len(seeds))
    @given(PROGRAMS)
    def check(program: Any) -> None:
        assert fast.play(program, (False, True)) == slow.play(program, (False, True))

    check()


@pytest.mark.parametrize("name", KINDS)
def test_beside_a_provider_both_ways_say_the_same(pairs: dict[str, Pair], name: str) -> None:
    """What is recorded, and what the application's processors hear, is the same both ways."""
    fast, slow = pairs[name]
    _check(pairs[name], range(60))
    assert slow.world.fast_calls == 0
    assert fast.world.fast_calls > fast.world.calls // 20


def test_beside_a_provider_the_store_keeps_the_same(pairs: dict[str, Pair]) -> None:
    """What is read back from the disk is the same too, trace states included: the writer reads it by another way."""
    _check(pairs["stored"], range(15))


@pytest.mark.long
@pytest.mark.parametrize("name", KINDS)
def test_beside_a_provider_both_ways_agree_in_many_programs(pairs: dict[str, Pair], name: str) -> None:
    """The same of many more programs."""
    _check(pairs[name], range(100, 400))


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """An SDK provider as the global one; what it exports is in the memory."""
    kept = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    yield kept
    provider.shutdown()


def _shapes(runtime: Runtime) -> list[str]:
    """Say of each span that is recorded from now on of which class it is: calls that have grown give another one."""
    found: list[str] = []
    keep = runtime.environment.sink

    def note(span: Any) -> None:
        found.append(type(span).__name__)
        keep(span)

    runtime.environment.sink = note
    return found


def test_who_looks_around_sees_the_providers_span(start: Start, exporter: InMemorySpanExporter) -> None:
    """The current span inside a call is the provider's; reading it, baggage or another value costs no second object."""
    shapes = _shapes(start())

    @agentguard.tool
    def look() -> tuple[Any, object, object]:
        assert otel_context.get_value("nothing", otel_context.get_current()) is None
        return trace.get_current_span(), baggage.get_baggage("tenant"), agentguard_run()

    token = otel_context.attach(baggage.set_baggage("tenant", "t1"))
    try:
        with agentguard.run() as run:
            seen = [look() for _ in range(3)]
    finally:
        otel_context.detach(token)
    assert shapes == ["Span", "FastCall", "FastCall"]
    for (span, tenant, around), exported in zip(seen, exporter.get_finished_spans(), strict=True):
        assert (tenant, around) == ("t1", run)
        assert isinstance(span, SdkSpan)
        assert span.get_span_context() == exported.context
        assert dict(span.attributes or {}) == dict(exported.attributes or {})


def agentguard_run() -> object:
    """Give the run that is current."""
    return otel_context.get_current().get(RUN_KEY)


def test_a_context_that_is_kept_names_the_call(start: Start, exporter: InMemorySpanExporter) -> None:
    """What goes on in a call's context after its end is under that call, though its span takes nothing any more."""
    runtime = start()

    @agentguard.tool
    def inner() -> None:
        pass

    @agentguard.tool
    def work() -> contextvars.Context:
        return contextvars.copy_context()

    for call in (inner, work, inner, work):
        kept = call()
    assert kept is not None
    span = kept.run(trace.get_current_span)
    kept.run(inner)
    *_, ended, late = exporter.get_finished_spans()
    assert span.get_span_context() == ended.context == late.parent
    assert not span.is_recording()
    assert spans(runtime)[-1].parent_span_id == f"{span.get_span_context().span_id:016x}"


def test_native_spans_inside_are_counted_once(start: Start, exporter: InMemorySpanExporter) -> None:
    """A native span in a call on the fast path is its child, and its tokens are the call's."""
    runtime = start()
    tracer = trace.get_tracer("com.example.sdk")
    said: dict[str, Any] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 5,
    }

    @agentguard.model(model="m", provider="example")
    def ask(*, is_native: bool) -> str:
        if is_native:
            with tracer.start_as_current_span("chat m", attributes=said):
                pass
        return "answer"

    ask(is_native=False)
    ask(is_native=True)
    ours, native = (
        [span for span in spans(runtime) if span.scope == scope]
        for scope in ("agentguard", "com.example.sdk")
    )
    (asked,) = (span for span in ours if span.attributes.get("gen_ai.usage.input_tokens") == 10)
    assert [(span.parent_span_id, span.attributes.get("gen_ai.usage.input_tokens")) for span in native] == [
        (asked.span_id, None)
    ]
    mirrored = {
        span.context.span_id: span for span in exporter.get_finished_spans() if span.context is not None
    }
    assert (mirrored[int(asked.span_id, 16)].attributes or {})["gen_ai.usage.input_tokens"] == 10
