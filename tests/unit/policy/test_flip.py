"""The smallest change, and rules in English."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentguard.policy import Change, Rule, defaults_in_plain_words, rule_in_plain_words, smallest_change
from agentguard.values import FACTS, Point
from tests.support.policies import bundle, call, document

POINT = Point.TOOL_BEFORE


def rule(when: str, then: str = "deny") -> Rule:
    """One compiled rule."""
    return bundle(document(f"R | tool.before | {when} | {then}")).rules[0]


def change(when: str, *, matches: bool = False, **facts: object) -> str | None:
    """The change in words; None where there is none."""
    found = smallest_change(rule(when), POINT, call(**facts), FACTS, matches=matches)
    return None if found is None else " and ".join(one.text for one in found)


@pytest.mark.parametrize(
    ("when", "facts", "expected"),
    [
        ("tool.name == 'refund' && cost.usd_today > 50", {"cost__usd_today": 51.2}, "cost.usd_today <= 50"),
        ("50.0 < cost.usd_today", {"cost__usd_today": 51.2}, "cost.usd_today <= 50"),
        ("!(cost.usd_today <= 50)", {"cost__usd_today": 51.2}, "cost.usd_today <= 50"),
        ("args.n >= 5 || args.n <= 0", {"args": {"n": 7}}, "args.n < 5"),
        ("args.n >= 5 || args.m > 1", {"args": {"n": 7, "m": 2}}, "args.n < 5 and args.m <= 1"),
        ("args.n >= 5 && run.repeats > 90", {"args": {"n": 6}, "run__repeats": 900}, "args.n < 5"),
        ("args.n >= 5 && run.repeats > 90", {"args": {"n": 600}, "run__repeats": 91}, "run.repeats <= 90"),
        ("args.a + args.b >= 10", {"args": {"a": 6, "b": 6}}, "args.a + args.b < 10"),
        ("args.sure == false", {"args": {"sure": False}}, "args.sure != false"),
        ("env.name in ['prod', 'live']", {}, "env.name not in ['prod', 'live']"),
        ("has(args.x)", {"args": {"x": 1}}, "args has no `x`"),
        ("tool.name.startsWith('re')", {}, 'tool.name does not begin with "re"'),
        ("recipients.exists(r, r.domain != 'a.example')", {"recipients": [{"domain": "b"}]},
         'not (some r among the items of recipients has: r.domain is not "a.example")'),
        ("detects(args, ['card'])", {}, "args holds nothing that the detector card finds"),
        ("true", {}, None),
    ],
)  # fmt: skip
def test_the_smallest_change_in_words(when: str, facts: dict[str, object], expected: str | None) -> None:
    """Numbers move before truths, names last; of an `||` every term that holds."""
    assert change(when, **facts) == expected


def test_what_would_make_a_rule_match() -> None:
    """The other way round: all terms of an `&&` that do not hold, one of an `||`."""
    when = "tool.name in ['refund', 'pay'] && args.n < 5 && env.name == 'dev'"
    assert change(when, matches=True, args={"n": 9}) == "args.n < 5 and env.name == 'dev'"
    assert change("args.n < 5 || env.name == 'dev'", matches=True, args={"n": 9}) == "args.n < 5"
    assert change("args.n < 5", matches=True, args={"n": 1}) == ""


def test_text_of_a_model_is_not_shown() -> None:
    """A limit that is itself text of an argument stands by its name only."""
    assert change("args.a == args.b", args={"a": "SECRET", "b": "SECRET"}) == "args.a != args.b"


_TERM = st.builds(
    lambda name, operator, limit: f"args.{name} {operator} {limit}",
    st.sampled_from("abc"),
    st.sampled_from(["<", "<=", ">", ">=", "==", "!="]),
    st.integers(-20, 20),
)
_CONDITIONS = st.recursive(
    _TERM,
    lambda inner: st.one_of(
        st.builds("({} && {})".format, inner, inner),
        st.builds("({} || {})".format, inner, inner),
        st.builds("!({})".format, inner),
        st.builds("({0} ? {1} : {2})".format, inner, inner, inner),
    ),
    max_leaves=6,
)


@given(_CONDITIONS, st.fixed_dictionaries({name: st.integers(-25, 25) for name in "abc"}))
def test_a_change_of_one_number_turns_the_condition(when: str, args: dict[str, int]) -> None:
    """Whoever applies what is said gets the other answer."""
    one = rule(when)
    facts = call(args=args)
    before = one.conditions[POINT].evaluate(facts)
    found = smallest_change(one, POINT, facts, FACTS, matches=not before)
    if not found or len({part.fact for part in found}) < len(found):
        return
    turned = dict(args)
    for part in found:
        turned[part.fact.removeprefix("args.")] = _fitting(part)
    if any(when.count(f"args.{part.fact.removeprefix('args.')}") > 1 for part in found):
        # A number that stands in two terms may turn the other one too.
        return
    assert one.conditions[POINT].evaluate(call(args=turned)) is not before


def _fitting(part: Change) -> int:
    """A number that fits a change."""
    value = part.value
    assert isinstance(value, int)
    return value + {"<": -1, ">": 1, "!=": 1}.get(part.operator, 0)


def test_rules_in_english() -> None:
    """From what was compiled: effect, people, modes, and the defaults of the document."""
    loaded = bundle(
        document(
            "A | tool.before | tool.name == 'pay' | { require_approval: { from: [group:money, ann], approvals: 2, expires: 30m, on_timeout: deny } }",
            "B | [tool.after, model.after] | call.duration_ms > 5 | deny | mode: shadow",
            'C | tool.before | "true" | { deny: { kind: wait, retry_after: 2m } } | tools: [a, b]',
            'D | tool.after | "true" | { redact: [card] }',
            unmatched="deny", scope='{ agents: ["fin-*"], environments: [prod] }',
        ).replace("'\"true\"'", '"true"')
    )  # fmt: skip
    a, b, c, d = (rule_in_plain_words(one) for one in loaded.rules)
    assert a == (
        'Before a tool runs: if tool.name is "pay", the call waits until 2 different people of the group money or ann, '
        "never the requester, approve it within 30 minutes."
    )
    assert b.startswith(
        "After a tool has run or after a model has answered: if call.duration_ms is greater than 5, its result"
    )
    assert b.endswith(
        "NOT ENFORCED (mode shadow: the call runs, and only the log says what would have been)."
    )
    assert (
        c
        == "Before a tool runs (only a, b): always, the call is denied, and may be tried again later (after 2 minutes)."
    )
    assert d == "After a tool has run: always, what the detector card finds is replaced in its result."
    assert "About" not in a + b + c + d
    assert defaults_in_plain_words(loaded.policies[0]) == (
        "Covers agents fin-* in prod; a call without a name is covered too. Of the calls to tools and models, "
        "what no rule allows is denied."
    ) or "what no rule allows is denied" in defaults_in_plain_words(loaded.policies[0])


def test_limits_in_english() -> None:
    """What state answers is said with its key and window."""
    said = [
        rule_in_plain_words(one)
        for one in bundle(
            document(
                "A | tool.before | tool.name == 'x' | { throttle: { key: tool.name, limit: 3, window: 1m } }",
                "B | tool.before | tool.error_rate_5m > 0.5 | { circuit_break: { key: tool.name, open_for: 2m, probe: 1 } }",
                "C | tool.before | args.n > 5 | { kill: { scope: agent } }",
            )
        ).rules
    ]
    assert "at most 3 calls begin for each tool.name in any 1 minute, and others are denied" in said[0]
    assert "calls for each tool.name are rested for 2 minutes, and then 1 tried" in said[1]
    assert "this agent is stopped on the whole machine, until a person lifts it" in said[2]
