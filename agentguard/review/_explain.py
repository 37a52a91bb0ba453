"""
One decision in three voices: for the reviewer, for the model, for the person it acted for.

Only the reviewer reads values, and the smallest change that would have turned
the decision round: a model that knows the threshold learns to split payments.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from agentguard.policy import Bundle, Change, Rule, smallest_change
from agentguard.values import DecisionRecord, DenialKind, Effect, MatchedRule, Mode, Point

_RESTRICTS = (Effect.KILL, Effect.DENY, Effect.CIRCUIT_BREAK, Effect.THROTTLE, Effect.REQUIRE_APPROVAL)
_TURNED = (Effect.DENY, Effect.REQUIRE_APPROVAL)
"""Effects of rules that a change of the facts alone turns round."""

_USER = {
    DenialKind.NEEDS_APPROVAL: "It waits until somebody who may approve it has decided.",
    DenialKind.WAIT: "It may be tried again later.",
    DenialKind.FIX_INPUT: "It may be tried again with other input.",
}


class RuleChange(NamedTuple):
    """What would have kept one rule from acting, or let one act that allows."""

    policy: str
    rule_id: str
    changes: tuple[Change, ...]


class Explanation(NamedTuple):
    """One decision, explained."""

    reviewer: str
    """Rule, condition, values, errors."""
    agent: str
    """What a model may read; the same words as it got."""
    user: str
    """What the person may read on whose behalf the agent acted: no values either."""
    changes: tuple[RuleChange, ...] = ()
    """The smallest change for each rule that stood in the way; all are needed."""
    note: str = ""
    """Why no change is named, where that is so."""

    @property
    def flip(self) -> str:
        """One line, such as `would be allowed if cost.usd_today <= 50`; empty where none is known."""
        if not self.changes:
            return ""
        parts = [change.text for one in self.changes for change in one.changes]
        return f"would be allowed if {' and '.join(dict.fromkeys(parts))}"


def explain_decision(record: DecisionRecord, bundle: Bundle | None = None,
                     facts: Mapping[str, object] | None = None) -> Explanation:  # fmt: skip
    """
    Explain a decision.

    Args:
        record:
            As the decision log has it, or as it was just made.
        bundle:
            The documents that decided; without them, or where their revision is another, the
            smallest change is not worked out.
        facts:
            What was known of the call; by default what the decision itself kept.

    Returns:
        Three voices, and the smallest change.
    """
    changes, note = _changes(record, bundle, facts)
    return Explanation(_reviewer(record), _agent(record), _user(record), changes, note)


def _reviewer(record: DecisionRecord) -> str:
    """All that is known, in one sentence."""
    decision = record.decision
    said = decision.reason or f"{decision.effect} by the default of the policies: no rule matched"
    if decision.errors and not any(error in said for error in decision.errors):
        said += f"; could not be evaluated: {'; '.join(decision.errors)}"
    if record.fallback:
        said += f"; {record.requested} was asked for, sent on by {record.fallback.replace(',', ', ')}"
    if decision.kill_scope:
        said += f"; stops {decision.kill_scope} on the whole machine"
    if decision.wait_s:
        said += f"; the call waits {decision.wait_s:g} s for people"
    if decision.gates:
        said += f"; asked of the past: {', '.join(gate.rule_id for gate in decision.gates)}"
    used = [name.removeprefix("exception:") for name in decision.warnings if name.startswith("exception:")]
    if used:
        said += f"; let past by {', '.join(used)}"
    return said


def _agent(record: DecisionRecord) -> str:
    """What the model was told; nothing where the call ran."""
    return "" if record.decision.is_allowed else record.message


def _user(record: DecisionRecord) -> str:
    """Plain words without values."""
    decision = record.decision
    what = record.tool or record.model or record.agent or "the call"
    reference = f"Reference: {record.decision_id[:8]}."
    if decision.is_allowed:
        return f"{what} was allowed to run. {reference}"
    deciding = next((rule for rule in decision.matched if rule.rule_id == decision.rule_id), None)
    why = f"the rule “{deciding.title}” ({deciding.rule_id})" if deciding else "the policies in force"
    verb = (
        "is held back by" if decision.effect is Effect.REQUIRE_APPROVAL else "was not carried out because of"
    )
    way = _USER.get(decision.kind, "Whoever answers for these rules can say more.")
    return f"{what} {verb} {why}. This is a rule, not a fault. {way} {reference}"


def _changes(
    record: DecisionRecord, bundle: Bundle | None, facts: Mapping[str, object] | None
) -> tuple[tuple[RuleChange, ...], str]:
    """The smallest change, or why there is none."""
    decision = record.decision
    if decision.is_allowed:
        return (), ""
    if bundle is None:
        return (), "no policies are loaded, so no change is worked out"
    if record.bundle and record.bundle != bundle.revision:
        return (), (
            f"decided by bundle {record.bundle[:12]}, and {bundle.revision[:12]} is loaded: no change is worked out"
        )
    if decision.errors:
        return (), "decided because something could not be evaluated: that comes first"
    try:
        point = Point(record.point)
    except ValueError:
        return (), "the decision names no intervention point"
    known = {**_names(record), **(decision.values or {}), **(facts or {})}
    rules = {(rule.policy, rule.id): rule for rule in bundle.rules}
    standing = [
        rules[one.policy, one.rule_id]
        for one in decision.matched
        if _acts(one) and (one.policy, one.rule_id) in rules
    ]
    if any(rule.effect not in _TURNED for rule in standing):
        return (), "a rule that depends on earlier calls acted: no change of this call alone turns it"
    if standing:
        return _all_turned(standing, point, known, bundle)
    return _allowing(record, point, known, bundle)


def _all_turned(
    standing: list[Rule], point: Point, known: Mapping[str, object], bundle: Bundle
) -> tuple[tuple[RuleChange, ...], str]:
    """Every rule that restricts must not match."""
    found = []
    for rule in standing:
        if point not in rule.conditions:
            continue
        changes = smallest_change(rule, point, known, bundle.facts, matches=False)
        if changes is None:
            return (), f"{rule.id} holds whatever the facts are"
        found.append(RuleChange(rule.policy, rule.id, changes))
    return tuple(found), ""


def _allowing(
    record: DecisionRecord, point: Point, known: Mapping[str, object], bundle: Bundle
) -> tuple[tuple[RuleChange, ...], str]:
    """A default denied: the allow rule of that document that is nearest to matching."""
    possible: list[tuple[float, RuleChange]] = []
    for rule in bundle.rules:
        if rule.policy == record.decision.policy and rule.effect is Effect.ALLOW and point in rule.conditions:
            changes = smallest_change(rule, point, known, bundle.facts, matches=True)
            if changes:
                cost = sum(change.cost for change in changes)
                possible.append((cost, RuleChange(rule.policy, rule.id, changes)))
    if not possible:
        return (), "no rule that allows is near"
    return (min(possible, key=lambda one: one[0])[1],), ""


def _acts(rule: MatchedRule) -> bool:
    """Whether a rule that matched restricted the call."""
    return rule.mode is Mode.ENFORCE and rule.effect in _RESTRICTS


def _names(record: DecisionRecord) -> dict[str, object]:
    """Facts that the record itself tells."""
    named = {
        "tool.name": record.tool, "model.name": record.model, "agent.name": record.agent,
        "principal.id": record.principal, "run.id": record.run_id,
    }  # fmt: skip
    return {name: value for name, value in named.items() if value}
