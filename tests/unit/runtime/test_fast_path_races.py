"""Calls on the fast path while other threads begin and end calls, and look at those that are ending."""

from __future__ import annotations

import contextvars
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import agentguard
from agentguard.capture import Span
from agentguard.runtime.core import Runtime
from agentguard.runtime.fast_call import FastCall

from .conftest import Start, decisions, spans

RULES = """
- {id: A-1, title: Much, at: tool.before, when: "args.x > 1000000000", then: deny}
"""

ANSWER = {"model": "gpt-5", "usage": {"prompt_tokens": 2, "completion_tokens": 3}}


@pytest.fixture(autouse=True)
def switching() -> Iterator[None]:
    """Threads take turns as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def _together(*works: Callable[[], object]) -> None:
    """Run each in a thread of its own; what one raises is raised here."""
    errors: list[BaseException] = []

    def run(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.mark.parametrize("calls", [1_500, pytest.param(20_000, marks=pytest.mark.long)])
def test_nothing_is_counted_twice_or_lost(start: Start, calls: int) -> None:
    """Calls in flight, counters of the run, rates, and tokens of the agent around them come out exactly."""
    runtime = start(RULES, queue_bytes_max=1 << 30)
    threads = 4

    @agentguard.tool(name="count")
    def count(x: int) -> int:
        return x

    @agentguard.model(model="gpt-5")
    def ask(x: int) -> dict[str, Any]:
        return ANSWER

    @agentguard.agent(name="many")
    def many() -> None:
        contexts = [contextvars.copy_context() for _ in range(threads)]
        # One of those who are counted at looks at the agent's span meanwhile: from then on it is another object.
        _together(*(lambda context=context: context.run(work) for context in contexts))  # type: ignore[misc]

    def work() -> None:
        for number in range(calls // 2):
            count(number)
            ask(number)
        assert agentguard.current() is not None

    runtime.environment.sink = lambda _: None
    count(1), ask(1), many.__name__
    with agentguard.run() as run:
        many()
        first = run.calls
        many()
    assert first == 1 + threads * 2 * (calls // 2)
    assert (run.calls, run.tool_calls, run.model_calls) == (2 * first, first - 1, first - 1)
    assert run.tokens == (first - 1) * 5
    assert not any(runtime.environment.in_flight.values()), runtime.environment.in_flight
    assert runtime.state.rates.calls("count", 300.0) == first


def _race(runtime: Runtime, tries: int) -> tuple[list[Span], int]:
    """Make calls, and have each looked at by another thread while it ends; gives the spans seen, and how many fast."""
    posted: list[contextvars.Context] = []
    seen: list[Span] = []
    fast = 0
    is_over = False
    sink = runtime.environment.sink

    def counting(source: Any) -> object:
        nonlocal fast
        fast += type(source) is FastCall
        return sink(source)

    runtime.environment.sink = counting

    @agentguard.tool(name="race")
    def race(x: int) -> int:
        if x % 10 == 0:
            return x  # Nobody looks.
        posted.append(contextvars.copy_context())
        if x % 10 == 1:
            while posted:
                time.sleep(0)  # Somebody is looking, or has just done so.
        for _ in range(x % 97):
            pass
        return x

    def look() -> None:
        span = agentguard.current()
        assert span is not None
        span.set("own.seen", 1)
        seen.append(span)

    def looker() -> None:
        while not is_over or posted:
            try:
                context = posted.pop()
            except IndexError:
                continue
            context.run(look)

    def caller() -> None:
        nonlocal is_over
        try:
            for number in range(tries):
                race(number)
        finally:
            is_over = True

    _together(caller, looker)
    return seen, fast


def _check_race(runtime: Runtime, tries: int) -> None:
    seen, fast = _race(runtime, tries)
    assert not [span for span in seen if span.is_recording()], "a span that nobody ends"
    assert not any(runtime.environment.in_flight.values())
    kept = spans(runtime)
    assert len(kept) == len({span.span_id for span in kept}) == tries
    admitted = Counter(
        stored.record.call_id for stored in decisions(runtime) if stored.record.point != "outcome"
    )
    ended = Counter(stored.record.call_id for stored in decisions(runtime) if stored.record.outcome)
    assert admitted == ended == Counter(span.span_id for span in kept)
    # Both have happened, or there was no race.
    assert 0 < fast < tries - 1


@pytest.mark.parametrize("tries", [3_000, pytest.param(40_000, marks=pytest.mark.long)])
def test_a_look_at_a_call_that_ends(start: Start, tries: int) -> None:
    """Either the call ends and the look finds a span that is over, or it has grown and ends as that: never both."""
    _check_race(start(RULES, queue_bytes_max=1 << 30), tries)


def test_without_the_tie_break_the_race_is_lost(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where two threads may both be the one that ends a call, the check above sees it."""
    runtime = start(RULES)

    class Always:
        """A slot that is there whoever deletes it."""

        def __get__(self, call: Any, _: Any = None) -> object:
            return self

        def __set__(self, call: Any, value: object) -> None:
            """Be there."""

        def __delete__(self, call: Any) -> None:
            """Be there still."""

    monkeypatch.setattr(FastCall, "is_open", Always(), raising=False)
    with pytest.raises(AssertionError):
        _check_race(runtime, 3_000)
