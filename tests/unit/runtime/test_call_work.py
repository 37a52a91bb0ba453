"""
What one governed call makes the calling thread do: counted, never timed.

Calls of Python functions are counted, in the steady state. They are the same on
every machine, and go up with whatever is added to the path of each call.
"""

from __future__ import annotations

import gc
import sys
from collections import deque
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

import agentguard

from .conftest import Start

RULES = """
- id: A-1
  title: Refunds over the limit
  at: tool.before
  when: tool.name == 'refund' && args.amount_usd > 100.0
  then: deny
- id: A-2
  title: Known models only
  at: model.before
  when: "!(model.name in ['gpt-5'])"
  then: deny
"""

ANSWER = {
    "id": "c-1", "model": "gpt-5", "choices": [{"finish_reason": "stop"}],
    "usage": {"prompt_tokens": 12, "completion_tokens": 9},
}  # fmt: skip

CHUNKS = [
    {"choices": [{"delta": {"content": "a word"}, "finish_reason": None}], "id": "c-1", "model": "gpt-5"},
    {**ANSWER, "choices": []},
]

# What the code makes today, and a little room. Raise a number only with a reason that the reader of the log learns.
CALLS_MAX = {"tool": 24, "model": 26, "tool generator": 32, "model generator": 41, "model stream": 47}

_ASIDE = frozenset({"_call_thread", "_append_slowly", "_wake_up", "_wake"})
"""Waking a thread: whether it is needed depends on the moment."""


def _calls_of(function: Callable[[], object]) -> int:
    """Count the Python functions that are called, those that wake a thread left out; the least of many runs."""
    fewest = sys.maxsize
    for _ in range(30):
        count = depth = aside = 0

        def watch(frame: FrameType, event: str, _: Any) -> None:
            nonlocal count, depth, aside
            if event == "call":
                depth += 1
                if not aside and frame.f_code.co_name in _ASIDE:
                    aside = depth
                count += not aside
            elif event == "return":
                if aside == depth:
                    aside = 0
                depth -= 1

        before = sys.getprofile()
        gc.disable()
        sys.setprofile(watch)
        try:
            function()
        finally:
            sys.setprofile(before)
            gc.enable()
        fewest = min(fewest, count)
    return fewest


@pytest.mark.parametrize("kind", CALLS_MAX)
def test_a_governed_call_stays_as_short_as_it_is(start: Start, kind: str) -> None:
    """The functions that a governed call makes the calling thread run are no more than they were."""
    runtime = start(RULES)

    @agentguard.tool(effect="write")
    def refund(order: str, amount_usd: float) -> str:
        return order

    @agentguard.model(provider="openai", model="gpt-5")
    def ask(question: str) -> dict[str, Any]:
        return ANSWER

    @agentguard.tool(effect="read")
    def lines(order: str) -> Iterator[str]:
        yield from ("one", "two")

    @agentguard.model(provider="openai", model="gpt-5")
    def tell(question: str) -> Iterator[Any]:
        yield from CHUNKS

    @agentguard.model(provider="openai", model="gpt-5")
    def stream(question: str) -> Iterator[Any]:
        return iter(CHUNKS)

    kinds: dict[str, Callable[[], object]] = {
        "tool": lambda: refund("o-1", amount_usd=5.0),
        "model": lambda: ask("?"),
        "tool generator": lambda: deque(lines("o-1"), 0),
        "model generator": lambda: deque(tell("?"), 0),
        "model stream": lambda: deque(stream("?"), 0),
    }
    runtime.flush(10.0)
    with agentguard.run():
        made = _calls_of(kinds[kind])
    assert made <= CALLS_MAX[kind]


def test_a_call_leaves_no_circles(start: Start) -> None:
    """What a call has made is gone once it is written, without the collector of the interpreter."""
    runtime = start(RULES)

    @agentguard.agent
    def answer() -> str:
        return refund("o-1", amount_usd=5.0)

    @agentguard.tool(effect="write")
    def refund(order: str, amount_usd: float) -> str:
        return order

    def left(calls: int) -> int:
        for _ in range(calls):
            answer()
        runtime.flush(10.0)
        return gc.collect()

    gc.disable()
    try:
        left(20)
        assert left(200) < 50
    finally:
        gc.enable()
