"""Exceptions: who, why, until when; what they lift, and what never."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentguard.errors import PolicyDocumentError
from agentguard.policy import Engine, ends, is_expired, lint, load_texts
from agentguard.values import Decision, Effect
from tests.support.policies import call, document

RULE = "R | tool.before | tool.name == 'refund' | deny"
EXCEPTION = """
apiVersion: agentguard/v1
kind: Exception
metadata: { name: quarter-end }
policy: p
rule: R
scope: { agents: [supp*], environments: [prod] }
owner: ann@corp.example
ticket: GOV-1
reason: because
approver: bob@corp.example
expires: 2026-12-31
"""
LAST = dt.datetime(2026, 12, 31, 23, 59, 59, 999_999, tzinfo=dt.UTC)


def decide(*rules: str, exception: str = EXCEPTION, unmatched: str = "allow", **facts: object) -> Decision:
    """One question, on the last day by default."""
    loaded = load_texts({"p": document(*(rules or (RULE,)), unmatched=unmatched), "e": exception})
    given = call(**{"time__now": LAST, **facts})
    for name in [name for name, value in given.items() if value is ...]:
        del given[name]
    return Engine(loaded).decide("tool.before", given)


def test_a_lifted_rule_is_shadow() -> None:
    """The call runs; the decision says what would have been, and on whose word."""
    decision = decide()
    assert (decision.effect, decision.would_be) == (Effect.ALLOW, Effect.DENY)
    assert decision.reason.startswith(
        "R is lifted by exception quarter-end until 2026-12-31 (GOV-1, approved by bob@"
    )
    assert "exception:quarter-end" in decision.warnings
    assert [(rule.rule_id, rule.mode) for rule in decision.matched] == [("R", "shadow")]


@pytest.mark.parametrize(
    "facts",
    [
        {"time__now": LAST + dt.timedelta(microseconds=1)}, {"time__now": ...}, {"time__now": "2026-01-01"},
        {"time__now": dt.datetime(2026, 1, 1)},  # noqa: DTZ001 - a time without a zone is no time
        {"agent__name": "finance"}, {"agent__name": ""}, {"agent__name": ...}, {"env__name": "dev"},
        {"env__name": ""}, {"env__name": 7},
    ],
)  # fmt: skip
def test_otherwise_the_rule_holds(facts: dict[str, object]) -> None:
    """Expired, out of scope, or not known for certain."""
    assert decide(**facts).effect is Effect.DENY


def test_it_lifts_one_rule_only() -> None:
    """Another rule, the default, and what cannot be evaluated still deny."""
    assert decide(RULE, "S | tool.before | tool.name == 'refund' | deny").rule_id == "S"
    assert decide(unmatched="deny").effect is Effect.DENY
    assert decide("R | tool.before | args.n > 5 | deny").errors
    assert not decide("R | tool.before | args.n > 5 | deny").is_allowed


def test_an_approval_can_be_lifted() -> None:
    """The call then runs without asking."""
    then = "{ require_approval: { from: [ann], expires: 1h, on_timeout: deny } }"
    assert decide(f"R | tool.before | tool.name == 'refund' | {then}").effect is Effect.ALLOW


@given(st.datetimes(dt.datetime(2020, 1, 1), dt.datetime(2035, 1, 1), timezones=st.just(dt.UTC)))  # noqa: DTZ001
def test_adding_an_exception_decides_by_the_last_day_only(now: dt.datetime) -> None:
    """The engine and the commands agree on when it is past."""
    (exception,) = load_texts({"p": document(RULE), "e": EXCEPTION}).exceptions
    assert decide(time__now=now).is_allowed is not is_expired(exception, now.date())
    assert (now < ends(exception)) is not is_expired(exception, now.date())


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("owner: ann@corp.example\n", "", "missing-field"), ("ticket: GOV-1\n", "", "missing-field"),
        ("reason: because\n", "", "missing-field"), ("approver: bob@corp.example\n", "", "missing-field"),
        ("expires: 2026-12-31\n", "", "missing-field"), ("2026-12-31", "never", "wrong-form"),
        ("bob@corp.example", "Ann@Corp.example", "self-approved"), ("rule: R", "rule: X", "unknown-rule"),
        ("policy: p", "policy: q", "unknown-rule"), ("agents: [supp*]", "agent: [supp*]", "unknown-field"),
        ("{ agents: [supp*], environments: [prod] }", "{}", "empty-list"), ("ticket", "tickt", "unknown-field"),
    ],
)  # fmt: skip
def test_what_does_not_load(old: str, new: str, code: str) -> None:
    """Every field is needed, and nobody approves their own."""
    with pytest.raises(PolicyDocumentError) as caught:
        load_texts({"p": document(RULE), "e": EXCEPTION.replace(old, new)})
    assert code in {problem.code for problem in caught.value.problems}


def test_two_of_one_name_an_unknown_approver_and_a_throttle() -> None:
    """Refused as well."""
    people = (
        "apiVersion: agentguard/v1\nkind: Approvers\nmetadata: { name: a }\n"
        'groups: { g: [{ id: cy, public_key: "ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=" }] }\n'
    )
    throttle = "R | tool.before | tool.name == 'x' | { throttle: { key: tool.name, limit: 3, window: 1m } }"
    for texts, code in (
        ({"p": document(RULE), "e": EXCEPTION, "f": EXCEPTION}, "duplicate-exception"),
        ({"p": document(RULE), "e": EXCEPTION, "a": people}, "unknown-approver"),
        ({"p": document(throttle), "e": EXCEPTION}, "not-supported"),
    ):
        with pytest.raises(PolicyDocumentError) as caught:
            load_texts(texts)
        assert code in {problem.code for problem in caught.value.problems}


def test_findings() -> None:
    """An expired one is a warning, one in force a note; both change the revision."""
    loaded = load_texts({"p": document(RULE), "e": EXCEPTION})
    assert loaded.revision != load_texts({"p": document(RULE)}).revision
    for today, code, level in (
        ((2027, 1, 1), "expired-exception", "warning"),
        ((2026, 12, 31), "exception", "note"),
    ):
        found = {one.code: one for one in lint(loaded, today=dt.date(*today))}
        assert found[code].level == level
    assert "NOT ENFORCED for agents supp*; environments prod until 2026-12-31" in str(found["exception"])
