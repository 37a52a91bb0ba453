"""
Answers to the gates that the engine only names: breakers, throttles, budgets.

Takes a decision, the facts of its call and a state; gives the decision that
holds, and tickets for what the call must settle when it ends. The same for a
machine and for a replay. A state that cannot be read refuses.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol, TypeAlias

from agentguard.errors import PolicyEvaluationError
from agentguard.state.breakers import Breakers, Permit, Rested
from agentguard.state.ledger import Drawn, Ledger, Refused
from agentguard.state.pots import Pot
from agentguard.values import (
    GATES,
    BreakerTerms,
    BudgetTerms,
    Decision,
    DenialKind,
    Effect,
    MatchedRule,
    Mode,
    StateGate,
    ThrottleTerms,
)

UNITS: Mapping[str, int] = {"cost.usd": 1_000_000_000, "tokens": 1, "calls": 1, "time.s": 1_000}
"""Units of a budget's amounts in one dollar, token, call, second."""
FIRST_SHARE = 100
"""A call of which nothing is known yet is taken to use this part of a budget: one hundredth."""

_RANK = {effect: rank for rank, effect in enumerate(GATES)}


class Used(NamedTuple):
    """What a call has used; None: nobody knows, and what was set aside is charged."""

    usd: float | None = None
    tokens: int | None = None
    seconds: float | None = None


class Charge(NamedTuple):
    """An amount that a budget has set aside for a call."""

    gate: StateGate
    drawn: Drawn
    estimate: int
    """Charged where nobody knows what was used."""


Ticket: TypeAlias = Permit | Charge


class Limits(Protocol):
    """The state that gates ask."""

    ledger: Ledger
    breakers: Breakers


class Answer(NamedTuple):
    """What holds, and what is to be settled when the call ends or does not run."""

    decision: Decision
    tickets: tuple[Ticket, ...]


class _Refusal(NamedTuple):
    gate: StateGate
    said: str
    retry_after_s: float


def answer_gates(state: Limits, decision: Decision, facts: Mapping[str, object]) -> Answer:
    """
    Ask the gates of a decision, the most restrictive first.

    Args:
        state:
            Of the machine, or in memory.
        decision:
            One that lets the call run, or holds it for approval, with `gates`.
        facts:
            Of the call, for the keys.

    Returns:
        The decision that holds now, and the tickets. Where it refuses there are none: what was set
        aside has gone back.
    """
    tickets: list[Ticket] = []
    shadows: list[_Refusal] = []
    notes: list[str] = []
    errors: list[str] = []
    for gate in decision.gates:
        try:
            refusal, ticket, is_soft = _ask(state, gate, facts)
        except Exception as error:
            if gate.mode is not Mode.ENFORCE:
                errors.append(f"{gate.rule_id}: {type(error).__name__} ({gate.mode}: not enforced)")
                continue
            give_back(state, tickets)
            return Answer(_unanswered(decision, gate, error), ())
        if ticket is not None:
            tickets.append(ticket)
        if is_soft:
            notes.append(gate.rule_id)
        if refusal is None:
            continue
        if gate.mode is Mode.ENFORCE:
            give_back(state, tickets)
            return Answer(_refused(decision, refusal), ())
        shadows.append(refusal)
        if gate.mode is Mode.WARN:
            notes.append(gate.rule_id)
    if shadows or notes or errors:
        decision = _noted(decision, shadows, notes, errors)
    return Answer(decision, tuple(tickets))


def settle_tickets(
    state: Limits, tickets: Sequence[Ticket], used: Used, *, is_error: bool | None
) -> list[str]:
    """
    Say what became of a call.

    Args:
        state:
            That gave the tickets.
        tickets:
            Of one call; each is settled once.
        used:
            What it used.
        is_error:
            Whether it raised; None where nobody knows.

    Returns:
        Ids of the budgets whose `call_max` the call went beyond.
    """
    beyond: list[str] = []
    for ticket in tickets:
        if isinstance(ticket, Permit):
            state.breakers.settle(ticket, is_error=is_error)
            state.ledger.wake()
        else:
            terms = ticket.gate.terms
            assert isinstance(terms, BudgetTerms)
            actual = _actual(terms, used)
            if actual is None:
                actual = max(ticket.estimate, ticket.drawn.amount)
            if 0 < terms.call_max < actual:
                beyond.append(ticket.gate.rule_id)
            state.ledger.settle(ticket.drawn, actual)
    return beyond


def give_back(state: Limits, tickets: Sequence[Ticket]) -> None:
    """Settle for a call that did not run: a budget gets all of it back."""
    for ticket in tickets:
        if isinstance(ticket, Permit):
            state.breakers.settle(ticket, is_error=None)
            state.ledger.wake()
        else:
            state.ledger.settle(ticket.drawn, 0, has_run=False)


def gate_name(gate: StateGate, facts: Mapping[str, object]) -> str:
    """
    Name what a gate counts for a call: policy, rule, and the values of its key.

    Raises:
        PolicyEvaluationError: A fact of the key has no value that can be told apart.
    """
    values: list[object] = []
    for fact in gate.key:
        try:
            value = facts[fact]
        except KeyError:
            raise PolicyEvaluationError(f"the key `{fact}` has no value") from None
        if not isinstance(value, str | int):
            raise PolicyEvaluationError(
                f"the key `{fact}` is a {type(value).__name__}, expected text or a number"
            )
        values.append(value)
    return f"{gate.policy}/{gate.rule_id}{json.dumps(values)}"


def pot_of(gate: StateGate, name: str) -> Pot:
    """Say what a throttle or a budget draws from."""
    terms = gate.terms
    assert isinstance(terms, ThrottleTerms | BudgetTerms)
    measure = terms.measure if isinstance(terms, BudgetTerms) else "attempts"
    # Another window or measure counts in other stretches and units: it begins anew, as another pot.
    name = f"{name}{measure}/{terms.window_s:g}"
    return Pot(name, terms.limit, terms.window_s, isinstance(terms, ThrottleTerms))


