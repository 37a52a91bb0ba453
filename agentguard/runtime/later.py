"""
Records of calls that run as they should: made when the decision log writes them.

Nearly every call is allowed without a word. The calling thread then only notes
what happened; ids, texts and the records themselves are the work of the log's thread. A call
that has ended by then has one record, which says both that it was let run and how it ended.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from agentguard.audit import CallForm, CallRecord
from agentguard.values import Decision, DecisionRecord, Effect, Point
from agentguard.values import attributes as names

if TYPE_CHECKING:
    from agentguard.runtime.known import KnownCall

_OUTCOME: Final = Decision(effect=Effect.ALLOW)
_TAKES_TURNS: Final = bool(getattr(sys, "_is_gil_enabled", lambda: True)())
"""Whether threads run one at a time, so that what one writes is there when the next one reads."""
_FORMS_MAX: Final = 1024
_forms: dict[object, tuple[Decision, CallForm]] = {}
"""Forms of the records of calls that are alike; most calls share one of few. A decision that is told from others by
its identity is held beside its form, so that the identity stays its own."""


def takes_turns() -> bool:
    """Whether the log need not be given an outcome that its thread has seen."""
    return _TAKES_TURNS


class Ended:
    """How a call ended that the log has admitted; its `outcome` is a `values.DecisionSource`."""

    __slots__ = ("_is_told", "_revision", "_run", "_span", "is_due")

    def __init__(self, call: KnownCall) -> None:
        self._revision = call.services.revision
        self._span = call.span
        self._run = call.run
        self._is_told = False
        self.is_due = True
        """Whether the log is to be given the outcome, once the span of the call has ended."""

    def outcome(self) -> CallRecord | bytes | None:
        """Write the record that closes the call; None where the one that admitted it says so already."""
        if self._is_told:
            return None
        return write_outcome(self._revision, self._span.course(), self._run.run_id)


class Admitted(Ended):
    """A call that was let run; its `admission` is a `values.DecisionSource`."""

    __slots__ = ("_agent", "_decision", "_detour", "_evaluation_ns", "_ids", "_model", "_point", "_time_unix_ns",
                 "_tool")  # fmt: skip

    def __init__(
        self, call: KnownCall, point: Point, decision: Decision, revision: str, evaluation_ns: int
    ) -> None:
        services, spec = call.services, call.spec
        self._time_unix_ns = services.clock.unix_ns()
        self._ids = services.ids
        self._is_told = False
        self.is_due = not _TAKES_TURNS
        self._point = point
        self._decision = decision
        self._revision = revision
        self._evaluation_ns = evaluation_ns
        self._span = call.span
        self._run = call.run
        self._agent = call.agent
        self._tool = spec.name if spec.governed_as == "tool" else ""
        self._model = call.model
        self._detour = call.detour

    def admission(self) -> CallRecord | bytes:
        """Write the record of the decision, and of the end of the call where it has ended."""
        # In this order: who ends the span looks at `is_due` after that, so one of the two sees the other.
        self.is_due = True
        run, decision = self._run, self._decision
        call_id, trace_id, start_unix_ns, duration_ns, outcome = self._span.course()
        ended_unix_ns = 0
        if duration_ns >= 0:
            self._is_told = True
            outcome, ended_unix_ns = outcome or names.OUTCOME_OK, start_unix_ns + duration_ns
        else:
            outcome = ""
        key = (
            id(decision), self._revision, self._point, self._agent, self._tool, self._model,
            self._detour and self._detour[:2],
        )  # fmt: skip
        known = _forms.get(key)
        form = known[1] if known is not None and known[0] is decision else self._admission_form(key)
        return form.fill(
            call_id, trace_id, self._time_unix_ns, self._evaluation_ns, ended_unix_ns, outcome, run.run_id,
            run.principal,
        )  # fmt: skip

    def _admission_form(self, key: object) -> CallForm:
        record = self.record()
        return _kept(
            key,
            record._replace(
                decision_id="",
                time_unix_ns=0,
                call_id="",
                trace_id="",
                run_id="",
                principal="",
                evaluation_ns=0,
            ),
        )

    @property
    def decision(self) -> Decision:
        """The answer of the policies."""
        return self._decision

    def record(self) -> DecisionRecord:
        """Make the record of the decision, as of one that is not over."""
        span, run, detour = self._span, self._run, self._detour
        return DecisionRecord(
            decision_id=self._ids.span_id().to_bytes(8, "big").hex(),
            time_unix_ns=self._time_unix_ns,
            point=str(self._point),
            decision=self._decision,
            bundle=self._revision,
            call_id=span.call_id,
            trace_id=span.trace_id,
            run_id=run.run_id,
            agent=self._agent,
            tool=self._tool,
            model=self._model,
            principal=run.principal,
            evaluation_ns=self._evaluation_ns,
            requested=detour.path[0] if detour is not None else "",
            fallback=",".join(detour.rules) if detour is not None else "",
        )


def write_outcome(revision: str, course: tuple[int, int, int, int, str], run_id: str) -> CallRecord | bytes:
    """
    Write the record that closes a call.

    Args:
        revision:
            Of the bundle that admitted the call.
        course:
            As `Span.course` gives it.
        run_id:
            Of its run.

    Returns:
        What the decision log keeps.
    """
    call_id, trace_id, start_unix_ns, duration_ns, outcome = course
    known = _forms.get(revision)
    if known is None:
        shared = DecisionRecord(
            decision_id="", time_unix_ns=0, point="outcome", decision=_OUTCOME, bundle=revision
        )
        form = _kept(revision, shared)
    else:
        form = known[1]
    ended_unix_ns = start_unix_ns + max(duration_ns, 0)
    return form.fill(call_id, trace_id, ended_unix_ns, 0, 0, outcome or names.OUTCOME_OK, run_id, "")


def _kept(key: object, shared: DecisionRecord) -> CallForm:
    """Make a form, and keep it for the next call that is alike."""
    form = CallForm(shared)
    if len(_forms) >= _FORMS_MAX:
        _forms.clear()
    _forms[key] = shared.decision, form
    return form
