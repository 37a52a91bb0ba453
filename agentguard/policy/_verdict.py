"""From the rules that matched, and what could not be evaluated, to one decision."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from agentguard.policy._bundle import Bundle
from agentguard.policy._exceptions import lift
from agentguard.policy._explain import explain, values_read
from agentguard.policy._model import PolicyException
from agentguard.policy._plan import Asked, Plan
from agentguard.values import (
    GATES,
    ApprovalTerms,
    BudgetTerms,
    Decision,
    DenialKind,
    Effect,
    Fallback,
    GrantScopes,
    MatchedRule,
    Mode,
    RecordMode,
    StateGate,
)

REASON_CHARACTERS_MAX = 2_000
ERRORS_MAX = 20

_RANK = {effect: rank for rank, effect in enumerate(GATES)}
_STATEFUL = (Effect.CIRCUIT_BREAK, Effect.THROTTLE)
"""Gates that state answers: that their rule matched does not refuse anything yet."""
_EXPLAINED = (Effect.KILL, Effect.DENY, Effect.REQUIRE_APPROVAL)
_FIRMNESS = {RecordMode.ASYNC: 0, RecordMode.PREFERRED: 1, RecordMode.REQUIRED: 2}


class Fault(NamedTuple):
    """Something that could not be evaluated."""

    text: str
    asked: Asked | None
    """The rule; None where it concerns the whole question."""


class _Answer(NamedTuple):
    """What decides, before it is put into words."""

    effect: Effect
    asked: Asked | None = None
    policy: str = ""
    reason: str = ""
    kind: DenialKind = DenialKind.NONE
    approval: ApprovalTerms | None = None
    retry_after_s: float | None = None
    wait_s: float = 0.0
    kill_scope: str = ""


def conclude(
    bundle: Bundle, plan: Plan, matched: Iterable[Asked], faults: Sequence[Fault], facts: Mapping[str, object]
) -> Decision:
    """
    Make the decision.

    Args:
        bundle:
            For names and approvers.
        plan:
            What was asked.
        matched:
            The asked rules that matched; those of `plan.certain` are added here.
        faults:
            What could not be evaluated.
        facts:
            Read again for the explanation, only where a rule acts.

    Returns:
        The most restrictive answer of all documents in scope, with everything that matched.
    """
    matching = sorted((*plan.certain, *matched), key=lambda asked: asked.order)
    used: tuple[PolicyException, ...] = ()
    if bundle.exceptions:
        matching, used = lift(bundle.exceptions, matching, facts)
    # A budget says nothing by itself: state says whether it is used up.
    every = [asked for asked in matching if not asked.rule.action.is_budget]
    enforced = [asked for asked in every if asked.rule.mode is Mode.ENFORCE]
    answer = _enforced(bundle, plan, enforced, faults, facts)
    would_be = _would_be(bundle, plan, every, faults)
    restricts = would_be is not None and _RANK[would_be] < _RANK[answer.effect]
    acting = enforced if answer.effect is not Effect.ALLOW else every if restricts else []
    explains = [asked for asked in acting if asked.rule.effect in _EXPLAINED]
    reason = answer.reason
    if restricts and answer.effect is Effect.ALLOW:
        reason = _join([reason, _not_enforced(bundle, plan, every, facts)])
    if used:
        reason = _join([*map(_lifted, used), reason])
    return Decision(
        effect=answer.effect,
        rule_id=answer.asked.rule.id if answer.asked else "",
        policy=answer.policy,
        kind=answer.kind,
        reason=reason[:REASON_CHARACTERS_MAX],
        agent_message=answer.asked.rule.agent_message
        if answer.asked and answer.effect is not Effect.ALLOW
        else "",
        matched=tuple(
            MatchedRule(a.rule.policy, a.rule.id, a.rule.title, a.rule.effect, a.rule.mode) for a in every
        ),
        errors=tuple(_said(fault) for fault in faults[:ERRORS_MAX]),
        values=values_read(explains, plan.point, facts, bundle.facts) if explains else None,
        redact=tuple(dict.fromkeys(kind for a in enforced for kind in a.rule.action.redact)),
        warnings=(*_warnings(bundle, plan, every), *(f"exception:{one.name}" for one in used)),
        record=_record(every, faults, answer.effect),
        approval=answer.approval,
        retry_after_s=answer.retry_after_s,
        would_be=would_be if restricts else None,
        gates=_gates(plan, matching) if answer.effect in (Effect.ALLOW, Effect.REQUIRE_APPROVAL) else (),
        fallbacks=_fallbacks(enforced) if answer.effect in (Effect.ALLOW, Effect.REQUIRE_APPROVAL) else (),
        wait_s=answer.wait_s,
        kill_scope=answer.kill_scope,
    )


def _lifted(exception: PolicyException) -> str:
    """That a rule was lifted, and on whose word."""
    return (
        f"{exception.rule_id} is lifted by exception {exception.name} until {exception.expires} "
        f"({exception.ticket}, approved by {exception.approver})"
    )


def _gates(plan: Plan, matching: Sequence[Asked]) -> tuple[StateGate, ...]:
    """What state must be asked, the most restrictive first."""
    held = [asked for asked in matching if asked.rule.action.limit is not None]
    if not held and not plan.standing:
        return ()
    asking = dict.fromkeys((*plan.standing, *held))
    gates = [
        StateGate(
            rule.effect, rule.policy, rule.id, rule.title, rule.mode, rule.action.key, limit,
            is_tripped=rule.effect is Effect.CIRCUIT_BREAK and asked in matching, agent_message=rule.agent_message,
        )
        for asked in asking
        if (rule := asked.rule) and (limit := rule.action.limit) is not None
    ]  # fmt: skip
    # A budget comes after breakers and throttles, though it denies: what it sets aside is for calls that run.
    return tuple(sorted(gates, key=lambda gate: (isinstance(gate.terms, BudgetTerms), _RANK[gate.effect])))


def _fallbacks(enforced: Sequence[Asked]) -> tuple[Fallback, ...]:
    """Where the call may go instead, by document and id: the order of files changes nothing."""
    return tuple(
        sorted(
            fallback._replace(policy=asked.rule.policy, rule_id=asked.rule.id)
            for asked in enforced
            if (fallback := asked.rule.action.fallback) is not None
        )
    )


def _enforced(
    bundle: Bundle,
    plan: Plan,
    enforced: Sequence[Asked],
    faults: Sequence[Fault],
    facts: Mapping[str, object],
) -> _Answer:
    """The answer that holds: of the rules in mode `enforce`, the defaults, and what could not be evaluated."""
    killing = [asked for asked in enforced if asked.rule.effect is Effect.KILL]
    if killing:
        first = killing[0]
        return _Answer(
            Effect.KILL, first, first.rule.policy, f"stopped by {explain(first, plan.point, facts, bundle.facts)}",
            DenialKind.FORBIDDEN, kill_scope=_widest(killing),
        )  # fmt: skip
    denying = [asked for asked in enforced if asked.rule.effect is Effect.DENY]
    if denying:
        first = denying[0]
        return _Answer(
            Effect.DENY, first, first.rule.policy, f"denied by {explain(first, plan.point, facts, bundle.facts)}",
            first.rule.action.kind, retry_after_s=first.rule.action.retry_after_s,
        )  # fmt: skip
    for fault in faults:
        if fault.asked is None:
            if _is_strict(bundle):
                return _Answer(
                    Effect.DENY,
                    None,
                    "",
                    f"denied because it cannot be judged: {fault.text}",
                    DenialKind.FIX_INPUT,
                )
        elif fault.asked.rule.mode is Mode.ENFORCE and fault.asked.rule.effect is not Effect.WARN:
            rule = fault.asked.rule
            return _Answer(
                Effect.DENY, fault.asked, rule.policy,
                f"denied because {rule.id} ({rule.title}) cannot be evaluated: {fault.text}", DenialKind.FORBIDDEN,
            )  # fmt: skip
    if not plan.is_covered and plan.point.endswith(".before") and _is_strict(bundle):
        return _Answer(
            Effect.DENY, None, "",
            "denied because no policy document covers this agent and environment; "
            "a document without `scope` covers all",
            DenialKind.FORBIDDEN,
        )  # fmt: skip
    for index in _unpermitted(plan, enforced):
        policy = bundle.policies[index]
        if policy.mode is Mode.ENFORCE:
            return _Answer(
                Effect.DENY, None, policy.name,
                f"denied by the default of {policy.name}: no rule of it allows this call (unmatched: deny)",
                DenialKind.FORBIDDEN,
            )  # fmt: skip
    asking = [asked for asked in enforced if asked.rule.effect is Effect.REQUIRE_APPROVAL]
    if asking:
        return _approval(bundle, plan, asking, facts)
    allowing = [asked for asked in enforced if asked.rule.effect is Effect.ALLOW]
    if allowing:
        first = allowing[0]
        return _Answer(
            Effect.ALLOW, first, first.rule.policy, f"allowed by {first.rule.id} ({first.rule.title})"
        )
    return _Answer(Effect.ALLOW)


def _widest(killing: Sequence[Asked]) -> str:
    """What all rules that kill stop together: the one scope they name, or everything."""
    scopes = {asked.rule.action.kill_scope for asked in killing}
    return scopes.pop() if len(scopes) == 1 else "all"


def _approval(bundle: Bundle, plan: Plan, asking: Sequence[Asked], facts: Mapping[str, object]) -> _Answer:
    """Join the terms of all rules that ask for approval; where nobody could meet all of them, deny."""
    first = asking[0]
    terms = first.rule.action.approval
    assert terms is not None
    for asked in asking[1:]:
        other = asked.rule.action.approval
        assert other is not None
        joined = join_terms(bundle, terms, other)
        if joined is None:
            return _Answer(
                Effect.DENY, first, first.rule.policy,
                f"denied because {first.rule.id} and {asked.rule.id} ask for the approval of different people, "
                "and nobody is named by both",
                DenialKind.FORBIDDEN,
            )  # fmt: skip
        terms = joined
    return _Answer(
        Effect.REQUIRE_APPROVAL, first, first.rule.policy,
        f"held for approval by {explain(first, plan.point, facts, bundle.facts)}",
        DenialKind.NEEDS_APPROVAL, approval=terms,
        wait_s=min(asked.rule.action.wait_s for asked in asking),
    )  # fmt: skip


def join_terms(bundle: Bundle, one: ApprovalTerms, other: ApprovalTerms) -> ApprovalTerms | None:
    """
    Join what two rules ask for.

    Args:
        bundle:
            For the people of groups.
        one:
            Terms of a rule.
        other:
            Those of another.

    Returns:
        The stricter of both in everything; None where nobody is named by both.
    """
    people = _shared(bundle, one.approvers, other.approvers)
    if people is None:
        return None
    scopes = None
    if one.scopes is not None and other.scopes is not None:
        scopes = GrantScopes(
            min(one.scopes.uses, other.scopes.uses),
            min(one.scopes.lasts_s, other.scopes.lasts_s),
            one.scopes.any_run and other.scopes.any_run,
            one.scopes.any_arguments and other.scopes.any_arguments,
        )
    return ApprovalTerms(
        people, max(one.approvals, other.approvals), min(one.expires_s, other.expires_s), scopes
    )


def _shared(bundle: Bundle, one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...] | None:
    """Who is named by both lists: the list itself where they agree, else the people in both."""
    if set(one) == set(other):
        return one
    people = [
        {person.id for name in names for person in bundle.approvers.get(name, ())} for names in (one, other)
    ]
    both = sorted(people[0] & people[1])
    return tuple(both) if both else None


def _unpermitted(plan: Plan, matched: Sequence[Asked]) -> list[int]:
    """Documents that deny what none of their own rules lets run."""
    if not plan.needy:
        return []
    permitting = {
        asked.document for asked in matched if asked.rule.effect in (Effect.ALLOW, Effect.REQUIRE_APPROVAL)
    }
    return [index for index in plan.needy if index not in permitting]


def _would_be(bundle: Bundle, plan: Plan, every: Sequence[Asked], faults: Sequence[Fault]) -> Effect | None:
    """The gate that would hold if every rule and every default were enforced."""
    del bundle
    gates = [
        asked.rule.effect
        for asked in every
        if asked.rule.effect in _RANK and asked.rule.effect not in _STATEFUL
    ]
    if any(fault.asked is None or fault.asked.rule.effect is not Effect.WARN for fault in faults):
        gates.append(Effect.DENY)
    if _unpermitted(plan, every):
        gates.append(Effect.DENY)
    return min(gates, key=_RANK.__getitem__) if gates else None


def _not_enforced(bundle: Bundle, plan: Plan, every: Sequence[Asked], facts: Mapping[str, object]) -> str:
    """What the rules in modes `warn` and `shadow` would have said."""
    for asked in every:
        rule = asked.rule
        if rule.mode is not Mode.ENFORCE and rule.effect in _EXPLAINED:
            said = _WOULD[rule.effect]
            return f"NOT ENFORCED ({rule.mode}): would {said} by {explain(asked, plan.point, facts, bundle.facts)}"
    for index in _unpermitted(plan, every):
        policy = bundle.policies[index]
        return f"NOT ENFORCED ({policy.mode}): would be denied by the default of {policy.name}"
    return "NOT ENFORCED: would be denied because it cannot be judged"


_WOULD = {
    Effect.KILL: "be stopped",
    Effect.DENY: "be denied",
    Effect.REQUIRE_APPROVAL: "be held for approval",
}


def _is_strict(bundle: Bundle) -> bool:
    """Whether any document enforces."""
    return any(policy.mode is Mode.ENFORCE for policy in bundle.policies)


def _warnings(bundle: Bundle, plan: Plan, every: Sequence[Asked]) -> tuple[str, ...]:
    """Rules that speak up: effect `warn`, or a restricting effect in mode `warn`."""
    found = [
        asked.rule.id
        for asked in every
        if (asked.rule.effect is Effect.WARN and asked.rule.mode is not Mode.SHADOW)
        or (asked.rule.mode is Mode.WARN and asked.rule.effect not in (Effect.ALLOW, *_STATEFUL))
    ]
    found.extend(
        f"{bundle.policies[index].name}:default"
        for index in _unpermitted(plan, every)
        if bundle.policies[index].mode is Mode.WARN
    )
    return tuple(dict.fromkeys(found))


def _record(every: Sequence[Asked], faults: Sequence[Fault], effect: Effect) -> RecordMode:
    """The firmest of all that matched or failed; what restricts is at least `preferred`."""
    rules = [asked.rule for asked in every] + [
        fault.asked.rule for fault in faults if fault.asked is not None
    ]
    wanted = [rule.record for rule in rules if rule.record is not None]
    wanted.append(RecordMode.ASYNC if effect is Effect.ALLOW and not faults else RecordMode.PREFERRED)
    return firmest(wanted)


def firmest(modes: Iterable[RecordMode]) -> RecordMode:
    """Give the firmest of some modes."""
    return max(modes, key=_FIRMNESS.__getitem__)


def _said(fault: Fault) -> str:
    """One error as the decision log has it."""
    if fault.asked is None:
        return fault.text
    rule = fault.asked.rule
    note = "" if rule.mode is Mode.ENFORCE else f" ({rule.mode}: not enforced)"
    return f"{rule.id}: {fault.text}{note}"


def _join(parts: Iterable[str]) -> str:
    """Sentences after one another."""
    return "; ".join(part for part in parts if part)
