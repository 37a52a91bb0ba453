"""
Reading the decision log, also while it is written.

`read_decisions` gives what is whole and passes over what is not; `verify` says
what is not. Nothing that does not authenticate is ever given out.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from agentguard.audit import format as layout
from agentguard.audit.keys import AuditKeys
from agentguard.audit.records import OPEN, StoredDecision, StoredEvent, decode
from agentguard.audit.writer import SUFFIX
from agentguard.errors import AuditError, SealError, TamperedError
from agentguard.seal import Keystore, SealKey, open_regular

FOLDER = "dec"
JOURNAL_BYTES_MAX = 1 << 30
"""A larger file was not written by this program, and is not read into memory."""


class JournalBytes:
    """One journal file, read whole, with the key to open its frames."""

    def __init__(self, header: layout.Header, data: bytes, key: SealKey, *, is_live: bool) -> None:
        self.header = header
        self.journal = header.journal
        self.data = data
        self.is_live = is_live
        """Whether a process still writes it."""
        self._key = key

    def open(self, frame: layout.Frame) -> bytes:
        """
        Check and open a frame.

        Args:
            frame:
                One of this file.

        Returns:
            The record's bytes.

        Raises:
            TamperedError: It is altered, or was sealed for another place.
        """
        header = layout.leaf_header(self.journal, frame.number, frame.ledger_sequence, frame.previous)
        opened = self._key.open(frame.sealed, header + frame.digest)
        blind, record = opened[: layout.BLIND_BYTES], opened[layout.BLIND_BYTES :]
        if layout.body_digest(blind, record) != frame.digest:
            raise TamperedError("decision log: a record is not what its digest says")
        return record

    def leaf(self, frame: layout.Frame) -> bytes:
        """Hash the leaf that a frame is."""
        header = layout.leaf_header(self.journal, frame.number, frame.ledger_sequence, frame.previous)
        return layout.leaf_hash(header, frame.digest)


def journal_paths(folder: Path) -> list[Path]:
    """List the files of `dec/` that end as journals do, by name."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(path for path in (folder / FOLDER).iterdir() if path.name.endswith(SUFFIX))
    return []


def load_journal(path: Path, keys: AuditKeys) -> JournalBytes:
    """
    Read a journal file and derive its key.

    Args:
        path:
            The file.
        keys:
            Keys of the store that it should belong to.

    Returns:
        The file; its frames are not yet checked.

    Raises:
        AuditError: It cannot be read, its header is damaged, it is another journal than its
            name says, or of another store.
        TamperedError: The commitment in the header is not that of the key.
    """
    try:
        fd = open_regular(path)
    except (OSError, SealError) as error:
        raise AuditError(f"journal {path.stem}: cannot be read") from error
    try:
        is_live = _is_locked(fd)
        size = os.fstat(fd).st_size
        if size > JOURNAL_BYTES_MAX:
            raise AuditError(f"journal {path.stem}: {size} bytes, expected at most {JOURNAL_BYTES_MAX}")
        parts = []
        while part := os.read(fd, 1 << 20):
            parts.append(part)
        data = b"".join(parts)
    except OSError as error:
        raise AuditError(f"journal {path.stem}: cannot be read") from error
    finally:
        os.close(fd)
    try:
        header = layout.parse_header(data)
    except layout.HeaderDamagedError as error:
        raise AuditError(f"journal {path.stem}: {error}") from error
    if header.journal.store_id != keys.store_id:
        raise AuditError(f"journal {path.stem}: it belongs to another store")
    if header.journal != layout.parse_name(path.stem, keys.store_id):
        raise AuditError(f"journal {path.stem}: inside it is journal {header.journal.name}")
    key = keys.journal_key(header.journal, header.salt)
    key.check(header.commitment)
    return JournalBytes(header, data, key, is_live=is_live)


def read_entries(folder: Path, keystore: Keystore) -> Iterator[StoredDecision | StoredEvent]:
    """
    Read all records that are whole, journal by journal, each in the order written.

    Args:
        folder:
            The store's folder.
        keystore:
            Its keys.

    Yields:
        Decisions, outcomes and events. Records that a writer wrote anew to its
        next file, because the disk failed, come once.
    """
    keys = AuditKeys(keystore)
    journals = []
    for path in journal_paths(folder):
        with contextlib.suppress(AuditError, SealError):
            journals.append(load_journal(path, keys).journal)
    limits = _limits(folder, keys, journals)
    for journal in journals:
        path = folder / FOLDER / f"{journal.name}{SUFFIX}"
        with contextlib.suppress(AuditError, SealError):
            yield from _entries(load_journal(path, keys), limits.get(journal.name))


def read_decisions(folder: Path, keystore: Keystore) -> Iterator[StoredDecision]:
    """
    Read all decisions and outcomes that are whole; as `read_entries`, without events.

    Args:
        folder:
            The store's folder.
        keystore:
            Its keys.

    Yields:
        Decisions in the order written, one journal after the other.
    """
    return (entry for entry in read_entries(folder, keystore) if isinstance(entry, StoredDecision))


def continued_journal(opening: StoredEvent) -> tuple[str, int] | None:
    """Which journal the opening record says it continues, and after how many of its records."""
    continues = opening.details.get("continues")
    if not isinstance(continues, dict):
        return None
    name, records = continues.get("journal"), continues.get("records")
    return (name, records) if isinstance(name, str) and isinstance(records, int) else None


def opening_mac_key(opening: StoredEvent, keys: AuditKeys, journal: layout.JournalId) -> bytes:
    """
    Open the first MAC key of a journal.

    Raises:
        TamperedError: The opening record does not hold it.
    """
    slots = opening.details.get("mac_key")
    if isinstance(slots, list):
        for slot in slots:
            if isinstance(slot, dict) and slot.get("for") == "root" and isinstance(slot.get("box"), str):
                with contextlib.suppress(ValueError):
                    return keys.open_mac_key(base64.b64decode(slot["box"], validate=True), journal)
    raise TamperedError("decision log: the opening record holds no MAC key for the root key")


def _entries(journal: JournalBytes, limit: int | None) -> Iterator[StoredDecision | StoredEvent]:
    """Give out the records of one journal that open, in order, below a limit."""
    expected = 0
    for part in layout.scan(journal.data):
        if (
            isinstance(part, layout.Damage)
            or part.number < expected
            or (limit is not None and part.number >= limit)
        ):
            continue
        with contextlib.suppress(AuditError, TamperedError):
            entry = decode(journal.open(part), journal=journal.journal.name, index=part.number)
            expected = part.number + 1
            yield entry


def _limits(folder: Path, keys: AuditKeys, journals: list[layout.JournalId]) -> dict[str, int]:
    """Find journals that were left because of the disk, and how many of their records count."""
    limits: dict[str, int] = {}
    for journal in journals:
        if journal.n == 0:
            continue
        with contextlib.suppress(AuditError, SealError):
            loaded = load_journal(folder / FOLDER / f"{journal.name}{SUFFIX}", keys)
            first = next(_entries(loaded, 1), None)
            if isinstance(first, StoredEvent) and first.kind == OPEN:
                continued = continued_journal(first)
                if continued is not None:
                    limits[continued[0]] = continued[1]
    return limits


def _is_locked(fd: int) -> bool:
    """Whether a running writer holds the file."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False
