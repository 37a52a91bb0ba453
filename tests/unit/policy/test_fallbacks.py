"""Fallbacks in documents: what loads, what cannot work, and which one takes a call."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentguard.errors import PolicyDocumentError
from agentguard.policy import Engine, carried, check_functions, fallback_of, load_texts, rule_in_plain_words
from agentguard.review import run_tests
from agentguard.values import ApprovalTerms, Decision, Effect, Fallback, GrantScopes, RecordMode

HEAD = """\
apiVersion: agentguard/v1
kind: Policy
metadata: { name: p }
defaults: { unmatched: allow, mode: enforce, timezone: UTC }
rules:
"""
BUDGET = """\
budgets:
  - { id: BUD, title: Cost, key: [model.name], measure: cost.usd, limit: 1, window: 1d, reserve: estimate, then: deny }
"""


def rule(rule_id: str, then: str, *, at: str = "model.before", when: str = "true") -> str:
    """Write one rule."""
    return f'  - {{ id: {rule_id}, title: T, at: {at}, when: "{when}", then: {then} }}\n'


def load(*rules: str, more: str = "") -> Engine:
    """Load one document."""
    return Engine(load_texts({"p.yaml": HEAD + "".join(rules) + more}))


def facts(**given_facts: object) -> dict[str, object]:
    """The facts of a model call."""
    return {
        "agent.name": "a", "env.name": "", "model.name": "big", "tool.name": "search", "args": {}, **given_facts,
    }  # fmt: skip


def test_a_fallback_is_a_modifier_of_calls_that_may_run() -> None:
    """It is named on what is allowed or held, and not on what is denied."""
    engine = load(rule("F", "{ fallback: { model: small } }"), rule("D", "deny", when="model.name == 'bad'"))
    assert engine.decide("model.before", facts()).fallbacks == (Fallback("p", "F", "small"),)
    assert engine.decide("model.before", facts(**{"model.name": "bad"})).fallbacks == ()


@given(st.permutations(["F1", "F2", "F3"]))
def test_the_order_of_rules_changes_nothing(order: list[str]) -> None:
    """Of several fallbacks the first by its id takes the call."""
    engine = load(*(rule(name, f"{{ fallback: {{ model: to-{name} }} }}") for name in order))
    decision = engine.decide("model.before", facts())
    assert fallback_of(decision, name="big") == Fallback("p", "F1", "to-F1")
    assert fallback_of(decision, name="to-F1") == Fallback("p", "F2", "to-F2")


def test_what_stands_in_for_a_limit_waits_for_its_refusal() -> None:
    """It takes the call where that limit of that document refuses, and nowhere else."""
    engine = load(rule("F", "{ fallback: { model: small, instead_of: [BUD] } }"), more=BUDGET)
    decision = engine.decide("model.before", facts())
    assert fallback_of(decision, name="big") is None
    assert fallback_of(decision, name="big", refused_by="BUD", policy="p") is not None
    assert fallback_of(decision, name="big", refused_by="BUD", policy="other") is None
    assert fallback_of(decision, name="big", refused_by="X", policy="p") is None
    assert fallback_of(decision, name="small", refused_by="BUD", policy="p") is None


def test_a_fallback_that_is_not_enforced_sends_nothing() -> None:
    """Shadow and warn only say so."""
    text = rule("F", "{ fallback: { model: small } }").replace("title: T", "title: T, mode: warn")
    decision = load(text).decide("model.before", facts())
    assert (decision.effect, decision.fallbacks, decision.warnings) == (Effect.ALLOW, (), ("F",))


CIRCLE = (
    rule("F1", "{ fallback: { model: b } }", when="model.name == 'a'")
    + rule("F2", "{ fallback: { model: a } }", when="model.name == 'b'")
)  # fmt: skip
SHARED = BUDGET.replace("[model.name]", "[agent.name]")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (rule("F", "fallback"), "needs to know where to"),
        (rule("F", "{ fallback: { } }"), "one of `model` and `function`"),
        (rule("F", "{ fallback: { model: a, function: b } }"), "one of `model` and `function`"),
        (rule("F", "{ fallback: { model: 'a b' } }"), "a model's name"),
        (rule("F", "{ fallback: { function: 'a b' } }"), "registered function"),
        (rule("F", "{ fallback: { modle: a } }"), "unknown field `modle`"),
        (rule("F", "{ fallback: { model: a } }", at="tool.before"), "for calls of models"),
        (rule("F", "{ fallback: { function: a } }", at="tool.after"), "after a call"),
        (rule("F", "{ fallback: { model: a, instead_of: [] } }"), "instead_of"),
        (rule("F", "{ fallback: { model: a, instead_of: [BUX] } }") + BUDGET, "did you mean `BUD`"),
        (rule("F", "{ fallback: { model: a, instead_of: [D] } }") + rule("D", "deny", when="model.name == 'x'"), "no throttle, breaker or budget"),
        (rule("F", "{ fallback: { function: a, instead_of: [BUD] } }", at="tool.before") + BUDGET, "asked at model.before"),
        (rule("F", "{ fallback: { model: a } }", when="model.name == 'a'"), "which it is already"),
        (rule("F", "{ fallback: { model: a } }") + rule("D", "deny", when="model.name in ['a', 'c']"), "D of p always denies"),
        (rule("F", "{ fallback: { model: a, instead_of: [BUD] } }") + SHARED, "counts calls of `a` too"),
        (CIRCLE, "in a circle: a to b to a"),
    ],
)  # fmt: skip
def test_a_fallback_that_cannot_work_does_not_load(text: str, said: str) -> None:
    """One line with its place, for each way in which it could never help."""
    with pytest.raises(PolicyDocumentError) as caught:
        load(text)
    shown = f"{caught.value} {caught.value.problems[0].hint}"
    assert said in shown
    assert "\n" not in str(caught.value.problems[0].text)


def test_a_function_must_be_registered() -> None:
    """Known functions are fine, others are named with the way out."""
    bundle = load(rule("F", "{ fallback: { function: from_cache } }")).bundle
    check_functions(bundle, ["from_cache"])
    with pytest.raises(PolicyDocumentError, match="`from_cache`, which is not registered") as caught:
        check_functions(bundle, ["from_cash"])
    assert "did you mean `from_cash`" in str(caught.value.problems[0].hint)


def test_a_fallback_is_said_in_english() -> None:
    """The reviewer reads where to, and when."""
    engine = load(
        rule("A", "{ fallback: { model: small } }"), rule("B", "{ fallback: { function: f, instead_of: [BUD] } }"),
        more=BUDGET,
    )  # fmt: skip
    said = [rule_in_plain_words(one) for one in engine.bundle.rules]
    assert "goes to the model small instead, and is judged anew as that" in said[0]
    assert "goes to the function f where BUD refuses it" in said[1]


@pytest.mark.parametrize(
    ("then", "expected", "is_passed"),
    [("{ model: small }", "small", True), ("{ model: small }", "none", False), ("{ model: other }", "small", False)],
)  # fmt: skip
def test_a_case_can_expect_where_a_call_goes(then: str, expected: str, is_passed: bool) -> None:
    """`expect.fallback` is the name, or none."""
    cases = f"""---
