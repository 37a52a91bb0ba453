"""Records that the decision log's thread makes: when one says all, and when it takes two."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import agentguard
from agentguard.audit import CallForm, Question, check_proof, prove, read_decisions, verify
from agentguard.audit.format import Frame, scan
from agentguard.audit.keys import AuditKeys
from agentguard.audit.notes import NoteKey
from agentguard.audit.reader import journal_paths, load_journal
from agentguard.audit.records import CallRecord, StoredDecision, decode, encode_decision
from agentguard.runtime import later
from agentguard.runtime.core import Runtime
from agentguard.values import Decision, DecisionRecord, Effect
from tests.unit.runtime.conftest import Start, decisions

LIMIT = """
- id: REF-001
  title: Refunds up to 100
  at: tool.before
  when: tool.name == 'refund' && args.amount_usd > 100.0
  then: deny
"""


def written(runtime: Runtime) -> list[dict[str, Any]]:
    """The fields of all decision records as they stand in the log."""
    assert runtime.flush(5.0).is_complete
    found = []
    for path in journal_paths(runtime.store.folder):
        journal = load_journal(path, AuditKeys(runtime.store.keystore))
        for frame in scan(journal.data):
            assert isinstance(frame, Frame)
            found += [decode(record, journal=path.stem, index=0) for _, record in journal.open(frame)]
    return [
        {name: value for name, value in stored.record._asdict().items() if value}
        for stored in found
        if isinstance(stored, StoredDecision)
    ]


def call_refund(runtime: Runtime, *, is_taken_meanwhile: bool, error: bool = False) -> None:
    """Make a call; the log writes its admission while it runs, or has not come to it before its end."""

    @agentguard.tool(name="refund", effect="write")
    def refund(amount_usd: float) -> float:
        if is_taken_meanwhile:
            assert runtime.journal.flush(5.0)
        if error:
            raise LookupError("no such order")
        return amount_usd

    if is_taken_meanwhile:
        refund(5.0)
        return
    with runtime.journal._committer.lock:
        if error:
            with pytest.raises(LookupError):
                refund(5.0)
        else:
            refund(5.0)


def test_a_call_that_has_ended_has_one_record(start: Start) -> None:
    """It says that the call was let run, and how and when it ended; readers see both as two."""
    runtime = start(LIMIT)
    call_refund(runtime, is_taken_meanwhile=False)
    [record] = written(runtime)
    assert (record["point"], record["outcome"]) == ("tool.before", "ok")
    admitted, outcome = (stored.record for stored in decisions(runtime))
    assert (admitted.point, admitted.outcome, admitted.ended_unix_ns) == ("tool.before", "", 0)
    assert (outcome.point, outcome.outcome, outcome.time_unix_ns) == (
        "outcome",
        "ok",
        record["ended_unix_ns"],
    )
    assert admitted.time_unix_ns <= outcome.time_unix_ns
    assert (admitted.call_id, admitted.run_id) == (outcome.call_id, outcome.run_id)
    [gaps] = [line for line in verify(*folder_and_keys(runtime)).verdicts if line.question is Question.GAPS]
    assert gaps.sentence == "every admitted call has its outcome, nothing was dropped"


def test_how_it_failed_is_in_the_one_record_too(start: Start) -> None:
    """An error is an outcome as any other."""
    runtime = start(LIMIT)
    call_refund(runtime, is_taken_meanwhile=False, error=True)
    assert [record["outcome"] for record in written(runtime)] == ["error"]


def test_a_call_that_goes_on_has_two_records(start: Start) -> None:
    """What was written before the end says nothing of it; the end is written when it is known."""
    runtime = start(LIMIT)
    call_refund(runtime, is_taken_meanwhile=True)
    admitted, outcome = written(runtime)
    assert (admitted["point"], "outcome" in admitted) == ("tool.before", False)
    assert (outcome["point"], outcome["outcome"]) == ("outcome", "ok")
    assert admitted["decision_id"] == outcome["decision_id"] == admitted["call_id"]
    assert verify(*folder_and_keys(runtime)).is_good


def test_nothing_is_queued_for_an_end_that_will_be_seen(start: Start) -> None:
    """Half of the queue is saved: one entry for a call, not two."""
    runtime = start(LIMIT)
    assert runtime.journal.flush(5.0)
    call_refund(runtime, is_taken_meanwhile=False)
    with runtime.journal._committer.lock:
        assert len(runtime.journal._queue) <= 1


def test_where_threads_do_not_take_turns_the_end_is_queued(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then one of two threads could miss what the other does; the log sees to it that nothing is told twice."""
    monkeypatch.setattr(later, "_TAKES_TURNS", False)
    runtime = start(LIMIT)
    call_refund(runtime, is_taken_meanwhile=False)
    call_refund(runtime, is_taken_meanwhile=True)
    assert [record["point"] for record in written(runtime)] == ["tool.before", "tool.before", "outcome"]


