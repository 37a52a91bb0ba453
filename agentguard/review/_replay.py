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

    Counts are of questions; a call inside another one may have been asked about
    more than once.
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
    newly_by_rule: Counter[str] = field(default_factory=Counter)
    """The same for calls that had run."""
    examples: list[Replayed] = field(default_factory=list)
    """The first calls with another answer."""
    counterfactual: int = 0
    """In runs that had diverged before, or inside calls that would not have run: nobody knows whether they would
    have been made. They are not among those newly blocked or allowed."""
    runs: int = 0
    runs_diverged: int = 0
    """In which the candidate stops a call that ran, or lets one run that did not."""

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
        if self.counterfactual:
            said += f"; {self.counterfactual} are counterfactual, in {self.runs_diverged} of {self.runs} runs that diverge"
        return said

    def add(
        self,
        call: RecordedCall,
        decision: Decision,
        facts: KeptFacts,
        *,
        is_unknown: bool,
        is_counterfactual: bool = False,
    ) -> None:
        """
        Count one answer.

        Args:
            call:
                What was asked, and answered then.
            decision:
                The answer now.
            facts:
                With what was asked for and not there.
            is_unknown:
                Whether the answer hangs on that.
            is_counterfactual:
                Whether the run would have gone another way before.
        """
        number = self.calls
        self.calls += 1
        if is_unknown:
            self.unknown += 1
            said = " ".join(decision.errors)
            self.missing.update([name for name in facts.asked if name in said] or facts.asked)
            return
        if decision.effect is Effect.REQUIRE_APPROVAL:
            self.held += 1
        elif not decision.is_allowed:
            self.blocked += 1
        if not decision.is_allowed:
            self.by_rule[f"{decision.policy or 'policies'}/{decision.rule_id or 'default'}"] += 1
        if is_counterfactual:
            self.counterfactual += 1
            return
        had_run = call.decision is None or call.decision.is_allowed
        if had_run == decision.is_allowed:
            return
        if had_run:
            self.newly_blocked += 1
            self.newly_by_rule[f"{decision.policy or 'policies'}/{decision.rule_id or 'default'}"] += 1
        else:
            self.newly_allowed += 1
        if len(self.examples) < EXAMPLES_MAX:
            self.examples.append(Replayed(number, call, decision))


class KeptFacts(dict[str, object]):
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
    for given in calls:
        call = given if isinstance(given, RecordedCall) else RecordedCall(*given)
        facts = KeptFacts(call.facts)
        decision = engine.decide(call.point, facts)
        report.add(call, decision, facts, is_unknown=is_unknown(decision, facts))
    return report


def is_unknown(decision: Decision, facts: KeptFacts) -> bool:
    """Whether the answer is a denial only because a fact was not kept."""
    if not facts.asked or not decision.errors or decision.effect is not Effect.DENY:
        return False
    return not any(rule.effect is Effect.DENY and rule.mode is Mode.ENFORCE for rule in decision.matched)
