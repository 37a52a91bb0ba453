"""
The check of one journal that nobody writes any more, before anything final is said of it.

Adoption and retention both change what the ledger says of a journal for good; neither
may touch one that was tampered with: that is evidence.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from agentguard.audit import format as layout
from agentguard.audit.journal_check import JournalCheck
from agentguard.audit.keys import AuditKeys
from agentguard.audit.ledger_reader import LedgerReading, Stated
from agentguard.audit.open_calls import OpenCalls
from agentguard.audit.reader import JournalBytes, load_journal
from agentguard.audit.records import StoredEvent, decode
from agentguard.audit.report import Finding, Findings, Question
from agentguard.errors import AuditError, SealError, TamperedError
from agentguard.seal import PRIVATE_FILE_MODE, ensure_private_folder

_LOCK = "care.lock"


@dataclass
class _Alone:
    """What a check collects, for one journal alone."""

    keys: AuditKeys
    findings: Findings = field(default_factory=Findings)
    records: int = 0
    decisions: int = 0
    newest_known: int = 0
    unstated: list[str] = field(default_factory=list)
    open_calls: OpenCalls = field(default_factory=OpenCalls)
    tail_records: int = 0
    tail_s: float = 0.0
    torn_bytes: int = 0


@contextlib.contextmanager
def turn(folder: Path) -> Iterator[bool]:
    """
    Take the turn to look after the log, if no other process has it.

    Args:
        folder:
            The `log` folder.

    Yields:
        Whether it is ours.

    Raises:
        OSError: The lock cannot be made.
        StoreError: The folder cannot be made, or others may write to it.
    """
    ensure_private_folder(folder)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(folder / _LOCK, flags, PRIVATE_FILE_MODE)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        try:
            yield True
        finally:
            # By name: a child forked meanwhile shares the lock, closing alone would not end it.
            fcntl.flock(fd, fcntl.LOCK_UN)
    finally:
        os.close(fd)


def load_dead(path: Path, keys: AuditKeys, *, bytes_max: int | None = None) -> JournalBytes | None:
    """
    Read a journal, or its beginning; None where its writer lives.

    Raises:
        AuditError: It cannot be read, or is not what its name says.
    """
    try:
        journal = load_journal(path, keys, bytes_max=bytes_max)
    except SealError as error:
        raise AuditError(
            f"journal {path.stem}: its header does not belong to the key of this store"
        ) from error
    return None if journal.is_live else journal


def begun_unix_ns(journal: JournalBytes) -> int | None:
    """Time of the opening record; None where that cannot be read."""
    opening = opening_of(journal)
    return opening.time_unix_ns if opening is not None else None


def opening_of(journal: JournalBytes) -> StoredEvent | None:
    """Read the opening record; None where it cannot be read."""
    first = next(layout.scan(journal.data), None)
    if not isinstance(first, layout.Frame) or first.number != 0:
        return None
    try:
        opening = decode(journal.open(first)[0][1], journal=journal.journal.name, index=0)
    except (AuditError, TamperedError):
        return None
    return opening if isinstance(opening, StoredEvent) else None


def check_alone(
    journal: JournalBytes, keys: AuditKeys, ledger: LedgerReading, *, limit: int | None
) -> JournalCheck:
    """
    Check every record of a journal, and that the ledger states what it has.

    Args:
        journal:
            Of a writer that has ended.
        keys:
            Of the store.
        ledger:
            Checked.
        limit:
            How many of its records count, where the disk failed; else None.

    Returns:
        What the check knows at its end.

    Raises:
        AuditError: Anything is wrong with it.
    """
    name = journal.journal.name
    run = _Alone(keys)
    check = JournalCheck(
        run, journal, stated=ledger.stated.get(name, Stated.nothing(name)), anchored={}, limit=limit
    )
    check.check()
    wrong: Finding | None = next(
        (f for question in Question for f in run.findings.by_question[question] if f.is_bad), None
    )
    if wrong is not None:
        raise AuditError(wrong.sentence)
    if run.newest_known > ledger.last_sequence:
        raise AuditError(
            f"journal {name}: it names ledger entry {run.newest_known}, the ledger ends at {ledger.last_sequence}"
        )
    if check.tree is None or check.tree.size != check.expected:
        raise AuditError(f"journal {name}: its records do not follow one another")
    return check
