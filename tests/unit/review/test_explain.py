"""One decision in three voices."""

from __future__ import annotations

from dataclasses import replace

from agentguard.policy import Engine
from agentguard.review import explain_decision
from agentguard.values import DecisionRecord, Effect, Mode, StateGate, ThrottleTerms
from tests.support.policies import bundle, call, document

SPENT = "FIN-001 | tool.before | tool.name == 'sql' && cost.usd_today > 50 | deny"
CAP = "CAP-001 | tool.before | args.rows > 1000 | deny"


def decided(*rules: str, facts: dict[str, object], **head: str) -> tuple[DecisionRecord, Engine]:
    """One decision as the log has it."""
    engine = Engine(bundle(document(*rules, **head)))
    decision = engine.decide("tool.before", facts)
    record = DecisionRecord(
        "7f3a" + "0" * 12, 0, "tool.before", decision, engine.bundle.revision, tool="sql", agent="support"
    )
    return record, engine


def test_three_voices() -> None:
    """The reviewer reads values and the change; model and user do not."""
    record, engine = decided(SPENT, facts=call("sql", cost__usd_today=51.2))
    found = explain_decision(record, engine.bundle)
    assert "cost.usd_today 51.20 > 50" in found.reviewer
    assert found.flip == "would be allowed if cost.usd_today <= 50"
    assert found.agent == record.message
    assert "FIN-001" in found.user
    for voice in (found.agent, found.user):
        assert "50" not in voice
        assert "51" not in voice


def test_all_rules_that_stand_in_the_way_must_turn() -> None:
    """From what the log kept: numbers of arguments among it."""
    record, engine = decided(SPENT, CAP, facts=call("sql", cost__usd_today=51.2, args={"rows": 5000}))
    found = explain_decision(record, engine.bundle)
    assert found.flip == "would be allowed if cost.usd_today <= 50 and args.rows <= 1000"
    assert [one.rule_id for one in found.changes] == ["FIN-001", "CAP-001"]


def test_the_nearest_rule_that_allows() -> None:
    """Where a default denied."""
    rules = (
        "A | tool.before | tool.name == 'sql' && args.rows <= 10 | allow",
        "B | tool.before | tool.name == 'x' | allow",
    )
    facts = call("sql", args={"rows": 11})
    record, engine = decided(*rules, facts=facts, unmatched="deny")
    assert explain_decision(record, engine.bundle, facts).flip == "would be allowed if args.rows <= 10"


def test_where_no_change_is_worked_out_it_says_why() -> None:
    """Other documents, none, an error, a rule that always holds."""
    record, engine = decided(SPENT, facts=call("sql", cost__usd_today=51.2))
    other = Engine(bundle(document(CAP))).bundle
    assert "is loaded" in explain_decision(record, other).note
    assert "no policies are loaded" in explain_decision(record).note
    broken, engine = decided(SPENT, facts=call("sql"))
    assert "could not be evaluated" in explain_decision(broken, engine.bundle).note
    always, engine = decided("N | tool.before | true | deny", facts=call("sql"))
    assert "whatever the facts are" in explain_decision(always, engine.bundle).note
    ran, engine = decided(CAP, facts=call("sql", args={"rows": 1}))
    assert explain_decision(ran, engine.bundle)[1:] == (
        "",
        "sql was allowed to run. Reference: 7f3a0000.",
        (),
        "",
    )


def test_the_reviewer_reads_what_else_the_record_holds() -> None:
    """Where a call was sent, what is stopped, who is waited for, which limits were asked, which exception counted."""
    record, _ = decided(SPENT, facts=call("sql", cost__usd_today=51.2))
    gate = StateGate(Effect.THROTTLE, "finance", "T-1", "Slowly", Mode.ENFORCE, (), ThrottleTerms(5, 60.0))
    decision = replace(
        record.decision,
        gates=(gate,),
        wait_s=30.0,
        kill_scope="agent",
        warnings=("W-1", "exception:migration"),
    )
    kept = record._replace(decision=decision, requested="large", fallback="finance/F-1")
    said = explain_decision(kept).reviewer
    assert said.endswith(
        "; large was asked for, sent on by finance/F-1; stops agent on the whole machine; the call waits 30 s for "
        "people; asked of the past: T-1; let past by migration"
    )
