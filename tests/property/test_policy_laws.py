"""Laws of the engine, over generated policies and calls."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from agentguard.policy import Bundle, Engine
from agentguard.state import MemoryState, answer_gates
from agentguard.values import GATES, Effect, Mode
from tests.support.clock import FrozenClock
from tests.support.policies import bundle, document

NAMES = ("a", "b", "c")
RANK = {effect: rank for rank, effect in enumerate(GATES)}

CONDITIONS = st.sampled_from(
    (
        "true", "tool.name == 'a'", "tool.name in ['a', 'b']", "'b' == tool.name", "args.n > 1", "args.n > 1 || tool.name == 'c'",
        "tool.name == 'a' && args.n > 1", "tool.name == 'a' || tool.name == 'c'", "agent.name == 'x' && tool.name != 'a'",
        "env.name == 'prod' && (tool.name == 'a' && args.n > 1 || tool.name == 'b')", "!(tool.name == 'a')",
        "tool.name == 'a' && tool.name == 'b'", "args.missing == 1", "tool.name == 'b' && args.missing == 1", "false",
        "tool.effect == 'read' ? tool.name == 'a' : args.n > 0",
    )
)  # fmt: skip
EFFECTS = st.sampled_from(
    (
        "allow",
        "deny",
        "warn",
        "{ redact: [card] }",
        "{ require_approval: { from: [ann], expires: 1h } }",
        "{ throttle: { key: tool.name, limit: 1, window: 1m } }",
        "{ kill: { scope: tool } }",
        "{ circuit_break: { key: tool.name, open_for: 1m } }",
    )
)
MODES = st.sampled_from(("enforce", "enforce", "enforce", "warn", "shadow"))
SCOPES = st.sampled_from(
    ("", "", "{ agents: [x] }", "{ environments: [prod] }", "{ agents: ['y*'], environments: ['*'] }")
)


@st.composite
def documents(draw: st.DrawFn, name: str = "p") -> str:
    """One policy of a few rules."""
    rules = [
        f"R{number} | tool.before | {draw(CONDITIONS)} | {draw(EFFECTS)} | mode: {draw(MODES)}"
        for number in range(draw(st.integers(1, 5)))
    ]
    return document(
        *rules,
        name=name,
        unmatched=draw(st.sampled_from(("allow", "deny"))),
        mode=draw(MODES),
        scope=draw(SCOPES),
    )


CALLS = st.fixed_dictionaries(
    {
        "tool.name": st.sampled_from(NAMES),
        "tool.effect": st.sampled_from(("read", "write")),
        "agent.name": st.sampled_from(("", "x", "y1")),
        "env.name": st.sampled_from(("", "prod", "dev")),
        "args": st.fixed_dictionaries({"n": st.integers(0, 3)}, optional={"missing": st.just(1)}),
    }
)


@settings(max_examples=70)
@given(documents("p"), documents("q"), CALLS)
def test_adding_a_document_never_allows_more(first: str, second: str, facts: Mapping[str, object]) -> None:
    """
    The answer of both is at least as strict as the answer of each that covers the call.

    A document in scope answers for itself, so another one can only tighten.
    """
    together = Engine(bundle(first, second)).decide("tool.before", facts)
    for alone in (first, second):
        single = Engine(bundle(alone)).decide("tool.before", facts)
        if "no policy document covers" not in single.reason:
            assert RANK[together.effect] <= RANK[single.effect]


@settings(max_examples=50)
@given(documents("p"), documents("q"), CALLS)
def test_the_order_of_documents_changes_nothing(first: str, second: str, facts: Mapping[str, object]) -> None:
    """Effect, redactions and whether it would be stricter are the same both ways."""
    one = Engine(bundle(first, second)).decide("tool.before", facts)
    two = Engine(bundle(second, first)).decide("tool.before", facts)
    assert (one.effect, one.would_be, set(one.redact), one.record) == (
        two.effect,
        two.would_be,
        set(two.redact),
        two.record,
    )
    assert sorted(one.matched) == sorted(two.matched)


@settings(max_examples=70)
@given(documents("p"), CALLS)
def test_the_index_leaves_out_only_what_could_not_match(text: str, facts: dict[str, object]) -> None:
    """The matches are those of every condition, asked one by one."""
    loaded = bundle(text)
    decision = Engine(loaded).decide("tool.before", facts)
    assert [rule.rule_id for rule in decision.matched] == _asked_one_by_one(loaded, facts)


@settings(max_examples=50)
@given(documents("p"), CALLS)
def test_what_cannot_be_evaluated_is_never_allowed(text: str, facts: dict[str, object]) -> None:
    """An enforced rule with an error, whatever its effect but warn, denies."""
    loaded = bundle(text)
    decision = Engine(loaded).decide("tool.before", facts)
    enforced = {
        rule.id for rule in loaded.rules if rule.mode is Mode.ENFORCE and rule.effect is not Effect.WARN
    }
    if any(error.split(":")[0] in enforced for error in decision.errors):
        assert decision.effect in (Effect.DENY, Effect.KILL)


@settings(max_examples=40)
@given(documents("p"), st.lists(CALLS, min_size=2, max_size=6))
def test_an_engine_remembers_nothing_of_a_call(text: str, calls: list[dict[str, object]]) -> None:
    """A used engine answers as a new one."""
    loaded = bundle(text)
    used = Engine(loaded)
    for facts in (*calls, *reversed(calls)):
        assert used.decide("tool.before", facts) == Engine(loaded).decide("tool.before", facts)


def _asked_one_by_one(loaded: Bundle, facts: Mapping[str, object]) -> list[str]:
    """Ids of the rules that match, without any index."""
    (policy,) = loaded.policies
    agent, environment = str(facts["agent.name"]), str(facts["env.name"])
    if agent and policy.agents and not any(agent.startswith(glob.rstrip("*")) for glob in policy.agents):
        return []
    if (
        environment
        and policy.environments
        and not any(glob in (environment, "*") for glob in policy.environments)
    ):
        return []
    found = []
    for rule in policy.rules:
        try:
            if rule.conditions[rule.points[0]].evaluate(facts) is True:
                found.append(rule.id)
        except Exception:
            continue
    return found


@settings(max_examples=60)
@given(documents("p"), documents("q"), CALLS)
def test_adding_a_document_never_lets_more_run_with_a_memory(
    first: str, second: str, facts: Mapping[str, object]
) -> None:
    """With what state answers, the answer of both is at least as strict as that of the first alone."""
    found = []
    for texts in ((first, second), (first,)):
        decision = Engine(bundle(*texts)).decide("tool.before", facts)
        state = MemoryState(FrozenClock())
        # Twice, so that a limit of one call has something to refuse.
        answer_gates(state, decision, facts)
        found.append(answer_gates(state, decision, facts).decision)
    together, single = found
    if "no policy document covers" not in single.reason:
        assert RANK[together.effect] <= RANK[single.effect]
