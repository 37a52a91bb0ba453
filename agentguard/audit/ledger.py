"""
The ledger: one chained list of signed checkpoints for all writers of a store.

Each journal says of itself how many records it has; the ledger says it in one
place, in order, signed, and each entry names the hash of the one before. So a
journal that is deleted, cut or replaced by an older copy is missed here, and a
ledger that is cut is missed by the records that were written after it.

Files are `log/ledger-<k>.agl`, text, entries separated by blank lines. A file
that has grown to its limit is followed by the next one, which begins with a
signed summary of all heads; one older file is kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Self

from agentguard.audit.checkpoint import (
    PRUNED,
    Checkpoint,
    Head,
    Past,
    Pruning,
    entry_hash,
    origin_of,
    parse,
    sign,
)
from agentguard.audit.disk import RESERVE, Disk, ReservingDisk, Safeguards
from agentguard.audit.keys import AuditKeys
from agentguard.audit.ledger_files import (
    FOLDER,
    READ_BYTES_MAX,
    files,
    is_torn,
    locked,
    path_of,
    read_from,
    split,
)
from agentguard.audit.mark import HighWaterMark
from agentguard.audit.notes import NoteError
from agentguard.audit.tree import root_hash
from agentguard.errors import AuditError, SealError
from agentguard.seal import PRIVATE_FILE_MODE, ensure_private_folder, read_file
from agentguard.values import Clock

LEDGER_BYTES_MAX = 1 << 20
"""Size at which the next file begins, unless the summary alone is a quarter of it."""
PRUNED_HEADS_MAX = 10_000
"""Removed journals that a summary names; older ones are only counted, and chained into one hash."""
PRUNED_HEADS_S_MIN = 7 * 86_400.0
"""A removed journal is named for so long at least: until then its file has gone, whatever came between."""
SUMMARY = "heads"


class Tail(NamedTuple):
    """Where the ledger ends."""

    number: int
    """Of the newest file; 0 where there is none."""
    end: int
    """Length of its complete entries, in bytes."""
    sequence: int
    previous: bytes
    """Hash of the last entry; zeros where there is none."""
    summary_bytes: int


EMPTY_TAIL = Tail(0, 0, 0, bytes(32), 0)


class Ledger:
    """
    Appends checkpoints on behalf of one process; several may do so at once.

    Every append takes the lock of the ledger, reads what others appended, adds
    one entry and brings it to disk before it returns.
    """

    def __init__(
        self,
        folder: Path,
        keys: AuditKeys,
        clock: Clock,
        *,
        disk: Disk,
        bytes_max: int = LEDGER_BYTES_MAX,
        post_quantum: bool = False,
        mark: Path | None = None,
    ) -> None:
        self._folder = folder / FOLDER
        self._keys = keys
        self._clock = clock
        self._disk = disk
        self._bytes_max = bytes_max
        self._mark = HighWaterMark(mark, keys) if mark is not None else None
        self._post_quantum = keys.post_quantum_key if post_quantum else None
        self._tail = EMPTY_TAIL

    @classmethod
    def guarded(cls, folder: Path, keys: AuditKeys, clock: Clock, safeguards: Safeguards) -> Self:
        """Make one with what was asked for beyond writing: second signatures, mark, room on a full disk."""
        return cls(
            folder,
            keys,
            clock,
            disk=ReservingDisk(Disk(), folder / RESERVE, safeguards.reserve_bytes),
            post_quantum=safeguards.post_quantum,
            mark=safeguards.mark,
        )

    def append(
        self, *, journal: str, size: int, root: bytes, state: str, numbers: tuple[int, ...] = ()
    ) -> int:
        """
        State that a journal has so many records with that root.

        Args:
            journal:
                `<writer>-<n>`.
            size:
                Its records, all of them on disk.
            root:
                RFC 6962 root over their leaves.
            state:
                One of `checkpoint.STATES`.
            numbers:
                What goes with it.

        Returns:
            The sequence of the new entry.

        Raises:
            AuditError: The ledger is locked for too long, does not end as ledgers do, or cannot
                be written.
        """
        ensure_private_folder(self._folder)
        try:
            with locked(self._folder):
                self._tail = self._with_room()
                return self._write(journal, size, root, state, numbers)
        except (OSError, SealError) as error:
            raise AuditError(f"ledger: cannot be written ({_why(error)})") from error

    def append_summary(self) -> bytes:
        """
        State all journals at once, as the ledger knows them: what is given to others to keep.

        Returns:
            The signed note.

        Raises:
            AuditError: The ledger is locked for too long, does not end as ledgers do, or cannot
                be written.
        """
        ensure_private_folder(self._folder)
        try:
            with locked(self._folder):
                self._tail = self._with_room()
                checkpoint = self._summary(self._tail, is_beginning=False)
                return self._write_note(checkpoint)
        except (OSError, SealError) as error:
            raise AuditError(f"ledger: cannot be written ({_why(error)})") from error

    def peek(self) -> Tail:
        """
        Say where the ledger ends now.

        Raises:
            AuditError: It cannot be read, does not end as ledgers do, or ends before the high-water mark.
        """
        ensure_private_folder(self._folder)
        try:
            with locked(self._folder):
                self._tail = self._caught_up(self._tail)
                self._check_mark()
        except (OSError, SealError) as error:
            raise AuditError(f"ledger: cannot be read ({_why(error)})") from error
        return self._tail

    def _sign(self, checkpoint: Checkpoint) -> bytes:
        return sign(checkpoint, self._keys.signing_key, self._keys.store_id, self._post_quantum)

    def _write(self, journal: str, size: int, root: bytes, state: str, numbers: tuple[int, ...]) -> int:
        tail = self._tail
        checkpoint = Checkpoint(
            origin=origin_of(self._keys.store_id, journal),
            size=size,
            root=root,
            sequence=tail.sequence + 1,
            previous=tail.previous,
            time_unix_ns=self._clock.unix_ns(),
            state=state,
            numbers=numbers,
        )
        self._write_note(checkpoint)
        return checkpoint.sequence

    def _write_note(self, checkpoint: Checkpoint) -> bytes:
        """Sign a checkpoint, and bring it to disk behind the last one."""
        tail, note = self._tail, self._sign(checkpoint)
        fd = os.open(self._path(tail.number), os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE_FILE_MODE)
        try:
            # What stands behind the last complete entry is the rest of a write that a crash cut off.
            if os.fstat(fd).st_size > tail.end:
                self._disk.truncate(fd, tail.end)
            os.lseek(fd, tail.end, os.SEEK_SET)
            try:
                self._disk.write(fd, note + b"\n")
                self._disk.sync(fd)
            except OSError:
                with contextlib.suppress(OSError):
                    self._disk.truncate(fd, tail.end)
                raise
        finally:
            os.close(fd)
        self._tail = tail._replace(
            end=tail.end + len(note) + 1, sequence=checkpoint.sequence, previous=entry_hash(note)
        )
        if self._mark is not None:
            # Under the lock, so it never goes back. Without it the log is no less right.
            with contextlib.suppress(OSError):
                self._mark.write(note)
        return note

    def _check_mark(self) -> None:
        """Refuse a ledger that ends before what this machine has seen of it."""
        seen = self._mark.read() if self._mark is not None else None
        if seen is not None and seen.sequence > self._tail.sequence:
            raise AuditError(
                f"ledger: it ends at entry {self._tail.sequence}, this machine has seen entry {seen.sequence}: "
                "the store was set back to an earlier state"
            ).hint(
                "`agentguard decisions verify` says what is missing; where the older state is meant, "
                "remove the high-water mark"
            )

    def _summary(self, tail: Tail, *, is_beginning: bool) -> Checkpoint:
        """State all heads that the newest file states; where the next begins, without those that went long ago."""
        heads: dict[str, Head] = {}
        past = Past()
        if tail.number:
            past = _collect(heads, read_file(self._path(tail.number), bytes_max=READ_BYTES_MAX)[: tail.end])
        if is_beginning:
            gone = _too_long_ago(heads.values(), self._clock.unix_ns())
            past = past.with_heads(gone)
            for head in gone:
                del heads[head.journal]
        lines = tuple(heads[name] for name in sorted(heads))
        return Checkpoint(
            origin=origin_of(self._keys.store_id, SUMMARY),
            size=len(lines),
            root=summary_root(lines),
            sequence=tail.sequence + 1,
            previous=tail.previous,
            time_unix_ns=self._clock.unix_ns(),
            heads=lines,
            past=past,
        )

    def _begin_file(self, tail: Tail) -> Tail:
        """Begin the next file with a summary of all heads, and let go of the one before the last."""
        checkpoint = self._summary(tail, is_beginning=True)
        note = self._sign(checkpoint)
        number = tail.number + 1
        self._disk.write_file(self._path(number), note + b"\n")
        for older in files(self._folder):
            if older[0] < number - 1:
                older[1].unlink(missing_ok=True)
        return Tail(number, len(note) + 1, checkpoint.sequence, entry_hash(note), len(note))

    def _with_room(self) -> Tail:
        """Read what was appended by others, and begin the next file where this one is full."""
        tail = self._caught_up(self._tail)
        if not tail.number or tail.end > max(self._bytes_max, 4 * tail.summary_bytes):
            return self._begin_file(tail)
        return tail

    def _caught_up(self, tail: Tail) -> Tail:
        """Read what was appended since the tail was known."""
        if tail.number and self._is_as_known(tail):
            return tail
        numbers = [number for number, _ in files(self._folder)]
        if not numbers:
            return EMPTY_TAIL
        number = numbers[-1]
        path = self._path(number)
        if number != tail.number or path.stat().st_size < tail.end:
            tail = EMPTY_TAIL._replace(number=number)
        added = read_from(path, tail.end)
        notes = list(split(added))
        size = sum(len(note) + 1 for note in notes)
        end = tail.end + size
        if not is_torn(added[size:], self._keys.store_id) or (not notes and tail.end == 0):
            raise AuditError(f"ledger: the last entry of {path.name} is damaged").hint(_HINT)
        if not notes:
            return tail
        try:
            last = parse(notes[-1])
        except NoteError as error:
            raise AuditError(f"ledger: the last entry of {path.name} is damaged").hint(_HINT) from error
        summary_bytes = tail.summary_bytes if tail.end else len(notes[0])
        return Tail(number, end, last.sequence, entry_hash(notes[-1]), summary_bytes)

    def _is_as_known(self, tail: Tail) -> bool:
        """Whether nobody has appended anything, or begun the next file: so it nearly always is."""
        with contextlib.suppress(OSError):
            return (
                self._path(tail.number).stat().st_size == tail.end
                and not self._path(tail.number + 1).exists()
            )
        return False

    def _path(self, number: int) -> Path:
        return path_of(self._folder, number)


_HINT = "`agentguard decisions verify` says what is wrong"


def summary_root(heads: tuple[Head, ...]) -> bytes:
    """Root over the head lines of a summary, as RFC 6962 leaves."""
    return root_hash([hashlib.sha256(b"\x00" + head.line().encode()).digest() for head in heads])


def claimed_heads(folder: Path) -> dict[str, Head]:
    """
    Read what the ledger says last of each journal, without checking a signature.

    Enough to see cheaply whether anything is to be done; what is done begins with `read_ledger`.

    Args:
        folder:
            The store's folder.

    Raises:
        AuditError: It cannot be read.
    """
    heads: dict[str, Head] = {}
    try:
        for _, path in files(folder / FOLDER)[-1:]:
            _collect(heads, read_file(path, bytes_max=READ_BYTES_MAX))
    except (OSError, SealError) as error:
        raise AuditError(f"ledger: cannot be read ({_why(error)})") from error
    return heads


def _too_long_ago(heads: Iterable[Head], now_unix_ns: int) -> list[Head]:
    """Choose the heads of removed journals that need not be named any more, the oldest removal first."""
    pruned = sorted(
        (Pruning(*head.numbers).time_unix_ns, head.journal, head) for head in heads if head.state == PRUNED
    )
    before_unix_ns = now_unix_ns - int(PRUNED_HEADS_S_MIN * 1e9)
    more = max(len(pruned) - PRUNED_HEADS_MAX, 0)
    return [head for time_unix_ns, _, head in pruned[:more] if time_unix_ns < before_unix_ns]


def _collect(heads: dict[str, Head], data: bytes) -> Past:
    """Note the heads that entries state; later entries win. Returns what the last summary no longer names."""
    past = Past()
    for note in split(data):
        with contextlib.suppress(NoteError):
            checkpoint = parse(note)
            if checkpoint.journal == SUMMARY:
                heads.update((head.journal, head) for head in checkpoint.heads)
                past = checkpoint.past
            else:
                heads[checkpoint.journal] = checkpoint.own_head
    return past


def _why(error: BaseException) -> str:
    """Say what went wrong without the path that an OSError carries."""
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)
