"""
The decision log of one process: a queue, group commit, one thread, and files.

`append_later` costs an enqueue; the thread makes the record, seals and writes it within the
window. A `required` record is on disk before `append` returns. No lock that `append` takes is ever
held over I/O, unless the queue is full and the caller is a thread that can wait: it then writes a
batch itself.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from agentguard.audit.batches import Batches
from agentguard.audit.committer import FOLDER, Committer
from agentguard.audit.disk import Disk, Safeguards
from agentguard.audit.group_commit import GroupCommit
from agentguard.audit.keys import AuditKeys
from agentguard.audit.log_thread import LogThread
from agentguard.audit.ticket import Event, JournalLimits, Ticket, too_slow, weight_of
from agentguard.audit.waiting import Given, WaitingRecords
from agentguard.audit.writer import RandomBytes
from agentguard.errors import AgentGuardError, AuditError
from agentguard.event_loop import runs_here
from agentguard.forks import process_mark
from agentguard.seal import Keystore, ensure_private_folder
from agentguard.values import Clock, DecisionRecord, DecisionSource, InternalErrorHook, RecordMode

_ASYNC = RecordMode.ASYNC
_NO_PLACE = iter(range(0)).__next__
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
        self._batches = Batches(self._records, self._committer, self._limits, self._on_internal_error)
        self._thread = LogThread(
            self._batches, self._on_internal_error, on_awake=self._give_places, on_asleep=self._close_places
        )
        self._group = GroupCommit(self._batches, self._after_commit)
        self._is_closed = False
        self._is_ended = False
        self._put: Callable[[DecisionSource], object]
        """Queues a source: while places are given as it is, else after a look at thread and room."""
        self._take_place: Callable[[], object]
        """Raises StopIteration where there is none."""
        self._close_places()
        self.preferred_failures = 0
        """Records with mode `preferred` that were not durable when their call ran."""

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
            self._enqueue_given(record)
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
        self._put(source)
        try:
            self._take_place()
        except StopIteration:
            self._without_place()

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
            self._enqueue_given(record)
            return
        # Where there is no room the coroutine waits as for a required record: its own wait is the bound.
        import asyncio  # Loaded by now, see `event_loop`.

        ticket = Ticket(record)
        future = ticket.future(asyncio.get_running_loop())
        try:
            if self._is_closed:
                raise AuditError("decision log: closed, a record came after it")
            self._queue.append(ticket)
            self._thread.call(hurry=True)
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
            self._enqueue_given(event)

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
        is_over = self._thread.end(timeout_s)
        self._close_places()
        if not is_over:
            return False
        try:
            with self._committer.lock:
                while self._queue or self._committer.has_lost:
                    if not self._batches.write(must_sync=True):
                        break
                self._is_ended = True
                self._committer.end("end")
        except (AgentGuardError, OSError) as error:
            self._on_internal_error("audit.close", error)
            return False
        return not self._committer.has_lost

    # -- the queue ---------------------------------------------------------------------------------

    def _give_places(self) -> None:
        """
        Let so many sources come as there is room for, without a look at anything; the thread calls it.

        Each takes the next number of a range, which holds nothing that threads at the same time could let go of twice.
        Who finds none has queued his source already, once: then they are closed.
        """
        places = self._records.places()
        if places:
            self._take_place, self._put = iter(range(places)).__next__, self._queue.append
        if not places or self._is_closed:
            self._close_places()

    def _close_places(self) -> None:
        """Have everybody look first: the thread sleeps, there is little room, or the journal is closed."""
        self._take_place, self._put = _NO_PLACE, self._enqueue

    def _without_place(self) -> None:
        """See to it that a source is written that was queued as the places ended."""
        if not self._is_closed:
            if not self._thread.is_awake:
                self._thread.call()
            elif self._put != self._enqueue:
                self._close_places()
        elif self._queue:
            with self._committer.lock:
                if self._is_ended:
                    # It came between the last look at the queue and the end.
                    self._committer.count_lost("after close", len(self._queue))
                    self._queue.clear()

    def _enqueue_given(self, payload: DecisionRecord | Event) -> None:
        """Queue a record or event as it is."""
        weight = weight_of(payload)
        self._enqueue(Given(payload, weight), weight)

    def _enqueue(self, item: DecisionSource | Given, weight: int = 0) -> None:
        """Queue what nobody waits for."""
        if not self._records.is_calm(weight) and not self._make_room(weight):
            self._committer.count_lost("queue full", 1)
            return
        if self._is_closed:
            self._committer.count_lost("after close", 1)
            return
        self._records.put(item, weight)
        if not self._thread.is_awake:
            self._thread.call()

    def _make_room(self, weight: int) -> bool:
        """Leave the interpreter to the thread that writes; False where there is no room all the same."""
        if runs_here():
            self._thread.call(hurry=True)
            return self._records.has_room(weight)
        return self._records.wait_until_calm(weight, self._hurry_up, self._limits.backpressure_s_max)

    def _hurry_up(self) -> bool:
        """Have a batch written now: by the thread, or where none can be had any more, by this one."""
        if self._thread.call(hurry=True):
            return True
        with self._committer.lock:
            return self._batches.write(must_sync=False)

    # -- who waits ---------------------------------------------------------------------------------

    def _append_durable(self, ticket: Ticket, timeout_s: float | None = None) -> None:
        """Queue, and return once it is on disk."""
        if self._is_closed:
            raise AuditError("decision log: closed, a record came after it")
        self._group.append(ticket, self._limits.commit_wait_s_max if timeout_s is None else timeout_s)

    def _after_commit(self) -> None:
        """Have a checkpoint written: that is the thread's."""
        if self._thread.is_idle:
            self._thread.call()

    def _begin_in_child(self) -> None:
        """Drop what belongs to the parent: its file, its queue, its locks in whatever state."""
        self._committer.begin()
        self._begin()


def _after_fork_in_child() -> None:
    for journal in list(_journals):
        journal._begin_in_child()  # noqa: SLF001 - the same module


os.register_at_fork(after_in_child=_after_fork_in_child)
