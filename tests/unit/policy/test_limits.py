"""Rules with a memory, as documents and as decisions: what the engine names and never answers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentguard.errors import PolicyDocumentError
from agentguard.policy import Engine
from agentguard.review import run_tests
from agentguard.values import BreakerTerms, BudgetTerms, Effect, StateGate, ThrottleTerms
from tests.support.policies import bundle, call, document, engine

THROTTLE = "{ throttle: { key: tool.name, limit: 2, window: 1m } }"
BREAK = "{ circuit_break: { key: [tool.name, env.name], open_for: 2m, probe: 3 } }"
BUDGET = "budgets:\n  - { id: BUD, title: About BUD, key: [agent.name], measure: cost.usd, limit: 1.5, window: 1d, reserve: max, call_max: 0.25, soft: 0.8, then: deny }\n"


def test_the_engine_names_gates_in_their_order() -> None:
    """Breakers first, whether or not they hold; then throttles, then budgets; the call is allowed but for them."""
    rules = document(f"T | tool.before | true | {THROTTLE}", f"C | tool.before | run.repeats > 5 | {BREAK}")
    budget = BUDGET.replace("cost.usd", "calls").replace("1.5", "9").replace(", call_max: 0.25", "")
    decision = Engine(bundle(rules + budget)).decide("tool.before", call())
    assert decision.effect is Effect.ALLOW
    assert [(gate.rule_id, gate.effect) for gate in decision.gates] == [
        ("C", Effect.CIRCUIT_BREAK), ("T", Effect.THROTTLE), ("BUD", Effect.DENY),
    ]  # fmt: skip
    assert [gate.terms for gate in decision.gates] == [
        BreakerTerms(120.0, 3), ThrottleTerms(2, 60.0),
        BudgetTerms("calls", 9, 86_400.0, "max", 1, 0.8),
    ]  # fmt: skip
    assert [gate.is_tripped for gate in decision.gates] == [False, False, False]
    assert [rule.rule_id for rule in decision.matched] == ["T"]
    tripped = Engine(bundle(rules)).decide("tool.before", call(run__repeats=6))
    assert tripped.gates[0].is_tripped


def test_what_is_denied_asks_no_gate() -> None:
    """State is not asked about a call that does not run anyway."""
    decision = engine(f"T | tool.before | true | {THROTTLE}", "D | tool.before | true | deny").decide(
        "tool.before", call()
    )
    assert (decision.effect, decision.gates) == (Effect.DENY, ())


def test_a_limit_permits_nothing() -> None:
    """Under `unmatched: deny` a call within its limit still needs a permission."""
    assert engine(f"T | tool.before | true | {THROTTLE}", unmatched="deny").decide(
        "tool.before", call()
    ).effect is Effect.DENY  # fmt: skip


def test_kill_is_above_deny() -> None:
    """The kill rule decides, and says what is stopped; two scopes make it all."""
    rules = ("D | tool.before | true | deny", "K | tool.before | true | { kill: { scope: tool } }")
    decision = engine(*rules).decide("tool.before", call())
    assert (decision.effect, decision.rule_id, decision.kill_scope) == (Effect.KILL, "K", "tool")
    both = engine(*rules, "L | tool.before | true | { kill: { scope: agent } }").decide("tool.before", call())
    assert both.kill_scope == "all"
    shadow = engine("K | tool.before | true | { kill: { scope: all } } | mode: shadow").decide(
        "tool.before", call()
    )
    assert (shadow.effect, shadow.would_be, shadow.kill_scope) == (Effect.ALLOW, Effect.KILL, "")


def test_a_budget_is_read_in_whole_units() -> None:
    """Dollars become billionths, seconds milliseconds; cost is asked at the model."""
    loaded = bundle(document("A | tool.before | true | allow") + BUDGET)
    [budget] = loaded.budgets
    assert budget.action.limit == BudgetTerms("cost.usd", 1_500_000_000, 86_400.0, "max", 250_000_000, 0.8)
    assert budget.points == ("model.before",)
    assert [rule.id for rule in loaded.rules] == ["A"]


@pytest.mark.parametrize(
    ("then", "code"),
    [
        ("throttle", "missing-field"),
        ("{ throttle: { key: args.x, limit: 1, window: 1m } }", "unknown-fact"),
        ("{ throttle: { key: args, limit: 1, window: 1m } }", "model-supplied-key"),
        ("{ throttle: { key: time.now, limit: 1, window: 1m } }", "wrong-type"),
        ("{ throttle: { key: model.name, limit: 1, window: 1m } }", "unknown-fact"),
        ("{ throttle: { key: tool.nam, limit: 1, window: 1m } }", "unknown-fact"),
        ("{ throttle: { key: tool.name, limit: 0, window: 1m } }", "out-of-range"),
        ("{ throttle: { key: tool.name, limit: '3', window: 1m } }", "wrong-type"),
        ("{ throttle: { key: tool.name, limit: 3 } }", "missing-field"),
        ("{ throttle: { key: tool.name, limit: 3, window: 90 } }", "wrong-type"),
        ("{ circuit_break: { key: tool.name, open_for: 2m, probes: 1 } }", "unknown-field"),
        ("{ circuit_break: { open_for: 2m } }", "missing-field"),
        ("{ kill: { scope: everything } }", "unknown-word"),
        ("{ kill: all }", "wrong-type"),
        ("{ fallback: { model: small, function: f } }", "missing-field"),
    ],
)
def test_a_wrong_limit_does_not_load(then: str, code: str) -> None:
    """Each mistake is refused by its own code."""
    with pytest.raises(PolicyDocumentError) as caught:
        bundle(document(f"R | tool.before | true | {then}"))
    assert code in {problem.code for problem in caught.value.problems}


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("limit: 1.5", "limit: -1", "out-of-range"),
        ("limit: 1.5", "limit: .inf", "wrong-type"),
        ("limit: 1.5", "limit: '2'", "wrong-type"),
        ("call_max: 0.25", "call_max: 2", "out-of-range"),
        (", call_max: 0.25", "", "missing-field"),
        ("measure: cost.usd", "measure: cost.eur", "unknown-word"),
        ("soft: 0.8", "soft: 80", "out-of-range"),
        ("then: deny", "then: allow", "unknown-word"),
        ("then: deny", "then: deny, at: model.after", "wrong-point"),
        ("then: deny", "then: deny, when: model.nam == 'x'", "unknown-name"),
        ("id: BUD", "id: A", "duplicate-rule"),
        ("key: [agent.name]", "key: [tool.name]", "unknown-fact"),
        ("measure: cost.usd", "measure: time.s", "out-of-range"),
        ("window: 1d", "window: 1d, windows: 2", "unknown-field"),
    ],
)
def test_a_wrong_budget_does_not_load(old: str, new: str, code: str) -> None:
    """Each mistake is refused by its own code."""
    text = document("A | tool.before | true | allow") + BUDGET
    assert old in text
    with pytest.raises(PolicyDocumentError) as caught:
        bundle(text.replace(old, new))
    assert code in {problem.code for problem in caught.value.problems}


@pytest.mark.parametrize(("repeat", "decision"), [(2, "allow"), (3, "throttle")])
def test_a_case_can_ask_more_than_once(repeat: int, decision: str) -> None:
    """The third call is one too many, in a test as in life."""
    text = document(f"T | tool.before | true | {THROTTLE}")
    text += f"""---
