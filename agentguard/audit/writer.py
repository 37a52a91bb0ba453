"""
One journal file while it is written: chain, MAC, tree, and bytes on disk.

Single-threaded: `journal` holds a lock around every call. A batch that cannot
be written leaves no trace: neither in the file nor in the chain.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import fcntl
import io
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from agentguard.audit import format as layout
from agentguard.audit.call_record import digests_in
from agentguard.audit.disk import Disk
from agentguard.audit.keys import AuditKeys, MacChain
from agentguard.audit.records import CLOSE, OPEN, encode_event
from agentguard.audit.tree import Frontier
from agentguard.errors import AuditError
from agentguard.seal import NONCE_BYTES, PRIVATE_FILE_MODE, SALT_BYTES, TAG_BYTES, sync_folder

SUFFIX = ".agd"

RandomBytes = Callable[[int], bytes]
_FEW_FORMS: Final = 16
NO_FORMS: Final[Mapping[bytes, bytes]] = MappingProxyType({})


class UnsyncedError(OSError):
    """
    A sync failed, so the kernel may have dropped what was written.

    Trying again on the same file would succeed and mean nothing: the journal is
    left, and the batch is written anew to the next one.
    """


class JournalFile:
    """A journal that this process made and alone appends to."""

    def __init__(
        self,
        folder: Path,
        keys: AuditKeys,
        journal: layout.JournalId,
        *,
        disk: Disk,
        random_bytes: RandomBytes,
        opening: dict[str, object],
        time_unix_ns: int,
        ledger_sequence: int,
    ) -> None:
        """
        Create the file and bring its first record, the opening, to disk.

        Raises:
            OSError: It cannot be made; nothing is left behind.
        """
        self.journal = journal
        self.tree = Frontier()
        self.ledger_sequence = ledger_sequence
        """Sequence of the newest ledger entry known; every record carries it."""
        self.bytes = 0
        self.synced_records = 0
        """Records that are on stable storage."""
        self.synced_bytes = 0
        self.unsynced: list[bytes] = []
        """Records written since; should a sync fail, they are written anew elsewhere."""
        self.unsynced_forms: dict[bytes, bytes] = {}
        """Forms of these, by their digest."""
        self._disk = disk
        # Kept from batch to batch: memory that is asked for and given back each time costs as much as a hash.
        self._body, self._out = io.BytesIO(), io.BytesIO()
        self._random_bytes = random_bytes
        self._place = layout.place_of(journal)
        self._previous = layout.ZERO_LINK
        salt = random_bytes(SALT_BYTES)
        self._key = keys.journal_key(journal, salt, keys.generation)
        first_mac_key = random_bytes(32)
        self._macs = MacChain(first_mac_key)
        header = layout.Header(journal, salt, self._key.commitment, keys.generation)
        box = keys.seal_mac_key(first_mac_key, journal)
        opening = {
            **opening,
            # A list: a slot for an auditor's public key goes beside this one.
            "mac_key": [{"for": "root", "box": base64.b64encode(box).decode("ascii")}],
        }
        self.is_ended = False
        """Its last checkpoint is stated; none may follow."""
        self.path = path = folder / f"{journal.name}{SUFFIX}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self.fd = os.open(path, flags, PRIVATE_FILE_MODE)
        try:
            # Held for as long as the writer lives: readers tell a running writer from a dead one.
            fcntl.flock(self.fd, fcntl.LOCK_EX)
            disk.write(self.fd, layout.pack_header(header))
            self.bytes = layout.HEADER.size
            self.append([encode_event(OPEN, time_unix_ns, opening)], sync=True)
            sync_folder(folder)
        except BaseException:
            os.close(self.fd)
            with contextlib.suppress(OSError):
                path.unlink()
            raise

    def append(self, records: list[bytes], forms: Mapping[bytes, bytes] = NO_FORMS, *, sync: bool) -> None:
        """
        Chain, seal and write records, and bring them to disk where that is asked.

        Args:
            records:
                As `records` encodes them.
            forms:
                Those of the short ones among them, and perhaps more, by their digest.
            sync:
                Return only once they are on stable storage.

        Raises:
            AuditError: A record is too long.
            UnsyncedError: Written, but perhaps not on disk: leave this journal.
            OSError: Not written; the journal is as it was, unless it says `UnsyncedError`.
        """
        tree, macs, previous = self.tree.copy(), self._macs.copy(), self._previous
        # Read once: a checkpoint may set it meanwhile, and a record must say one thing.
        ledger_sequence = self.ledger_sequence
        out = self._out
        size = out.seek(0)
        for group, needed in _frames_of(records, forms):
            drawn = self._random_bytes(layout.DRAWN_BYTES * len(group))
            pieces, leaves = layout.pack_body(group, drawn, needed)
            self._body.seek(0)
            self._body.writelines(pieces)
            body_bytes = self._body.tell()
            prefix = layout.pack_prefix(
                sealed_bytes=NONCE_BYTES + body_bytes + TAG_BYTES,
                index=tree.size,
                count=len(group),
                position=macs.index,
                ledger_sequence=ledger_sequence,
                previous=previous,
            )
            joined = b"".join(leaves)
            attested = prefix + joined
            nonce = self._random_bytes(NONCE_BYTES)
            with self._body.getbuffer() as body, body[:body_bytes] as plaintext:
                sealed = self._key.seal_at(nonce, plaintext, self._place + attested)
            trailer = layout.pack_trailer(joined, nonce, sealed, macs.mac(attested))
            out.writelines((prefix, joined, nonce, sealed, trailer))
            macs.advance()
            previous = layout.link_of(attested)
            tree.extend(leaves)
        size = out.tell()
        try:
            with out.getbuffer() as data:
                self._write(data[:size])
        except BaseException:
            # Whoever is told of the error may hold a view of what was to be written.
            self._out = io.BytesIO()
            raise
        self._macs.wipe()
        self.tree, self._macs, self._previous = tree, macs, previous
        self.bytes += size
        self.unsynced += records
        self.unsynced_forms.update(forms)
        if sync:
            self.sync()

    def sync(self) -> None:
        """
        Bring all that was written to stable storage.

        Raises:
            UnsyncedError: The system could not.
        """
        if not self.unsynced:
            return
        try:
            self._disk.sync(self.fd)
        except OSError as error:
            raise UnsyncedError(error.errno or errno.EIO, "the disk did not take the decision log") from error
        self.unsynced.clear()
        self.unsynced_forms.clear()
        self.synced_records, self.synced_bytes = self.tree.size, self.bytes

    def close(self, time_unix_ns: int, details: dict[str, object]) -> None:
        """
        Write the closing record, sync and let go of the file.

        Raises:
            OSError: The closing record could not be written; the file is closed nevertheless.
        """
        try:
            self.append([encode_event(CLOSE, time_unix_ns, details)], sync=True)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Let go of the file as it is."""
        self._macs.wipe()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def leave(self) -> None:
        """Let go of the file, and cut off, as far as the disk lets us, what is written again elsewhere."""
        with contextlib.suppress(OSError):
            self._disk.truncate(self.fd, self.synced_bytes)
        self.abandon()

    def _write(self, data: memoryview) -> None:
        try:
            self._disk.write(self.fd, data)
        except OSError:
            # A part may be written. Were it left, the next record would stand behind garbage.
            try:
                self._disk.truncate(self.fd, self.bytes)
            except OSError as error:
                raise UnsyncedError(
                    error.errno or errno.EIO, "the decision log cannot be cut back"
                ) from error
            raise


