"""
How the cost of a governed call grows with what is around it.

    python benchmarks/overhead_growth.py [--rounds 3] [--only rules,threads] [--full]

rules       in the bundle, 10 to 10,000, five of which could apply
frozen      the same, where the application calls `gc.freeze()` after `init()`
relevant    rules that could apply to the call, of a hundred
spans       in the store when the process begins, 10,000 to 1,000,000; with --full 10,000,000 (takes minutes)
threads     that call at the same time, 1 to 64
tasks       of one event loop that are inside a call at the same time, 1 to 10,000
attributes  that the application sets on each span, 0 to 100
content     bytes of arguments with `capture="full"`, 0 to 64 KiB (what is recorded is cut at 16 KiB)
unrecorded  the same bytes with the default, where no content is kept

Each point is a process of its own, and the points of a curve take turns. `hot` is the CPU of the calling
threads, `process` that of the whole process until everything is on disk; the undecorated call of the same
shape, measured in the same process, is taken off both. Medians. A curve is flat where its dearest
point costs at most 1.25 times its first; every other curve comes with its reason, or with `not explained`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from overhead_parts import Report, ask, median, parser_of, plotted, refund, run_arm, say, start_governed

FLAT = 1.25
CURVES: dict[str, tuple[str, tuple[int, ...]]] = {
    "rules": ("rules in the bundle", (10, 100, 1_000, 10_000)),
    "frozen": ("rules in the bundle, after gc.freeze()", (10, 100, 1_000, 10_000)),
    "relevant": ("rules that could apply", (5, 20, 50, 100)),
    "spans": ("spans in the store", (0, 10_000, 100_000, 1_000_000)),
    "threads": ("threads", (1, 4, 16, 64)),
    "tasks": ("concurrent tasks", (1, 10, 100, 1_000, 10_000)),
    "attributes": ("attributes set", (0, 5, 20, 50, 100)),
    "content": ("bytes of content, recorded", (0, 256, 4_096, 16_384, 65_536)),
    "unrecorded": ("bytes of content, not recorded", (0, 256, 4_096, 16_384, 65_536)),
}
FULL_SPANS = 10_000_000
REASONS = {
    "rules": "the garbage collector looks at the objects of the bundle, thirty a rule; deciding does not grow (see frozen)",
    "relevant": "every rule that could apply is evaluated",
    "threads": "threads that wait for the interpreter's lock pay for being switched",
    "tasks": "the garbage collector looks at every call that is under way, again and again; without it (gc.disable) it is flat",
    "attributes": "each attribute is checked when it is set, and encoded, compressed and sealed later",
    "content": "each byte is encoded, compressed and sealed; what is above 16 KiB is cut",
}


def call_pair(model: Callable[..., Any], tool: Callable[..., Any], count: int) -> None:
    for _ in range(count // 2):
        model("which order?")
        tool("o-17", 12.5)


# One point: returns the function that makes `count` calls, for bare or guarded functions --------


Make = Callable[[Callable[..., Any], Callable[..., Any]], Callable[[int], None]]


def plainly(_: int) -> Make:
    return lambda model, tool: lambda count: call_pair(model, tool, count)


def in_threads(threads: int) -> Make:
    def make(model: Callable[..., Any], tool: Callable[..., Any]) -> Callable[[int], None]:
        def run(count: int) -> None:
            workers = [
                threading.Thread(target=call_pair, args=(model, tool, count // threads))
                for _ in range(threads)
            ]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()

        return run

    return make


def in_tasks(tasks: int) -> Make:
    """All tasks are inside their call before the first one ends."""

    def make(_: Callable[..., Any], tool: Callable[..., Any]) -> Callable[[int], None]:
        async def work(turns: int) -> None:
            for _ in range(turns):
                await tool("o-17", 12.5)

        async def all_of_them(count: int) -> None:
            await asyncio.gather(*(work(max(count // tasks, 1)) for _ in range(tasks)))

        return lambda count: asyncio.run(all_of_them(count))

    return make


async def refund_later(order_id: str, amount_usd: float) -> str:
    await asyncio.sleep(0)
    return refund(order_id, amount_usd)


def with_attributes(attributes: int) -> Make:
    import agentguard

    names = [f"app.attribute_{number}" for number in range(attributes)]

    def noted(order_id: str, amount_usd: float) -> str:
        span = agentguard.current()
        if span is not None:
            for name in names:
                span.set(name, "a value of some length")
        return refund(order_id, amount_usd)

    def make(model: Callable[..., Any], tool: Callable[..., Any]) -> Callable[[int], None]:
        own = noted if tool is refund else agentguard.tool(effect="write", name="refund")(noted)
        return lambda count: call_pair(model, own, count)

    return make


def with_content(size: int) -> Make:
    words = "An order was placed, and the customer would like to have the money back. "
    text = (words * (size // len(words) + 1))[:size]

    def make(model: Callable[..., Any], tool: Callable[..., Any]) -> Callable[[int], None]:
        def run(count: int) -> None:
            for _ in range(count // 2):
                model(text)
                tool(text, 12.5)

        return run

    return make


SHAPES: dict[str, Callable[[int], Make]] = {
    "threads": in_threads, "tasks": in_tasks, "attributes": with_attributes, "content": with_content,
    "unrecorded": with_content,
}  # fmt: skip


def point_arm(options: argparse.Namespace) -> dict[str, float]:
    """Measure one point in this process."""
    import agentguard

    settings: dict[str, Any] = {"rules": 100}
    if options.curve in ("rules", "frozen"):
        settings["rules"] = options.value
    elif options.curve == "relevant":
        settings["relevant"] = options.value
    elif options.curve == "content":
        settings["capture"] = "full"
    tool_mark = agentguard.tool(effect="write", name="refund")
    model_mark = agentguard.model(provider="openai", model="gpt-5")
    make = SHAPES.get(options.curve, plainly)(options.value)
    bare_tool = refund_later if options.curve == "tasks" else refund
    with tempfile.TemporaryDirectory() as own:
        runtime = start_governed(Path(options.folder or own), **settings)
        if options.curve == "frozen":
            gc.freeze()
        bare, guarded = make(ask, bare_tool), make(model_mark(ask), tool_mark(bare_tool))
        guarded(max(400, options.value if options.curve == "tasks" else 0))
        runtime.flush(60)
        bare_s, _ = timed(bare, options.calls, options.curve, lambda: None)
        hot_s, process_s = timed(guarded, options.calls, options.curve, lambda: runtime.flush(120))
        dropped = sum(runtime.sink.dropped.values())
        agentguard.shutdown(60)
    calls = (
        options.calls if options.curve != "tasks" else max(options.calls // options.value, 1) * options.value
    )
    return {
        "hot_us": (hot_s - bare_s) / calls * 1e6, "process_us": (process_s - bare_s) / calls * 1e6,
        "dropped": float(dropped),
    }  # fmt: skip


def timed(
    run: Callable[[int], None], count: int, curve: str, flush: Callable[[], object]
) -> tuple[float, float]:
    """CPU seconds: of the callers, and of the process until all is flushed."""
    if curve == "threads":
        return timed_threads(run, count, flush)
    process_s, hot_s = time.process_time(), time.thread_time()
    run(count)
    hot_s = time.thread_time() - hot_s
    flush()
    return hot_s, time.process_time() - process_s


def timed_threads(run: Callable[[int], None], count: int, flush: Callable[[], object]) -> tuple[float, float]:
    """As `timed`, where the callers are threads that `run` starts: each adds its own CPU as it ends."""
    spent: list[float] = []
    begin = threading.Thread.run

    def counted(self: threading.Thread) -> None:
        begin(self)
        if not self.daemon:
            spent.append(time.thread_time())

    threading.Thread.run = counted  # type: ignore[method-assign]
    try:
        process_s = time.process_time()
        run(count)
    finally:
        threading.Thread.run = begin  # type: ignore[method-assign]
    flush()
    return sum(spent), time.process_time() - process_s


def fill_arm(options: argparse.Namespace) -> dict[str, int]:
    """Fill a store with sealed spans."""
    from storage_large import build_large
    from storage_sample import SystemClock

    from agentguard.seal import create_key_file
    from agentguard.store import Store

    folder = Path(options.folder)
    provider = create_key_file(folder / "key")
    if options.value:
        build_large(
            Store.create(folder / "store", provider=provider, clock=SystemClock()), options.value, say
        )
    return {"spans": options.value}


def measure(
    curve: str, values: tuple[int, ...], options: argparse.Namespace
) -> dict[int, list[dict[str, float]]]:
    """Measure all points of a curve, by turns."""
    found: dict[int, list[dict[str, float]]] = {value: [] for value in values}
    with tempfile.TemporaryDirectory() as base:
        folders = dict.fromkeys(values, "")
        if curve == "spans":
            for value in values:
                folders[value] = str(Path(base) / str(value))
                Path(folders[value]).mkdir()
                run_arm(__file__, "fill", folder=folders[value], value=value, timeout_s=7200)
                say(f"spans: a store of {value:,} is there")
        for number in range(options.rounds):
            for value in values:
                calls = max(options.calls, 2 * value if curve == "tasks" else 0)
                point = {"curve": curve, "value": value, "calls": calls, "folder": folders[value]}
                found[value].append(run_arm(__file__, "point", **point))
            say(f"{curve}: round {number + 1} of {options.rounds}")
    return found


def main(options: argparse.Namespace) -> None:
    report = Report("growth", "python benchmarks/overhead_growth.py")
    verdicts = []
    for curve in options.only:
        title, values = CURVES[curve]
        if curve == "spans" and options.full:
            values = (*values, FULL_SPANS)
        found = measure(curve, values, options)
        hot, process = (
            [median([point[name] for point in found[value]]) for value in values]
            for name in ("hot_us", "process_us")
        )
        dropped = sum(point["dropped"] for points in found.values() for point in points)
        report.table(
            f"Cost of a call against {title}",
            (title, "hot, us", "process, us", "process"),
            [list(row) for row in zip(values, hot, process, plotted(process), strict=True)],
            f"{dropped:,.0f} spans dropped" if dropped else "",
        )
        growth = [max(line) / max(line[0], 1e-9) for line in (hot, process)]
        is_flat = max(growth) <= FLAT
        reason = "flat" if is_flat else f"grows: {REASONS.get(curve, 'not explained')}"
        verdicts.append([title, f"{values[0]:,} to {values[-1]:,}", *growth, reason])
    report.table(
        "What grows",
        ("against", "from, to", "hot, dearest / first", "process, dearest / first", "verdict"),
        verdicts,
    )
    report.print(options.format)


def read_options() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of each point (default 3)")
    parser.add_argument("--calls", type=int, default=8_000, help="of each point and round (default 8000)")
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(CURVES),
                        help=f"some of {','.join(CURVES)}")  # fmt: skip
    parser.add_argument("--full", action="store_true", help="a store of ten million spans too; takes minutes")
    for name, kind, default in (("curve", str, ""), ("value", int, 0), ("folder", str, "")):
        parser.add_argument(f"--{name}", type=kind, default=default, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    given = read_options()
    if given.arm:
        print(json.dumps({"point": point_arm, "fill": fill_arm}[given.arm](given)))
    else:
        main(given)
