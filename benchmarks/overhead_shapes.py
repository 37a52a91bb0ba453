"""
What every shape of call costs beside the plain function, and what it costs to be off.

    python benchmarks/overhead_shapes.py [--rounds 15] [--only shapes,off]

shapes   the same tool or model as a function, a method, a coroutine, a generator, an asynchronous
         generator, and as a function that returns a stream such as clients of models do. All in one
         process, by turns, against the undecorated one of the same shape; CPU of the calling thread.
         Steps are told from the call by runs with few and with many of them.
off      what a decorator leaves behind with AGENTGUARD_ENABLED=0.

Figures are medians; ratios are of one round, so that a busy machine slows both sides.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from overhead_parts import ANSWER, Report, median, parser_of, refund, run_arm, say, start_governed

PARTS = ("shapes", "off")
FEW, MANY = 4, 104
CALLS = 400
SHAPE_BAR, STEP_BAR_US, OFF_BAR_US = 1.5, 1.0, 0.3


def as_object(value: Any) -> Any:
    """Make objects of dicts, as clients give them."""
    if isinstance(value, dict):
        return SimpleNamespace(**{name: as_object(inner) for name, inner in value.items()})
    return [as_object(inner) for inner in value] if isinstance(value, list) else value


CHUNK = as_object(
    {
        "choices": [{"delta": {"content": "a word "}, "finish_reason": None}],
        "usage": None,
        "id": ANSWER["id"],
        "model": ANSWER["model"],
    }
)
"""Has the fields that those of clients have."""
LAST, WHOLE = as_object({**ANSWER, "choices": []}), as_object(ANSWER)
"""Of a stream and of a function: they say the same of the usage, so that the two differ by their shape alone."""


class Stream:
    """What a client of a model returns: an iterator with a `close`, sync or async."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        self._left -= 1
        if self._left < 0:
            raise StopIteration
        return CHUNK if self._left else LAST

    def close(self) -> None:
        """Nothing to close."""


class AsyncStream:
    """The same for coroutines."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        self._left -= 1
        if self._left < 0:
            raise StopAsyncIteration
        return CHUNK if self._left else LAST

    async def close(self) -> None:
        """Nothing to close."""


# All shapes of a kind take the same arguments, of which some have no use for the number of steps.


def refund_once(order_id: str, amount_usd: float, steps: int) -> str:  # noqa: ARG001
    return refund(order_id, amount_usd)


class Desk:
    """Holds methods."""

    def refund(self, order_id: str, amount_usd: float, steps: int) -> str:  # noqa: ARG002
        """As the function."""
        return refund(order_id, amount_usd)


async def refund_async(order_id: str, amount_usd: float, steps: int) -> str:  # noqa: ARG001
    return refund(order_id, amount_usd)


def ask_once(question: str, steps: int) -> Any:  # noqa: ARG001
    return WHOLE


async def ask_async(question: str, steps: int) -> Any:  # noqa: ARG001
    return WHOLE


def refunds(order_id: str, amount_usd: float, steps: int) -> Iterator[Any]:  # noqa: ARG001 - a policy reads it
    for _ in range(steps):
        yield order_id


async def refunds_async(order_id: str, amount_usd: float, steps: int) -> AsyncIterator[Any]:  # noqa: ARG001
    for _ in range(steps):
        yield order_id


def tell(_: str, steps: int) -> Iterator[Any]:
    for number in range(steps, 0, -1):
        yield CHUNK if number > 1 else LAST


async def tell_async(_: str, steps: int) -> AsyncIterator[Any]:
    for number in range(steps, 0, -1):
        yield CHUNK if number > 1 else LAST


def stream(_: str, steps: int) -> Stream:
    return Stream(steps)


async def stream_async(_: str, steps: int) -> AsyncStream:
    return AsyncStream(steps)


# One batch of calls for each way of calling -------------------------------------


def by_call(function: Callable[..., Any], arguments: tuple[Any, ...], count: int) -> None:
    for _ in range(count):
        function(*arguments)


def by_loop(function: Callable[..., Any], arguments: tuple[Any, ...], count: int) -> None:
    for _ in range(count):
        for _ in function(*arguments):
            pass


async def by_await(function: Callable[..., Any], arguments: tuple[Any, ...], count: int) -> None:
    for _ in range(count):
        await function(*arguments)


async def by_async_loop(function: Callable[..., Any], arguments: tuple[Any, ...], count: int) -> None:
    for _ in range(count):
        async for _ in function(*arguments):
            pass


async def by_awaited_loop(function: Callable[..., Any], arguments: tuple[Any, ...], count: int) -> None:
    for _ in range(count):
        async for _ in await function(*arguments):
            pass


TOOL, MODEL = ("o-17", 12.5), ("which order?",)
"""To which the number of steps is added."""
SHAPES: dict[str, tuple[str, str, Callable[..., Any], Callable[..., Any]]] = {
    "tool: function": ("tool", "", refund_once, by_call),
    "tool: method": ("tool", "", Desk.refund, by_call),
    "tool: coroutine": ("tool", "", refund_async, by_await),
    "tool: generator": ("tool", "steps", refunds, by_loop),
    "tool: async generator": ("tool", "steps", refunds_async, by_async_loop),
    "model: function": ("model", "", ask_once, by_call),
    "model: coroutine": ("model", "", ask_async, by_await),
    "model: generator": ("model", "steps", tell, by_loop),
    "model: async generator": ("model", "steps", tell_async, by_async_loop),
    "model: stream": ("model", "steps", stream, by_loop),
    "model: async stream": ("model", "steps", stream_async, by_awaited_loop),
}


def batch_us(way: Callable[..., Any], function: Callable[..., Any], arguments: tuple[Any, ...]) -> float:
    """Microseconds of this thread's CPU for one call."""

    def timed() -> float:
        started = time.thread_time_ns()
        way(function, arguments, CALLS)
        return (time.thread_time_ns() - started) / CALLS / 1e3

    async def timed_inside() -> float:
        started = time.thread_time_ns()
        await way(function, arguments, CALLS)
        return (time.thread_time_ns() - started) / CALLS / 1e3

    return asyncio.run(timed_inside()) if asyncio.iscoroutinefunction(way) else timed()


