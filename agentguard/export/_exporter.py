"""
Store and forward: what is in the store goes to a backend, at least once.

One thread reads the store behind a cursor, sends, and moves the cursor on once
the backend has answered. Nothing of a call waits for it: spans are on disk
before they are looked at here. A backend that is away for a day costs the disk
that the day's spans take.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from itertools import count
from typing import TYPE_CHECKING

from agentguard.errors import AgentGuardError, ExportError
from agentguard.export._config import OtlpConfig
from agentguard.export._delivery import Delivery, ExportCounters
from agentguard.export._encode import Item, encode_spans
from agentguard.export._lease import Lease
from agentguard.export._outbox import Outbox
from agentguard.export._protocols import open_transport
from agentguard.export._quiet import without_instrumentation
from agentguard.export._source import Source, Window, decode_cursor, decode_window, encode_cursor
from agentguard.export._transport import Transport
from agentguard.values import Clock, InternalErrorHook, SpanColumns, SpanRecord

if TYPE_CHECKING:
    from agentguard.export._tail import Chosen, Place, Tail

LEASE_INTERVAL_S = 5.0
"""Between two tries to take over from a process that may have died."""
IDLE_INTERVAL_S_MAX = 5.0
"""Longest pause between two looks into a store in which nothing happens."""
WRITERS_MIN = 1000
"""So many writers a cursor may name before it is looked which of them the store still has."""


class OtlpExporter:
    """
    Sends the spans of a store to one OTLP destination.

    Args:
        store:
            Read while others write.
        config:
            The destination, from `otlp_config`.
        clock:
            For dates in `Retry-After`.
        on_internal_error:
            Told of every failure.
        transport:
            Makes what sends requests; by default what the configuration names.
        chance:
            Jitter, in [0, 1).
    """

    def __init__(
        self,
        store: Source,
        config: OtlpConfig,
        *,
        clock: Clock,
        on_internal_error: InternalErrorHook,
        transport: Callable[[], Transport] | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.config = config
        self.counters = ExportCounters()
        self._store = store
        self._clock = clock
        self._on_internal_error = on_internal_error
        self._open_transport = transport or (lambda: open_transport(config, clock=clock))
        self._chance = chance
        self._blob = store.sealed_blob(f"cursor-{config.destination}")
        self._lease = Lease(store.folder / f"export-{config.destination}.lock")
        self._reset()
        _exporters.add(self)

    def _reset(self) -> None:
        """Begin as if nothing had happened in this process."""
        self._changed = threading.Condition()
        self._is_stopping = False
        self._timeout_s = 0.0
        self._deadline_s: float | None = None
        self._flushes_wanted = 0
        self._flushes_done = 0
        self._is_standby = False
        self._cursor: dict[str, tuple[int, int]] | None = None
        self._writers_max = WRITERS_MIN
        self._tail: Tail | None = None
        self._left_out = 0
        self._thread: threading.Thread | None = None

    @property
    def is_standby(self) -> bool:
        """Whether another process exports to this destination."""
        return self._is_standby

    def start(self) -> None:
        """Start the background thread; once."""
        if self._thread is not None:
            return
        # A daemon: a backend that hangs must not keep the program from ending.
        self._thread = threading.Thread(target=self._run, name="agentguard-export", daemon=True)
        self._thread.start()

    def flush(self, timeout_s: float) -> bool:
        """
        Wait until everything that was in the store before the call has arrived.

        Args:
            timeout_s:
                Longest wait, in seconds.

        Returns:
            Whether it has; also True where another process exports to this
            destination and has to see to it. False loses nothing: the spans are
            in the store, and the next exporter goes on with them.
        """
        with self._changed:
            if self._thread is None or self._is_stopping:
                return False
            self._flushes_wanted += 1
            wanted = self._flushes_wanted
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._flushes_done >= wanted, timeout_s)

    def stop(self, timeout_s: float) -> bool:
        """
        End the thread; returns whether it has ended in time.

        Spans that have not been sent stay in the store for the next start.
        """
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout_s)
            return not self._thread.is_alive()
        return True

    def run_once(self, timeout_s: float, *, from_start: bool = False) -> ExportCounters:
        """
        Send everything that is in the store now, in this thread.

        Args:
            timeout_s:
                Longest time without an answer that the destination takes spans.
            from_start:
                Send what was sent before too, under the same ids.

        Returns:
            What became of the spans.

        Raises:
            ExportError: Another process exports to this destination, or it did
                not take the spans in time.
        """
        if not self._lease.acquire():
            raise ExportError("export: another process exports to this destination").hint(
                "stop it, or let it do the work"
            )
        self._cursor = {} if from_start else None
        self._timeout_s = timeout_s
        self._deadline_s = time.monotonic() + timeout_s
        transport = self._open_transport()
        try:
            with without_instrumentation():
                if not self._drain(self._delivery(transport)):
                    raise ExportError(
                        f"export: {self.config.endpoint}: {self.counters.last_failure}; "
                        f"{self.counters.sent} spans were sent, the rest stays in the store"
                    ).hint("the next export goes on where this one stopped")
        finally:
            transport.close()
            self._lease.release()
            self._deadline_s = None
        return self.counters

    # What follows runs in the exporter's thread --------------------------------

    def _run(self) -> None:
        transport: Transport | None = None
        pause_s = self.config.poll_interval_s
        try:
            with without_instrumentation():
                while not self._is_stopping:
                    try:
                        if not self._elected():
                            continue
                        if transport is None:
                            transport = self._open_transport()
                            delivery = self._delivery(transport)
                        wanted, sent = self._flushes_wanted, self.counters.sent
                        if self._drain(delivery):
                            self._flushed(wanted)
                            if self._flushes_wanted > wanted:
                                continue
                        is_idle = self.counters.sent == sent
                        pause_s = (
                            min(pause_s * 1.5, IDLE_INTERVAL_S_MAX)
                            if is_idle
                            else self.config.poll_interval_s
                        )
                    except Exception as error:
                        # Law 1: an error of ours ends neither the thread nor the program; it is counted and said.
                        self._on_internal_error("export.otlp", error)
                        pause_s = IDLE_INTERVAL_S_MAX
                    self._pause(pause_s, may_be_cut=True)
        finally:
            if transport is not None:
                transport.close()
            self._lease.release()

    def _elected(self) -> bool:
        """Whether this process is the one that exports; waits a while where it is not."""
        if self._lease.is_held or self._lease.acquire():
            self._is_standby = False
            return True
        self._cursor = None
        self._tail = None
        self._is_standby = True
        self._flushed(self._flushes_wanted)
        self._pause(LEASE_INTERVAL_S, may_be_cut=True)
        return False

    def _flushed(self, wanted: int) -> None:
        with self._changed:
            self._flushes_done = max(self._flushes_done, wanted)
            self._changed.notify_all()

    def _pause(self, seconds: float, may_be_cut: bool) -> bool:
        """Wait; returns whether to go on. A flush cuts the wait where it may be cut."""
        with self._changed:
            if self._deadline_s is not None:
                left_s = self._deadline_s - time.monotonic()
                if left_s <= seconds:
                    return False
            seen = self._flushes_wanted
            has_flush = seen > self._flushes_done
            # A flush that was answered with one try already does not turn the wait into a busy loop.
            self._changed.wait_for(
                lambda: self._is_stopping or (may_be_cut and self._flushes_wanted > seen),
                min(seconds, 1.0) if has_flush and may_be_cut else seconds,
            )
            return not self._is_stopping

    def _delivery(self, transport: Transport) -> Delivery:
        return Delivery(
            self.config,
            transport,
            counters=self.counters,
            wait=self._pause,
            chance=self._chance,
            on_internal_error=self._on_internal_error,
        )

    def _drain(self, delivery: Delivery) -> bool:
        """Send what is in the store; returns whether all of it has been answered for."""
        cursor = self._without_the_gone(self._read_cursor())
        begin = self._read_window(cursor)
        outbox = Outbox(self.config.batch_spans_max)
        for place, spans, resource in self._store.query().columns(begin):
            if self._is_stopping:
                return False
            items = encode_spans(spans, resource, content=self.config.content)
            is_taken = (
                self._put(delivery, outbox, cursor, place, items)
                if self._tail is None
                else self._put_chosen(delivery, outbox, cursor, place, spans, items, self._tail)
            )
            if not is_taken:
                return False
        if outbox.items:
            return self._forward(delivery, outbox, cursor)
        if cursor != self._cursor:
            # All that is new was left out: it was answered for.
            self._move(cursor)
        return True

    def _put(
        self,
        delivery: Delivery,
        outbox: Outbox,
        cursor: dict[str, tuple[int, int]],
        place: Place,
        items: list[Item],
    ) -> bool:
        """Bring spans into the outbox, which is sent each time it is full."""
        writer, n, first = place
        done = 0
        while done < len(items):
            taken = outbox.take(items, done, bytes_max=delivery.batch_bytes_max)
            if taken > done:
                cursor[writer] = (n, first + taken - 1)
            if taken < len(items) and not self._forward(delivery, outbox, cursor):
                return False
            done = taken
        return True

    def _put_chosen(
        self,
        delivery: Delivery,
        outbox: Outbox,
        cursor: dict[str, tuple[int, int]],
        place: Place,
        spans: SpanColumns | SpanRecord,
        items: list[Item],
        tail: Tail,
    ) -> bool:
        """Bring those of the spans into the outbox that are chosen, and what waited for them."""
        # Imported here: most exporters send all traces.
        from agentguard.export._tail import reasons, trace_ids

        writer, n, first = place
        is_reason = reasons(spans, self.config.keep, self.config.slow_s)
        for sequence, trace, item, is_one in zip(
            count(first), trace_ids(spans), items, is_reason, strict=False
        ):
            is_new = (n, sequence) > cursor.get(writer, (-1, -1))
            chosen = tail.choose((writer, n, sequence), trace, item, is_reason=is_one, is_new=is_new)
            waiting = [one.item for one in chosen]
            done = 0
            while done < len(waiting):
                done = outbox.take(waiting, done, bytes_max=delivery.batch_bytes_max)
                if done < len(waiting) and not self._forward(delivery, outbox, cursor, chosen[done:]):
                    return False
            if is_new:
                cursor[writer] = (n, sequence)
        return True

    def _read_cursor(self) -> dict[str, tuple[int, int]]:
        """
        Return the place of the last spans that arrived.

        Read from disk once after the election: as long as the lease is held nobody
        else moves it. A cursor that cannot be opened begins again, which sends
        spans twice under the same ids, and is told of.
        """
        if self._cursor is None:
            try:
                self._cursor = decode_cursor(self._blob.read())
            except AgentGuardError as error:
                self._on_internal_error("export.cursor", error)
                self._cursor = {}
        return dict(self._cursor)

    def _without_the_gone(self, cursor: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
        """
        Leave out writers of which the store has nothing any more; looked at once there are twice as many as then.

        One that writes again later begins with spans that are new in any case.
        """
        if len(cursor) <= self._writers_max:
            return cursor
        there = self._store.query().writers()
        left = {writer: place for writer, place in cursor.items() if writer in there or not there}
        self._writers_max = max(2 * len(left), WRITERS_MIN)
        return left

    def _read_window(self, cursor: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
        """Say from where to read: behind the cursor, or from where spans still wait for a reason to be sent."""
        if not self.config.keep or self._tail is not None:
            return cursor
        from agentguard.export._tail import Tail

        window = Window()
        if cursor:
            with contextlib.suppress(AgentGuardError):  # Told of when the cursor was read.
                window = decode_window(self._blob.read())
        self._tail = Tail(kept=window.kept, left_out=self._left_out)
        return dict(window.begins) or cursor

    def _forward(
        self,
        delivery: Delivery,
        outbox: Outbox,
        cursor: dict[str, tuple[int, int]],
        pending: Sequence[Chosen] = (),
    ) -> bool:
        """Send one batch, and only then move the cursor."""
        if not delivery.deliver(outbox.items):
            # What waited was taken out of the window: the next try reads it again.
            self._tail = None
            return False
        outbox.clear()
        self._move(cursor, pending)
        if self._deadline_s is not None:
            # The time of a single run is time without progress.
            self._deadline_s = time.monotonic() + self._timeout_s
        return True

    def _move(self, cursor: dict[str, tuple[int, int]], pending: Sequence[Chosen] = ()) -> None:
        """Remember how far the spans have been answered for."""
        self._cursor = dict(cursor)
        window = None
        if self._tail is not None:
            window = self._tail.window(cursor, pending)
            self._left_out = self.counters.left_out = self._tail.left_out
        self._blob.write(encode_cursor(cursor, window))

    def after_fork_in_child(self) -> None:
        """Forget the thread, its locks and the lease of the parent, which goes on exporting."""
        self._lease.release()
        self._reset()
        self.counters = ExportCounters()


_exporters: weakref.WeakSet[OtlpExporter] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for exporter in list(_exporters):
        exporter.after_fork_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)
