"""`history.*` in documents: what is checked at load, and how cases say what the past was."""

from __future__ import annotations

import pytest

from agentguard.errors import PolicyDocumentError
from agentguard.policy import Engine
from agentguard.review import run_tests
from tests.support.policies import bundle, document


@pytest.mark.parametrize(
    ("when", "code"),
    [
        ("history.sum('usd', '8d', principal.id) > 1.0", "out-of-range"),
        ("history.sum('usd', '1 day', principal.id) > 1.0", "out-of-range"),
        ("history.sum('usd', agent.name, principal.id) > 1.0", "literal-needed"),
        ("history.sum(tool.name, '1d', principal.id) > 1.0", "literal-needed"),
        ("history.sum('usd', '1d', 'ann') > 1.0", "literal-needed"),
        ("history.sum('usd', '1d', principal.id + 'x') > 1.0", "literal-needed"),
        ("history.sum('usd', '1d') > 1.0", "arguments"),
        ("history.sum('usd', '1d', principal.id) > 'x'", "type"),
        ("history.summ('usd', '1d', principal.id) > 1.0", "unknown-function"),
        ("history.count('1h', tool.calls_5m) > 1", "arguments"),
        ("history.called('a', 10)", "arguments"),
    ],
)
def test_wrong_questions_do_not_load(when: str, code: str) -> None:
    """Each is refused where it stands."""
    with pytest.raises(PolicyDocumentError) as caught:
        bundle(document(f"R | tool.before | {when} | deny"))
    assert code in {problem.code for problem in caught.value.problems}, caught.value


def test_the_past_is_asked_before_tools_only() -> None:
    """Nothing is remembered of other calls, so nobody can ask there."""
    with pytest.raises(PolicyDocumentError):
        bundle(document("R | model.before | history.called('a', '1h') | deny"))


def test_the_engine_says_what_must_be_remembered() -> None:
    """Argument, key and tools, whether or not the condition gets as far as asking."""
    rule = "R | tool.before | tool.name == 'pay' && (args.usd > 5 || history.sum('usd', '1d', principal.id) > 9.0) | deny"
    engine = Engine(bundle(document(rule, "S | tool.before | history.count('1h', agent.name) > 3 | deny")))
    assert set(engine.remembers) == {(frozenset({"pay"}), "usd", "principal.id"), (None, "", "agent.name")}
    assert engine.has_history
    assert not Engine(bundle(document("A | tool.before | true | deny"))).has_history


def test_cases_say_what_was_before() -> None:
    """One number for each question of a case; without it there was nothing."""
    text = document(
        "R | tool.before | history.sum('usd', '1d', principal.id) > 9.0 && history.called('a', '1h') | deny"
    )
    text += """---
apiVersion: agentguard/v1
kind: PolicyTest
metadata: { name: t }
policies: [p]
cases:
  - { name: one, at: tool.before, given: { tool.name: a }, expect: { decision: allow } }
  - { name: two, at: tool.before, given: { tool.name: a, history.sum: 10, history.called: [a] }, expect: deny }
  - { name: three, at: tool.before, given: { tool.name: a, history.sum: 10, history.called: [b] }, expect: allow }
"""
    report = run_tests(bundle(text))
    assert report.is_passed, report.failed
