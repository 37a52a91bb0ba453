"""
Batches of records to journal files: opening, rotation, failed disks, checkpoints, counted losses.

Whoever calls `write` or `end` holds `lock`; `journal` decides who that is. Losses
are counted here, because here is the next frame that can tell of them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Mapping
from pathlib import Path

from agentguard.audit import format as layout
from agentguard.audit.disk import FULL_DISK, RESERVE, Disk, ReservingDisk, Safeguards
from agentguard.audit.events import RESERVE_USED
from agentguard.audit.keys import AuditKeys
from agentguard.audit.ledger import Ledger
from agentguard.audit.records import GAP, encode_event
from agentguard.audit.writer import NO_FORMS, JournalFile, RandomBytes, UnsyncedError
from agentguard.errors import AuditError
from agentguard.seal import ensure_private_folder
from agentguard.values import Clock, InternalErrorHook

FOLDER = "dec"
UNSYNCED_BYTES_MAX = 1 << 19
"""Written bytes after which a file is synced at once: until then their records are kept in memory too."""


class Committer:
    """The files of one writer, one after the other."""

    def __init__(
        self,
        folder: Path,
        keys: AuditKeys,
        clock: Clock,
        on_internal_error: InternalErrorHook,
        *,
        details: Mapping[str, object],
        journal_bytes_max: int,
        journal_age_s_max: float,
        random_bytes: RandomBytes,
        disk: Disk,
        safeguards: Safeguards,
    ) -> None:
        self._folder = folder
        self._keys = keys
        self._clock = clock
        self._on_internal_error = on_internal_error
        self._details = dict(details)
        self._journal_bytes_max = journal_bytes_max
        self._journal_age_ns_max = int(journal_age_s_max * 1e9)
        self._random_bytes = random_bytes
        self._disk = disk = ReservingDisk(disk, folder / RESERVE, safeguards.reserve_bytes)
        self._ledger = Ledger(
            folder, keys, clock, disk=disk, post_quantum=safeguards.post_quantum, mark=safeguards.mark
        )
        self._file: JournalFile | None = None
        self.begin()

    def begin(self) -> None:
        """Begin as a new writer: at the start, and in a forked child, which lets go of the parent's file."""
        inherited, self._file = self._file, None
        self.lock = threading.Lock()
        """Held by whoever writes, over I/O; never taken by someone who only queues."""
        self._ledger_lock = threading.Lock()
        self._lost_lock = threading.Lock()
        self._writer = self._random_bytes(8)
        self._number = 0
        self._lost: dict[str, list[int]] = {}
        self._checkpointed = 0
        self._begun_ns = 0
        self.stored = 0
        self.syncs = 0
        self.dropped: dict[str, int] = {}
        if inherited is not None:
            inherited.abandon()

    @property
    def behind(self) -> int:
        """Records of the present file that no checkpoint states yet."""
        file = self._file
        return file.tree.size - self._checkpointed if file is not None else 0

    @property
    def is_old(self) -> bool:
        """Whether the present file holds records, and was begun too long ago."""
        file = self._file
        is_used = file is not None and file.tree.size > 1
        return is_used and self._clock.monotonic_ns() - self._begun_ns >= self._journal_age_ns_max

    @property
    def has_lost(self) -> bool:
        """Whether there are losses that no record tells of yet."""
        return bool(self._lost)

    def write(
        self, records: list[bytes], forms: Mapping[bytes, bytes] = NO_FORMS, *, must_sync: bool
    ) -> None:
        """
        Write records to the present file, or to the next where that one fails.

        A failure is not the end of it: one more try costs less than a call that is denied for one bad block.

        Args:
            records:
                As `records` encodes them; counted losses go before them.
            forms:
                Those of the short ones, by their digest.
            must_sync:
                Return only once they, and all before them, are on disk.

        Raises:
            AuditError: The ledger cannot be written, or a record is too long.
            OSError: The disk refused; none of the records is in the log.
            StoreError: The folder cannot be made, or others may write to it.
        """
        try:
            self._write(records, forms, must_sync=must_sync)
        except (OSError, AuditError) as error:
            if not _may_pass(error):
                raise
            self._on_internal_error("audit.write", error)
            self._write(records, forms, must_sync=must_sync)

    def _write(self, records: list[bytes], forms: Mapping[bytes, bytes], *, must_sync: bool) -> None:
        """Write records, once; none of them is in the log where it raises."""
        file = self._file
        if file is None and not records and not self._lost:
            return
        if file is not None and (file.bytes >= self._journal_bytes_max or self.is_old):
            self.end("age" if self.is_old else "full")
            file = None
        if file is None:
            file = self._open({})
        lost = self._take_lost()
        batch = [
            encode_event(
                GAP, last, {"reason": reason, "count": count, "first_unix_ns": first, "last_unix_ns": last}
            )
            for reason, (count, first, last) in lost.items()
        ] + records
        left_bytes = self._disk.reserve_left()
        if left_bytes is not None:
            self._on_internal_error("audit.reserve", OSError(errno.ENOSPC, "the disk is full"))
            batch.append(encode_event(RESERVE_USED, self._clock.unix_ns(), {"left_bytes": left_bytes}))
        earlier = len(file.unsynced)
        is_much = file.bytes - file.synced_bytes >= UNSYNCED_BYTES_MAX
        try:
            try:
                if batch:
                    file.append(batch, forms, sync=must_sync or is_much)
                elif must_sync:
                    file.sync()
            except UnsyncedError as error:
                self._on_internal_error("audit.sync", error)
                self._write_anew(file, file.unsynced[:earlier], batch, forms)
            except OSError as error:
                if error.errno in FULL_DISK:
                    raise  # Another file has no more room.
                self._on_internal_error("audit.write", error)
                with contextlib.suppress(UnsyncedError):
                    file.sync()
                self._write_anew(file, list(file.unsynced), batch, forms)
        except BaseException:
            self._give_back(lost)
            raise
        self.stored += len(records)
        self.syncs += must_sync

    def checkpoint(self) -> None:
        """
        Sync the present file, and state its size and root in the ledger; takes the lock itself.

        Raises:
            AuditError: The ledger cannot be written; tried again with the next checkpoint.
            OSError: The disk refused.
        """
        with self.lock:
            file = self._file
            if file is None:
                return
            try:
                file.sync()
            except UnsyncedError as error:
                self._on_internal_error("audit.sync", error)
                self._write_anew(file, list(file.unsynced), [], NO_FORMS)
                return
            name, size, root = file.journal.name, file.tree.size, file.tree.root()
        # Nobody who appends waits for the ledger, except where a file ends at this moment.
        with self._ledger_lock:
            if file.is_ended:
                return
            file.ledger_sequence = self._ledger.append(journal=name, size=size, root=root, state="open")
        if self._file is file:
            self._checkpointed = size
        with contextlib.suppress(OSError):  # Without it decisions are no less durable, while there is room.
            self._disk.keep_reserve()

    def end(self, reason: str) -> None:
        """
        End the present file in order, with a closing record and its last checkpoint.

        Args:
            reason:
                Kept in the closing record.

        Raises:
            AuditError: The ledger cannot be written.
            OSError: The disk refused.
        """
        file = self._file
        if file is None:
            return
        self._file = None
        file.close(self._clock.unix_ns(), {"reason": reason, "records": file.tree.size})
        with self._ledger_lock:
            file.is_ended = True
            self._ledger.append(
                journal=file.journal.name, size=file.tree.size, root=file.tree.root(), state="closed"
            )

    def count_lost(self, reason: str, count: int) -> None:
        """Count records that are lost; the next frame that can be written tells of them."""
        now = self._clock.unix_ns()
        with self._lost_lock:
            self.dropped[reason] = self.dropped.get(reason, 0) + count
        self._give_back({reason: [count, now, now]})

    def _write_anew(
        self, left: JournalFile, earlier: list[bytes], batch: list[bytes], forms: Mapping[bytes, bytes]
    ) -> None:
        """Leave a file whose sync failed, and write what was not yet on disk to the next one."""
        self._file = None
        forms = {**left.unsynced_forms, **forms}
        with self._ledger_lock:
            # A checkpoint that is on its way must not come behind what a later process says of this file.
            left.is_ended = True
        left.leave()
        try:
            file = self._open({"continues": {"journal": left.journal.name, "records": left.synced_records}})
            file.append(earlier + batch, forms, sync=True)
        except BaseException:
            if earlier:
                self.count_lost("disk failed", len(earlier))
            raise

    def _open(self, opening: dict[str, object]) -> JournalFile:
        """Begin the next journal file, and enter it into the ledger."""
        ensure_private_folder(self._folder / FOLDER)
        tail = self._ledger.peek()
        file = JournalFile(
            self._folder / FOLDER,
            self._keys,
            layout.JournalId(self._keys.store_id, self._writer, self._number),
            disk=self._disk,
            random_bytes=self._random_bytes,
            opening={
                **self._details,
                "pid": os.getpid(),
                "ledger": {"seq": tail.sequence, "hash": tail.previous.hex()},
                **opening,
            },
            time_unix_ns=self._clock.unix_ns(),
            ledger_sequence=tail.sequence,
        )
        self._number += 1
        try:
            file.ledger_sequence = self._ledger.append(
                journal=file.journal.name, size=file.tree.size, root=file.tree.root(), state="open"
            )
        except BaseException:
            # Nothing in it was ever acknowledged, and nothing names it.
            file.abandon()
            with contextlib.suppress(OSError):
                file.path.unlink()
            raise
        self._checkpointed = file.tree.size
        self._begun_ns = self._clock.monotonic_ns()
        self._file = file
        return file

    def _take_lost(self) -> dict[str, list[int]]:
        with self._lost_lock:
            lost, self._lost = self._lost, {}
        return lost

    def _give_back(self, lost: dict[str, list[int]]) -> None:
        with self._lost_lock:
            for reason, (count, first, last) in lost.items():
                entry = self._lost.setdefault(reason, [0, first, last])
                entry[0] += count
                entry[1] = min(entry[1], first)
                entry[2] = max(entry[2], last)


def _may_pass(error: OSError | AuditError) -> bool:
    """Whether the disk refused, so that another try may go well; a lock that others hold was waited for."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return isinstance(cause, OSError) and not isinstance(cause, BlockingIOError)
