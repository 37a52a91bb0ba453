"""Test cases, single questions and replays."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from agentguard.errors import PolicyDocumentError
from agentguard.policy import Engine, load_texts
from agentguard.review import NEUTRAL, RecordedCall, evaluate, read_call, replay, run_tests
from agentguard.values import FACTS, Decision, Effect
from tests.support.policies import bundle, call, document

POLICY = document(
    "D | tool.before | tool.name == 'refund' && args.amount_usd > 50.0 | deny",
    "S | tool.before | time.now > timestamp('2026-01-01T00:00:00Z') && args.amount_usd > 10.0 | deny | mode: shadow",
    name="refunds",
)
TEST = """\
apiVersion: agentguard/v1
kind: PolicyTest
metadata: {{ name: cases }}
policies: [refunds]
given: {{ agent.name: support, time.now: "2026-11-22T08:00:00Z" }}
cases:
  - name: one
    at: tool.before
    given: {given}
    expect: {expect}
"""


def differences(given: str, expect: str) -> tuple[str, ...]:
    """What one case says."""
    loaded = load_texts({"p.yaml": POLICY, "t.yaml": TEST.format(given=given, expect=expect)})
    (result,) = run_tests(loaded).results
    return result.differences


@pytest.mark.parametrize(
    ("given", "expect", "said"),
    [
        (
            "{ tool.name: refund, args: { amount_usd: 51 } }",
            "{ decision: deny, rule: D, matched: [D, S] }",
            "",
        ),
        ("{ tool.name: refund, args: { amount_usd: 5 } }", "allow", ""),
        (
            "{ tool.name: refund, args: { amount_usd: 11 } }",
            "{ decision: allow, matched: [S], would_be: deny }",
            "",
        ),
        ("{ tool.name: refund, args: { amount_usd: 5 } }", "deny", "expected deny, got allow"),
        (
            "{ tool.name: refund, args: { amount_usd: 51 } }",
            "{ decision: deny, rule: default }",
            "expected rule default, got D",
        ),
        (
            "{ tool.name: refund, args: { amount_usd: 51 } }",
            "{ decision: deny, matched: [D] }",
            "expected matches D, got D, S",
        ),
        (
            "{ tool.name: refund, args: { amount_usd: 5 } }",
            "{ decision: allow, redact: [card] }",
            "expected redact card, got none",
        ),
        (
            "{ tool.name: refund, args: { amount_usd: 51 } }",
            "{ decision: deny, kind: wait }",
            "expected kind wait, got forbidden",
        ),
        ("{ tool.name: refund }", "deny", "expected no error"),
        ("{ tool.name: refund }", "{ decision: deny, error: amount_usd }", ""),
        ("{ tool.name: refund }", "{ decision: deny, error: other }", "expected an error with `other`"),
        (
            "{ tool.name: x, args: { amount_usd: 5 } }",
            "{ decision: allow, would_be: deny }",
            "expected would_be deny",
        ),
    ],
)
def test_a_case_says_what_differs(given: str, expect: str, said: str) -> None:
    """Nothing where it passes; else one line with expected and got."""
    found = differences(given, expect)
    assert (found == ()) is (said == ""), found
    assert any(said in line for line in found) or not said


def test_a_report_counts() -> None:
    """Passed, failed, one line."""
    loaded = load_texts(
        {
            "p.yaml": POLICY,
            "t.yaml": TEST.format(given="{ tool.name: x, args: { amount_usd: 1 } }", expect="deny"),
        }
    )
    report = run_tests(loaded)
    assert (report.is_passed, len(report.failed), str(report)) == (False, 1, "0 of 1 cases passed")


def test_a_test_of_one_policy_does_not_see_the_others() -> None:
    """`policies: all` does."""
    other = document("X | tool.before | true | deny", name="other")
    case = TEST.format(given="{ tool.name: x, args: { amount_usd: 1 } }", expect="allow")
    assert run_tests(load_texts({"p.yaml": POLICY, "o.yaml": other, "t.yaml": case})).is_passed
    together = case.replace("policies: [refunds]", "policies: all")
    assert not run_tests(load_texts({"p.yaml": POLICY, "o.yaml": other, "t.yaml": together})).is_passed


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("policies: [refunds]", "policies: [refund]", "unknown-policy"),
        ("tool.name: x", "tool.nam: x", "unknown-fact"),
        ("tool.name: x", "tool.name: 7", "wrong-type"),
        ("expect: allow", "expect: alow", "unknown-word"),
        ("expect: allow", "expect: { decision: allow, rule: ZZ }", "unknown-rule"),
        ("at: tool.before", "at: tool.befor", "unknown-word"),
        ("cases:", "case:", "unknown-field"),
    ],
)
def test_a_wrong_test_does_not_load(old: str, new: str, code: str) -> None:
    """A test that tests nothing is a mistake."""
    text = TEST.format(given="{ tool.name: x }", expect="allow")
    with pytest.raises(PolicyDocumentError) as caught:
        load_texts({"p.yaml": POLICY, "t.yaml": text.replace(old, new)})
    assert [problem.code for problem in caught.value.problems] == [code]


def test_neutral_facts_are_of_the_catalogue() -> None:
    """Each is a known fact; those of one call are not among them."""
    assert set(NEUTRAL) <= set(FACTS)
    assert not {"tool.name", "time.now", "result", "call.duration_ms", "usage.input_tokens"} & set(NEUTRAL)


def test_one_question_is_answered_with_what_was_assumed() -> None:
    """Dotted and nested names; what was not given and read is named."""
    loaded = bundle(document("R | tool.before | run.repeats > 2 | deny"))
    answer = evaluate(loaded, read_call('{"point": "tool.before", "tool": {"name": "x"}, "args": {"a": 1}}'))
    assert answer.decision.is_allowed
    assert answer.assumed["run.repeats"] == 0
    assert not evaluate(loaded, {"facts": {"tool.name": "x", "run.repeats": 3}}).decision.is_allowed


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not JSON"),
        ("[1]", "no JSON object"),
        ('{"point": "tool.during"}', "unknown point"),
        ('{"tool": {"nam": "x"}}', "unknown fact `tool.nam`"),
        ('{"tool": {"name": 7}}', "got int, expected string"),
        ('{"run": {"repeats": true}}', "got bool, expected int"),
        ('{"args": 7}', "expected map"),
        ('{"args": {}, "args": {"a": 1}}', "stands twice"),
        ('{"time.now": "yesterday"}', "no timestamp"),
        ('{"facts": 7}', "no JSON object"),
        ("[" * 100_000, "not JSON"),
        ('{"a": ' + "9" * 2_000_000 + "}", "more than"),
    ],
)
def test_a_wrong_question_is_one_error(text: str, said: str) -> None:
    """In words, whatever was written."""
    with pytest.raises(PolicyDocumentError, match=said):
        evaluate(bundle(POLICY), read_call(text))


def test_a_number_that_is_none_denies_also_here() -> None:
    """JSON of Python reads NaN."""
    assert not evaluate(
        bundle(POLICY), read_call('{"tool": {"name": "x"}, "args": {"n": NaN}}')
    ).decision.is_allowed


def calls() -> Iterator[RecordedCall]:
    """Recorded traffic: amounts 1 to 100, all allowed then but the last ten."""
    allowed = Decision(Effect.ALLOW)
    for amount in range(1, 101):
        facts = call(args={"amount_usd": float(amount)}, time__now=None)
        yield RecordedCall("tool.before", facts, allowed if amount <= 90 else Decision(Effect.DENY))


def test_a_replay_counts_what_would_be_blocked() -> None:
    """And how much of it had run."""
    candidate = bundle(document("D | tool.before | args.amount_usd > 60.0 | deny"))
    report = replay(candidate, calls())
    assert (report.calls, report.blocked, report.newly_blocked, report.newly_allowed) == (100, 40, 30, 0)
    assert str(report) == "would block 40 of 100 calls (30 newly stopped)"
    assert report.by_rule == {"p/D": 40}
    assert len(report.examples) == 20
    looser = replay(bundle(document("D | tool.before | args.amount_usd > 95.0 | deny")), calls())
    assert (looser.newly_blocked, looser.newly_allowed) == (0, 5)
    assert "5 newly allowed" in str(looser)
    held = replay(
        bundle(document("H | tool.before | true | { require_approval: { from: [a], expires: 1h } }")), calls()
    )
    assert (held.held, held.blocked) == (100, 0)


def test_a_replay_does_not_judge_what_was_not_kept() -> None:
    """A missing fact is unknown, not a denial; unless another rule denies for certain."""
    rules = (
        "D | tool.before | cost.usd_today > 5.0 | deny",
        "E | tool.before | args.amount_usd > 99.0 | deny",
    )
    report = replay(bundle(document(*rules)), (tuple(c)[:3] for c in calls()))
    assert (report.unknown, report.blocked) == (99, 1)
    assert report.missing == {"cost.usd_today": 99}
    assert "99 could not be judged (cost.usd_today not recorded)" in str(report)


def test_json_of_a_decision_is_plain() -> None:
    """What the command prints can be read back."""
    answer = evaluate(
        bundle(POLICY),
        {"tool": {"name": "refund"}, "args": {"amount_usd": 60}, "time.now": "2026-11-22T08:00:00Z"},
    )
    assert json.loads(json.dumps(dict(answer.decision.values or {})))["args.amount_usd"] == 60
    assert Engine(bundle(POLICY)).reads >= {"time.now"}
