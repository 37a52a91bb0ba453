"""Which calls were admitted and have no outcome yet: the one question whose answer no journal has alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from agentguard.audit.format import JournalId
from agentguard.audit.records import StoredDecision
from agentguard.audit.report import Finding, Question

CALLS_MAX = 100_000
"""Calls whose outcome is looked for at one time; those beyond are not looked for."""


class _Admission(NamedTuple):
    """Where a call was let run."""

    journal: JournalId
    place: int
    decision_id: str


class OpenCalls:
    """
    Admitted calls whose outcome was not read yet, over all journals of a log.

    A writer begins a new journal when one is full, and a call that runs at that moment
    has its admission in one and its outcome in the next.
    """

    def __init__(self) -> None:
        self._admitted: dict[str, _Admission] = {}
        self._live: set[bytes] = set()

    def is_written(self, journal: JournalId) -> None:
        """
        Learn that a process still writes a journal.

        Args:
            journal:
                Calls that were admitted in it, or in an earlier one of its writer, may still run.
        """
        self._live.add(journal.writer)

    def take(self, journal: JournalId, stored: StoredDecision) -> None:
        """
        Learn from a record, in the order in which the journals were begun.

        Args:
            journal:
                Where it stands.
            stored:
                An admission, an outcome, or anything else that was decided.
        """
        record = stored.record
        if record.outcome:
            self._admitted.pop(record.call_id, None)
        elif (
            record.point.endswith(".before")
            and record.decision.is_allowed
            and record.call_id
            and len(self._admitted) < CALLS_MAX
        ):
            self._admitted[record.call_id] = _Admission(journal, stored.index, record.decision_id)

    def findings(self) -> Iterator[Finding]:
        """Name the journals that admitted calls of which no journal has the outcome."""
        left: dict[JournalId, list[_Admission]] = {}
        for admission in self._admitted.values():
            left.setdefault(admission.journal, []).append(admission)
        for journal, admissions in left.items():
            is_live = journal.writer in self._live
            state = "still run, or will" if is_live else "were admitted and"
            first = admissions[0]
            yield Finding(
                Question.GAPS,
                "running" if is_live else "no-outcome",
                journal.name,
                first.place,
                f"journal {journal.name}: {len(admissions)} calls {state} have no outcome, "
                f"the first by decision {first.decision_id}",
                first.decision_id,
                is_bad=False,
            )