@pytest.mark.parametrize("is_taken_meanwhile", [False, True])
def test_both_halves_can_be_proven(start: Start, is_taken_meanwhile: bool) -> None:
    """The decision, and the outcome, by one record or two."""
    runtime = start(LIMIT)
    call_refund(runtime, is_taken_meanwhile=is_taken_meanwhile)
    admitted, outcome = (stored.record for stored in decisions(runtime))
    agentguard.shutdown(5.0)
    log = folder_and_keys(runtime)
    key = NoteKey.parse(verify(*log).verifier_key)
    for record, is_outcome in ((admitted, False), (outcome, True)):
        proven = check_proof(prove(*log, record.decision_id, is_outcome=is_outcome), key)
        assert isinstance(proven.entry, StoredDecision)
        assert proven.entry.record.decision_id == record.decision_id
        assert not is_outcome or proven.entry.record.outcome == "ok"


def test_a_child_that_ends_its_parents_call_tells_nothing_twice(start: Start) -> None:
    """A fork inside a call: the admission, and the one outcome, are the parent's to write."""
    runtime = start(LIMIT)
    with runtime.journal._committer.lock:
        pid = -1

        @agentguard.tool(name="refund", effect="write")
        def refund(amount_usd: float) -> float:
            nonlocal pid
            pid = os.fork()
            return amount_usd

        refund(5.0)
        if pid == 0:
            os._exit(0 if runtime.journal.flush(5.0) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert [record["point"] for record in written(runtime)] == ["tool.before"]
    assert len(list(read_decisions(*folder_and_keys(runtime)))) == 2


_TEXTS = st.text(st.characters(), max_size=20) | st.just("long")


@given(_TEXTS, _TEXTS, st.integers(1, 2**63 - 1) | st.just(-9), st.sampled_from(["", "ok", "error", "odd"]))
def test_a_form_says_what_a_record_says(agent: str, run_id: str, time_unix_ns: int, outcome: str) -> None:
    """Whatever the texts and numbers, lone surrogates and endless ones included."""
    agent, run_id = (text.replace("long", "x" * 20_000) for text in (agent, run_id))
    shared = DecisionRecord("", 0, "tool.before", Decision(Effect.ALLOW), "ab" * 32, agent=agent)
    ended = 7 if outcome else 0
    who = run_id[::-1]
    filled = CallForm(shared).fill(0x23, 0x45, time_unix_ns, 9, ended, outcome, run_id, who)
    whole = shared._replace(
        decision_id=f"{0x23:016x}",
        time_unix_ns=time_unix_ns,
        call_id=f"{0x23:016x}",
        trace_id=f"{0x45:032x}",
        run_id=run_id,
        principal=who,
        evaluation_ns=9,
        outcome=outcome,
        ended_unix_ns=ended,
    )
    data = filled.whole if isinstance(filled, CallRecord) else filled
    assert decode(data, journal="j-0", index=0) == decode(encode_decision(whole), journal="j-0", index=0)


def folder_and_keys(runtime: Runtime) -> Any:
    """The store's folder and keys."""
    return runtime.store.folder, runtime.store.keystore
