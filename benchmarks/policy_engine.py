"""
What a decision costs: rules that could apply, against rules that exist.

    python benchmarks/policy_engine.py

Two columns of decisions: facts that are there already, and facts as a guarded
call has them, worked out when a rule first reads them. Engines of all sizes take
turns, and figures are medians of CPU time, so that a busy machine slows all alike; compare
the rows of one run with each other.
"""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import agentguard
from agentguard.policy import Engine, load_texts
from agentguard.runtime import beginning
from agentguard.seal import create_key_file
from agentguard.values import Decision, Point

ROUNDS = 31
DOCUMENT_RULES = 5_000
SIZES = (5, 100, 1_000, 10_000)
HEAD = """\
apiVersion: agentguard/v1
kind: Policy
metadata: {{ name: bench{number} }}
defaults: {{ unmatched: {unmatched}, mode: enforce, timezone: UTC }}
rules:
"""
ALLOW = (
    "  - { id: ALLOW, title: allowed tools, at: tool.before, when: \"tool.name == 'refund'\", then: allow }\n"
)
FACTS: dict[str, object] = {
    "tool.name": "refund",
    "tool.effect": "write",
    "agent.name": "support",
    "env.name": "prod",
    "args": {"amount_usd": 20.0, "order_id": "A-17", "note": "broken"},
    "run.repeats": 0,
    "cost.usd_today": 3.0,
    "drift.status": "stable",
    "tool.error_rate_5m": 0.01,
}
APPLYING = (
    "tool.name == 'refund' && args.amount_usd > 500.0",
    "tool.name == 'refund' && cost.usd_today > 50.0",
    "run.repeats >= 3",
    "tool.effect != 'read' && drift.status == 'drift'",
    "tool.name in ['refund', 'pay'] && tool.error_rate_5m > 0.5",
)


def documents(rules: int) -> dict[str, str]:
    """Policies of so many rules together, of which five could apply to a refund."""
    lines = []
    for number in range(rules):
        when = (
            APPLYING[number]
            if number < len(APPLYING)
            else f"tool.name == 'tool{number}' && args.n > {number}"
        )
        lines.append(
            f'  - {{ id: R{number}, title: rule {number}, at: tool.before, when: "{when}", then: deny }}\n'
        )
    texts = {}
    for start in range(0, len(lines), DOCUMENT_RULES):
        head = HEAD.format(number=start, unmatched="allow" if start else "deny")
        texts[f"{start}.yaml"] = (
            head + ("" if start else ALLOW) + "".join(lines[start : start + DOCUMENT_RULES])
        )
    return texts


def within_a_call(measure: Callable[[Callable[[Engine], object]], None]) -> None:
    """
    Hand over what decides a guarded call that is about to run.

    Each time it asks the kill switch, and works out the facts anew that the
    engine's rules read.
    """
    original = beginning.judge

    def judge(call: Any, point: Point, engine: Engine | None) -> Decision | None:
        def decide(asked: Engine) -> object:
            call.facts = None
            return original(call, point, asked)

        if point == "tool.before":
            measure(decide)
        return original(call, point, engine)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "policy.yaml").write_text(documents(5)["0.yaml"], "utf-8")
        create_key_file(folder / "key")
        beginning.judge = judge
        try:
            with agentguard.init(
                store=folder / "store", key=f"file:{folder / 'key'}", policies=[folder / "policy.yaml"],
                service="bench", environment="prod",
            ):  # fmt: skip

                @agentguard.tool(effect="write")
                def refund(amount_usd: float, order_id: str, note: str) -> str:
                    return f"{amount_usd} {order_id} {note}"

                refund(20.0, order_id="A-17", note="broken")
        finally:
            beginning.judge = original


def cpu_us(call: Callable[[], object], times: int) -> float:
    """Microseconds of CPU of one call, of this thread: a guarded program has others."""
    started = time.thread_time_ns()
    for _ in range(times):
        call()
    return (time.thread_time_ns() - started) / times / 1_000


def main() -> None:
    """Print one row for each size."""
    engines, load_s = {}, {}
    for rules in SIZES:
        texts = documents(rules)
        gc.collect()
        started = time.process_time()
        engines[rules] = Engine(load_texts(texts))
        load_s[rules] = time.process_time() - started
    gc.collect()
    denied = {**FACTS, "args": {"amount_usd": 900.0}}
    found: dict[tuple[int, str], list[float]] = defaultdict(list)

    def measure(decide: Callable[[Engine], object]) -> None:
        for _ in range(ROUNDS):
            for rules, engine in engines.items():
                ready = partial(engine.decide, "tool.before")
                found[rules, "allow"].append(cpu_us(partial(ready, FACTS), 4_000))
                found[rules, "facts"].append(cpu_us(partial(decide, engine), 1_000))
                found[rules, "deny"].append(cpu_us(partial(ready, denied), 300))

    within_a_call(measure)
    median = {key: statistics.median(values) for key, values in found.items()}
    print("microseconds of CPU a decision; 5 of the rules could apply")
    print(
        f"{'rules':>7} {'facts there':>12} {'facts included':>15} {'of 100 rules':>13} {'denied':>8} {'load CPU s':>11}"
    )
    for rules in SIZES:
        times = median[rules, "facts"] / median[100, "facts"]
        print(
            f"{rules:>7} {median[rules, 'allow']:>12.2f} {median[rules, 'facts']:>15.2f} {times:>12.2f}x "
            f"{median[rules, 'deny']:>8.1f} {load_s[rules]:>11.2f}"
        )


if __name__ == "__main__":
    main()
