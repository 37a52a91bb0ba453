"""Run the test cases that lie beside the policies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from agentguard.errors import PolicyDocumentError
from agentguard.policy import Bundle, Engine, Place, TestCase, fallback_of
from agentguard.review._given import GivenFacts
from agentguard.state import MemoryState, Used, answer_gates, settle_tickets
from agentguard.values import Decision, DenialKind, Fallback


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What one case expected, and what it got."""

    test: str
    """`metadata.name` of the document."""
    case: str
    place: Place
    decision: Decision | None
    """None where the case could not be asked."""
    differences: tuple[str, ...]
    """One line for each thing that is not as expected; empty: passed."""

    @property
    def is_passed(self) -> bool:
        """Whether the decision is the expected one."""
        return not self.differences


@dataclass(frozen=True, slots=True)
class TestReport:
    """All cases of a bundle."""

    __test__ = False

    results: tuple[CaseResult, ...]

    @property
    def failed(self) -> tuple[CaseResult, ...]:
        """Cases that got another decision than expected."""
        return tuple(result for result in self.results if not result.is_passed)

    @property
    def is_passed(self) -> bool:
        """Whether every case passed; a bundle without cases passes nothing and fails nothing."""
        return not self.failed

    def __str__(self) -> str:
        """One line."""
        failed = len(self.failed)
        return f"{len(self.results) - failed} of {len(self.results)} cases passed"


def run_tests(bundle: Bundle) -> TestReport:
    """
    Ask every test case of a bundle.

    A document of tests asks the policies that it names, as if the others were
    not there, or all of them together.

    Args:
        bundle:
            With its tests.

    Returns:
        One result for each case, in the order of the files.
    """
    return TestReport(tuple(_results(bundle)))


def _results(bundle: Bundle) -> Iterator[CaseResult]:
    """Ask case after case."""
    engines: dict[tuple[str, ...], Engine] = {}
    for test in bundle.tests:
        engine = engines.get(test.policies)
        if engine is None:
            engine = engines[test.policies] = Engine(bundle.only(test.policies))
        for case in test.cases:
            try:
                facts = GivenFacts(case.given, bundle.facts)
            except PolicyDocumentError as error:
                yield CaseResult(test.name, case.name, case.place, None, (str(error),))
                continue
            decision, goes_to = _ask(engine, case, facts)
            differences = tuple(_differences(case, decision, goes_to))
            yield CaseResult(test.name, case.name, case.place, decision, differences)


class _Still:
    """A clock that stands: all questions of a case are asked at one moment."""

    def unix_ns(self) -> int:
        """Noon of a day."""
        return 1_800_014_400_000_000_000

    def monotonic_ns(self) -> int:
        """As long after the start."""
        return 1_800_014_400_000_000_000


def _ask(engine: Engine, case: TestCase, facts: GivenFacts) -> tuple[Decision, str]:
    """
    Ask a case as often as it says, each time with a state that remembers.

    Returns:
        The last answer, and the name of what the call goes to instead, or empty.
    """
    decision = engine.decide(case.point, facts)
    name = str(facts.get(f"{case.point.partition('.')[0]}.name", ""))
    fallback = fallback_of(decision, name=name)
    if fallback is not None or not decision.gates:
        # What is sent elsewhere draws from no limit of its own.
        return decision, _name(fallback)
    state = MemoryState(_Still())
    for _ in range(case.repeat):
        answer = answer_gates(state, decision, facts)
        settle_tickets(state, answer.tickets, Used(), is_error=None)
    refused = answer.decision
    if refused.kind is DenialKind.WAIT:
        fallback = fallback_of(decision, name=name, refused_by=refused.rule_id, policy=refused.policy)
    return refused, _name(fallback)


def _name(fallback: Fallback | None) -> str:
    """What the call goes to."""
    return (fallback.model or fallback.function) if fallback is not None else ""


def _differences(case: TestCase, decision: Decision, goes_to: str) -> Iterator[str]:
    """Compare what is expected with what was decided."""
    expect = case.expect
    why = f" ({decision.reason})" if decision.reason else ""
    if decision.effect is not expect.effect:
        yield f"expected {expect.effect}, got {decision.effect}{why}"
    if expect.rule is not None and decision.rule_id != expect.rule:
        yield f"expected rule {expect.rule or 'default'}, got {decision.rule_id or 'default'}{why}"
    if expect.matched is not None:
        matched = {rule.rule_id for rule in decision.matched}
        if matched != set(expect.matched):
            yield f"expected matches {_list(set(expect.matched))}, got {_list(matched)}"
    if expect.redact is not None and set(decision.redact) != set(expect.redact):
        yield f"expected redact {_list(set(expect.redact))}, got {_list(set(decision.redact))}"
    if expect.fallback is not None and goes_to != expect.fallback:
        yield f"expected fallback {expect.fallback or 'none'}, got {goes_to or 'none'}{why}"
    if expect.would_be is not None and decision.would_be is not expect.would_be:
        yield f"expected would_be {expect.would_be}, got {decision.would_be or 'nothing stricter'}"
    if expect.kind is not None and decision.kind is not expect.kind:
        yield f"expected kind {expect.kind}, got {decision.kind or 'none'}"
    if expect.error is not None:
        if not any(expect.error in error for error in decision.errors):
            yield f"expected an error with `{expect.error}`, got {_list(set(decision.errors))}"
    elif decision.errors:
        # A case that is denied by accident, because a fact was forgotten, proves nothing about its rule.
        yield f"expected no error, got {_list(set(decision.errors))}"


def _list(words: set[str]) -> str:
    """Words in order, or that there are none."""
    return ", ".join(sorted(words)) or "none"
