"""
What the decision log reads of a call on the fast path, on its own thread.

The calling thread queues the call itself; ids, texts and the record are made here.
"""

from __future__ import annotations

from typing import Final

from agentguard.audit import CallForm
from agentguard.capture import ShortSpan
from agentguard.runtime.calls import GuardedCall
from agentguard.runtime.lane import DUE, TOLD, UNTOLD, Lane
from agentguard.runtime.later import write_outcome
from agentguard.runtime.runs import Run
from agentguard.values import DecisionRecord
from agentguard.values import attributes as names

_FORMS_MAX: Final = 256


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

    def __call__(self) -> bytes:
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
        form = lane.forms.get(run.principal)
        if form is None:
            form = self._form()
        return form.fill(
            lane.ids.span_id().to_bytes(8, "big").hex(), start_unix_ns + evaluation_ns,
            self.span_id.to_bytes(8, "big").hex(), self.trace_id.to_bytes(16, "big").hex(), run.run_id,
            evaluation_ns, outcome, ended_unix_ns,
        )  # fmt: skip

    def outcome(self) -> bytes | None:
        """As `Ended.outcome`."""
        if self.log_state == TOLD:
            return None
        services = self.form.services
        return write_outcome(services.ids, self.form.revision, self._course(), self.run.run_id)

    def _course(self) -> tuple[str, str, int, int, str]:
        """As `Span.course`."""
        full = self.full
        if full is not None and self.duration_ns < 0:
            return full.span.course()
        return (
            self.span_id.to_bytes(8, "big").hex(), self.trace_id.to_bytes(16, "big").hex(),
            self.start_unix_ns, self.duration_ns, "",
        )  # fmt: skip

    @property
    def is_due(self) -> bool:
        """As that of `Ended`."""
        return self.log_state != UNTOLD

    def _form(self) -> CallForm:
        """Make the form of the records of calls like this one, and keep it."""
        lane = self.form
        assert lane.decision is not None
        shared = DecisionRecord(
            decision_id="", time_unix_ns=0, point=str(lane.spec.before), decision=lane.decision, bundle=lane.revision,
            agent=lane.agent, tool=lane.spec.name if lane.is_tool else "", model=lane.spec.model,
            principal=self.run.principal,
        )  # fmt: skip
        if len(lane.forms) >= _FORMS_MAX:
            lane.forms.clear()
        form = lane.forms[self.run.principal] = CallForm(shared)
        return form
