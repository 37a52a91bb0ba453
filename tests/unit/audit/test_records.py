"""Records as bytes and back."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentguard.audit.records import StoredDecision, StoredEvent, decode, encode_decision, encode_event
from agentguard.errors import AuditError
from agentguard.values import (
    ApprovalTerms,
    BreakerTerms,
    BudgetTerms,
    Decision,
    DecisionRecord,
    DenialKind,
    Effect,
    Fallback,
    GrantScopes,
    MatchedRule,
    Mode,
    RecordMode,
    StateGate,
    ThrottleTerms,
)
from tests.support.decisions import decision

FULL = DecisionRecord(
    decision_id="0123456789abcdef",
    time_unix_ns=1_767_225_600_000_000_001,
    point="tool.before",
    bundle="cd" * 32,
    call_id="ab" * 8,
    trace_id="ef" * 16,
    run_id="run-1",
    agent="support",
    tool="wire",
    model="gpt",
    principal="user:ü",
    evaluation_ns=4321,
    approval_id="aa" * 8,
    outcome="",
    enforcement="isolated",
    decision=Decision(
        effect=Effect.REQUIRE_APPROVAL,
        rule_id="PAY-010",
        policy="finance",
        kind=DenialKind.NEEDS_APPROVAL,
        reason="usd 9000 >= 5000",
        agent_message="ask",
        matched=(MatchedRule("finance", "PAY-010", "Two people", Effect.REQUIRE_APPROVAL, Mode.SHADOW),),
        errors=("x: missing",),
        values={"args.usd": 9000.5, "n": 3, "t": True, "l": ["a"], "none": None},
        redact=("card",),
        warnings=("W-1",),
        record=RecordMode.PREFERRED,
        approval=ApprovalTerms(("group:payments", "bob"), 2, 900.0, GrantScopes(3, 60.0, any_run=True)),
        retry_after_s=1.5,
        would_be=Effect.KILL,
        gates=(
            StateGate(
                Effect.THROTTLE,
                "finance",
                "T-1",
                "Slowly",
                Mode.ENFORCE,
                ("agent.name",),
                ThrottleTerms(5, 60.0),
            ),
            StateGate(
                Effect.CIRCUIT_BREAK,
                "finance",
                "B-1",
                "Rest",
                Mode.WARN,
                (),
                BreakerTerms(30.0, 2),
                is_tripped=True,
                agent_message="later",
            ),
            StateGate(
                Effect.DENY,
                "finance",
                "D-1",
                "A day",
                Mode.SHADOW,
                ("run.id",),
                BudgetTerms("cost.usd", 10**18, 86_400.0, "max", 7, 0.8),
            ),
        ),
        wait_s=12.5,
        kill_scope="agent",
        fallbacks=(
            Fallback("finance", "F-1", model="small", instead_of=("T-1",)),
            Fallback("finance", "F-2", function="queue"),
        ),
    ),
    requested="large",
    fallback="finance/F-0",
)


@pytest.mark.parametrize(
    "record",
    [
        FULL,
        decision(1),
        FULL._replace(point="outcome", outcome="error"),
        FULL._replace(outcome="ok", ended_unix_ns=FULL.time_unix_ns + 5),
    ],
)
def test_decisions_read_back(record: DecisionRecord) -> None:
    """Every field comes back as it was."""
    stored = decode(encode_decision(record), journal="j-0", index=5)
    assert isinstance(stored, StoredDecision)
    assert (stored.record, stored.journal, stored.index, stored.facts) == (record, "j-0", 5, "1")


def test_no_field_is_forgotten() -> None:
    """A field that is added to a decision or its record must be in the test above, and so in the log."""
    plain = Decision(Effect.ALLOW)
    unset = [
        f.name
        for f in dataclasses.fields(Decision)
        if getattr(FULL.decision, f.name) == getattr(plain, f.name)
    ]
    assert unset == []
    defaults = DecisionRecord._field_defaults
    assert [name for name, value in defaults.items() if getattr(FULL, name) == value] == [
        "outcome",
        "ended_unix_ns",
    ]


def test_what_a_later_version_adds_is_passed_over() -> None:
    """Fields that this version does not know, of a record, decision, gate or terms, are ignored."""
    document = json.loads(encode_decision(FULL))
    gates = document["decision"]["gates"]
    for part in (document, document["decision"], gates[0], gates[0]["terms"], gates[2]["terms"]):
        part["later"] = {"a": [1]}
    stored = decode(json.dumps(document).encode(), journal="j-0", index=0)
    assert isinstance(stored, StoredDecision)
    assert stored.record == FULL


def test_events_read_back() -> None:
    """Kind, time and details come back."""
    stored = decode(encode_event("policy.loaded", 7, {"n": 1, "t": ("a",)}), journal="j-0", index=1)
    assert stored == StoredEvent("policy.loaded", 7, {"n": 1, "t": ["a"]}, "j-0", 1)


def test_odd_values_are_kept_apart() -> None:
    """NaN, infinity, times, large integers, bytes and objects are named, never null and never an error."""
    values = {
        "nan": math.nan,
        "inf": -math.inf,
        "big": 2**70,
        "when": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
        "for": datetime.timedelta(seconds=90),
        "raw": b"secret",
        "thing": object(),
        "effect": Effect.DENY,
        "lone": "\ud800",
    }
    stored = decode(encode_event("x", 1, values), journal="j", index=0)
    assert isinstance(stored, StoredEvent)
    assert stored.details == {
        "nan": "nan",
        "inf": "-infinity",
        "big": str(2**70),
        "when": "2026-01-02T00:00:00+00:00",
        "for": "90s",
        "raw": "(bytes)",
        "thing": "(object)",
        "effect": "deny",
        "lone": "?",
    }


def test_depth_is_bounded() -> None:
    """A value that holds itself ends."""
    loop: dict[str, object] = {}
    loop["again"] = loop
    assert len(encode_event("x", 1, loop)) < 1000


def test_unknown_fields_are_passed_over() -> None:
    """A reader of this version reads records with more fields than it knows."""
    fields = json.loads(encode_decision(FULL))
    fields["later"] = fields["decision"]["later"] = 1
    stored = decode(json.dumps(fields).encode(), journal="j", index=0)
    assert isinstance(stored, StoredDecision)
    assert stored.record == FULL


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"v": "1"},
        {"v": True},
        {"kind": "decision", "decision": {"effect": "perhaps"}},
        {"decision": []},
        {"decision": {}},
        {"decision_id": None, "decision": None},
        {"decision": {"effect": "deny", "matched": [1]}},
    ],
)
def test_what_does_not_decode(change: dict[str, object]) -> None:
    """Newer versions and broken fields are refused with one kind of error."""
    fields = {**json.loads(encode_decision(FULL)), **change}
    with pytest.raises(AuditError, match="journal j, record 0"):
        decode(json.dumps(fields).encode(), journal="j", index=0)


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    """Any bytes at all decode or give an AuditError."""
    with contextlib.suppress(AuditError):
        decode(data, journal="j", index=0)
