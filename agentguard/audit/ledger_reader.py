"""Reading the ledger whole, for verification: every signature, every link."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from agentguard.audit.checkpoint import (
    ADOPTED,
    OPEN,
    PRUNED,
    Adoption,
    Checkpoint,
    Head,
    Past,
    Pruning,
    entry_hash,
    origin_of,
    parse,
)
from agentguard.audit.keys import AuditKeys
from agentguard.audit.ledger import SUMMARY, summary_root
from agentguard.audit.ledger_files import FOLDER, READ_BYTES_MAX, files, is_torn, locked, split
from agentguard.audit.notes import NoteError
from agentguard.audit.report import Question
from agentguard.audit.tree import EMPTY_ROOT
from agentguard.errors import AuditError, SealError
from agentguard.seal import read_file


@dataclass(slots=True)
class Stated:
    """What the ledger states of one journal."""

    last: Checkpoint
    roots: dict[int, bytes] = field(default_factory=dict)
    """Root by size, for every checkpoint that is still kept."""
    note: bytes = b""
    """The last entry that is of this journal alone; empty where only a summary is left."""

    @property
    def adoption(self) -> Adoption | None:
        """What is said of a journal that a later process stated."""
        return Adoption(*self.last.numbers) if self.last.state == ADOPTED else None

    @property
    def pruning(self) -> Pruning | None:
        """What is said of a journal that retention removed."""
        return Pruning(*self.last.numbers) if self.last.state == PRUNED else None

    @property
    def is_final(self) -> bool:
        """Whether nothing may follow what is stated."""
        return self.last.state != OPEN

    @classmethod
    def nothing(cls, name: str) -> Stated:
        """Of a journal that the ledger does not name."""
        return cls(Checkpoint(name, 0, EMPTY_ROOT, 0, bytes(32), 0))


@dataclass(slots=True)
class LedgerReading:
    """All that the ledger states, and what is wrong with it."""

    stated: dict[str, Stated] = field(default_factory=dict)
    problems: list[tuple[Question, str, int, str]] = field(default_factory=list)
    """Question, kind, sequence of the entry, sentence."""
    count: int = 0
    last_sequence: int = 0
    hashes: dict[int, bytes] = field(default_factory=dict)
    """Hash of each entry that is still kept, by its sequence."""
    past: Past = field(default_factory=Past)
    """Removed journals that are no longer named."""


def read_ledger(folder: Path, keys: AuditKeys) -> LedgerReading:
    """
    Read and check all entries.

    Args:
        folder:
            The store's folder.
        keys:
            Keys of the store; only the public key is used.

    Returns:
        What the entries with a right signature state.
    """
    reading = LedgerReading()
    place = folder / FOLDER
    try:
        listed = files(place)
        if not listed:
            return reading
        with locked(place):
            listed = files(place)
            data = [(number, read_file(path, bytes_max=READ_BYTES_MAX)) for number, path in listed]
    except (OSError, AuditError, SealError) as error:
        reading.problems.append(
            (Question.COMPLETENESS, "ledger-unreadable", 0, f"the ledger cannot be read: {_text(error)}")
        )
        return reading
    _Check(reading, keys).check(data)
    return reading


class _Check:
    """The check of one ledger."""

    def __init__(self, reading: LedgerReading, keys: AuditKeys) -> None:
        self.reading = reading
        self.keys = keys
        self.sequence = 0
        self.previous: bytes | None = None
        """Hash of the entry before; None where it is not known."""
        self.number = 0
        self.known: dict[str, Head] | None = None
        """The heads that stand in the present file; None where its beginning is not known."""

    def check(self, data: list[tuple[int, bytes]]) -> None:
        """Walk the files in order."""
        for position, (number, content) in enumerate(data):
            if position and number != self.number + 1:
                self._problem(
                    Question.COMPLETENESS, "ledger-file-missing", f"ledger file {self.number + 1} is gone"
                )
                self.previous = None
                self.known = None
            self.number = number
            end = 0
            for note in split(content):
                self._entry(note, is_beginning=not end)
                end += len(note) + 1
            rest = content[end:]
            is_last = position == len(data) - 1
            if rest and not (is_last and is_torn(rest, self.keys.store_id)):
                self._problem(
                    Question.INTEGRITY,
                    "ledger-altered",
                    f"ledger entry {self.sequence + 1} is damaged or altered",
                )
                self.previous = None

    def _entry(self, note: bytes, *, is_beginning: bool) -> None:
        reading = self.reading
        try:
            checkpoint = parse(note)
            if checkpoint.origin != origin_of(self.keys.store_id, checkpoint.journal):
                raise NoteError("it is of another store")
            if not self.keys.is_signed(note):
                raise NoteError("its signature is wrong")
            if checkpoint.journal == SUMMARY and summary_root(checkpoint.heads) != checkpoint.root:
                raise NoteError("its root is not that of its heads")
        except NoteError as error:
            self._problem(
                Question.INTEGRITY,
                "ledger-altered",
                f"ledger entry {self.sequence + 1} is damaged or altered: {error}",
            )
            self.previous = None
            return
        if self.previous is not None and (
            checkpoint.sequence != self.sequence + 1 or checkpoint.previous != self.previous
        ):
            self._problem(
                Question.APPEND_ONLY,
                "ledger-chain",
                f"ledger entry {checkpoint.sequence} does not follow entry {self.sequence}",
            )
        elif self.previous is None and not self.reading.count and checkpoint.journal != SUMMARY:
            self._problem(Question.COMPLETENESS, "ledger-cut", "the ledger does not begin with a summary")
        self.sequence = checkpoint.sequence
        self.previous = entry_hash(note)
        reading.count += 1
        reading.hashes[checkpoint.sequence] = self.previous
        reading.last_sequence = max(reading.last_sequence, checkpoint.sequence)
        if checkpoint.journal == SUMMARY:
            self._check_summary(checkpoint, is_beginning=is_beginning)
            for head in checkpoint.heads:
                self._state(checkpoint, head, b"")
        else:
            if self.known is not None:
                self.known[checkpoint.journal] = checkpoint.own_head
            self._state(
                checkpoint,
                checkpoint.own_head,
                note,
            )

    def _check_summary(self, checkpoint: Checkpoint, *, is_beginning: bool) -> None:
        """Make sure that a summary names every journal that was known, but those that it says it leaves out."""
        said = {head.journal for head in checkpoint.heads}
        known, past = self.known, self.reading.past
        if known is not None:
            left_out = [head for name, head in known.items() if name not in said]
            pruned = [head for head in left_out if head.state == PRUNED and is_beginning]
            pruned.sort(key=lambda head: (Pruning(*head.numbers).time_unix_ns, head.journal))
            gone = {head.journal for head in pruned}
            missing = next((head.journal for head in left_out if head.journal not in gone), None)
            if missing is not None or past.with_heads(pruned) != checkpoint.past:
                self._problem(
                    Question.COMPLETENESS,
                    "ledger-left-out",
                    f"ledger entry {checkpoint.sequence} does not name "
                    + (f"journal {missing}" if missing else "what went long ago as it was"),
                )
        self.reading.past = checkpoint.past
        if is_beginning or known is not None:
            self.known = {head.journal: head for head in checkpoint.heads}

    def _state(self, checkpoint: Checkpoint, head: Head, note: bytes) -> None:
        """Note what an entry says of a journal; it can only grow."""
        own = checkpoint._replace(
            size=head.size, root=head.root, state=head.state, numbers=head.numbers, heads=()
        )
        stated = self.reading.stated.setdefault(head.journal, Stated(own))
        if head.size < stated.last.size:
            self._problem(
                Question.APPEND_ONLY,
                "ledger-shrinks",
                f"ledger entry {checkpoint.sequence} states fewer records of journal {head.journal} than one before",
            )
            return
        is_final = stated.last.state == PRUNED and own.state != PRUNED
        if is_final or (own.state == PRUNED and own.root != stated.last.root):
            self._problem(
                Question.APPEND_ONLY,
                "ledger-pruned",
                f"ledger entry {checkpoint.sequence} says another thing of journal {head.journal} than its "
                f"{'removal' if is_final else 'last checkpoint'} does",
            )
            return
        stated.last = own
        stated.note = note or stated.note
        stated.roots[head.size] = head.root

    def _problem(self, question: Question, kind: str, sentence: str) -> None:
        self.reading.problems.append((question, kind, self.sequence + 1, sentence))


def _text(error: BaseException) -> str:
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)
