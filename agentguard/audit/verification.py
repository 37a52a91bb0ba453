"""
Verification of the decision log: is it what was written, all of it, in that order.

Seven questions with separate answers, because they have separate causes. What
the last checkpoint states is exact; what came after it could have been cut
without trace, and is reported as unanchored.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from agentguard.audit import format as layout
from agentguard.audit import timestamps
from agentguard.audit.anchors import parse_anchor
from agentguard.audit.checkpoint import Checkpoint, Head, entry_hash, origin_of, verifier_key_text
from agentguard.audit.journal_check import JournalCheck
from agentguard.audit.keys import AuditKeys
from agentguard.audit.ledger import SUMMARY
from agentguard.audit.ledger_reader import LedgerReading, Stated, read_ledger
from agentguard.audit.open_calls import OpenCalls
from agentguard.audit.reader import (
    OPENING_BYTES_MAX,
    JournalBytes,
    continued_journal,
    journal_paths,
    load_journal,
)
from agentguard.audit.receipts import Receipts
from agentguard.audit.records import StoredEvent, decode
from agentguard.audit.report import Finding, Findings, Question, VerifyReport, utc
from agentguard.audit.timestamps import check_timestamp
from agentguard.errors import AuditError, SealError, TamperedError
from agentguard.seal import Keystore


def verify(
    folder: Path, keystore: Keystore, *, anchors: Sequence[bytes] = (), roots: Path | None = None
) -> VerifyReport:
    """
    Check the whole decision log of a store.

    Writers may go on meanwhile: the ledger is read first, so whatever it states
    must be in the journals, and what they have more is new.

    Args:
        folder:
            The store's folder.
        keystore:
            Its keys.
        anchors:
            Signed checkpoints that were kept elsewhere. What they state must be there:
            so a store that was set back whole to an earlier state is noticed. Those that the store itself kept
            with its receipts count too.
        roots:
            PEM certificates of the time-stamping authorities whose receipts are checked.

    Returns:
        Seven verdicts, each with its first findings. A good report does not mean
        that nothing was cut after the last checkpoint, nor, without anchors, that journals
        and ledger were not set back together to an earlier state.

    Raises:
        AuditError: An anchor is no checkpoint that this store signed.
    """
    keys = AuditKeys(keystore)
    run = _Run(folder, keys, [_Given(parse_anchor(note, keys), entry_hash(note), "") for note in anchors])
    run.add_receipts(roots)
    return run.report()


class _Given(NamedTuple):
    """A checkpoint that was kept beside the ledger."""

    checkpoint: Checkpoint
    own_hash: bytes
    to: str
    """Who has taken it, as a receipt of the store says; empty where it was handed in."""


class _Run:
    """One verification."""

    def __init__(self, folder: Path, keys: AuditKeys, anchors: list[_Given]) -> None:
        self.folder = folder
        self.keys = keys
        self.anchors = anchors
        self.stamped: tuple[int, int, str] | None = None
        """Of the newest right time stamp: Unix time in seconds, sequence of its checkpoint, who stamped it."""
        self.anchored: dict[str, dict[int, bytes]] = {}
        """Root by size, for each journal that an anchor states."""
        self.findings = Findings()
        self.ledger = read_ledger(folder, keys)
        self.records = 0
        self.decisions = 0
        self.journals = 0
        self.newest_known = 0
        """Highest ledger sequence that any record names."""
        self.only_anchored: set[str] = set()
        """Journals that an anchor names, and the ledger does not."""
        self.limits: dict[str, int] = {}
        self.unstated: list[str] = []
        """Journals with records that the ledger, as it was first read, does not name."""
        self.open_calls = OpenCalls()
        self.tail_records = 0
        self.tail_s = 0.0
        self.torn_bytes = 0

    def add_receipts(self, roots: Path | None) -> None:
        """Hold the log to what the store's own receipts say too; a receipt that is not right is one finding."""
        for receipt in Receipts(self.folder).read():
            try:
                checkpoint = parse_anchor(receipt.note, self.keys)
                if receipt.time_stamp and roots is not None and timestamps.is_installed():
                    moment = check_timestamp(receipt.time_stamp, receipt.note, roots=roots)
                    self.stamped = max(self.stamped or (0, 0, ""), (moment, checkpoint.sequence, receipt.to))
            except AuditError as error:
                text = f"receipt of anchor {receipt.sequence}, {receipt.to}: {error}"
                self.findings.add(Finding(Question.INTEGRITY, "receipt", "ledger", receipt.sequence, text))
            else:
                self.anchors.append(_Given(checkpoint, entry_hash(receipt.note), receipt.to))

    def report(self) -> VerifyReport:
        """Check everything, and put the verdicts together."""
        self._check_ledger(self.ledger)
        self._apply_anchors()
        seen = set()
        loaded = []
        for path in journal_paths(self.folder):
            journal = self._load(path, bytes_max=layout.HEADER.size)
            if journal is None and not path.exists():
                continue  # Retention took it meanwhile; were it somebody else, the ledger would miss it.
            # A damaged header is one finding; that the journal is there counts against "missing".
            seen.add(path.stem)
            if journal is not None:
                loaded.append((path, journal.journal))
        self._find_continued([path for path, journal in loaded if journal.n])
        for path, _ in loaded:
            journal = self._load(path, is_quiet=True)
            if journal is not None:
                name = path.stem
                stated = self.ledger.stated.get(name, Stated.nothing(name))
                JournalCheck(
                    self,
                    journal,
                    stated=stated,
                    anchored=self.anchored.get(name, {}),
                    limit=self.limits.get(name),
                ).check()
            elif not path.exists():
                seen.discard(path.stem)
        for finding in self.open_calls.findings():
            self.findings.add(finding)
        self._check_missing(seen)
        self._check_ledger_end()
        self.journals = len(seen)
        lines = (
            self.findings.line(Question.INTEGRITY, f"all {self.records} records are what was written"),
            self.findings.line(
                Question.APPEND_ONLY,
                f"all follow one another, and {self.ledger.count} checkpoints state the same roots",
            ),
            self.findings.line(
                Question.COMPLETENESS, f"everything that the checkpoints state is there{self._anchored()}"
            ),
            self.findings.line(Question.UNANCHORED_TAIL, "nothing stands after the last checkpoint"),
            self.findings.line(Question.GAPS, "every admitted call has its outcome, nothing was dropped"),
            self.findings.line(Question.ERASURES, "nothing was erased"),
            self.findings.line(Question.RETENTION, "nothing was removed by age or size"),
        )
        return VerifyReport(
            verdicts=lines,
            journals=self.journals,
            records=self.records,
            checkpoints=self.ledger.count,
            decisions=self.decisions,
            tail_records=self.tail_records,
            tail_s=self.tail_s,
            verifier_key=verifier_key_text(self.keys.store_id, self.keys.verify_keys[0]),
        )

    def _load(
        self, path: Path, *, is_quiet: bool = False, bytes_max: int | None = None, is_again: bool = False
    ) -> JournalBytes | None:
        try:
            return load_journal(path, self.keys, bytes_max=bytes_max)
        except (AuditError, SealError) as error:
            if not is_quiet and path.exists():
                is_unborn = _is_unborn(path, self.ledger)
                if not is_unborn and not is_again:
                    # A writer may have begun the journal between the look at its header and this line.
                    return self._load(path, bytes_max=bytes_max, is_again=True)
                text = (
                    str(error)
                    if isinstance(error, AuditError)
                    else (f"journal {path.stem}: its header does not belong to the key of this store")
                )
                if is_unborn:
                    text = f"journal {path.stem} was begun and never used: a crash left it"
                    finding = Finding(Question.UNANCHORED_TAIL, "unborn", path.stem, 0, text, is_bad=False)
                else:
                    finding = Finding(Question.INTEGRITY, "header", path.stem, 0, text)
                self.findings.add(finding)
            return None

    def _find_continued(self, paths: list[Path]) -> None:
        """Learn which journals were left because the disk failed, and how many of their records count."""
        for path in paths:
            journal = self._load(path, is_quiet=True, bytes_max=OPENING_BYTES_MAX)
            if journal is None:
                continue
            first = next(layout.scan(journal.data), None)
            if not isinstance(first, layout.Frame) or first.number != 0:
                continue
            try:
                opening = decode(journal.open(first)[0][1], journal=path.stem, index=0)
            except (AuditError, TamperedError):
                continue
            if isinstance(opening, StoredEvent) and (continued := continued_journal(opening)):
                self.limits[continued[0]] = continued[1]

    def _check_ledger(self, ledger: LedgerReading) -> None:
        for question, kind, sequence, sentence in ledger.problems:
            self.findings.add(Finding(question, kind, "ledger", sequence, sentence))

    def _apply_anchors(self) -> None:
        """Take what was kept elsewhere for stated, and notice where the ledger states less."""
        # One that was handed in may be the one that a receipt speaks of; the receipt knows where it is kept.
        once = {given.own_hash: given for given in sorted(self.anchors, key=lambda given: given.to)}
        self.anchors = sorted(once.values(), key=lambda given: given.checkpoint.sequence)
        for checkpoint, own_hash, _ in self.anchors:
            sequence = checkpoint.sequence
            if sequence > self.ledger.last_sequence:
                self.findings.add(
                    Finding(
                        Question.COMPLETENESS,
                        "rolled-back",
                        "ledger",
                        self.ledger.last_sequence + 1,
                        f"the ledger ends at entry {self.ledger.last_sequence}, an anchor is entry {sequence}: "
                        "the log was set back",
                    )
                )
            elif self.ledger.hashes.get(sequence, own_hash) != own_hash:
                self.findings.add(
                    Finding(
                        Question.APPEND_ONLY,
                        "forked",
                        "ledger",
                        sequence,
                        f"entry {sequence} of the ledger is another than the one that was anchored",
                    )
                )
            for head in checkpoint.heads or (checkpoint.own_head,):
                if head.journal != SUMMARY:
                    self._apply_head(checkpoint, head)

    def _apply_head(self, checkpoint: Checkpoint, head: Head) -> None:
        name = head.journal
        self.anchored.setdefault(name, {})[head.size] = head.root
        as_stated = checkpoint._replace(
            origin=origin_of(self.keys.store_id, name),
            size=head.size,
            root=head.root,
            state=head.state,
            numbers=head.numbers,
            heads=(),
        )
        if name not in self.ledger.stated:
            self.only_anchored.add(name)
        stated = self.ledger.stated.setdefault(name, Stated(as_stated))
        if head.size > stated.last.size:
            self.findings.add(
                Finding(
                    Question.COMPLETENESS,
                    "rolled-back",
                    name,
                    stated.last.size,
                    f"the ledger states {stated.last.size} records of journal {name}, an anchor {head.size}: "
                    "the log was set back",
                )
            )
            stated.last = as_stated

    def _anchored(self) -> str:
        """Say how far back the anchors reach."""
        if not self.anchors:
            return ""
        newest = self.anchors[-1]
        count = len(self.anchors)
        text = (
            f", complete up to anchor {newest.checkpoint.sequence} of {utc(newest.checkpoint.time_unix_ns)}"
            + (f" ({count} anchors)" if count > 1 else "")
            + (f", kept at {newest.to}" if newest.to else "")
        )
        if self.stamped is not None:
            moment, sequence, to = self.stamped
            text += f"; anchor {sequence} stamped at {utc(moment * 1_000_000_000)} by {to}"
        return text

    def _check_missing(self, seen: set[str]) -> None:
        gone = {name: stated for name, stated in self.ledger.stated.items() if name not in seen}
        if any(stated.pruning is None for stated in gone.values()):
            # Retention may have removed one since the ledger was read.
            again = read_ledger(self.folder, self.keys).stated
            gone = {
                name: again[name] if name in again and again[name].pruning is not None else stated
                for name, stated in gone.items()
            }
        pruned = []
        past = self.ledger.past
        if 0 < len(self.only_anchored & gone.keys()) <= past.journals:
            # An anchor older than what the ledger still names: these are among those that it counts.
            gone = {name: stated for name, stated in gone.items() if name not in self.only_anchored}
        for name, stated in gone.items():
            if stated.pruning is not None:
                pruned.append((stated.last, stated.pruning))
                self._check_pruned(stated.last)
            else:
                self.findings.add(
                    Finding(
                        Question.COMPLETENESS,
                        "journal-missing",
                        name,
                        0,
                        f"journal {name} is gone, with its {stated.last.size} records",
                    )
                )
        if past.journals:
            text = f"{past.journals} journals with {past.records} records removed as recorded, before all that follow"
            self.findings.add(Finding(Question.RETENTION, "past", "ledger", -1, text, is_bad=False))
        if pruned:
            count, records = len(pruned), sum(last.size for last, _ in pruned)
            first = min(pruning.first_unix_ns for _, pruning in pruned)
            last = max(pruning.last_unix_ns for _, pruning in pruned)
            age_d = min(pruning.time_unix_ns - pruning.last_unix_ns for _, pruning in pruned) / 86_400e9
            self.findings.add(
                Finding(
                    Question.RETENTION,
                    "pruned",
                    "ledger",
                    -1,
                    f"{count} journal{'s' * (count > 1)} with {records} records from {utc(first)} to {utc(last)} "
                    f"removed as recorded, the youngest record {age_d:.1f} days old then",
                    is_bad=False,
                )
            )

    def _check_pruned(self, last: Checkpoint) -> None:
        """Notice an anchor that knew a journal that is gone otherwise than its removal states it."""
        root = self.anchored.get(last.journal, {}).get(last.size)
        if root is not None and root != last.root:
            self.findings.add(
                Finding(
                    Question.APPEND_ONLY,
                    "anchor-root",
                    last.journal,
                    0,
                    f"journal {last.journal} was removed with other records than those that an anchor states",
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


def _is_unborn(path: Path, ledger: LedgerReading) -> bool:
    """
    Whether a file is what a crash leaves of a journal that never held an acknowledged record.

    It is short, or has zeros where its header never reached the disk, and nothing was ever stated of it.
    """
    if path.stem in ledger.stated:
        return False
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return False
        with path.open("rb") as file:
            begin = file.read(layout.HEADER.size)
    except OSError:
        return False
    return len(begin) < layout.HEADER.size or not begin.strip(b"\x00")
