"""What test cases reach, and which changes they notice."""

from __future__ import annotations

from agentguard.policy import Bundle
from agentguard.review import coverage, mutate, run_tests
from tests.support.policies import bundle, document

RULE = "R | tool.before | tool.name == 'pay' && args.n > 10 | deny"


def policy_with(*cases: str, rules: tuple[str, ...] = (RULE,)) -> Bundle:
    """A policy with cases `n: decision`."""
    lines = [
        f"  - {{ name: case {text}, at: tool.before, given: {{ tool.name: {tool}, args: {{ n: {n} }} }}, "
        f"expect: {{ decision: {decision} }} }}"
        for text in cases
        for tool, n, decision in [text.split()]
    ]
    head = "apiVersion: agentguard/v1\nkind: PolicyTest\nmetadata: { name: t }\npolicies: [p]\ncases:\n"
    return bundle(document(*rules), head + "\n".join(lines) + "\n")


def test_cases_at_the_limit_notice_everything() -> None:
    """Operator, limit, each term, effect, mode and default."""
    loaded = policy_with("pay 11 deny", "pay 10 allow", "search 11 allow")
    assert run_tests(loaded).is_passed
    report = mutate(loaded)
    assert [(m.rule_id, m.what) for m in report.survived] == []
    assert report.score == 1.0
    assert report.killed == 12


def test_what_survives_is_named() -> None:
    """A case far from the limit does not notice that it moved."""
    report = mutate(policy_with("pay 100 deny", "pay 1 allow", "search 100 allow"))
    assert {m.what for m in report.survived} == {"> as >=", "10 as 11", "10 as 9"}
    assert all(m.rule_id == "R" and m.place.line == 6 for m in report.survived)
    assert str(report) == "mutation score 0.750: 9 of 12 changes are noticed"


def test_coverage() -> None:
    """Which rules match in a case, and which decide one."""
    loaded = policy_with(
        "pay 11 deny",
        rules=(RULE, "W | tool.before | args.n > 1 | warn", "N | tool.before | args.n > 99 | deny"),
    )
    found = {one.rule.id: (one.matched, one.decided) for one in coverage(loaded, run_tests(loaded))}
    assert found == {"R": (1, 1), "W": (1, 0), "N": (0, 0)}


def test_every_kind_of_part_is_changed() -> None:
    """Negations, memberships, macros, choices and constants in the depth of a condition."""
    when = (
        "!(tool.name in ['a', 'b']) && (env.name == 'x' ? args.n < 2.5 : args.n >= 1) "
        "|| recipients.exists(r, r.domain != 'y') && true"
    )
    changes = {
        m.what
        for m in mutate(policy_with("pay 1 allow", rules=(f"R | tool.before | {when} | deny",))).survived
    }
    changes |= {
        m.what
        for m in mutate(policy_with("pay 1 deny", rules=(f"R | tool.before | {when} | deny",))).survived
    }
    for what in (
        "in as not in",
        "`tool.name in ['a', 'b']` not negated",
        "? : exchanged",
        "2.5 as 2.525",
        "&& as ||",
        "'a' as 'ax'",
        "'y' as 'yx'",
    ):
        assert what in changes or any(what in change for change in changes), what
