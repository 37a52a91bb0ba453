"""What the decision log writes of many calls on the fast path at once, and of each alone."""

from __future__ import annotations

from typing import Any

import pytest

import agentguard
from agentguard.audit import CallRecord
from agentguard.runtime.fast_call import FastCall
from tests.unit.runtime.conftest import Start, decisions
from tests.unit.runtime.test_later import LIMIT

RUNS: list[dict[str, Any]] = [
    {},
    {"principal": "käthe"},
    {"run_id": "r\ud800"},
    {"run_id": "r" * 20_000},
    {"run_id": "ünï"},
]
"""Where a run has something odd, its calls are written another way."""


def calls_of(runtime: Any) -> list[FastCall]:
    """Make calls that have ended, one that failed, and one that goes on, and give what is queued for the log."""

    @agentguard.tool(name="refund", effect="write")
    def refund(amount_usd: float) -> list[FastCall]:
        if amount_usd < 0:
            raise LookupError
        return [item for item in runtime.journal._queue if type(item) is FastCall]

    for _ in range(3):
        refund(5.0)
    assert runtime.journal.flush(5.0)
    with runtime.journal._committer.lock:
        for given in RUNS:
            with agentguard.run(**given):
                refund(5.0)
                with pytest.raises(LookupError):
                    refund(-1.0)
        return refund(5.0)


def whole(made: Any) -> bytes:
    """The record with its form."""
    return made.whole if isinstance(made, CallRecord) else made


def test_many_at_once_are_written_as_each_alone(start: Start) -> None:
    """Ended or going on, failed, and whatever the texts of their runs."""
    calls = calls_of(start(LIMIT))
    assert len(calls) == 2 * len(RUNS) + 1
    records: list[bytes] = []
    forms: dict[bytes, bytes] = {}
    FastCall.write_all(iter(calls), records, forms)
    together = [record + forms[record[1:33]] if record[0] == 1 else record for record in records]
    states = [call.log_state for call in calls]
    assert together == [whole(call()) for call in calls]
    assert states == [call.log_state for call in calls]
    assert sum(record[0] == 1 for record in records) == len(calls) - 4


def test_one_that_cannot_be_written_fails_alone(start: Start) -> None:
    """The others of its class are in the log, and the loss is counted."""
    runtime = start(LIMIT)
    calls = calls_of(runtime)
    assert runtime.journal.flush(5.0)
    stored, failed = len(decisions(runtime)), []
    runtime.journal._batches._on_internal_error = lambda where, error: failed.append(where)
    with runtime.journal._committer.lock:
        calls[1].run = None  # type: ignore[assignment] # what cannot be
        runtime.journal._queue.extend(calls[:3])
    assert runtime.journal.flush(5.0)
    assert failed == ["audit.encode"]
    assert runtime.journal.dropped == {"cannot be encoded": 1}
    assert len(decisions(runtime)) == stored + 4


def test_a_form_that_is_too_long_is_no_form(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then every record is whole, together as alone."""
    monkeypatch.setattr("agentguard.audit.call_record.FORM_BYTES_MAX", 10)
    calls = calls_of(start(LIMIT))
    assert not isinstance(calls[0](), CallRecord)
    records: list[bytes] = []
    forms: dict[bytes, bytes] = {}
    FastCall.write_all(iter(calls), records, forms)
    assert not forms
    assert records == [call() for call in calls]
