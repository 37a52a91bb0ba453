"""
Verification of the decision log: is it what was written, all of it, in that order.

Five questions with separate answers, because they have separate causes. What
the last checkpoint states is exact; what came after it could have been cut
without trace, and is reported as unanchored.
"""

from __future__ import annotations

import hmac
import stat
from pathlib import Path

from agentguard.audit import format as layout
from agentguard.audit.checkpoint import verifier_key_text
from agentguard.audit.keys import AuditKeys, MacChain
from agentguard.audit.ledger_reader import LedgerReading, Stated, read_ledger
from agentguard.audit.reader import (
    JournalBytes,
    continued_journal,
    journal_paths,
    load_journal,
    opening_mac_key,
)
from agentguard.audit.records import CLOSE, GAP, OPEN, StoredDecision, StoredEvent, decode
from agentguard.audit.report import Finding, Findings, Question, VerifyReport
from agentguard.audit.tree import Frontier
from agentguard.errors import AuditError, SealError, TamperedError
from agentguard.seal import Keystore

_OPEN_CALLS_MAX = 100_000
"""Admitted calls whose outcome is looked for at one time; more are counted as one finding."""


def verify(folder: Path, keystore: Keystore) -> VerifyReport:
    """
    Check the whole decision log of a store.

    Writers may go on meanwhile: the ledger is read first, so whatever it states
    must be in the journals, and what they have more is new.

    Args:
        folder:
            The store's folder.
        keystore:
            Its keys.

    Returns:
        Five verdicts, each with its first findings. A good report does not mean
        that nothing was cut after the last checkpoint, nor that journals and ledger
        were not set back together to an earlier state: against that only a copy of
        a checkpoint on another machine helps.
    """
    run = _Run(folder, AuditKeys(keystore))
    return run.report()


