"""Try a bundle on calls that were recorded, before anyone enables it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from agentguard.policy import Bundle, Engine
from agentguard.values import Decision, Effect, Mode

EXAMPLES_MAX = 20
"""Calls with another answer that a report shows."""


class RecordedCall(NamedTuple):
    """One question as it was asked."""

    point: str
    facts: Mapping[str, object]
    """What was kept of the facts; what was not kept is unknown."""
    decision: Decision | None = None
    """What was answered then; None where nothing was decided."""
    call_id: str = ""


class Replayed(NamedTuple):
    """One call that the bundle answers otherwise than it was answered."""

    number: int
    """Place among the calls, from 0."""
    call: RecordedCall
    decision: Decision


@dataclass(slots=True)
class ReplayReport:
    """
    What a bundle would have done with recorded calls.

    Stateless: every call is asked with the facts that were recorded, as if the
    calls before it had gone as they did.
    """

    bundle: str
    """Revision."""
    calls: int = 0
    blocked: int = 0
    """Denied."""
    held: int = 0
    """Held for approval."""
    newly_blocked: int = 0
    """Denied or held, and had run."""
    newly_allowed: int = 0
    """Would run, and had been denied or held."""
    unknown: int = 0
    """Not judged, since a fact that a rule reads was not kept."""
    missing: Counter[str] = field(default_factory=Counter)
    """Facts that were not kept, by how many calls lacked them."""
    by_rule: Counter[str] = field(default_factory=Counter)
    """`policy/rule`, or `policy/default`: how many calls it would stop."""
    examples: list[Replayed] = field(default_factory=list)
    """The first calls with another answer."""

    def __str__(self) -> str:
        """One line, such as `would block 3 of 212 calls (3 newly)`."""
        said = f"would block {self.blocked} of {self.calls} calls"
        if self.held:
            said += f", hold {self.held} for approval"
        said += f" ({self.newly_blocked} newly stopped"
        said += f", {self.newly_allowed} newly allowed)" if self.newly_allowed else ")"
        if self.unknown:
            facts = ", ".join(name for name, _ in self.missing.most_common(3))
            said += f"; {self.unknown} could not be judged ({facts} not recorded)"
        return said


class _Kept(dict[str, object]):
    """Recorded facts, which note what was asked for and not kept."""

    __slots__ = ("asked",)

    def __init__(self, facts: Mapping[str, object]) -> None:
        super().__init__(facts)
        self.asked: set[str] = set()

    def __missing__(self, name: str) -> object:
        self.asked.add(name)
        raise KeyError(name)


def replay(
    bundle: Bundle, calls: Iterable[RecordedCall | tuple[str, Mapping[str, object], Decision | None]]
) -> ReplayReport:
    """
    Ask a bundle about calls that were recorded.

    Args:
        bundle:
            The candidate.
        calls:
            Point, facts, and the decision of then; read once, in order.

    Returns:
        How many would have been stopped, and how many of these had run.

    Raises:
        PolicyEvaluationError: A call names no intervention point.
    """
    engine = Engine(bundle)
    report = ReplayReport(bundle.revision)
    for index, given in enumerate(calls):
        call = given if isinstance(given, RecordedCall) else RecordedCall(*given)
        facts = _Kept(call.facts)
        decision = engine.decide(call.point, facts)
        report.calls += 1
        if _is_unknown(decision, facts):
            report.unknown += 1
            report.missing.update(facts.asked)
            continue
        _count(report, index, call, decision)
    return report


def _is_unknown(decision: Decision, facts: _Kept) -> bool:
    """Whether the answer is a denial only because a fact was not kept."""
    if not facts.asked or not decision.errors or decision.effect is not Effect.DENY:
        return False
    return not any(rule.effect is Effect.DENY and rule.mode is Mode.ENFORCE for rule in decision.matched)


def _count(report: ReplayReport, index: int, call: RecordedCall, decision: Decision) -> None:
    """Add one answer to the report."""
    if decision.effect is Effect.REQUIRE_APPROVAL:
        report.held += 1
    elif not decision.is_allowed:
        report.blocked += 1
    if not decision.is_allowed:
        report.by_rule[f"{decision.policy or 'policies'}/{decision.rule_id or 'default'}"] += 1
    had_run = call.decision is None or call.decision.is_allowed
    if had_run == decision.is_allowed:
        return
    if had_run:
        report.newly_blocked += 1
    else:
        report.newly_allowed += 1
    if len(report.examples) < EXAMPLES_MAX:
        report.examples.append(Replayed(index, call, decision))