apiVersion: agentguard/v1
kind: PolicyTest
metadata: {{ name: t }}
policies: all
cases:
  - {{ name: c, at: model.before, given: {{ model.name: big }}, expect: {{ decision: allow, fallback: {expected} }} }}
"""
    bundle = load_texts({"p.yaml": HEAD + rule("F", f"{{ fallback: {then} }}") + cases})
    assert run_tests(bundle).is_passed is is_passed


def test_a_case_can_expect_what_stands_in_for_a_limit() -> None:
    """The throttle refuses the second call, and the case sees where it would go."""
    text = (
        HEAD + rule("T", "{ throttle: { key: model.name, limit: 1, window: 1m } }")
        + rule("F", "{ fallback: { model: small, instead_of: [T] } }")
        + """---
apiVersion: agentguard/v1
kind: PolicyTest
metadata: { name: t }
policies: all
given: { model.name: big }
cases:
  - { name: first, at: model.before, given: {}, expect: { decision: allow, fallback: none } }
  - { name: second, at: model.before, given: {}, repeat: 2, expect: { decision: throttle, fallback: small } }
"""
    )  # fmt: skip
    report = run_tests(load_texts({"p.yaml": text}))
    assert report.is_passed, report.failed


TERMS = ApprovalTerms(("bob",), 1, 60.0, GrantScopes(5, 60.0, any_run=True))
HELD = Decision(
    Effect.REQUIRE_APPROVAL, "H", "p", approval=TERMS, redact=("card",), record=RecordMode.REQUIRED
)


def test_what_was_demanded_stays_demanded() -> None:
    """Approval, redaction and record of the first question hold for what the call becomes."""
    bundle = load(rule("F", "{ fallback: { model: small } }")).bundle
    joined = carried(bundle, HELD, Decision(Effect.ALLOW, redact=("email",)), "why")
    assert (joined.effect, joined.approval, joined.record) == (
        Effect.REQUIRE_APPROVAL,
        TERMS,
        RecordMode.REQUIRED,
    )
    assert joined.redact == ("card", "email")
    assert joined.reason == "why"


def test_two_approvals_are_joined_to_the_stricter() -> None:
    """The narrower scope, the shorter time; where nobody is named by both, it is denied."""
    bundle = load(rule("F", "{ fallback: { model: small } }")).bundle
    second = HELD.approval._replace(approvals=2, scopes=GrantScopes(9, 30.0))  # type: ignore[union-attr]
    joined = carried(bundle, HELD, Decision(Effect.REQUIRE_APPROVAL, "I", approval=second), "why")
    assert joined.approval == ApprovalTerms(("bob",), 2, 60.0, GrantScopes(5, 30.0))
    other = Decision(Effect.REQUIRE_APPROVAL, "I", approval=TERMS._replace(approvers=("ann",)))
    assert carried(bundle, HELD, other, "why").effect is Effect.DENY


def test_a_replacement_that_is_denied_is_denied() -> None:
    """Whatever was said of the call before."""
    bundle = load(rule("F", "{ fallback: { model: small } }")).bundle
    denied = Decision(Effect.DENY, "D", "p", reason="no")
    joined = carried(bundle, HELD, denied, "sent on")
    assert (joined.effect, joined.rule_id, joined.reason) == (Effect.DENY, "D", "sent on; no")


_EFFECTS = st.sampled_from([Effect.DENY, Effect.KILL, Effect.REQUIRE_APPROVAL, Effect.ALLOW])


def _decision(effect: Effect, who: str, redact: tuple[str, ...], record: RecordMode) -> Decision:
    terms = ApprovalTerms((who,), 1, 60.0) if effect is Effect.REQUIRE_APPROVAL else None
    return Decision(effect, "R", "p", approval=terms, redact=redact, record=record)


@given(
    first=st.builds(
        _decision,
        st.sampled_from([Effect.ALLOW, Effect.REQUIRE_APPROVAL]),
        st.sampled_from(["ann", "bob"]),
        st.sampled_from([(), ("card",)]),
        st.sampled_from(RecordMode),
    ),
    second=st.builds(
        _decision,
        _EFFECTS,
        st.sampled_from(["ann", "bob"]),
        st.sampled_from([(), ("email",)]),
        st.sampled_from(RecordMode),
    ),
)
def test_a_fallback_loosens_nothing(first: Decision, second: Decision) -> None:
    """Whatever the two decisions are: what holds is at least as strict as each of them."""
    bundle = load(rule("F", "{ fallback: { model: small } }")).bundle
    joined = carried(bundle, first, second, "why")
    rank = [Effect.KILL, Effect.DENY, Effect.REQUIRE_APPROVAL, Effect.ALLOW].index
    assert rank(joined.effect) <= min(rank(first.effect), rank(second.effect))
    assert set(joined.redact) == {*first.redact, *second.redact}
    firmness = [RecordMode.ASYNC, RecordMode.PREFERRED, RecordMode.REQUIRED].index
    assert firmness(joined.record) >= max(firmness(first.record), firmness(second.record))
    if joined.effect is Effect.REQUIRE_APPROVAL:
        asked = {one.approval.approvers for one in (first, second) if one.approval is not None}
        assert joined.approval is not None
        assert {joined.approval.approvers} == asked
