"""What a rule costs, measured on the cases of the bundle."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import NamedTuple

from agentguard.errors import PolicyEvaluationError
from agentguard.policy import Bundle, Rule
from agentguard.review._given import GivenFacts
from agentguard.values import Point

_CASES_MAX = 20
_ROUNDS = 5


class RuleCost(NamedTuple):
    """One rule at one point."""

    rule: Rule
    point: Point
    us: float
    """Microseconds for one evaluation: the median over cases of the least of some rounds."""
    cases: int
    """Cases it was measured on; 0: only facts of a first call were at hand."""


def bench(bundle: Bundle, *, timer_ns: Callable[[], int], repeats: int = 200) -> tuple[RuleCost, ...]:
    """
    Measure every rule.

    Args:
        bundle:
            With its tests, whose facts are used.
        timer_ns:
            A clock that only goes forward.
        repeats:
            Evaluations in a round.

    Returns:
        The dearest rule first. Evaluations that end in an error are measured too: they cost most.
    """
    costs = []
    for policy in bundle.policies:
        cases = [
            case
            for test in bundle.tests
            if not test.policies or policy.name in test.policies
            for case in test.cases
        ]
        for rule in policy.rules:
            for point, condition in rule.conditions.items():
                given = [GivenFacts(case.given, bundle.facts) for case in cases if case.point is point][
                    :_CASES_MAX
                ]
                spent = [
                    _least_us(condition.function, facts, timer_ns, repeats)
                    for facts in given or [GivenFacts({}, bundle.facts)]
                ]
                costs.append(RuleCost(rule, point, median(spent), len(given)))
    return tuple(sorted(costs, key=lambda cost: -cost.us))


def _least_us(
    function: Callable[[GivenFacts], object], facts: GivenFacts, timer_ns: Callable[[], int], repeats: int
) -> float:
    """The quickest of some rounds: the others measure the machine."""
    least = float("inf")
    for _ in range(_ROUNDS):
        began_ns = timer_ns()
        for _ in range(repeats):
            try:
                function(facts)
            except (PolicyEvaluationError, KeyError):
                continue
        least = min(least, (timer_ns() - began_ns) / repeats / 1000)
    return least