class _Run:
    """One verification."""

    def __init__(self, folder: Path, keys: AuditKeys) -> None:
        self.folder = folder
        self.keys = keys
        self.findings = Findings()
        self.ledger = read_ledger(folder, keys)
        self.records = 0
        self.decisions = 0
        self.journals = 0
        self.newest_known = 0
        """Highest ledger sequence that any record names."""
        self.limits: dict[str, int] = {}
        self.unstated: list[str] = []
        """Journals with records that the ledger, as it was first read, does not name."""
        self.tail_records = 0
        self.torn_bytes = 0

    def report(self) -> VerifyReport:
        """Check everything, and put the verdicts together."""
        self._check_ledger(self.ledger)
        seen = set()
        loaded = []
        for path in journal_paths(self.folder):
            journal = self._load(path, is_header_only=True)
            # A damaged header is one finding; that the journal is there counts against "missing".
            seen.add(path.stem)
            if journal is not None:
                loaded.append((path, journal.journal))
        self._find_continued([path for path, journal in loaded if journal.n])
        for path, _ in loaded:
            journal = self._load(path, is_quiet=True)
            if journal is not None:
                _JournalCheck(self, journal).check()
        self._check_missing(seen)
        self._check_ledger_end()
        self.journals = len(seen)
        lines = (
            self.findings.line(Question.INTEGRITY, f"all {self.records} records are what was written"),
            self.findings.line(
                Question.APPEND_ONLY,
                f"all follow one another, and {self.ledger.count} checkpoints state the same roots",
            ),
            self.findings.line(Question.COMPLETENESS, "everything that the checkpoints state is there"),
            self.findings.line(Question.UNANCHORED_TAIL, "nothing stands after the last checkpoint"),
            self.findings.line(Question.GAPS, "every admitted call has its outcome, nothing was dropped"),
        )
        return VerifyReport(
            verdicts=lines,
            journals=self.journals,
            records=self.records,
            checkpoints=self.ledger.count,
            decisions=self.decisions,
            verifier_key=verifier_key_text(self.keys.store_id, self.keys.verify_keys[0]),
        )

    def _load(
        self, path: Path, *, is_quiet: bool = False, is_header_only: bool = False
    ) -> JournalBytes | None:
        try:
            return load_journal(path, self.keys, is_header_only=is_header_only)
        except (AuditError, SealError) as error:
            if not is_quiet:
                text = (
                    str(error)
                    if isinstance(error, AuditError)
                    else (f"journal {path.stem}: its header does not belong to the key of this store")
                )
                if _is_unborn(path, self.ledger):
                    text = f"journal {path.stem} was begun and never used: a crash left it"
                    finding = Finding(Question.UNANCHORED_TAIL, "unborn", path.stem, 0, text, is_bad=False)
                else:
                    finding = Finding(Question.INTEGRITY, "header", path.stem, 0, text)
                self.findings.add(finding)
            return None

    def _find_continued(self, paths: list[Path]) -> None:
        """Learn which journals were left because the disk failed, and how many of their records count."""
        for path in paths:
            journal = self._load(path, is_quiet=True)
            if journal is None:
                continue
            first = next(layout.scan(journal.data), None)
            if not isinstance(first, layout.Frame) or first.number != 0:
                continue
            try:
                opening = decode(journal.open(first), journal=path.stem, index=0)
            except (AuditError, TamperedError):
                continue
            if isinstance(opening, StoredEvent) and (continued := continued_journal(opening)):
                self.limits[continued[0]] = continued[1]

    def _check_ledger(self, ledger: LedgerReading) -> None:
        for question, kind, sequence, sentence in ledger.problems:
            self.findings.add(Finding(question, kind, "ledger", sequence, sentence))

    def _check_missing(self, seen: set[str]) -> None:
        for name, stated in self.ledger.stated.items():
            if name not in seen:
                self.findings.add(
                    Finding(
                        Question.COMPLETENESS,
                        "journal-missing",
                        name,
                        0,
                        f"journal {name} is gone, with its {stated.last.size} records",
                    )
                )

    def _check_ledger_end(self) -> None:
        """
        Notice that the ledger was cut: a record names a later entry, or a journal is in none.

        A journal takes records only once it is entered. The ledger is read again first,
        since a journal may have begun after it was read.
        """
        unstated = [name for name in self.unstated if name not in self.ledger.stated]
        if unstated or self.newest_known > self.ledger.last_sequence:
            again = read_ledger(self.folder, self.keys)
            for name in unstated:
                if name not in again.stated:
                    self.findings.add(
                        Finding(
                            Question.COMPLETENESS,
                            "journal-unstated",
                            name,
                            0,
                            f"journal {name} is not in the ledger, from which it was taken out",
                        )
                    )
            if self.newest_known > again.last_sequence:
                self.findings.add(
                    Finding(
                        Question.COMPLETENESS,
                        "ledger-cut",
                        "ledger",
                        again.last_sequence + 1,
                        f"the ledger ends at entry {again.last_sequence}, "
                        f"a record names entry {self.newest_known}",
                    )
                )


