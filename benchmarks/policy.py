"""
What policy costs, beside other engines, in one run.

    python benchmarks/policy.py [--rounds N]

First one condition beside Google's CEL: with an activation made once and shared,
the best it can do, and with the facts as a dict, which is how a library would
call it. Then whole decisions over a hundred prohibitions of the same meaning in
the language of each engine (`policy_rivals.py`), none of which matches: whatever
an engine can prepare of policies and facts is prepared before. Figures are
medians of CPU time over rounds that take turns, so that a busy machine slows all
alike. `requirements/bench-policy.txt` lists the engines; what is not installed
is named and left out.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from policy_rivals import NOBODY, PAY, RIVALS, cedar_typed, many

from agentguard.policy import load_texts
from agentguard.policy.conditions import compile_condition

SCHEMA = {
    "tool.name": "string",
    "tool.effect": "string",
    "tool.calls_5m": "int",
    "tool.error_rate_5m": "double",
    "cost.usd_today": "double",
    "env.name": "string",
    "agent.name": "string",
    "payee.known": "bool",
    "drift.status": "string",
    "run.tool_calls": "int",
    "principal.roles": "list<string>",
    "args": "map<string, dyn>",
    "recipients": "list<map<string, string>>",
    "time.now": "timestamp",
}
FACTS: dict[str, Any] = {
    "tool.name": "wire_transfer",
    "tool.effect": "write",
    "tool.calls_5m": 12,
    "tool.error_rate_5m": 0.1,
    "cost.usd_today": 41.5,
    "env.name": "prod",
    "agent.name": "finance-1",
    "payee.known": True,
    "drift.status": "stable",
    "run.tool_calls": 7,
    "principal.roles": ["clerk", "approver"],
    "args": {"amount_usd": 120.0, "query": "select name from customers where id = 7", "to": "a@corp.example"},
    "recipients": [{"address": "a@corp.example", "domain": "corp.example"}],
    "time.now": datetime(2026, 3, 1, 12, tzinfo=UTC),
}
RULES: dict[str, tuple[str, str]] = {
    "name and number": (
        "tool.name == 'wire_transfer' && cost.usd_today > 50",
        "tool.name == 'wire_transfer' && cost.usd_today > 50.0",
    ),
    "another tool": (
        "tool.name == 'sql' && cost.usd_today > 50",
        "tool.name == 'sql' && cost.usd_today > 50.0",
    ),
    "in a list": ("tool.name in ['lookup', 'search', 'wire_transfer', 'mail']",) * 2,
    "rates": (
        "tool.error_rate_5m > 0.5 && tool.calls_5m >= 10",
        "tool.error_rate_5m > 0.5 && tool.calls_5m >= 10",
    ),
    "argument and fact": (
        "tool.name == 'wire_transfer' && (args.amount_usd <= 0 || !payee.known || args.amount_usd >= 5000.0)",
        "tool.name == 'wire_transfer' && (args.amount_usd <= 0 || !payee.known || args.amount_usd >= 5000.0)",
    ),
    "role": ("tool.effect != 'read' && !('admin' in principal.roles)",) * 2,
    "macro": ("recipients.exists(r, !(r.domain in ['corp.example', 'corp.test']))",) * 2,
    "pattern": ("tool.name == 'wire_transfer' && args.query.matches('(?i)\\\\b(drop|delete|truncate)\\\\b')",)
    * 2,
    "hour of a zone": ("time.now.getHours('Europe/Berlin') < 8",) * 2,
    "error gives way": ("args.missing > 5 || drift.status == 'stable'",) * 2,
}


def _us(run: Callable[[], object], calls: int) -> float:
    begin = time.process_time_ns()
    for _ in range(calls):
        run()
    return (time.process_time_ns() - begin) / calls / 1_000


def _environment() -> Any:
    from cel_expr_python import cel

    def of(text: str) -> Any:
        if text.startswith("list<"):
            return cel.Type.List(of(text[5:-1]))
        if text.startswith("map<"):
            key, value = text[4:-1].split(", ")
            return cel.Type.Map(of(key), of(value))
        return getattr(cel.Type, text.upper())

    return cel.NewEnv(variables={name: of(text) for name, text in SCHEMA.items()})


def conditions(rounds: int, calls: int) -> None:
    """One condition after the other, beside Google's CEL."""
    env = _environment()
    activation = env.Activation(FACTS)
    print("microseconds of CPU a condition")
    print(
        f"{'condition':20} {'agentguard':>12} {'CEL, shared':>12} {'CEL, dict':>12} {'ratio':>7} {'ratio':>7}"
    )
    for name, (ours, theirs) in RULES.items():
        condition = compile_condition(ours, SCHEMA)
        reference = env.compile(theirs)
        assert condition.function(FACTS) == reference.eval(data=FACTS).value(), name
        mine: list[float] = []
        shared: list[float] = []
        plain: list[float] = []
        for _ in range(rounds):
            mine.append(_us(lambda: condition.function(FACTS), calls))  # noqa: B023 - called at once
            shared.append(_us(lambda: reference.eval(activation).value(), calls // 10))  # noqa: B023
            plain.append(_us(lambda: reference.eval(data=FACTS).value(), calls // 20))  # noqa: B023
        a, b, c = (statistics.median(x) for x in (mine, shared, plain))
        print(f"{name:20} {a:12.3f} {b:12.3f} {c:12.3f} {b / a:6.1f}x {c / a:6.1f}x")


HUNDREDS: dict[str, list[tuple[str, str, int]]] = {
    "no rule names a tool": [("", ("usd_today", "repeats")[n % 2], 100 + n) for n in range(100)],
    "each names a tool, 5 this one": [
        ("wire_transfer" if n % 20 == 0 else f"tool_{n}", "amount", 1_000 + n) for n in range(100)
    ],
}
"""A hundred prohibitions: tool, fact, limit."""


def decisions(rounds: int) -> None:
    """A hundred prohibitions in each engine, and none of them matches."""
    # The schema names the tools of its eight prohibitions, and no others; without one Cedar has less to do.
    engines = [rival for rival in RIVALS if rival.version and rival.load is not cedar_typed]
    facts = {**NOBODY, **PAY}
    medians: dict[str, list[float]] = {rival.name: [] for rival in engines}
    for prohibitions in HUNDREDS.values():
        texts = many(prohibitions)
        questions = {rival.name: rival.load(texts[rival.distribution])(facts) for rival in engines}
        stopped = {**facts, prohibitions[0][1]: 10_000}
        found: dict[str, list[float]] = {}
        times: dict[str, int] = {}
        for rival in engines:
            name = rival.name
            assert questions[name]() is True, name
            assert rival.load(texts[rival.distribution])(stopped)() is False, name
            _us(questions[name], 500 if name == "agentguard" else 2)
            times[name] = max(2, min(5_000, int(15_000 / max(_us(questions[name], 3), 0.1))))
        for _ in range(rounds):
            for name, ask in questions.items():
                found.setdefault(name, []).append(_us(ask, times[name]))
        for name, values in found.items():
            medians[name].append(statistics.median(values))
    print("\nmicroseconds of CPU a decision over 100 prohibitions")
    print(f"{'engine':52} " + " ".join(f"{name:>30} {'ratio':>8}" for name in HUNDREDS))
    for rival in engines:
        pairs = zip(medians[rival.name], medians["agentguard"], strict=True)
        cells = " ".join(f"{one:30.2f} {one / ours:7.1f}x" for one, ours in pairs)
        print(f"{rival.name + ' ' + rival.version:52} {cells}")
    absent = [rival.name for rival in RIVALS if not rival.version]
    if absent:
        print(f"not installed: {', '.join(absent)}")


def loading(rounds: int) -> None:
    """How long a thousand rules take until they can decide, each with five fields and a condition of its own."""
    text = many([(f"tool_{n}", "amount", n) for n in range(1_000)])["agentguard"]
    seconds = statistics.median(_us(lambda: load_texts({"p.yaml": text}), 1) for _ in range(rounds)) / 1e6
    print(f"\n1,000 rules are read, checked and compiled in {seconds:.2f} s of CPU")


def main() -> None:
    parser = argparse.ArgumentParser(description="what policy costs, beside other engines")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=2_000)
    options = parser.parse_args()
    if any(rival.distribution == "cel-expr-python" and rival.version for rival in RIVALS):
        conditions(options.rounds, options.calls)
    decisions(options.rounds)
    loading(min(5, options.rounds))


if __name__ == "__main__":
    main()
