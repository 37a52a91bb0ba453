"""How much the test cases of a bundle notice: rules that they reach, mutants that they kill."""

from __future__ import annotations

from dataclasses import dataclass

from agentguard.policy import Bundle, Mutant, Rule, mutants
from agentguard.review._run_tests import TestReport, run_tests

MUTANTS_MAX = 50_000
"""Mutants of one bundle that are tried."""


@dataclass(frozen=True, slots=True)
class RuleCoverage:
    """What the cases do with one rule."""

    rule: Rule
    matched: int
    """Cases in which it matched."""
    decided: int
    """Cases that it decided."""

    @property
    def is_covered(self) -> bool:
        """Whether any case reaches it."""
        return self.matched > 0


@dataclass(frozen=True, slots=True)
class MutationReport:
    """Which mutants the cases killed."""

    killed: int
    survived: tuple[Mutant, ...]
    is_cut: bool = False
    """Whether there were more than `MUTANTS_MAX`."""

    @property
    def score(self) -> float:
        """Share of the mutants that were killed; 1 where there are none."""
        total = self.killed + len(self.survived)
        return self.killed / total if total else 1.0

    def __str__(self) -> str:
        """One line."""
        total = self.killed + len(self.survived)
        return f"mutation score {self.score:.3f}: {self.killed} of {total} changes are noticed"


def coverage(bundle: Bundle, report: TestReport) -> tuple[RuleCoverage, ...]:
    """
    Count for each rule the cases that reach it.

    Args:
        bundle:
            What was tested.
        report:
            What `run_tests` gave for it.

    Returns:
        All rules and budgets, in order.
    """
    matched: dict[tuple[str, str], int] = {}
    decided: dict[tuple[str, str], int] = {}
    for result in report.results:
        if result.decision is None:
            continue
        deciding = (result.decision.policy, result.decision.rule_id)
        decided[deciding] = decided.get(deciding, 0) + 1
        for key in {*((one.policy, one.rule_id) for one in result.decision.matched), deciding}:
            matched[key] = matched.get(key, 0) + 1
    return tuple(
        RuleCoverage(rule, matched.get((rule.policy, rule.id), 0), decided.get((rule.policy, rule.id), 0))
        for policy in bundle.policies
        for rule in (*policy.rules, *policy.budgets)
    )


def mutate(bundle: Bundle) -> MutationReport:
    """
    Change every rule in every way, and see whether a case fails.

    Args:
        bundle:
            With its tests, which all pass.

    Returns:
        How many changes were noticed, and which were not.
    """
    by_policy = {
        policy.name: tuple(t for t in bundle.tests if not t.policies or policy.name in t.policies)
        for policy in bundle.policies
    }
    killed, survived, is_cut = 0, [], False
    for number, mutant in enumerate(mutants(bundle)):
        if number >= MUTANTS_MAX:
            is_cut = True
            break
        # Only cases that ask the changed document can tell.
        tests = by_policy[mutant.policy]
        if run_tests(mutant.bundle.with_tests(tests)).is_passed:
            survived.append(mutant)
        else:
            killed += 1
    return MutationReport(killed, tuple(survived), is_cut)
