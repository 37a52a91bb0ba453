"""
What a decision costs: rules that could apply, against rules that exist.

    python benchmarks/policy_engine.py

Figures are of one machine; compare the rows of one run with each other.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from agentguard.policy import Engine, load_texts

ROUNDS = 7
DOCUMENT_RULES = 5_000
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


def best_us(call: Callable[[], object], times: int) -> float:
    """Microseconds of one call: the best of some rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.perf_counter_ns()
        for _ in range(times):
            call()
        best = min(best, (time.perf_counter_ns() - started) / times / 1000)
    return best


def main() -> None:
    """Print one row for each size."""
    print(f"{'rules':>7} {'could apply':>12} {'allow us':>9} {'deny us':>9} {'load s':>8}")
    for rules in (5, 100, 1_000, 10_000):
        started = time.perf_counter()
        engine = Engine(load_texts(documents(rules)))
        load_s = time.perf_counter() - started
        denied = {**FACTS, "args": {"amount_usd": 900.0}}
        allow_us = best_us(partial(engine.decide, "tool.before", FACTS), 20_000)
        deny_us = best_us(partial(engine.decide, "tool.before", denied), 3_000)
        print(f"{rules:>7} {5:>12} {allow_us:>9.2f} {deny_us:>9.2f} {load_s:>8.2f}")


if __name__ == "__main__":
    main()
