"""
What one condition costs, beside Google's CEL, in one run.

    python benchmarks/policy.py [--rounds N]

Both evaluate the same rules on the same facts. Of the reference two figures are
shown: with an activation made once and shared by all rules, the best it can do,
and with the facts as a dict, which is how a library would call it. Figures are
medians of rounds that take turns, so that a busy machine slows both alike.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from agentguard.policy.conditions import Condition, compile_condition

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
    begin = time.perf_counter_ns()
    for _ in range(calls):
        run()
    return (time.perf_counter_ns() - begin) / calls / 1_000


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


def main() -> None:
    parser = argparse.ArgumentParser(description="what one condition costs, beside Google's CEL")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=2_000)
    options = parser.parse_args()
    env = _environment()
    activation = env.Activation(FACTS)
    print(f"{'rule':20} {'agentguard':>12} {'CEL, shared':>12} {'CEL, dict':>12} {'ratio':>7} {'ratio':>7}")
    for name, (ours, theirs) in RULES.items():
        condition = compile_condition(ours, SCHEMA)
        reference = env.compile(theirs)
        assert condition.function(FACTS) == reference.eval(data=FACTS).value(), name
        mine: list[float] = []
        shared: list[float] = []
        plain: list[float] = []
        for _ in range(options.rounds):
            mine.append(_us(lambda: condition.function(FACTS), options.calls))  # noqa: B023 - called at once
            shared.append(_us(lambda: reference.eval(activation).value(), options.calls // 10))  # noqa: B023
            plain.append(_us(lambda: reference.eval(data=FACTS).value(), options.calls // 20))  # noqa: B023
        a, b, c = (statistics.median(x) for x in (mine, shared, plain))
        print(f"{name:20} {a:9.3f} us {b:9.3f} us {c:9.3f} us {b / a:6.1f}x {c / a:6.1f}x")
    _hundred(env, options.rounds)
    _compile(options.rounds)


def _hundred(env: Any, rounds: int) -> None:
    """A hundred rules in a row, each with its own tool name, the last ones for this call."""
    sources = [
        f"tool.name == 'tool_{n}' && cost.usd_today > {n}.5 && run.tool_calls < 100" for n in range(90)
    ] + [
        f"tool.name == 'wire_transfer' && cost.usd_today > {50 + n}.5 && run.tool_calls < 100"
        for n in range(10)
    ]
    conditions = [compile_condition(source, SCHEMA).function for source in sources]
    references = [env.compile(source) for source in sources]

    def ours() -> list[object]:
        return [function(FACTS) for function in conditions]

    def theirs() -> list[object]:
        activation = env.Activation(FACTS)
        return [reference.eval(activation).value() for reference in references]

    assert ours() == theirs()
    mine = statistics.median(_us(ours, 100) for _ in range(rounds))
    other = statistics.median(_us(theirs, 5) for _ in range(rounds))
    print(f"{'100 rules':20} {mine:9.3f} us {other:9.3f} us {'':12} {other / mine:6.1f}x")


def _compile(rounds: int) -> None:
    source = RULES["argument and fact"][0]
    mine = statistics.median(_us(lambda: Condition.compile(source, SCHEMA), 20) for _ in range(rounds))
    print(f"{'compile one rule':20} {mine:9.1f} us")


if __name__ == "__main__":
    main()