apiVersion: agentguard/v1
kind: PolicyTest
metadata: {{ name: t }}
policies: [p]
cases:
  - {{ name: c, at: tool.before, given: {{ tool.name: a }}, repeat: {repeat}, expect: {{ decision: {decision}, matched: [T] }} }}
"""
    report = run_tests(bundle(text))
    assert report.is_passed, report.failed


LIMITS = st.sampled_from(
    (THROTTLE, BREAK, "{ throttle: { key: [], limit: 9, window: 1h } }", "{ kill: { scope: all } }")
)
WHEN = st.sampled_from(("true", "tool.name == 'refund'", "args.n > 1", "args.missing == 1", "false"))


@settings(max_examples=60)
@given(st.lists(st.tuples(WHEN, LIMITS), min_size=1, max_size=3), st.booleans(), st.integers(0, 3))
def test_another_document_only_adds_gates(
    more: list[tuple[str, str]], is_budgeted: bool, number: int
) -> None:
    """Whatever limits a document brings, the gates of the first are still asked, unless the call is refused."""
    first = document(f"T | tool.before | true | {THROTTLE}", f"C | tool.before | args.n > 1 | {BREAK}")
    second = document(
        *(f"R{i} | tool.before | {when} | {then}" for i, (when, then) in enumerate(more)), name="q"
    )
    second += (
        BUDGET.replace("cost.usd", "calls").replace("1.5", "9").replace(", call_max: 0.25", "")
        if is_budgeted
        else ""
    )
    facts = call(args={"n": number})
    alone: tuple[StateGate, ...] = Engine(bundle(first)).decide("tool.before", facts).gates
    together = Engine(bundle(first, second)).decide("tool.before", facts)
    assert not together.is_allowed or set(alone) <= set(together.gates)