def _frames_of(
    records: list[bytes], forms: Mapping[bytes, bytes]
) -> Iterator[tuple[list[bytes], list[bytes]]]:
    """
    Cut a batch into what goes into one frame each: records, and the forms that they need.

    Raises:
        AuditError: A record is too long.
    """
    for start in range(0, len(records), layout.FRAME_RECORDS_MAX):
        group = records[start : start + layout.FRAME_RECORDS_MAX]
        needed = _needed(group, forms)
        if sum(map(len, group)) + sum(map(len, needed)) <= layout.FRAME_BYTES_MAX:
            yield group, needed
        else:
            for smaller in _smaller(group, forms):
                yield smaller, [forms[digest] for digest in sorted(digests_in(smaller))]


def _needed(records: list[bytes], forms: Mapping[bytes, bytes]) -> list[bytes]:
    """List the forms that records need; all of them where they are few, as looking costs more then."""
    if len(forms) <= _FEW_FORMS:
        return list(forms.values())
    return [forms[digest] for digest in sorted(digests_in(records))]


def _smaller(records: list[bytes], forms: Mapping[bytes, bytes]) -> Iterator[list[bytes]]:
    """Cut records that are too much for one frame."""
    start, size = 0, 0
    for index, record in enumerate(records):
        if len(record) > layout.RECORD_BYTES_MAX:
            raise AuditError(
                f"decision log: a record of {len(record)} bytes, expected at most {layout.RECORD_BYTES_MAX}"
            )
        # As if each had a form of its own: at most the frames are smaller than need be.
        length = len(record) + sum(len(forms[digest]) for digest in digests_in([record]))
        if index > start and size + length > layout.FRAME_BYTES_MAX:
            yield records[start:index]
            start, size = index, 0
        size += length
    if start < len(records):
        yield records[start:]
