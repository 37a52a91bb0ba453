"""Calls in flight on each span; throughput against concurrency, and where it bends."""

from __future__ import annotations

import heapq
import os
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentguard.capture import CaptureEnvironment, Load, LoadCurve, Span, load_curve
from agentguard.values import SpanRecord
from tests.support.clock import FrozenClock
from tests.support.ids import SequentialIds


@pytest.fixture
def environment(clock: FrozenClock, on_internal_error: Any) -> CaptureEnvironment:
    """One that keeps nothing."""
    return CaptureEnvironment(
        clock=clock, ids=SequentialIds(), sink=lambda _s: None, on_internal_error=on_internal_error
    )


def in_flight(span: Span) -> object:
    """What the span says."""
    return span.attributes["agentguard.load.in_flight"]


def test_calls_of_one_kind_are_counted_together(environment: CaptureEnvironment) -> None:
    """Each says how many there were when it began; an agent around them is another kind."""
    Span(environment, "a", "agent")
    first, second = Span(environment, "c", "model"), Span(environment, "c", "model")
    assert (in_flight(first), in_flight(second)) == (1, 2)
    first.end()
    first.end()
    assert in_flight(Span(environment, "c", "model")) == 2
    second.discard()
    second.end()
    assert in_flight(Span(environment, "c", "model")) == 2


def test_a_discarded_call_is_heard_of_nowhere(clock: FrozenClock, on_internal_error: Any) -> None:
    """Neither the sink nor the mirror hear of it, and it takes nothing more."""
    seen: list[object] = []
    environment = CaptureEnvironment(
        clock=clock, ids=SequentialIds(), sink=seen.append, on_internal_error=on_internal_error
    )
    span = Span(environment, "t", "tool")
    span.discard()
    span.discard()
    span.end()
    assert not span.is_recording()
    assert (seen, environment.in_flight) == ([], {"tool": 0})


def test_kinds_do_not_fill_the_memory(environment: CaptureEnvironment) -> None:
    """A kind that is made up for each call leaves nothing behind."""
    for number in range(500):
        Span(environment, "x", f"kind {number}").end()
    assert len(environment.in_flight) <= 66


def test_no_count_is_lost_between_threads(environment: CaptureEnvironment) -> None:
    """After many calls on many threads none is in flight."""

    def work() -> None:
        for _ in range(2_000):
            Span(environment, "t", "tool").end()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert environment.in_flight == {"tool": 0}


