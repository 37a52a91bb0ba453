"""Conditions in English."""

from __future__ import annotations

import pytest

from agentguard.policy.conditions import compile_condition, render_plain

SCHEMA = {
    "tool.name": "string",
    "cost.usd_today": "double",
    "args": "map<string, dyn>",
    "recipients": "list<map<string, string>>",
    "time.now": "timestamp",
    "run.calls": "int",
    "payee.known": "bool",
}


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            "tool.name == 'sql' && cost.usd_today > 50",
            'tool.name is "sql" and cost.usd_today is greater than 50',
        ),
        ("tool.name in ['a', 'b']", 'tool.name is "a" or "b"'),
        ("!(tool.name in ['a', 'b'])", 'tool.name is none of: "a", "b"'),
        ("tool.name in []", "never (the list is empty)"),
        ("tool.name in vars.tools", 'tool.name is among ["x"] (vars.tools)'),
        (
            "payee.known || !payee.known && run.calls <= 3",
            "payee.known is true or (payee.known is false and run.calls is at most 3)",
        ),
        ("!(payee.known && run.calls > 3)", "not (payee.known is true and run.calls is greater than 3)"),
        ("!(run.calls > 3)", "run.calls is at most 3"),
        ("!(cost.usd_today / 0.0 > 3)", "not (cost.usd_today divided by 0 is greater than 3)"),
        ("has(args.x) && !has(args.y)", "args has x and args has no y"),
        (
            "recipients.exists(r, r.domain != 'a')",
            'some r among the items of recipients has: r.domain is not "a"',
        ),
        ("!args.q.matches('^a')", 'args.q does not match the pattern "^a"'),
        ("time.now > timestamp('2026-01-01T00:00:00Z')", "time.now is after 2026-01-01T00:00:00Z"),
        ("time.now.getHours('Europe/Berlin') < 8", 'the hours of time.now in "Europe/Berlin" is less than 8'),
        ("(run.calls + 1) * 2 > 5", "(run.calls plus 1) times 2 is greater than 5"),
        ("args['a b'] == 'x\\u202e'", 'args["a b"] is "x\\u202e"'),
        (
            "size(args.l.filter(x, x > 1)) > 0",
            "the length of [each x of args.l with x is greater than 1] is greater than 0",
        ),
        ("true", "always"),
        ("payee.known ? true : run.calls == 0", "if payee.known is true, then always, else run.calls is 0"),
    ],
)
def test_said(source: str, said: str) -> None:
    """What is said follows the tree: brackets where `and` and `or` meet, no hidden characters."""
    assert render_plain(compile_condition(source, SCHEMA, constants={"vars.tools": ["x"]}).tree) == said
