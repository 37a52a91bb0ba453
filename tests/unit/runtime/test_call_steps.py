"""What a governed call does before its function runs: so many steps of the interpreter, and no more."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

import agentguard

from .conftest import Start

RULES = """
- {id: S-1, title: Much, at: tool.before, when: "tool.name == 'refund' && args.amount_usd > 100.0", then: deny}
- {id: S-2, title: Often, at: tool.before, when: "tool.effect != 'read' && run.tool_calls > 1000000", then: deny}
- {id: S-3, title: At once, at: tool.before, when: "tool.calls_5m > 1000000", then: deny}
- {id: S-4, title: Models, at: model.before, when: "!(model.name in ['gpt-5', 'gpt-5-mini'])", then: deny}
- {id: S-5, title: Other tools, at: tool.before, when: "tool.name == 'other' && args.amount_usd > 1.0", then: deny}
"""
STEPS_MAX = {"tool": 540, "model": 380, "agent": 480}
"""A few more than they are on Python 3.11; others count a little otherwise."""
OFTEN = 300
"""Calls after which nothing about the next one is new."""


def refund(order_id: str, amount_usd: float) -> str:
    """Be a tool."""
    return f"{order_id} {amount_usd}"


def ask(question: str) -> str:
    """Be a model."""
    return question


def work() -> None:
    """Be an agent."""


def _steps(call: Callable[[], object], function: Any) -> int:
    """Count the steps of a call until its function begins."""
    steps, is_over = 0, False

    def watch(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal steps, is_over
        frame.f_trace = watch  # Python 3.13 counts nothing in a frame that asks for it before.
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        is_over = is_over or frame.f_code is function.__code__
        steps += event == "opcode" and not is_over
        return watch

    before = sys.gettrace()
    sys.settrace(watch)
    try:
        call()
    finally:
        sys.settrace(before)
    assert is_over
    return steps


def _fewest(call: Callable[[], object], function: Any) -> int:
    """The count of most calls: one now and then wakes a thread, or looks for orders of the kill switch."""
    return min(_steps(call, function) for _ in range(10))


@pytest.mark.parametrize("kind", STEPS_MAX)
def test_what_a_call_does_before_its_function(start: Start, kind: str) -> None:
    """With rules that read arguments, counters and rates; whoever makes it longer says why."""
    start(RULES)
    calls: dict[str, tuple[Callable[[], object], Any]] = {}
    tool, model = agentguard.tool(effect="write")(refund), agentguard.model(model="gpt-5")(ask)
    calls["tool"] = (lambda: tool("o-17", amount_usd=12.5)), refund
    calls["model"] = (lambda: model("which?")), ask
    calls["agent"] = agentguard.agent(work), work
    call, function = calls[kind]

    @agentguard.agent
    def around(work: Callable[[], int]) -> int:
        return work()

    def often() -> int:
        for _ in range(OFTEN):
            call()
        return 0

    def measured() -> int:
        return _fewest(call, function)

    if kind == "agent":
        steps = often() + measured()
    else:
        # The first calls of each are no short ones, and the agent around them is one that somebody asked for.
        around(often)
        steps = around(often) + around(measured)
    assert 100 < steps <= STEPS_MAX[kind]
