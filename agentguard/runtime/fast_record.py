"""
What the decision log reads of a call on the fast path, on its own thread.

The calling thread queues the call itself; ids, texts and the record are made here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from agentguard.audit import OUTCOME_NUMBERS, RUN_BYTES_MAX, CallForm, CallRecord
from agentguard.capture import ShortSpan
from agentguard.runtime.calls import GuardedCall
from agentguard.runtime.lane import DUE, TOLD, UNTOLD, Lane
from agentguard.runtime.later import write_outcome
from agentguard.runtime.runs import Run
from agentguard.values import DecisionRecord
from agentguard.values import attributes as names

_OK: Final = OUTCOME_NUMBERS[names.OUTCOME_OK]


class RecordedSpan(ShortSpan):
    """A short span that is its own entry in the log's queue: a `values.DecisionSource`, and an `Ending`."""

    __slots__ = ("evaluation_ns", "full", "log_state")

    form: Lane
    run: Run
    full: GuardedCall | None
    """What it has grown into."""
    evaluation_ns: int
    log_state: int
    """UNTOLD, DUE or TOLD."""

    @staticmethod
    def write_all(calls: Iterator[RecordedSpan], records: list[bytes], forms: dict[bytes, bytes]) -> None:
        """Write the admissions of many calls, most of which have ended; as each by itself is written by `__call__`."""
        add, used = records.append, set()
        run_before, own = None, None
        try:
            for call in calls:
                duration_ns, run, form = call.duration_ns, call.run, call.form.call_form
                if run is not run_before:
                    run_before, own = run, _plain_id(run)
                if duration_ns >= 0 and form is not None and form.is_usable and own is not None:
                    start_unix_ns, evaluation_ns = call.start_unix_ns, call.evaluation_ns
                    try:
                        record = form.pack(
                            call.span_id, call.trace_id.to_bytes(16, "big"), start_unix_ns + evaluation_ns,
                            evaluation_ns, start_unix_ns + duration_ns, _OK, len(own), 0,
                        ) + own  # fmt: skip
                    except struct.error:
                        pass
                    else:
                        call.log_state = TOLD
                        used.add(form)
                        add(record)
                        continue
                made = call()
                if isinstance(made, CallRecord):
                    used.add(made.form)
                    made = made.record
                add(made)
        finally:
            for form in used:
                forms[form.digest] = form.text

    def __call__(self) -> CallRecord | bytes:
        """As `Admitted.admission`."""
        # In this order: who ends the call looks at `log_state` after that, so one of the two sees the other.
        self.log_state = DUE
        lane, run, start_unix_ns, evaluation_ns = self.form, self.run, self.start_unix_ns, self.evaluation_ns
        duration_ns, outcome, ended_unix_ns = self.duration_ns, "", 0
        if duration_ns < 0 and self.full is not None:
            *_, duration_ns, outcome = self.full.span.course()
        if duration_ns >= 0:
            self.log_state = TOLD
            outcome, ended_unix_ns = outcome or names.OUTCOME_OK, start_unix_ns + duration_ns
        else:
            outcome = ""
        return (lane.call_form or self._form()).fill(
            self.span_id, self.trace_id, start_unix_ns + evaluation_ns, evaluation_ns, ended_unix_ns, outcome,
            run.run_id, run.principal,
        )  # fmt: skip

    def outcome(self) -> CallRecord | bytes | None:
        """As `Ended.outcome`."""
        if self.log_state == TOLD:
            return None
        return write_outcome(self.form.revision, self._course(), self.run.run_id)

    def _course(self) -> tuple[int, int, int, int, str]:
        """As `Span.course`."""
        full = self.full
        if full is not None and self.duration_ns < 0:
            return full.span.course()
        return self.span_id, self.trace_id, self.start_unix_ns, self.duration_ns, ""

    @property
    def is_due(self) -> bool:
        """As that of `Ended`."""
        return self.log_state != UNTOLD

    def _form(self) -> CallForm:
        """Make the form of the records of calls like this one, and keep it."""
        lane = self.form
        assert lane.decision is not None
        form = lane.call_form = CallForm(
            DecisionRecord(
                decision_id="", time_unix_ns=0, point=str(lane.spec.before), decision=lane.decision,
                bundle=lane.revision, agent=lane.agent, tool=lane.spec.name if lane.is_tool else "",
                model=lane.spec.model,
            )
        )  # fmt: skip
        return form


def _plain_id(run: Run) -> bytes | None:
    """Give the id of a run of which nothing else is said; None also where it is not as ids are."""
    run_id = run.run_id
    if run.principal or len(run_id) > RUN_BYTES_MAX or not run_id.isascii():
        return None
    return run_id.encode()