class _JournalCheck:
    """The check of one journal."""

    def __init__(self, run: _Run, journal: JournalBytes) -> None:
        self.run = run
        self.journal = journal
        self.name = journal.journal.name
        self.stated = run.ledger.stated.get(self.name, Stated.nothing(self.name))
        self.limit = run.limits.get(self.name)
        self.frames_max = len(journal.data) // layout.PREFIX.size + 1
        self.expected = 0
        self.previous = layout.ZERO_LEAF
        self.tree: Frontier | None = Frontier()
        """None once a record is missing: later roots cannot be computed."""
        self.macs: MacChain | None = None
        self.after_damage = False
        self.missing: set[int] = set()
        self.last_decision = ""
        self.is_closed = False
        self.open_calls: dict[str, tuple[int, str]] = {}

    def check(self) -> None:
        """Walk the frames once."""
        for part in layout.scan(self.journal.data):
            if isinstance(part, layout.Damage):
                self._damage(part)
            elif self.limit is not None and part.number >= self.limit:
                continue
            else:
                self._frame(part)
        self._end()

    def _damage(self, damage: layout.Damage) -> None:
        length = damage.end - damage.offset
        if self.expected >= self.stated.last.size and (damage.is_torn or self.limit is not None):
            self.run.torn_bytes += length
            self._add(
                Question.UNANCHORED_TAIL,
                "being-written" if self.journal.is_live else "torn",
                self.expected,
                f"journal {self.name} ends in {length} bytes of a record "
                + ("that is being written" if self.journal.is_live else "that a crash cut off"),
                is_bad=False,
            )
            return
        self.after_damage = True
        self._add(
            Question.INTEGRITY,
            "damaged",
            self.expected,
            f"journal {self.name}: record {self.expected} is damaged or altered{self._after()}",
        )

    def _frame(self, frame: layout.Frame) -> None:
        if frame.number >= self.frames_max + self.expected:
            self.after_damage = True
            self._add(
                Question.INTEGRITY,
                "altered",
                self.expected,
                f"journal {self.name}: record {self.expected} claims to be record {frame.number}{self._after()}",
            )
            return
        try:
            data = self.journal.open(frame)
            entry = decode(data, journal=self.name, index=frame.number)
        except TamperedError:
            self._foreign(frame)
            return
        except AuditError as error:
            self._add(Question.INTEGRITY, "undecodable", frame.number, f"{error}")
            self._follow(frame, "")
            return
        decision_id = entry.record.decision_id if isinstance(entry, StoredDecision) else ""
        if not self._is_next(frame, decision_id):
            return
        self._check_mac(frame, entry, decision_id)
        self._follow(frame, decision_id)
        self._take(entry)

    def _foreign(self, frame: layout.Frame) -> None:
        """A frame with right checksums that does not open: written anew by someone without the key."""
        index = self.expected
        self._add(
            Question.INTEGRITY,
            "altered",
            index,
            f"journal {self.name}: record {index} is not what was sealed there: altered, "
            f"or put in from elsewhere{self._after()}",
        )
        if frame.number == index:
            self.missing.discard(index)
            self.expected += 1
        self.after_damage = True
        self.tree = None

    def _is_next(self, frame: layout.Frame, decision_id: str) -> bool:
        """Whether an authentic frame may stand here; findings say why not."""
        named = f" (decision {decision_id})" if decision_id else ""
        if frame.number < self.expected:
            if frame.number in self.missing:
                self.missing.discard(frame.number)
                kind, what = "moved", "stands after later records"
            else:
                kind, what = "repeated", "stands there twice"
            self._add(
                Question.APPEND_ONLY,
                kind,
                frame.number,
                f"journal {self.name}: record {frame.number}{named} {what}",
                decision_id=decision_id,
            )
            return False
        if frame.number > self.expected:
            if not self.after_damage:
                count = frame.number - self.expected
                gone = (
                    f"record {self.expected} is"
                    if count == 1
                    else (f"records {self.expected} to {frame.number - 1} are")
                )
                self._add(
                    Question.APPEND_ONLY,
                    "removed",
                    self.expected,
                    f"journal {self.name}: {gone} not between record {self.expected - 1}"
                    f"{self._last()} and record {frame.number}{named}",
                )
            self.missing.update(range(self.expected, frame.number))
            self.tree = None
        elif frame.previous != self.previous and not self.after_damage:
            self._add(
                Question.APPEND_ONLY,
                "chain",
                frame.number,
                f"journal {self.name}: record {frame.number}{named} does not follow the one before it",
                decision_id=decision_id,
            )
        return True

    def _check_mac(self, frame: layout.Frame, entry: StoredDecision | StoredEvent, decision_id: str) -> None:
        if frame.number == 0:
            if not isinstance(entry, StoredEvent) or entry.kind != OPEN:
                self._add(
                    Question.INTEGRITY, "opening", 0, f"journal {self.name}: record 0 is no opening record"
                )
                return
            try:
                self.macs = MacChain(opening_mac_key(entry, self.run.keys, self.journal.header))
            except TamperedError:
                self._add(
                    Question.INTEGRITY,
                    "mac-key",
                    0,
                    f"journal {self.name}: the MAC key of the opening record does not open",
                )
                return
        if self.macs is None:
            return
        self.macs.advance(frame.number - self.macs.index)
        if not hmac.compare_digest(self.macs.mac(frame.attested), frame.mac):
            named = f" (decision {decision_id})" if decision_id else ""
            self._add(
                Question.INTEGRITY,
                "mac",
                frame.number,
                f"journal {self.name}: record {frame.number}{named} was not written by the process "
                "that wrote the journal",
                decision_id=decision_id,
            )

    def _follow(self, frame: layout.Frame, decision_id: str) -> None:
        """Go on behind a frame."""
        run = self.run
        run.records += 1
        run.newest_known = max(run.newest_known, frame.ledger_sequence)
        self.previous = self.journal.leaf(frame)
        self.expected = frame.number + 1
        self.after_damage = False
        self.last_decision = decision_id or self.last_decision
        if self.tree is None:
            return
        self.tree.append(self.previous)
        stated = self.stated.roots.get(self.tree.size)
        if stated is not None and stated != self.tree.root():
            self._add(
                Question.APPEND_ONLY,
                "root",
                frame.number,
                f"journal {self.name}: records 0 to {frame.number} are not those that the checkpoint states",
                decision_id=decision_id,
            )

    def _take(self, entry: StoredDecision | StoredEvent) -> None:
        """Look at what the record says."""
        if self.is_closed:
            self._add(
                Question.APPEND_ONLY,
                "after-close",
                self.expected - 1,
                f"journal {self.name}: record {self.expected - 1} stands after the closing record",
            )
        if isinstance(entry, StoredEvent):
            if entry.kind == CLOSE:
                self.is_closed = True
            elif entry.kind == GAP:
                count, reason = entry.details.get("count"), entry.details.get("reason")
                self._add(
                    Question.GAPS,
                    "dropped",
                    entry.index,
                    f"journal {self.name}: {count} records were dropped ({reason}), and counted",
                    is_bad=False,
                )
            return
        self.run.decisions += 1
        record = entry.record
        if record.point == "outcome":
            self.open_calls.pop(record.call_id, None)
        elif (
            record.point.endswith(".before")
            and record.decision.is_allowed
            and record.call_id
            and len(self.open_calls) < _OPEN_CALLS_MAX
        ):
            self.open_calls[record.call_id] = (entry.index, record.decision_id)

    def _end(self) -> None:
        """Compare with what the ledger states, and look at what is left open."""
        stated = self.stated.last.size
        if not stated and self.expected > 1:
            self.run.unstated.append(self.name)
        if self.limit is not None:
            stated = min(stated, self.limit)
        if self.expected < stated and not self.after_damage:
            self._add(
                Question.COMPLETENESS,
                "tail-cut",
                self.expected,
                f"journal {self.name} ends before record {self.expected}{self._after()}: "
                f"{stated - self.expected} records are gone that checkpoint "
                f"{self.stated.last.sequence} states",
            )
        elif self.expected > stated and self.limit is None:
            count = self.expected - stated
            self.run.tail_records += count
            self._add(
                Question.UNANCHORED_TAIL,
                "unanchored",
                stated,
                f"journal {self.name}: {count} records stand after its last checkpoint"
                + (", its writer goes on" if self.journal.is_live else ""),
                is_bad=False,
            )
        if self.open_calls:
            index, decision_id = next(iter(self.open_calls.values()))
            state = "still run, or will" if self.journal.is_live else "were admitted and"
            self._add(
                Question.GAPS,
                "running" if self.journal.is_live else "no-outcome",
                index,
                f"journal {self.name}: {len(self.open_calls)} calls {state} have no outcome, "
                f"the first by decision {decision_id}",
                decision_id=decision_id,
                is_bad=False,
            )

    def _add(
        self,
        question: Question,
        kind: str,
        index: int,
        sentence: str,
        *,
        decision_id: str = "",
        is_bad: bool = True,
    ) -> None:
        self.run.findings.add(Finding(question, kind, self.name, index, sentence, decision_id, is_bad))

    def _last(self) -> str:
        return f" (decision {self.last_decision})" if self.last_decision else ""

    def _after(self) -> str:
        return f", after decision {self.last_decision}" if self.last_decision else ""


def _is_unborn(path: Path, ledger: LedgerReading) -> bool:
    """Whether a file is what a crash leaves of a journal that never held an acknowledged record."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return (
        stat.S_ISREG(status.st_mode)
        and status.st_size < layout.HEADER.size
        and path.stem not in ledger.stated
    )