def shapes_arm(options: argparse.Namespace) -> dict[str, Any]:
    """Measure every shape in this process."""
    import agentguard

    with tempfile.TemporaryDirectory() as folder:
        runtime = start_governed(Path(folder))
        marks = {
            "tool": agentguard.tool(effect="write", name="refund"),
            "model": agentguard.model(provider="openai", model="gpt-5"),
        }
        desk = Desk()
        guarded: dict[str, Callable[..., Any]] = {}
        for name, (kind, _, function, _) in SHAPES.items():
            made = marks[kind](function)
            guarded[name] = made.__get__(desk) if "method" in name else made
        found: dict[str, list[list[float]]] = {name: [] for name in SHAPES}
        for number in range(options.rounds + 1):
            for name, (kind, has_steps, function, way) in SHAPES.items():
                plain = desk.refund if "method" in name else function
                base = TOOL if kind == "tool" else MODEL
                added = []
                for steps in (FEW, MANY) if has_steps else (0,):
                    arguments = (*base, steps)
                    with agentguard.run():
                        gc.collect()
                        bare = batch_us(way, plain, arguments)
                        added.append(batch_us(way, guarded[name], arguments) - bare)
                    runtime.flush(60)
                if number:  # The first warms up.
                    found[name].append(added)
            say(f"shapes: round {number} of {options.rounds}")
        agentguard.shutdown(60)
    return found


def report_shapes(report: Report, options: argparse.Namespace) -> None:
    """Shapes against the function of the same kind."""
    found = run_arm(__file__, "shapes", rounds=options.rounds)
    rows, worst, worst_step, worst_whole = [], 0.0, 0.0, 0.0
    for name, (kind, has_steps, _, _) in SHAPES.items():
        rounds = found[name]
        base = [added[0] for added in found[f"{kind}: function"]]
        step_us = median([(many - few) / (MANY - FEW) for few, many in rounds]) if has_steps else 0.0
        own = [added[0] - (FEW * step_us if has_steps else 0.0) for added in rounds]
        ratio = median([one / other for one, other in zip(own, base, strict=True)])
        rows.append([name, median(own), ratio, step_us if has_steps else ""])
        if not name.endswith(": function"):
            worst = max(worst, ratio)
            steps = FEW if has_steps else 0
            allowed = [SHAPE_BAR * other + STEP_BAR_US * steps for other in base]
            whole = [added[0] / most for added, most in zip(rounds, allowed, strict=True)]
            worst_whole = max(worst_whole, median(whole))
        worst_step = max(worst_step, step_us)
    report.table(
        "Shapes of calls: what agentguard adds, CPU of the calling thread",
        ("shape", "us a call", "x the function", "us a step"),
        rows,
        "A hundred rules, five of which could apply; the undecorated call of the same shape taken off.",
    )
    allowed_text = f"{SHAPE_BAR:g} times the function and {STEP_BAR_US:g} us a step"
    report.bar(
        f"dearest shape, of {FEW} steps where it has any, against {allowed_text}", worst_whole, 1.0, "x"
    )
    report.bar("the same without its steps, against the function", worst, SHAPE_BAR, "x")
    report.bar("dearest step", worst_step, STEP_BAR_US, "us")


def off_arm(options: argparse.Namespace) -> list[list[float]]:
    """Measure decorated calls that are switched off."""
    os.environ["AGENTGUARD_ENABLED"] = "0"
    import agentguard

    agentguard.init()
    mark = agentguard.tool(effect="write", name="refund")
    pairs = [(by_call, refund_once, mark(refund_once)), (by_await, refund_async, mark(refund_async))]
    return [
        [batch_us(way, off, (*TOOL, 0)) - batch_us(way, bare, (*TOOL, 0)) for way, bare, off in pairs]
        for _ in range(options.rounds * 3)
    ]


def report_off(report: Report, options: argparse.Namespace) -> None:
    """What is left of a decorator that is off."""
    found = run_arm(__file__, "off", rounds=options.rounds)
    function, coroutine = (median([round_[place] for round_ in found]) for place in (0, 1))
    report.table(
        "Switched off (AGENTGUARD_ENABLED=0): what a decorator leaves behind",
        ("shape", "us a call"),
        [["function", function], ["coroutine", coroutine]],
    )
    report.bar("disabled, a call", max(function, coroutine), OFF_BAR_US, "us")


def main(options: argparse.Namespace) -> None:
    report = Report("shapes", "python benchmarks/overhead_shapes.py")
    for part in PARTS:
        if part in options.only:
            globals()[f"report_{part}"](report, options)
    report.print(options.format)


def read_options() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="of each comparison (default 15)")
    parser.add_argument(
        "--only", type=lambda text: text.split(","), default=PARTS, help=f"some of {','.join(PARTS)}"
    )
    return parser.parse_args()


if __name__ == "__main__":
    given = read_options()
    arms = {"shapes": shapes_arm, "off": off_arm}
    if given.arm:
        print(json.dumps(arms[given.arm](given)))
    else:
        main(given)
