"""
The decision log of one process: a queue, group commit, one thread, and files.

`append` of an `async` record costs an enqueue; the thread encodes, seals and
writes it within the window. A `required` record is on disk before `append`
returns: whoever comes first commits for all that wait, so many threads share
one sync. No lock that `append` takes is ever held over I/O.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from agentguard.audit import format as layout
from agentguard.audit.disk import Disk
from agentguard.audit.keys import AuditKeys
from agentguard.audit.ledger import Ledger
from agentguard.audit.records import GAP, encode_decision, encode_event
from agentguard.audit.writer import JournalFile, RandomBytes, UnsyncedError
from agentguard.errors import AgentGuardError, AuditError
from agentguard.seal import Keystore, ensure_private_folder
from agentguard.values import Clock, DecisionRecord, InternalErrorHook, RecordMode

FOLDER = "dec"

_BATCH_RECORDS_MAX = 4096
_Event = tuple[str, int, Mapping[str, object]]
_journals: weakref.WeakSet[DecisionJournal] = weakref.WeakSet()


class _Ticket:
    """A record that somebody waits for, and how it went."""

    __slots__ = ("_done", "error", "is_done", "must_lead", "notify", "payload")

    def __init__(self, payload: DecisionRecord | _Event | None) -> None:
        self.payload = payload
        """None: no record, only that all before it is on disk."""
        self.error: AuditError | None = None
        self.is_done = False
        self.must_lead = False
        self.notify: Callable[[], None] | None = None
        self._done = threading.Lock()
        self._done.acquire()

    def finish(self, error: AuditError | None = None) -> None:
        """Wake who waits."""
        if self.is_done:
            return
        self.error = error
        self.is_done = True
        self.wake()
        if self.notify is not None:
            self.notify()

    def wake(self) -> None:
        """Let the waiting thread look."""
        with contextlib.suppress(RuntimeError):
            self._done.release()

    def wait(self, timeout_s: float) -> bool:
        """Wait until woken; False where the time ran out."""
        return self._done.acquire(timeout=max(timeout_s, 0.0))


class DecisionJournal:
    """
    Chains decision records; implements `values.DecisionSink`.

    One journal file per process under `dec/`, made when the first record comes.
    After a fork the child begins its own, with an empty queue: what the parent
    had queued is the parent's to write.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keystore: Keystore,
        clock: Clock,
        on_internal_error: InternalErrorHook,
        details: Mapping[str, object] | None = None,
        window_s: float = 0.1,
        checkpoint_interval_s: float = 1.0,
        checkpoint_records_max: int = 1000,
        queue_records_max: int = 8192,
        journal_bytes_max: int = 16 << 20,
        commit_wait_s_max: float = 30.0,
        random_bytes: RandomBytes = os.urandom,
        disk: Disk | None = None,
    ) -> None:
        """
        Use `open`, which also makes the folders.

        Args:
            folder:
                The store's folder.
            keystore:
                Its keys.
            clock:
                Stamps events and checkpoints.
            on_internal_error:
                Told of failures that no caller sees.
            details:
                Plain data for the opening record of each file, such as the service name.
            window_s:
                How long an `async` record may wait for others before it is written.
            checkpoint_interval_s:
                At most so long a written record stays unsynced and without checkpoint.
            checkpoint_records_max:
                After so many records a checkpoint comes at once.
            queue_records_max:
                `async` records that may wait; more are dropped and counted.
            journal_bytes_max:
                A file that has grown to it is closed, and the next one begins.
            commit_wait_s_max:
                A `required` record that is not on disk after it fails.
            random_bytes:
                Where writer ids, keys, blinds and nonces come from.
            disk:
                The real one by default.
        """
        self._folder = folder
        self._keys = AuditKeys(keystore)
        self._clock = clock
        self._on_internal_error = on_internal_error
        self._details = dict(details or {})
        self._window_s = window_s
        self._checkpoint_interval_s = checkpoint_interval_s
        self._checkpoint_records_max = checkpoint_records_max
        self._queue_records_max = queue_records_max
        self._journal_bytes_max = journal_bytes_max
        self._commit_wait_s_max = commit_wait_s_max
        self._random_bytes = random_bytes
        self._disk = disk or Disk()
        self._ledger = Ledger(folder, self._keys, clock, disk=self._disk)
        self._begin()
        _journals.add(self)

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        keystore: Keystore,
        clock: Clock,
        on_internal_error: InternalErrorHook,
        details: Mapping[str, object] | None = None,
    ) -> Self:
        """
        Make the folders and a journal with the usual limits.

        Args:
            folder:
                The store's folder.
            keystore:
                Its keys.
            clock:
                Stamps events and checkpoints.
            on_internal_error:
                Told of failures that no caller sees.
            details:
                Plain data for the opening record, such as the service name.

        Returns:
            A journal; its file is made when the first record comes.

        Raises:
            StoreError: A folder cannot be made, or others may write to it.
        """
        ensure_private_folder(folder / FOLDER)
        return cls(
            folder, keystore=keystore, clock=clock, on_internal_error=on_internal_error, details=details
        )

    def _begin(self) -> None:
        """Begin as a new writer: at the start, and in a forked child."""
        self._pid = os.getpid()
        self._writer = self._random_bytes(8)
        self._number = 0
        self._file: JournalFile | None = None
        self._checkpointed = 0
        self._queue: deque[DecisionRecord | _Event | _Ticket] = deque()
        self._waiting: deque[_Ticket] = deque()
        self._mutex = threading.Lock()
        self._commit_lock = threading.Lock()
        self._has_leader = False
        self._group_size = 1
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._is_awake = False
        self._is_idle = True
        self._is_closed = False
        self._lost: dict[str, list[int]] = {}
        self.stored = 0
        """Records written by this process."""
        self.dropped: dict[str, int] = {}
        """Records lost by reason; each loss is also a record of the log once it can be written."""
        self.preferred_failures = 0
        """Records with mode `preferred` that were not durable when their call ran."""
        self.syncs = 0
        """Group commits that were brought to disk."""

    # -- the side of the callers ---------------------------------------------------------------

    def append(self, record: DecisionRecord) -> None:
        """
        Chain one record, as durable as its decision asks.

        `async`: queued. `required`: on disk when this returns. `preferred`: tried
        as `required`; a failure is counted, not raised.

        Args:
            record:
                The decision, or the outcome of an admitted call.

        Raises:
            AuditError: A required record could not be made durable: the call must not run.
        """
        if os.getpid() != self._pid:
            self._begin_in_child()
        mode = record.decision.record
        if mode is RecordMode.ASYNC:
            self._enqueue(record)
            return
        try:
            self._append_durable(_Ticket(record))
        except AuditError as error:
            if mode is RecordMode.REQUIRED:
                raise
            self.preferred_failures += 1
            self._on_internal_error("audit.append", error)

    async def append_async(self, record: DecisionRecord) -> None:
        """
        As `append`, for coroutines: the journal's thread does the work, the event loop goes on.

        Args:
            record:
                The decision, or the outcome of an admitted call.

        Raises:
            AuditError: A required record could not be made durable: the call must not run.
        """
        if os.getpid() != self._pid:
            self._begin_in_child()
        mode = record.decision.record
        if mode is RecordMode.ASYNC:
            self._enqueue(record)
            return
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        ticket = _Ticket(record)

        def settle() -> None:
            if not future.done():
                future.set_result(None)

        def notify() -> None:
            with contextlib.suppress(RuntimeError):  # The loop has ended, and nobody waits any more.
                loop.call_soon_threadsafe(settle)

        ticket.notify = notify
        try:
            if self._is_closed:
                raise AuditError("decision log: closed, a record came after it")
            self._queue.append(ticket)
            self._call_thread(hurry=True)
            try:
                await asyncio.wait_for(future, self._commit_wait_s_max)
            except TimeoutError:
                raise self._too_slow() from None
            if ticket.error is not None:
                raise ticket.error
        except AuditError as error:
            if mode is RecordMode.REQUIRED:
                raise
            self.preferred_failures += 1
            self._on_internal_error("audit.append", error)

    def append_event(self, kind: str, details: Mapping[str, object], *, is_durable: bool = False) -> None:
        """
        Chain something that is not a decision: a policy load, a refusal, a mode change, a kill.

        Args:
            kind:
                Dotted name, such as `policy.loaded`.
            details:
                Plain data without secrets.
            is_durable:
                Return only once it is on disk.

        Raises:
            AuditError: It was to be durable and could not be.
        """
        if os.getpid() != self._pid:
            self._begin_in_child()
        event = (kind, self._clock.unix_ns(), dict(details))
        if is_durable:
            self._append_durable(_Ticket(event))
        else:
            self._enqueue(event)

    def flush(self, timeout_s: float) -> bool:
        """
        Bring all records that were appended to disk.

        Args:
            timeout_s:
                How long to wait for others that are writing.

        Returns:
            True where all of them are there.
        """
        if os.getpid() != self._pid:
            self._begin_in_child()
        if self._is_closed:
            return not self._queue
        try:
            self._append_durable(_Ticket(None), timeout_s)
        except AuditError as error:
            self._on_internal_error("audit.flush", error)
            return False
        return True

    def close(self, timeout_s: float) -> bool:
        """
        Write what is queued, a closing record and a checkpoint; take nothing more.

        Args:
            timeout_s:
                How long to wait for the thread.

        Returns:
            True where all is on disk and the checkpoint is written.
        """
        if os.getpid() != self._pid:
            self._begin_in_child()
        if self._is_closed:
            return True
        self._is_closed = True
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            self._hurry.set()
            self._wake.set()
            thread.join(timeout_s)
            if thread.is_alive():
                return False
        try:
            with self._commit_lock:
                while self._queue or self._lost:
                    if not self._commit_queued(must_sync=True):
                        break
                if self._file is not None:
                    self._close_file("end")
        except (AgentGuardError, OSError) as error:
            self._on_internal_error("audit.close", error)
            return False
        return not self._lost

    # -- queue and group commit ----------------------------------------------------------------

    def _enqueue(self, item: DecisionRecord | _Event) -> None:
        """Queue what nobody waits for."""
        queue = self._queue
        if len(queue) >= self._queue_records_max:
            self._count_lost("queue full", 1)
            return
        if self._is_closed:
            self._count_lost("after close", 1)
            return
        queue.append(item)
        if not self._is_awake:
            self._call_thread()

    def _append_durable(self, ticket: _Ticket, timeout_s: float | None = None) -> None:
        """Queue, and lead the commit or wait for the one who does."""
        if self._is_closed:
            raise AuditError("decision log: closed, a record came after it")
        deadline = time.monotonic() + (self._commit_wait_s_max if timeout_s is None else timeout_s)
        with self._mutex:
            self._queue.append(ticket)
            leads = not self._has_leader
            if leads:
                self._has_leader = True
            else:
                self._waiting.append(ticket)
        if not leads:
            while not ticket.wait(deadline - time.monotonic()):
                with self._mutex:
                    if not ticket.must_lead and not ticket.is_done:
                        ticket.finish(self._too_slow())
                        break
            leads = ticket.must_lead
        if leads:
            self._lead(ticket)
        if ticket.error is not None:
            raise ticket.error

    def _lead(self, ticket: _Ticket) -> None:
        """Commit for all that wait, then hand over to the next who waits."""
        try:
            self._gather()
            with self._commit_lock:
                while not ticket.is_done:
                    self._commit_queued(must_sync=True)
        finally:
            with self._mutex:
                following = None
                while self._waiting:
                    candidate = self._waiting.popleft()
                    if not candidate.is_done:
                        following = candidate
                        break
                if following is None:
                    self._has_leader = False
                else:
                    following.must_lead = True
                    following.wake()
            if self._is_idle:
                # The checkpoint is the thread's to write.
                self._call_thread()

    def _gather(self) -> None:
        """
        Wait a moment for the threads of the last group, which are about to come again.

        A lone caller never waits: its group was one.
        """
        expected = self._group_size
        if expected <= 1:
            return
        for _ in range(20):
            if len(self._queue) >= expected:
                return
            time.sleep(0.00005)

    def _commit_queued(self, *, must_sync: bool) -> bool:
        """Write a batch of the queue; True where a batch was written. The commit lock is held."""
        items: list[DecisionRecord | _Event | _Ticket] = []
        tickets: list[_Ticket] = []
        with contextlib.suppress(IndexError):
            while len(items) < _BATCH_RECORDS_MAX:
                item = self._queue.popleft()
                items.append(item)
                if type(item) is _Ticket:
                    tickets.append(item)
        failure: AuditError | None = AuditError("decision log: interrupted while a record was written")
        alone = len(items) - len(tickets)
        try:
            records = self._encode(items)
            if records or self._lost or tickets:
                self._write(records, must_sync=bool(tickets) or must_sync)
            failure = None
        except (AgentGuardError, OSError) as error:
            failure = error if isinstance(error, AuditError) else _not_durable(error)
            self._on_internal_error("audit.write", error)
            if alone:
                self._count_lost("not written", alone)
        finally:
            if tickets:
                self._group_size = len(tickets)
            for ticket in tickets:
                ticket.finish(failure)
        return failure is None and bool(items)

    def _encode(self, items: list[DecisionRecord | _Event | _Ticket]) -> list[bytes]:
        """Make the bytes of each record; one that cannot be written fails alone."""
        records = []
        for item in items:
            payload = item.payload if type(item) is _Ticket else item
            if payload is None:
                continue
            try:
                if isinstance(payload, DecisionRecord):
                    records.append(encode_decision(payload))
                else:
                    records.append(encode_event(*payload))  # type: ignore[arg-type]
            except AuditError as error:
                if type(item) is _Ticket:
                    item.finish(error)
                else:
                    self._count_lost("cannot be encoded", 1)
                    self._on_internal_error("audit.encode", error)
        return records

    # -- files ---------------------------------------------------------------------------------

    def _write(self, records: list[bytes], *, must_sync: bool) -> None:
        """Write records to the present file, or to the next where that one fails. The commit lock is held."""
        file = self._file
        if file is not None and file.bytes >= self._journal_bytes_max:
            self._close_file("full")
            file = None
        if file is None:
            file = self._open_file({})
        lost, self._lost = self._lost, {}
        gaps = [
            encode_event(
                GAP, last, {"reason": reason, "count": count, "first_unix_ns": first, "last_unix_ns": last}
            )
            for reason, (count, first, last) in lost.items()
        ]
        batch = gaps + records
        try:
            try:
                if batch:
                    file.append(batch, sync=must_sync)
                elif must_sync:
                    file.sync()
            except UnsyncedError as error:
                self._on_internal_error("audit.sync", error)
                again = file.unsynced if file.unsynced[-len(batch) :] == batch else file.unsynced + batch
                self._write_anew(file, again)
        except BaseException:
            self._restore_lost(lost)
            raise
        self.stored += len(records)
        self.syncs += must_sync

    def _write_anew(self, left: JournalFile, records: list[bytes]) -> None:
        """Leave a file whose sync failed, and write what was not yet on disk to the next one."""
        self._file = None
        left.leave()
        file = self._open_file({"continues": {"journal": left.journal.name, "records": left.synced_records}})
        file.append(records, sync=True)

    def _open_file(self, opening: dict[str, object]) -> JournalFile:
        """Begin the next journal file, and enter it into the ledger. The commit lock is held."""
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
                "pid": self._pid,
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
            file.abandon()
            raise
        self._checkpointed = file.tree.size
        self._file = file
        return file

    def _close_file(self, reason: str) -> None:
        """End the present file in order. The commit lock is held."""
        file = self._file
        if file is None:
            return
        self._file = None
        file.close(self._clock.unix_ns(), {"reason": reason, "records": file.tree.size})
        self._ledger.append(
            journal=file.journal.name, size=file.tree.size, root=file.tree.root(), state="closed"
        )

    # -- the thread ----------------------------------------------------------------------------

    def _call_thread(self, *, hurry: bool = False) -> None:
        """Wake the thread, or start it."""
        if self._thread is None:
            with self._mutex:
                if self._thread is None and not self._is_closed:
                    self._is_awake = True
                    self._thread = threading.Thread(
                        target=self._work, name="agentguard-decision-log", daemon=True
                    )
                    self._thread.start()
        if hurry:
            self._hurry.set()
        self._wake.set()

    def _work(self) -> None:
        """Write what was queued within the window, and a checkpoint within its interval."""
        due, behind = time.monotonic() + self._checkpoint_interval_s, 0
        while not self._is_closed:
            try:
                self._is_awake = False
                self._is_idle = not behind
                if not self._queue:
                    self._wake.wait(max(due - time.monotonic(), 0.0) if behind else None)
                self._is_awake, self._is_idle = True, False
                self._wake.clear()
                if self._queue and not self._hurry.is_set():
                    self._hurry.wait(self._window_s)
                self._hurry.clear()
                with self._commit_lock:
                    while self._queue:
                        self._commit_queued(must_sync=False)
                    file = self._file
                    behind = file.tree.size - self._checkpointed if file is not None else 0
                if behind and (behind >= self._checkpoint_records_max or time.monotonic() >= due):
                    self._checkpoint()
                    behind = 0
                    due = time.monotonic() + self._checkpoint_interval_s
                elif not behind:
                    due = time.monotonic() + self._checkpoint_interval_s
            except Exception as error:  # The thread must live; the records are counted where they failed.
                self._on_internal_error("audit.thread", error)
                self._hurry.wait(self._checkpoint_interval_s)

    def _checkpoint(self) -> None:
        """Sync the present file and state its size and root in the ledger."""
        with self._commit_lock:
            file = self._file
            if file is None:
                return
            try:
                file.sync()
            except UnsyncedError as error:
                self._on_internal_error("audit.sync", error)
                self._write_anew(file, list(file.unsynced))
                return
            name, size, root = file.journal.name, file.tree.size, file.tree.root()
        # The ledger has its own lock; nobody who appends waits for it.
        sequence = self._ledger.append(journal=name, size=size, root=root, state="open")
        with self._commit_lock:
            file.ledger_sequence = sequence
            if self._file is file:
                self._checkpointed = size

    # -- losses and forks ----------------------------------------------------------------------

    def _count_lost(self, reason: str, count: int) -> None:
        now = self._clock.unix_ns()
        with self._mutex:
            entry = self._lost.setdefault(reason, [0, now, now])
            entry[0] += count
            entry[2] = now
            self.dropped[reason] = self.dropped.get(reason, 0) + count

    def _restore_lost(self, lost: dict[str, list[int]]) -> None:
        with self._mutex:
            for reason, (count, first, last) in lost.items():
                entry = self._lost.setdefault(reason, [0, first, last])
                entry[0] += count
                entry[1] = min(entry[1], first)
                entry[2] = max(entry[2], last)

    def _too_slow(self) -> AuditError:
        return AuditError(f"decision log: a record is not on disk after {self._commit_wait_s_max:g} s").hint(
            "the disk hangs, or another process holds the ledger"
        )

    def _begin_in_child(self) -> None:
        """Drop what belongs to the parent: its file, its queue, its locks in whatever state."""
        file = self._file
        self._begin()
        if file is not None:
            file.abandon()


def _not_durable(error: BaseException) -> AuditError:
    why = (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)
    return AuditError(f"decision log: a record could not be brought to disk ({why})").hint(
        "`agentguard doctor` looks at the store's disk and permissions"
    )


def _after_fork_in_child() -> None:
    for journal in list(_journals):
        journal._begin_in_child()  # noqa: SLF001 - the same module


os.register_at_fork(after_in_child=_after_fork_in_child)
