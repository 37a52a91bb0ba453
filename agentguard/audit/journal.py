"""
The decision log of one process: a queue, group commit, one thread, and files.

`append` of an `async` record costs an enqueue; the thread encodes, seals and
writes it within the window. A `required` record is on disk before `append`
returns: whoever comes first commits for all that wait, so many threads share
one sync. No lock that `append` takes is ever held over I/O, unless the queue is
full and the caller is a thread that can wait: it then writes a batch itself.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from agentguard.audit.committer import FOLDER, Committer
from agentguard.audit.disk import Disk, Safeguards
from agentguard.audit.keys import AuditKeys
from agentguard.audit.ticket import Event, JournalLimits, Ticket, not_durable, too_slow, weight_of
from agentguard.audit.waiting import Batch, WaitingRecords
from agentguard.audit.writer import RandomBytes
from agentguard.errors import AgentGuardError, AuditError
from agentguard.forks import is_outdated, process_mark
from agentguard.seal import Keystore, ensure_private_folder
from agentguard.values import Clock, DecisionRecord, DecisionSource, InternalErrorHook, RecordMode

_ASYNC = RecordMode.ASYNC
_journals: weakref.WeakSet[DecisionJournal] = weakref.WeakSet()


class DecisionJournal:
    """
    Chains decision records; implements `values.DecisionSink`.

    One journal file per process under `dec/`, made when the first record comes. After a fork
    the child begins its own, with an empty queue: what was queued is the parent's to write.
    """

    def __init__(
        self,
        committer: Committer,
        clock: Clock,
        on_internal_error: InternalErrorHook,
        limits: JournalLimits,
    ) -> None:
        """Use `open`."""
        self._clock = clock
        self._on_internal_error = on_internal_error
        self._limits = limits
        self._committer = committer
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
        limits: JournalLimits | None = None,
        random_bytes: RandomBytes = os.urandom,
        disk: Disk | None = None,
        safeguards: Safeguards | None = None,
    ) -> Self:
        """
        Make the folders and a journal.

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
            limits:
                Waits and sizes; the usual ones by default.
            random_bytes:
                Where writer ids, keys, blinds and nonces come from.
            disk: The real one by default.
            safeguards: Second signatures, a high-water mark, room on a full disk.

        Returns:
            A journal; its file is made when the first record comes.

        Raises:
            StoreError: A folder cannot be made, or others may write to it.
            KeyUnavailableError: The store was opened to be read only.
            SealError: ML-DSA-44 is asked for, and the installed `cryptography` has none.
        """
        keys = AuditKeys(keystore).for_writing()
        ensure_private_folder(folder / FOLDER)
        limits = limits or JournalLimits()
        committer = Committer(
            folder,
            keys,
            clock,
            on_internal_error,
            details=details or {},
            journal_bytes_max=limits.journal_bytes_max,
            journal_age_s_max=limits.journal_age_s_max,
            random_bytes=random_bytes,
            disk=disk or Disk(),
            safeguards=safeguards or Safeguards(),
        )
        return cls(committer, clock, on_internal_error, limits)

    def _begin(self) -> None:
        """Begin with nothing queued: at the start, and in a forked child."""
        self._mark = process_mark()
        self._records = WaitingRecords(self._limits.queue_bytes_max)
        self._queue = self._records.items
        self._waiting: deque[Ticket] = deque()
        self._mutex = threading.Lock()
        self._has_leader = False
        self._group_size = 1
        self._thread: threading.Thread | None = None
        self._make_waits()
        self._is_awake = False
        self._is_idle = True
        self._is_closed = False
        self.preferred_failures = 0
        """Records with mode `preferred` that were not durable when their call ran."""

    def _make_waits(self) -> None:
        """Make what the thread waits for."""
        self._wake = threading.Event()
        self._hurry = threading.Event()

    @property
    def stored(self) -> int:
        """Records written by this process."""
        return self._committer.stored

    @property
    def syncs(self) -> int:
        """Batches that were brought to disk because somebody waited."""
        return self._committer.syncs

    @property
    def dropped(self) -> Mapping[str, int]:
        """Records lost, by reason; each loss is also a record of the log once it can be written."""
        return dict(self._committer.dropped)

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
        if not self._mark[0]:
            self._begin_in_child()
        mode = record.decision.record
        if mode is _ASYNC:
            self._enqueue(record)
            return
        try:
            self._append_durable(Ticket(record))
        except AuditError as error:
            if mode is RecordMode.REQUIRED:
                raise
            self.preferred_failures += 1
            self._on_internal_error("audit.append", error)

    def append_later(self, source: DecisionSource) -> None:
        """
        Chain a record of mode `async` that is made when it is written; the hot path.

        Args:
            source:
                Gives the record, on another thread; one without values of its own.
        """
        if not self._mark[0]:
            self._begin_in_child()
        records, queue = self._records, self._queue
        if len(queue) < records.calm_max and not records.heavy_bytes and not self._is_closed:
            queue.append(source)
            if not self._is_awake:
                self._call_thread()
        else:
            self._enqueue(source)

    async def append_async(self, record: DecisionRecord) -> None:
        """
        As `append`, for coroutines: the journal's thread does the work, the event loop goes on.

        Args:
            record:
                The decision, or the outcome of an admitted call.

        Raises:
            AuditError: A required record could not be made durable: the call must not run.
        """
        if not self._mark[0]:
            self._begin_in_child()
        mode = record.decision.record
        if mode is _ASYNC and self._records.has_room(weight_of(record)):
            self._enqueue(record)
            return
        # Where there is no room the coroutine waits as for a required record: its own wait is the bound.
        ticket = Ticket(record)
        future = ticket.future(asyncio.get_running_loop())
        try:
            if self._is_closed:
                raise AuditError("decision log: closed, a record came after it")
            self._queue.append(ticket)
            self._call_thread(hurry=True)
            try:
                await asyncio.wait_for(future, self._limits.commit_wait_s_max)
            except TimeoutError:
                raise too_slow(self._limits.commit_wait_s_max) from None
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
        if not self._mark[0]:
            self._begin_in_child()
        event = Event(kind, self._clock.unix_ns(), dict(details))
        if is_durable:
            self._append_durable(Ticket(event))
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
        if not self._mark[0]:
            self._begin_in_child()
        if self._is_closed:
            return not self._queue
        try:
            self._append_durable(Ticket(None), timeout_s)
        except AuditError as error:
            self._on_internal_error("audit.flush", error)
            return False
        return True

    def end_old(self) -> None:
        """End the present file where it is too old, as writing does; raises AuditError or OSError where it cannot."""
        with self._committer.lock:
            if self._committer.is_old and self._mark[0]:
                self._committer.end("age")

    def close(self, timeout_s: float) -> bool:
        """
        Write what is queued, a closing record and a checkpoint; take nothing more.

        Args:
            timeout_s:
                How long to wait for the thread.

        Returns:
            True where all is on disk and the checkpoint is written.
        """
        if not self._mark[0]:
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
            with self._committer.lock:
                while self._queue or self._committer.has_lost:
                    if not self._commit_queued(must_sync=True):
                        break
                self._committer.end("end")
        except (AgentGuardError, OSError) as error:
            self._on_internal_error("audit.close", error)
            return False
        return not self._committer.has_lost

    # -- queue and group commit ----------------------------------------------------------------

    def _enqueue(self, item: DecisionRecord | DecisionSource | Event) -> None:
        """Queue what nobody waits for."""
        weight = weight_of(item)
        if not self._records.is_calm(weight) and not self._make_room(weight):
            self._committer.count_lost("queue full", 1)
            return
        if self._is_closed:
            self._committer.count_lost("after close", 1)
            return
        self._records.put(item, weight)
        if not self._is_awake:
            self._call_thread()

    def _make_room(self, weight: int) -> bool:
        """Leave the interpreter to the thread that writes; False where there is no room all the same."""
        if asyncio._get_running_loop() is not None:  # noqa: SLF001 - `get_running_loop` raises instead
            self._call_thread(hurry=True)
            return self._records.has_room(weight)
        return self._records.wait_until_calm(weight, self._hurry_up, self._limits.backpressure_s_max)

    def _hurry_up(self) -> bool:
        """Have a batch written now: by the thread, or where none can be had any more, by this one."""
        self._call_thread(hurry=True)
        if self._thread is not None:
            return True
        with self._committer.lock:
            return self._commit_queued(must_sync=False)

    def _append_durable(self, ticket: Ticket, timeout_s: float | None = None) -> None:
        """Queue, and lead the commit or wait for the one who does."""
        if self._is_closed:
            raise AuditError("decision log: closed, a record came after it")
        deadline = time.monotonic() + (self._limits.commit_wait_s_max if timeout_s is None else timeout_s)
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
                        ticket.finish(too_slow(self._limits.commit_wait_s_max))
                        break
            leads = ticket.must_lead
        if leads:
            self._lead(ticket)
        if ticket.error is not None:
            raise ticket.error

    def _lead(self, ticket: Ticket) -> None:
        """Commit for all that wait, then hand over to the next who waits."""
        try:
            self._records.gather(self._group_size)
            with self._committer.lock:
                while not ticket.is_done:
                    self._commit_queued(must_sync=False)  # Its batch is synced.
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

    def _commit_queued(self, *, must_sync: bool) -> bool:
        """Write a batch of the queue; True where a batch was written. The commit lock is held."""
        batch = records, tickets = Batch([], [])
        failure: AuditError | None = AuditError("decision log: interrupted while a record was written")
        taken = 0
        try:
            taken = self._records.take(self._limits.batch_records_max, batch, self._cannot_be_encoded)
            if records or tickets or self._committer.has_lost:
                self._committer.write(records, must_sync=bool(tickets) or must_sync)
            failure = None
        except (AgentGuardError, OSError) as error:
            failure = error if isinstance(error, AuditError) else not_durable(error)
            self._on_internal_error("audit.write", error)
            alone = len(records) - sum(ticket.payload is not None for ticket in tickets)
            if alone > 0:
                self._committer.count_lost("not written", alone)
        finally:
            if tickets:
                self._group_size = len(tickets)
            for ticket in tickets:
                ticket.finish(failure)
        return failure is None and taken > 0

    def _cannot_be_encoded(self, error: AuditError) -> None:
        self._committer.count_lost("cannot be encoded", 1)
        self._on_internal_error("audit.encode", error)

    # -- the thread ----------------------------------------------------------------------------

    def _call_thread(self, *, hurry: bool = False) -> None:
        """Wake the thread, or start it; who comes before it runs need not wake it again."""
        self._is_awake = True
        if self._thread is None:
            with self._mutex:
                if self._thread is None and not self._is_closed:
                    if is_outdated(self._mutex):
                        self._make_waits()
                    thread = threading.Thread(target=self._work, name="agentguard-decision-log", daemon=True)
                    try:
                        thread.start()
                    except RuntimeError as error:
                        # The system has none left, or the interpreter shuts down. What is queued stays
                        # queued for the next try; whoever waits, flushes or closes writes it himself.
                        self._is_awake = False
                        self._on_internal_error("audit.thread", error)
                        return
                    self._thread = thread
        if hurry:
            self._hurry.set()
        self._wake.set()

    def _work(self) -> None:
        """Write what was queued within the window, and a checkpoint within its interval."""
        due, behind = time.monotonic() + self._limits.checkpoint_interval_s, 0
        while not self._is_closed:
            try:
                self._is_awake = False
                self._is_idle = not behind
                if not self._queue:
                    self._wake.wait(max(due - time.monotonic(), 0.0) if behind else None)
                self._is_awake, self._is_idle = True, False
                self._wake.clear()
                if self._queue and not self._hurry.is_set() and time.monotonic() < due:
                    self._hurry.wait(self._limits.window_s)
                self._hurry.clear()
                with self._committer.lock:
                    # Where records come without a pause, the checkpoint comes all the same.
                    while self._commit_queued(must_sync=False) and self._queue and time.monotonic() < due:
                        pass
                    behind = self._committer.behind
                if behind and (behind >= self._limits.checkpoint_records_max or time.monotonic() >= due):
                    self._committer.checkpoint()
                    behind = 0
                    due = time.monotonic() + self._limits.checkpoint_interval_s
                elif not behind:
                    due = time.monotonic() + self._limits.checkpoint_interval_s
            except Exception as error:  # The thread must live; the records are counted where they failed.
                self._on_internal_error("audit.thread", error)
                self._hurry.wait(self._limits.checkpoint_interval_s)

    def _begin_in_child(self) -> None:
        """Drop what belongs to the parent: its file, its queue, its locks in whatever state."""
        self._committer.begin()
        self._begin()


def _after_fork_in_child() -> None:
    for journal in list(_journals):
        journal._begin_in_child()  # noqa: SLF001 - the same module


os.register_at_fork(after_in_child=_after_fork_in_child)