def test_a_forked_child_begins_with_none(environment: CaptureEnvironment) -> None:
    """Calls of the parent do not run in the child; one that ends there counts no deeper than 0."""
    span = Span(environment, "t", "tool")
    child = os.fork()
    if child == 0:
        is_empty = environment.in_flight == {}
        span.end()
        first = Span(environment, "t", "tool")
        os._exit(0 if is_empty and in_flight(first) == 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert environment.in_flight == {"tool": 1}


def test_one_load_for_several_environments(clock: FrozenClock, on_internal_error: Any) -> None:
    """Calls that are kept and calls that are not compete for the same thing."""
    load = Load()
    kept, silent = (
        CaptureEnvironment(
            clock=clock,
            ids=SequentialIds(),
            sink=lambda _s: None,
            on_internal_error=on_internal_error,
            load=load,
        )
        for _ in range(2)
    )
    Span(kept, "t", "tool")
    assert in_flight(Span(silent, "t", "tool")) == 2


def span(start_s: float, duration_s: float) -> SpanRecord:
    """One finished call."""
    return SpanRecord(
        "1" * 32, "2" * 16, "", "chat", "model", "client", round(start_s * 1e9), round(duration_s * 1e9), "unset", "", {}
    )  # fmt: skip


def closed_system(
    clients: int, seconds: float, service_s: Callable[[int], float], seed: int, start_s: float = 0.0
) -> list[SpanRecord]:
    """So many clients, each asking again when answered; a call takes as long as the load says."""
    generator = random.Random(seed)
    spans, running = [], [(start_s, start_s)] * 0
    for _ in range(clients):
        length = service_s(clients) * generator.uniform(0.8, 1.2)
        heapq.heappush(running, (start_s + length, start_s))
    while running:
        end_s, begun_s = heapq.heappop(running)
        spans.append(span(begun_s, end_s - begun_s))
        if end_s < start_s + seconds:
            heapq.heappush(running, (end_s + service_s(clients) * generator.uniform(0.8, 1.2), end_s))
    return spans


def sweep(service_s: Callable[[int], float], clients: range, seed: int = 3) -> LoadCurve:
    """One measured stretch for each number of clients."""
    spans: list[SpanRecord] = []
    for number, count in enumerate(clients):
        spans += closed_system(count, 30.0, service_s, seed + number, start_s=number * 1_000.0)
    random.Random(seed).shuffle(spans)
    return load_curve(spans)


def test_levels_of_a_small_example() -> None:
    """Two calls overlap for one second: times, ends and Little's law by hand."""
    curve = load_curve([span(0, 2), span(1, 2)])
    assert [(level.concurrency, level.seconds, level.calls) for level in curve.levels] == [
        (1, 2.0, 1),
        (2, 1.0, 1),
    ]
    assert [level.throughput_per_s for level in curve.levels] == [0.5, 1.0]
    assert [level.latency_s for level in curve.levels] == [2.0, 2.0]
    assert (curve.bend, curve.throughput_max_per_s) == (None, None)


def test_back_to_back_calls_do_not_overlap() -> None:
    """One that ends when another begins is not beside it."""
    assert [level.concurrency for level in load_curve([span(0, 1), span(1, 1), span(2, 0)]).levels] == [1]


def test_a_server_of_eight_workers_bends_at_eight() -> None:
    """Up to eight at once each takes its 0.1 s; beyond, they queue."""
    curve = sweep(lambda n: 0.1 * max(n, 8) / 8, range(1, 25))
    assert curve.bend is not None
    assert 6 <= curve.bend <= 11
    assert curve.throughput_max_per_s == pytest.approx(80, rel=0.2)


def test_one_worker_bends_at_once() -> None:
    """A lock around everything: throughput never rises."""
    curve = sweep(lambda n: 0.1 * n, range(1, 9))
    assert curve.bend in {1, 2}
    assert curve.throughput_max_per_s == pytest.approx(10, rel=0.2)


def test_a_system_that_gets_worse() -> None:
    """Calls that get in each other's way: the bend is below the top."""
    curve = sweep(lambda n: 0.05 * (1 + 0.02 * (n - 1) + 0.01 * n * (n - 1)), range(1, 30))
    assert curve.bend is not None
    assert 3 <= curve.bend <= 12


def test_free_growth_has_no_bend() -> None:
    """Nothing is shared: more calls, more throughput, as far as was seen."""
    assert sweep(lambda _n: 0.1, range(1, 16)).bend is None


def test_too_little_has_no_bend() -> None:
    """Few calls, few levels, or levels of moments say nothing."""
    assert sweep(lambda n: 0.1 * n, range(1, 3)).bend is None
    assert load_curve([span(number * 0.001, 0.01) for number in range(50)]).bend is None


@given(
    st.lists(
        st.tuples(st.integers(0, 10**10), st.integers(0, 10**9)).map(
            lambda pair: span(pair[0] / 1e9, pair[1] / 1e9)
        ),
        max_size=60,
    )
)
def test_times_and_calls_add_up(spans: list[SpanRecord]) -> None:
    """Over all levels: the ends are the calls that have a length, the weighted time is their sum."""
    levels = load_curve(spans).levels
    assert sum(level.calls for level in levels) <= sum(span.duration_ns > 0 for span in spans)
    weighted_s = sum(level.concurrency * level.seconds for level in levels)
    assert weighted_s == pytest.approx(sum(span.duration_ns for span in spans) / 1e9, abs=1e-6)
