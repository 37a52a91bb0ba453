"""Laws of compiled conditions over generated expressions."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agentguard.errors import PolicyDocumentError, PolicyEvaluationError
from agentguard.policy.conditions import compile_condition, render_plain
from agentguard.policy.conditions.faults import Fault
from agentguard.policy.conditions.generate import Generator
from tests.differential.cel_generator import SCHEMA
from tests.differential.cel_generator import Generator as Expressions
from tests.differential.cel_plain import same


@given(st.integers(min_value=0, max_value=10**9))
def test_quick_and_exact_functions_agree(seed: int) -> None:
    """Where the quick function answers, the exact one gives the same; English never fails."""
    made = Expressions(seed)
    source, facts = made.condition().ours, made.facts()
    try:
        condition = compile_condition(source, SCHEMA, expect="")
    except PolicyDocumentError:
        return
    assert render_plain(condition.tree)
    exact = Generator(is_exact=True).function(condition.tree, is_bool=condition.type == "bool")
    try:
        quick = condition.function(facts)
    except PolicyEvaluationError:
        quick = Fault
    try:
        slow = exact(facts)
    except Fault:
        slow = Fault
    assert quick is slow or same(quick, slow)


@given(st.integers(min_value=0, max_value=10**9), st.booleans())
def test_order_of_terms_does_not_matter(seed: int, is_and: bool) -> None:
    """`a && b` is `b && a`, errors included; the same for `||`."""
    made = Expressions(seed)
    left, right, facts = made.make("bool", 2).ours, made.make("bool", 2).ours, made.facts()
    operator = "&&" if is_and else "||"
    outcomes: list[object] = []
    for source in (f"({left}) {operator} ({right})", f"({right}) {operator} ({left})"):
        try:
            outcomes.append(compile_condition(source, SCHEMA).function(facts))
        except PolicyDocumentError:
            outcomes.append("refused")
        except PolicyEvaluationError:
            outcomes.append("error")
    assert outcomes[0] is outcomes[1] or outcomes[0] == outcomes[1]
