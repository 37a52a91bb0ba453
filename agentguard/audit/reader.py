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
from collections.abc import Callable, Iterator
from pathlib import Path

from agentguard.audit import format as layout
from agentguard.audit.keys import AuditKeys
from agentguard.audit.records import OPEN, StoredDecision, StoredEvent, decode, told
from agentguard.audit.writer import SUFFIX
from agentguard.errors import AuditError, SealError, TamperedError
from agentguard.seal import Keystore, SealKey, open_regular

FOLDER = "dec"
JOURNAL_BYTES_MAX = 1 << 30
"""A larger file was not written by this program, and is not read into memory."""
OPENING_BYTES_MAX = 1 << 16
"""Header and opening record are not longer."""


class JournalBytes:
    """One journal file, read whole, with the key to open its frames."""

    def __init__(self, header: layout.Header, data: bytes, key: SealKey, *, is_live: bool) -> None:
        self.header = header
        self.journal = header.journal
        self.place = layout.place_of(header.journal)
        self.data = data
        self.is_live = is_live
        """Whether a process still writes it."""
        self._key = key

    def open(self, frame: layout.Frame) -> list[tuple[bytes, bytes]]:
        """
        Check and open a frame.

        Args:
            frame:
                One of this file.

        Returns:
            Blind and bytes of each record.

        Raises:
            TamperedError: It is altered, or was sealed for another place.
        """
        records = layout.parse_body(self._key.open(frame.sealed, self.place + frame.attested), frame.leaves)
        if records is None:
            raise TamperedError("decision log: a record is not what its leaf hash says")
        return records


def journal_paths(folder: Path) -> list[Path]:
    """
    List the files of `dec/` that end as journals do, in the order in which they were begun.

    The order is that of the ledger, as the first frame has it; it is for reading, and proves nothing.
    """
    with contextlib.suppress(FileNotFoundError):
        paths = [path for path in (folder / FOLDER).iterdir() if path.name.endswith(SUFFIX)]
        return sorted(paths, key=lambda path: (_begun(path), path.name))
    return []


