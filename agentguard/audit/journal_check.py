"""The check of one journal: every frame, every link, every MAC, and what the ledger states of it."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Protocol

from agentguard.audit import format as layout
from agentguard.audit.events import ERASED
from agentguard.audit.keys import AuditKeys, MacChain
from agentguard.audit.ledger_reader import Stated
from agentguard.audit.open_calls import OpenCalls
from agentguard.audit.reader import JournalBytes, opening_mac_key
from agentguard.audit.records import CLOSE, GAP, OPEN, OUTCOME, StoredDecision, StoredEvent, decode
from agentguard.audit.report import Finding, Findings, Question, utc
from agentguard.audit.tree import Frontier
from agentguard.errors import AuditError, TamperedError

Entry = StoredDecision | StoredEvent


class Run(Protocol):
    """What the checks of all journals share."""

    keys: AuditKeys
    findings: Findings
    records: int
    decisions: int
    newest_known: int
    """Highest ledger sequence that any record names."""
    unstated: list[str]
    """Journals with records that the ledger, as it was first read, does not name."""
    open_calls: OpenCalls
    tail_records: int
    tail_s: float
    torn_bytes: int


class JournalCheck:
    """The check of one journal."""

    def __init__(
        self,
        run: Run,
        journal: JournalBytes,
        *,
        stated: Stated,
        anchored: Mapping[int, bytes],
        limit: int | None,
    ) -> None:
        self.run = run
        self.journal = journal
        self.name = journal.journal.name
        self.stated = stated
        self.anchored = anchored
        self.limit = limit
        self.records_max = len(journal.data) // layout.LEAF_BYTES + 1
        self.expected = 0
        self.previous = layout.ZERO_LINK
        self.tree: Frontier | None = Frontier()
        """None once a record is missing: later roots cannot be computed."""
        self.macs: MacChain | None = None
        self.after_damage = False
        self.missing: set[int] = set()
        self.last_decision = ""
        self.oldest_unix_ns = 0
        self.newest_unix_ns = 0
        self.is_closed = False

    def check(self) -> None:
        """Walk the frames once."""
        for part in layout.scan(self.journal.data):
            if isinstance(part, layout.Damage):
                if self._is_crash(part):
                    break  # What stands behind it was not acknowledged either: a sync brings all before it to disk.
                self._damage(part)
            elif self.limit is not None and part.number >= self.limit:
                continue
            else:
                self._frame(part)
        self._end()

    def _is_crash(self, damage: layout.Damage) -> bool:
        """Whether a crash explains damage behind all that is stated; it is then noted."""
        if self.expected < self.stated.last.size or not (damage.is_torn or self.limit is not None):
            return False
        length = len(self.journal.data) - damage.offset
        self.run.torn_bytes += length
        self._add(
            Question.UNANCHORED_TAIL,
            "being-written" if self.journal.is_live else "torn",
            self.expected,
            f"journal {self.name} ends in {length} bytes of a record "
            + ("that is being written" if self.journal.is_live else "that a crash cut off"),
            is_bad=False,
        )
        return True

    def _damage(self, damage: layout.Damage) -> None:
        self.after_damage = True
        self._add(
            Question.INTEGRITY,
            "damaged",
            self.expected,
            f"journal {self.name}: {_named(self.expected, damage.records)} damaged or altered{self._after()}",
            records=damage.records,
        )

    def _frame(self, frame: layout.Frame) -> None:
        if frame.number >= self.records_max + self.expected:
            self.after_damage = True
            self._add(
                Question.INTEGRITY,
                "altered",
                self.expected,
                f"journal {self.name}: record {self.expected} claims to be record {frame.number}{self._after()}",
            )
            return
        try:
            records = self.journal.open(frame)
        except TamperedError:
            self._foreign(frame)
            return
        entries: list[Entry | None] = []
        for index, (_, record) in enumerate(records, start=frame.number):
            try:
                entries.append(decode(record, journal=self.name, index=index))
            except AuditError as error:
                entries.append(None)
                self._add(Question.INTEGRITY, "undecodable", index, f"{error}")
        decision_id = next((_decision_id(entry) for entry in entries if _decision_id(entry)), "")
        if not self._is_next(frame, decision_id):
            return
        self._check_mac(frame, entries[0], decision_id)
        self.previous = layout.link_of(frame.attested)
        for index, (entry, leaf) in enumerate(zip(entries, frame.leaves, strict=True), start=frame.number):
            if self.limit is not None and index >= self.limit:
                return
            self._follow(index, leaf, _decision_id(entry))
            if entry is not None:
                self._take(entry)
        self.run.newest_known = max(self.run.newest_known, frame.ledger_sequence)

    def _foreign(self, frame: layout.Frame) -> None:
        """A frame with right checksums that does not open: written anew by someone without the key."""
        index = self.expected
        self._add(
            Question.INTEGRITY,
            "altered",
            index,
            f"journal {self.name}: {_named(index, frame.records)} not what was sealed there: altered, "
            f"or put in from elsewhere{self._after()}",
            records=frame.records,
        )
        if frame.number == index and frame.records < self.records_max:
            self.missing.difference_update(range(index, index + frame.records))
            self.expected += frame.records
        self.after_damage = True
        self.tree = None

    def _is_next(self, frame: layout.Frame, decision_id: str) -> bool:
        """Whether an authentic frame may stand here; findings say why not."""
        named = f" (decision {decision_id})" if decision_id else ""
        if frame.number < self.expected:
            if frame.number in self.missing:
                self.missing.difference_update(range(frame.number, frame.number + frame.records))
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

    def _check_mac(self, frame: layout.Frame, entry: Entry | None, decision_id: str) -> None:
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
        # A frame holds a record at least, so its place is never above its first index.
        is_placed = self.macs.index <= frame.position <= frame.number
        if is_placed:
            self.macs.advance(frame.position - self.macs.index)
        if not is_placed or not hmac.compare_digest(self.macs.mac(frame.attested), frame.mac):
            named = f" (decision {decision_id})" if decision_id else ""
            self._add(
                Question.INTEGRITY,
                "mac",
                frame.number,
                f"journal {self.name}: record {frame.number}{named} was not written by the process "
                "that wrote the journal",
                decision_id=decision_id,
            )

    def _follow(self, index: int, leaf: bytes, decision_id: str) -> None:
        """Go on behind a record."""
        self.run.records += 1
        self.expected = index + 1
        self.after_damage = False
        self.last_decision = decision_id or self.last_decision
        if self.tree is None:
            return
        self.tree.append(leaf)
        stated = self.stated.roots.get(self.tree.size)
        if stated is not None and stated != self.tree.root():
            self._add(
                Question.APPEND_ONLY,
                "root",
                index,
                f"journal {self.name}: records 0 to {index} are not those that the checkpoint states",
                decision_id=decision_id,
            )

        anchored = self.anchored.get(self.tree.size)
        if anchored is not None and anchored != self.tree.root():
            self._add(
                Question.APPEND_ONLY,
                "anchor-root",
                index,
                f"journal {self.name}: records 0 to {index} are not those that an anchor states",
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
        time_unix_ns = entry.time_unix_ns if isinstance(entry, StoredEvent) else entry.record.time_unix_ns
        self.oldest_unix_ns = min(self.oldest_unix_ns or time_unix_ns, time_unix_ns)
        self.newest_unix_ns = max(self.newest_unix_ns, time_unix_ns)
        if isinstance(entry, StoredEvent):
            if entry.kind == CLOSE:
                self.is_closed = True
            elif entry.kind == ERASED:
                self._add(
                    Question.ERASURES,
                    "erased",
                    entry.index,
                    f"journal {self.name}: content was erased (record {entry.index}), as recorded and signed",
                    is_bad=False,
                )
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
        self.run.decisions += entry.record.point != OUTCOME
        self.run.open_calls.take(self.journal.journal, entry)

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
        elif self.expected > stated and self.limit is None and self.stated.is_final:
            self._add(
                Question.APPEND_ONLY,
                "after-end",
                stated,
                f"journal {self.name}: {self.expected - stated} records stand after the {stated} with which "
                f"it ended, as checkpoint {self.stated.last.sequence} states",
            )
        elif self.expected > stated and self.limit is None:
            count = self.expected - stated
            seconds = max(self.newest_unix_ns - self.stated.last.time_unix_ns, 0) / 1e9
            self.run.tail_records += count
            self.run.tail_s = max(self.run.tail_s, seconds if stated else 0.0)
            self._add(
                Question.UNANCHORED_TAIL,
                "unanchored",
                stated,
                f"journal {self.name}: {count} records stand after its last checkpoint"
                + (f", up to {seconds:.1f} s after it" if stated else "")
                + (", its writer goes on" if self.journal.is_live else ""),
                is_bad=False,
            )
        self._look_at_adoption()
        if self.journal.is_live:
            self.run.open_calls.is_written(self.journal.journal)

    def _look_at_adoption(self) -> None:
        """Name records that their writer never stated: what was cut before another did does not show."""
        adoption = self.stated.adoption
        count = self.stated.last.size - adoption.own_records if adoption is not None else 0
        if adoption is None or not count:
            return
        self._add(
            Question.UNANCHORED_TAIL,
            "adopted",
            adoption.own_records,
            f"journal {self.name}: unanchored tail adopted at {utc(adoption.time_unix_ns)}: its writer died, and a "
            f"later process found {count} whole records after the last checkpoint; a cut before that does not show",
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
        records: int = 1,
    ) -> None:
        self.run.findings.add(
            Finding(question, kind, self.name, index, sentence, decision_id, is_bad, records)
        )

    def _last(self) -> str:
        return f" (decision {self.last_decision})" if self.last_decision else ""

    def _after(self) -> str:
        return f", after decision {self.last_decision}" if self.last_decision else ""


def _decision_id(entry: Entry | None) -> str:
    return entry.record.decision_id if isinstance(entry, StoredDecision) else ""


def _named(first: int, records: int) -> str:
    """Name the records of one frame, with the verb."""
    return f"record {first} is" if records == 1 else f"records {first} to {first + records - 1} are"