def _ask(
    state: Limits, gate: StateGate, facts: Mapping[str, object]
) -> tuple[_Refusal | None, Ticket | None, bool]:
    """Ask one gate: whether it refuses, what is to be settled, whether it is nearly used up."""
    name = gate_name(gate, facts)
    terms = gate.terms
    if isinstance(terms, BreakerTerms):
        # A rule in shadow opens nothing of anybody's: its breaker has its own name.
        answer = state.breakers.ask(name, terms, is_tripped=gate.is_tripped)
        if isinstance(answer, Rested):
            return _Refusal(gate, "the breaker is open", answer.retry_after_s), None, False
        return None, answer, False
    pot = pot_of(gate, name)
    if isinstance(terms, ThrottleTerms):
        drawn = state.ledger.draw(pot, 1)
        if isinstance(drawn, Refused):
            said = f"{terms.limit} calls in {terms.window_s:g} s are used up"
            return _Refusal(gate, said, drawn.retry_after_s), None, False
        # It counts where it begins, whatever becomes of it: a throttle is about attempts.
        state.ledger.settle(drawn, 1)
        return None, None, False
    estimate = _estimate(state.ledger, pot, terms)
    drawn = state.ledger.draw(pot, 0 if terms.reserve == "none" else estimate)
    if isinstance(drawn, Refused):
        unit = UNITS[terms.measure]
        said = (
            f"{terms.measure} {drawn.used / unit:g} of {terms.limit / unit:g} used or set aside, "
            f"and a call takes {estimate / unit:g}"
        )
        return _Refusal(gate, said, drawn.retry_after_s), None, False
    return None, Charge(gate, drawn, estimate), drawn.used >= terms.soft * terms.limit and terms.soft < 1


def _estimate(ledger: Ledger, pot: Pot, terms: BudgetTerms) -> int:
    """Say what a call is taken to use."""
    if terms.measure == "calls":
        return 1
    if terms.reserve == "max":
        return terms.call_max
    mean = ledger.mean(pot)
    if mean is None:
        mean = terms.call_max or math.ceil(terms.limit / FIRST_SHARE)
    return max(min(mean, terms.call_max or mean), 1)


def _actual(terms: BudgetTerms, used: Used) -> int | None:
    """Say what a call used, in units of the budget, rounded up."""
    amount: float | None
    match terms.measure:
        case "calls":
            amount = 1
        case "tokens":
            amount = used.tokens
        case "cost.usd":
            amount = used.usd
        case _:
            amount = used.seconds
    if amount is None or not math.isfinite(amount) or amount < 0:
        return None
    return math.ceil(round(amount * UNITS[terms.measure], 3))


def _refused(decision: Decision, refusal: _Refusal) -> Decision:
    """Turn a decision into the refusal of a gate."""
    gate = refusal.gate
    return replace(
        decision,
        effect=gate.effect,
        rule_id=gate.rule_id,
        policy=gate.policy,
        kind=DenialKind.WAIT,
        reason=f"{_VERBS[gate.effect]} by {gate.rule_id} ({gate.title}): {refusal.said}",
        agent_message=gate.agent_message,
        matched=_with(decision, gate),
        approval=None,
        wait_s=0.0,
        retry_after_s=math.ceil(refusal.retry_after_s * 1000) / 1000,
        gates=(),
    )


_VERBS = {Effect.CIRCUIT_BREAK: "rested", Effect.THROTTLE: "throttled", Effect.DENY: "denied"}


def _unanswered(decision: Decision, gate: StateGate, error: Exception) -> Decision:
    """Turn a decision into a denial, because a gate could not be asked."""
    what = str(error) if isinstance(error, PolicyEvaluationError) else type(error).__name__
    said = f"{gate.rule_id}: {what}"
    return replace(
        decision,
        effect=Effect.DENY,
        rule_id=gate.rule_id,
        policy=gate.policy,
        kind=DenialKind.FORBIDDEN,
        reason=f"denied because {gate.rule_id} ({gate.title}) cannot be evaluated: {what}",
        agent_message="",
        errors=(*decision.errors, said),
        approval=None,
        wait_s=0.0,
        gates=(),
    )


def _noted(
    decision: Decision, shadows: Sequence[_Refusal], notes: Sequence[str], errors: Sequence[str]
) -> Decision:
    """Note what would have been refused, and what is nearly used up."""
    would_be = decision.would_be
    matched = decision.matched
    for refusal in shadows:
        if _RANK[refusal.gate.effect] < _RANK[would_be or decision.effect]:
            would_be = refusal.gate.effect
        matched = _with(replace(decision, matched=matched), refusal.gate)
    said = [
        f"NOT ENFORCED ({one.gate.mode}): would be {_VERBS[one.gate.effect]} by {one.gate.rule_id} "
        f"({one.gate.title}): {one.said}"
        for one in shadows
    ]
    return replace(
        decision,
        reason="; ".join([*([decision.reason] if decision.reason else []), *said]),
        matched=matched,
        warnings=tuple(dict.fromkeys((*decision.warnings, *notes))),
        errors=(*decision.errors, *errors),
        would_be=would_be,
    )


def _with(decision: Decision, gate: StateGate) -> tuple[MatchedRule, ...]:
    """Put a gate among what matched, where it is not there yet."""
    if any(rule.rule_id == gate.rule_id and rule.policy == gate.policy for rule in decision.matched):
        return decision.matched
    return (*decision.matched, MatchedRule(gate.policy, gate.rule_id, gate.title, gate.effect, gate.mode))
