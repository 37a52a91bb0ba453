"""What a verification found, as values: seven verdicts, told apart."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum


class Question(StrEnum):
    """What is asked of the decision log; each has its own answer."""

    INTEGRITY = "integrity"
    """Is every record that is there what was written?"""
    APPEND_ONLY = "append_only"
    """Do the records follow one another as written: none removed, moved, repeated, put in?"""
    COMPLETENESS = "completeness"
    """Is everything there that the checkpoints state?"""
    UNANCHORED_TAIL = "unanchored_tail"
    """What stands after the last checkpoint, where a cut would not show?"""
    GAPS = "gaps"
    """Which calls were admitted and have no outcome, and what was counted as lost?"""
    ERASURES = "erasures"
    """Whose content was erased, as the log itself records it?"""
    RETENTION = "retention"
    """Which journals were removed by age or size, as the ledger states and signs it?"""


class Answer(StrEnum):
    """How a question came out."""

    OK = "ok"
    NOTED = "noted"
    """Something to know, that no alteration is needed to explain."""
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or worth knowing, with its place."""

    question: Question
    kind: str
    """A stable short name, such as `altered` or `journal-missing`."""
    journal: str
    """`<writer>-<n>`, or `ledger`."""
    index: int
    """The first record it concerns; -1 where it is no record."""
    sentence: str
    decision_id: str = ""
    """The decision at that record, where it could be read."""
    is_bad: bool = True
    records: int = 1
    """How many records it concerns, from `index` on: those sealed in one frame fall together."""


@dataclass(frozen=True, slots=True)
class VerdictLine:
    """The answer to one question."""

    question: Question
    answer: Answer
    sentence: str
    findings: tuple[Finding, ...] = ()
    """At most `FINDINGS_MAX`, in the order of the records."""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """All answers, and what they were taken from."""

    verdicts: tuple[VerdictLine, ...]
    journals: int
    records: int
    """Records that were read and are whole."""
    checkpoints: int
    decisions: int
    tail_records: int
    """Records after the last checkpoints: cutting them would not show."""
    tail_s: float
    """How long after the last checkpoint of its journal the newest of them was made, in seconds."""
    verifier_key: str
    """The public key that the checkpoints are signed with, for the auditor's own notes."""

    @property
    def is_good(self) -> bool:
        """Whether no answer is bad."""
        return all(line.answer is not Answer.BAD for line in self.verdicts)

    @property
    def first_bad(self) -> Finding | None:
        """The first bad finding, in the order of the questions."""
        return next((f for line in self.verdicts for f in line.findings if f.is_bad), None)

    def of(self, question: Question) -> VerdictLine:
        """The answer to one question."""
        return next(line for line in self.verdicts if line.question is question)


def utc(unix_ns: int) -> str:
    """Write a moment as ISO 8601, to the second; one that no calendar has as the number that it is."""
    try:
        return datetime.fromtimestamp(unix_ns // 1_000_000_000, UTC).isoformat()
    except (OverflowError, ValueError, OSError):
        return f"{unix_ns} ns"


FINDINGS_MAX = 100
"""Findings kept for each question; more are only counted."""


@dataclass
class Findings:
    """Collects findings while a log is verified."""

    by_question: dict[Question, list[Finding]] = field(default_factory=lambda: {q: [] for q in Question})
    counts: dict[Question, int] = field(default_factory=lambda: dict.fromkeys(Question, 0))
    bad: set[Question] = field(default_factory=set)

    def add(self, finding: Finding) -> None:
        """Keep a finding, or only count it where there are many."""
        question = finding.question
        self.counts[question] += 1
        if finding.is_bad:
            self.bad.add(question)
        if len(self.by_question[question]) < FINDINGS_MAX:
            self.by_question[question].append(finding)

    def line(self, question: Question, fine: str) -> VerdictLine:
        """
        Put the findings of one question together.

        Args:
            question:
                Which one.
            fine:
                The sentence where nothing was found.

        Returns:
            The verdict; its sentence is that of the first bad finding, else of the first.
        """
        found = self.by_question[question]
        if not found:
            return VerdictLine(question, Answer.OK, fine)
        answer = Answer.BAD if question in self.bad else Answer.NOTED
        first = next((f for f in found if f.is_bad), found[0])
        more = self.counts[question] - 1
        sentence = first.sentence + (f" (and {more} more)" if more else "")
        return VerdictLine(question, answer, sentence, tuple(found))
