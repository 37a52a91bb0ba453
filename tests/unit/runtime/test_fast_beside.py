"""Beside a provider of the application too, the fast path says exactly what the long way says, to it and to us."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import baggage, trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)

from agentguard.runtime.active import ACTIVE
from tests.support.ids import SequentialIds
from tests.support.two_ways import World, normal, program_of, register_mood

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

    def __init__(self, *, looks: bool, writes: bool) -> None:
        self.looks, self.writes = looks, writes
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

    def _on_ending(self, span: SdkSpan) -> None:
        self.heard.append(("ending", *_ids_of(span.get_span_context())))

    def on_end(self, span: ReadableSpan) -> None:
        """Note all of it."""
        self.heard.append(("end", *_ids_of(span.context), _ids_of(span.parent)))
        self.heard.append(span)

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


SAMPLERS: dict[str, Callable[[], Sampler]] = {
    "all": lambda: ParentBased(ALWAYS_ON),
    "some": lambda: ParentBased(TraceIdRatioBased(0.5)),
    "adding": Adding,
}


class Way:
    """A world, and the provider of the application that it runs in."""

    def __init__(self, world: World, sampler: Sampler, *, looks: bool, writes: bool) -> None:
        self.world = world
        self.ids = Ids()
        self.processor = Heard(looks=looks, writes=writes)
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


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Pair]]:
    """Ways in pairs, the first with the fast path."""
    register_mood()
    kinds: dict[str, dict[str, Any]] = {
        "all": {"sampler": "all"},
        "some": {"sampler": "some"},
        "adding": {"sampler": "adding"},
        "looks": {"sampler": "all", "looks": True},
        "writes": {"sampler": "some", "writes": True},
    }
    made: dict[str, Pair] = {}
    for name, kind in kinds.items():
        fast, slow = (
            Way(
                World(tmp_path_factory.mktemp(name), is_fast=is_fast, rules="usual"),
                SAMPLERS[kind["sampler"]](),
                looks=kind.get("looks", False),
                writes=kind.get("writes", False),
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


@pytest.mark.parametrize("name", ["all", "some", "adding", "looks", "writes"])
def test_beside_a_provider_both_ways_say_the_same(pairs: dict[str, Pair], name: str) -> None:
    """What is recorded, and what the application's processors hear, is the same both ways."""
    fast, slow = pairs[name]
    _check(pairs[name], range(20))
    assert slow.world.fast_calls == 0
    assert fast.world.fast_calls > 0


@pytest.mark.long
@pytest.mark.parametrize("name", ["all", "some", "adding", "looks", "writes"])
def test_beside_a_provider_both_ways_agree_in_many_programs(pairs: dict[str, Pair], name: str) -> None:
    """The same of many more programs."""
    _check(pairs[name], range(100, 400))