def load_journal(path: Path, keys: AuditKeys, *, bytes_max: int | None = None) -> JournalBytes:
    """
    Read a journal file and derive its key.

    Args:
        path:
            The file.
        keys:
            Keys of the store that it should belong to.
        bytes_max:
            Read no more than the beginning: `HEADER.size` for the header alone, `OPENING_BYTES_MAX` for the
            opening record too. By default all.

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
        left = JOURNAL_BYTES_MAX if bytes_max is None else bytes_max
        while part := os.read(fd, min(left, 1 << 16)):
            parts.append(part)
            left -= len(part)
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
    key = keys.journal_key(header.journal, header.salt, header.generation)
    key.check(header.commitment)
    return JournalBytes(header, data, key, is_live=is_live)


def read_entries(
    folder: Path, keystore: Keystore, *, on_damage: Callable[[str], None] | None = None
) -> Iterator[StoredDecision | StoredEvent]:
    """
    Read all records that are whole, journal by journal, each in the order written.

    Args:
        folder:
            The store's folder.
        keystore:
            Its keys.
        on_damage:
            Told in a sentence of whatever is passed over; `verify` says more.

    Yields:
        Decisions, outcomes and events. Records that a writer wrote anew to its
        next file, because the disk failed, come once.
    """
    keys = AuditKeys(keystore)
    tell = on_damage or _ignore
    paths = journal_paths(folder)
    limits = limits_of(paths, keys)
    for path in paths:
        try:
            journal = load_journal(path, keys)
        except AuditError as error:
            if path.exists():  # Else retention took it meanwhile.
                tell(str(error))
        except SealError:
            tell(f"journal {path.stem}: its header does not belong to the key of this store")
        else:
            yield from _entries(journal, limits.get(path.stem), tell)


def read_decisions(
    folder: Path, keystore: Keystore, *, on_damage: Callable[[str], None] | None = None
) -> Iterator[StoredDecision]:
    """
    Read all decisions and outcomes that are whole; as `read_entries`, without events.

    Args:
        folder:
            The store's folder.
        keystore:
            Its keys.
        on_damage:
            Told in a sentence of whatever is passed over; `verify` says more.

    Yields:
        Decisions in the order written, one journal after the other.
    """
    entries = read_entries(folder, keystore, on_damage=on_damage)
    return (entry for entry in entries if isinstance(entry, StoredDecision))


def continued_journal(opening: StoredEvent) -> tuple[str, int] | None:
    """Which journal the opening record says it continues, and after how many of its records."""
    continues = opening.details.get("continues")
    if not isinstance(continues, dict):
        return None
    name, records = continues.get("journal"), continues.get("records")
    return (name, records) if isinstance(name, str) and isinstance(records, int) else None


def opening_mac_key(opening: StoredEvent, keys: AuditKeys, header: layout.Header) -> bytes:
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
                    box = base64.b64decode(slot["box"], validate=True)
                    return keys.open_mac_key(box, header.journal, header.generation)
    raise TamperedError("decision log: the opening record holds no MAC key for the root key")


def _entries(
    journal: JournalBytes, limit: int | None, tell: Callable[[str], None]
) -> Iterator[StoredDecision | StoredEvent]:
    """Give out the records of one journal that open, in order, below a limit."""
    name, expected = journal.journal.name, 0
    for part in layout.scan(journal.data):
        if isinstance(part, layout.Damage):
            if not part.is_torn:
                tell(f"journal {name}: record {expected} cannot be read")
            continue
        if limit is not None and part.number >= limit:
            continue
        if part.number < expected:
            tell(f"journal {name}: record {part.number} stands where it does not belong")
            continue
        try:
            records = journal.open(part)
        except TamperedError:
            tell(f"journal {name}: record {part.number} cannot be read")
            continue
        for index, (_, record) in enumerate(records, start=part.number):
            if limit is not None and index >= limit:
                break
            try:
                entry = decode(record, journal=name, index=index)
            except AuditError:
                tell(f"journal {name}: record {index} cannot be read")
                continue
            if isinstance(entry, StoredDecision):
                yield from told(entry)
            else:
                yield entry
        expected = part.number + part.records


def limits_of(paths: list[Path], keys: AuditKeys) -> dict[str, int]:
    """Find journals that were left because of the disk, and how many of their records count."""
    limits: dict[str, int] = {}
    for path in paths:
        # Only a writer's later file continues one before it.
        if path.stem.endswith("-0"):
            continue
        with contextlib.suppress(AuditError, SealError):
            journal = load_journal(path, keys, bytes_max=OPENING_BYTES_MAX)
            first = next(_entries(journal, 1, _ignore), None)
            if isinstance(first, StoredEvent) and first.kind == OPEN:
                continued = continued_journal(first)
                if continued is not None:
                    limits[continued[0]] = continued[1]
    return limits


def limit_of(path: Path, keys: AuditKeys) -> int | None:
    """Say how many records of a journal count, where its writer left it because of the disk; else None."""
    writer, _, n = path.stem.rpartition("-")
    following = path.with_name(f"{writer}-{int(n) + 1}{SUFFIX}")
    return limits_of([following], keys).get(path.stem) if following.exists() else None


def _begun(path: Path) -> int:
    """Read which ledger entry was the newest when a journal was begun; 0 where that cannot be read."""
    try:
        fd = open_regular(path)
    except (OSError, SealError):
        return 0
    try:
        prefix = os.pread(fd, layout.PREFIX.size, layout.HEADER.size)
    except OSError:
        return 0
    finally:
        os.close(fd)
    return int(layout.PREFIX.unpack(prefix)[5]) if len(prefix) == layout.PREFIX.size else 0


def _ignore(_: str) -> None:
    """Tell nobody."""


def _is_locked(fd: int) -> bool:
    """Whether a running writer holds the file."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False
