"""
The writer: takes finished spans on the hot path, writes them in the background.

`append` puts a span into a queue that is bounded by bytes, and returns. One
thread makes records, encodes, seals and appends them, and brings them to disk
within the stated window. What cannot be kept is dropped, counted by reason, and
written down as a gap.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from agentguard.event_loop import runs_here
from agentguard.forks import is_outdated, process_mark
from agentguard.seal import Keystore
from agentguard.store._batch import Batcher, Drops
from agentguard.store._config import WriterConfig
from agentguard.store._disk import Disk
from agentguard.store._encoding import NOTHING, Encoding, QueuedOutcome
from agentguard.store._live import Body
from agentguard.store._outlet import Outlet
from agentguard.store._sealing import Sealer
from agentguard.store._sealing_thread import SealingThread
from agentguard.values import Clock, FlushResult, GapRecord, InternalErrorHook, OutcomeRecord, SpanSource

_IDLE_S: Final = 3600.0
_BACKPRESSURE_PAUSE_S: Final = 10.0
"""After a wait in vain callers are not held up again for so long."""
_TROUBLE_WAIT_S_MAX: Final = 0.02
"""A disk that refuses is not waited for: it may be full for hours."""
_HELPERS_WAIT_S_MAX: Final = 0.2
_BREATH_S: Final = 0.001
_HELP_SPANS: Final = 128
"""What one call encodes at most where the queue is a quarter full: a part of a millisecond. Half as many take three
quarters of it."""
_FRAMES_A_WRITE: Final = 4
"""Frames that are written together where so much is queued: a write lets callers have the interpreter, which is
not back for a while."""


class SegmentWriter:
    """
    Writes the spans of one process; a `SpanSink`.

    Safe for threads, for signal handlers, and for fork: a child gets an empty
    queue, a new writer id and its own file. `append` takes no lock.
    """

    def __init__(
        self,
        segments: Path,
        *,
        keystore: Keystore,
        clock: Clock,
        resource: Mapping[str, str],
        on_internal_error: InternalErrorHook,
        config: WriterConfig | None = None,
        disk: Disk | None = None,
        on_begin: Callable[[], object] | None = None,
    ) -> None:
        self.config = config or WriterConfig()
        self._segments = segments
        self._keystore = keystore
        self._clock = clock
        self._resource = dict(resource)
        self._on_internal_error = on_internal_error
        self._on_begin = on_begin
        self._disk = disk or Disk()
        self._outlet: Outlet | None = None
        self._is_closed = False
        self._reset()
        # A weak reference: the registration outlives the writer, for fork has no way to undo it.
        this = weakref.ref(self)

        def after_fork() -> None:
            writer = this()
            if writer is not None:
                writer._after_fork()  # noqa: SLF001 - its own method

        os.register_at_fork(after_in_child=after_fork)

    def _reset(self) -> None:
        """Begin with nothing: at the start, and in the child of a fork."""
        self._mark = process_mark()
        self._bytes_in = 0
        self._bytes_out = 0
        self._drops = Drops()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._make_waits()
        self._flush_wanted = 0
        self._flush_done = 0
        self._is_stopping = False
        self._has_begun = False
        self._no_wait_until_ns = 0
        # The next append takes the slow path, which starts the thread or wakes it.
        self._is_asleep = True
        self._is_pressed = False
        self._limit_bytes = 0
        config = self.config
        self._soft_bytes = min(config.frame_bytes_max, config.queue_bytes_max // 4)
        self._help_bytes = config.queue_bytes_max // 4
        self._handed_bytes = 0
        """Encoded, given to the outlet, and not yet in a file."""
        self._batcher = Batcher(self._drops, self._on_internal_error, config.record_bytes_max)
        self._encoding = Encoding(self._batcher, config, self._clock)
        self._queue = self._encoding.queue
        sealer = Sealer(self._segments, self._keystore, self._clock, self._disk)
        self._sealing = SealingThread(sealer, self._on_internal_error)
        self._outlet = Outlet(
            self._segments, keystore=self._keystore, clock=self._clock, resource=self._resource,
            config=config, disk=self._disk, on_internal_error=self._on_internal_error,
        )  # fmt: skip

    def _make_waits(self) -> None:
        """Make what threads wait for."""
        self._stepping = threading.Lock()
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._flushed = threading.Condition(threading.Lock())

    def _after_fork(self) -> None:
        """In the child: leave the parent's file and queue alone, and begin anew."""
        if self._outlet is not None:
            self._outlet.abandon()
        self._reset()

    # The hot path --------------------------------------------------------------

    def append(self, source: SpanSource) -> bool:
        """
        Queue a finished span.

        Returns:
            False where it was dropped, and counted.

        """
        # Whatever is rare is found out by two looks: at the mark, since a raw clone in an extension is a fork that
        # Python does not see, and at the limit. Behind them the interpreter does not switch threads.
        if not self._mark[0]:
            return self._append_slowly(source)
        bytes_in = source.bytes_estimate + self._bytes_in
        if bytes_in >= self._limit_bytes:
            return self._append_slowly(source)
        self._bytes_in = bytes_in
        self._queue.append(source)
        return True

    def append_outcome(self, outcome: OutcomeRecord) -> bool:
        """Queue an outcome; False where it was dropped, and counted."""
        return self.append(QueuedOutcome(outcome))  # type: ignore[arg-type]

    def append_gap(self, gap: GapRecord) -> None:
        """Count a loss that happened before the sink."""
        self._drops.count(gap.reason, gap.last_unix_ns, gap.count, gap.first_unix_ns)
        self._wake_up()

    def _append_slowly(self, source: SpanSource) -> bool:
        """Queue where the thread must be woken, where there may be no room, and in the child of a fork."""
        if not self._mark[0]:
            self._after_fork()
        size = source.bytes_estimate
        # The interpreter does not switch threads within an addition to an attribute.
        self._bytes_in += size
        if self._is_closed:
            return self._drop("closed", size)
        if self._bytes_in - self._bytes_out > self._help_bytes and not self._make_room():
            outlet = self._outlet
            return self._drop((outlet and outlet.trouble) or "queue_full", size)
        self._queue.append(source)
        self._wake_up()
        return True

    def _free(self, size: int) -> None:
        """Count bytes of memory that are no longer held."""
        self._bytes_out += size
        self._set_limit()

    def _set_limit(self) -> None:
        """Say up to where `append` has nothing else to look at; nowhere while the thread sleeps, or once this is closed."""
        self._limit_bytes = self._bytes_out + self._soft_bytes
        if self._is_asleep or self._is_closed:
            # Looked at afterwards: whoever set one of them meanwhile must not be overruled.
            self._limit_bytes = 0

    def _drop(self, reason: str, size: int) -> bool:
        """Count one dropped span."""
        self._bytes_in -= size
        self._drops.count(reason, self._clock.unix_ns())
        return False

    def _wake_up(self) -> None:
        """Start the thread or wake it; cheap where it is already at work."""
        if self._thread is None:
            self._start()
        if self._is_asleep:
            self._is_asleep = False
            self._set_limit()
            self._wake.put(None)
        elif not self._is_pressed and self._bytes_in - self._bytes_out > self._soft_bytes:
            self._is_pressed = True
            self._wake.put(None)

    def _start(self) -> None:
        """Start the thread, once; whoever comes second goes on."""
        if not self._starting.acquire(blocking=False):
            return
        try:
            if self._thread is None and not self._is_stopping:
                if is_outdated(self._stepping):
                    self._make_waits()
                thread = threading.Thread(target=self._run, name="agentguard-store", daemon=True)
                thread.start()
                self._thread = thread
        except RuntimeError:
            # The interpreter shuts down and starts no threads: close() writes by itself.
            self._is_pressed = True
        finally:
            self._starting.release()

    def _make_room(self) -> bool:
        """Help to encode where the queue is a quarter full; False where it is full all the same."""
        # While the thread has the encoder it stays ahead, or nearly so: nobody waits for a lock here.
        self._help()
        return self._bytes_in - self._bytes_out <= self.config.queue_bytes_max or self._wait_for_room()

    def _help(self) -> bool:
        """Encode a few spans on the calling thread; False where there is nothing to do, or another does it."""
        if not self._queue:
            return False
        freed = self._encoding.encode(spans_max=_HELP_SPANS)
        if freed == NOTHING:
            return False
        self._free(freed)
        return True

    def _wait_for_room(self) -> bool:
        """Hold up the caller for a moment; never on an event loop, and not again at once in vain."""
        now = time.monotonic_ns()
        if now < self._no_wait_until_ns or runs_here() or threading.current_thread() is self._thread:
            return False
        self._is_pressed = False
        self._wake_up()
        wait_s_max = self.config.backpressure_s_max
        while self._bytes_in - self._bytes_out > self.config.queue_bytes_max:
            outlet = self._outlet
            if outlet is not None and outlet.trouble:
                wait_s_max = min(wait_s_max, _TROUBLE_WAIT_S_MAX)
            if time.monotonic_ns() - now >= wait_s_max * 1e9 or self._is_closed:
                self._no_wait_until_ns = time.monotonic_ns() + int(_BACKPRESSURE_PAUSE_S * 1e9)
                return False
            if not self._help():
                # Asleep, it leaves the interpreter to the thread that writes.
                time.sleep(0.001)
        return True

    # What has become of them ---------------------------------------------------

    @property
    def stored(self) -> int:
        """Spans and outcomes on disk since the start of this process."""
        return self._outlet.stored if self._outlet else 0

    @property
    def dropped(self) -> Mapping[str, int]:
        """Losses since the start of this process, by reason."""
        return self._drops.counts

    @property
    def pending(self) -> int:
        """Spans and outcomes taken and not yet on disk."""
        return max(self._encoding.accepted - self.stored - self._drops.counts.get("encode_error", 0)
                   - self._drops.counts.get("too_long", 0), 0)  # fmt: skip

    @property
    def writer_id(self) -> str:
        """The random id of this process's files, 16 hexadecimal digits."""
        return self._outlet.writer.hex() if self._outlet else ""

    def flush(self, timeout_s: float) -> FlushResult:
        """Bring all that was queued before the call to disk, within the time."""
        if not self._mark[0]:
            self._after_fork()
        if self._thread is None:
            self._start()
        with self._flushed:
            self._flush_wanted += 1
            ticket = self._flush_wanted
        if self._thread is None:
            # No thread can be had any more: the interpreter shuts down.
            self._step()
        self._wake.put(None)
        with self._flushed:
            is_done = self._flushed.wait_for(lambda: self._flush_done >= ticket, timeout=max(timeout_s, 0))
        return self._result(is_complete=is_done)

    def close(self, timeout_s: float) -> FlushResult:
        """Flush, seal, and take nothing more; a second call does nothing."""
        if not self._mark[0]:
            self._after_fork()
        deadline = time.monotonic() + max(timeout_s, 0)
        self._is_closed = True
        self._set_limit()
        self._is_stopping = True
        thread = self._thread
        if thread is not None and thread.is_alive():
            self._wake.put(None)
            thread.join(max(deadline - time.monotonic(), 0))
        if thread is None or not thread.is_alive():
            self._finish(deadline)
        result = self._result(is_complete=self.pending == 0)
        self._sealing.close(max(deadline - time.monotonic(), 0))
        return result

    def _result(self, *, is_complete: bool) -> FlushResult:
        return FlushResult(is_complete, self.stored, self._drops.total, self.pending)

    # The thread ------------------------------------------------------------------

    def _run(self) -> None:
        """Write until closed; an error is reported and the thread goes on."""
        self._seal_in_background()
        while not self._is_stopping:
            try:
                self._sleep()
                if not self._is_stopping:
                    self._begin()
                    self._step()
            except BaseException as error:  # Law 1: the thread must outlive any error of its own.
                self._on_internal_error("store.writer", error)
                time.sleep(0.05)

    def _begin(self) -> None:
        """Tell once that spans come."""
        if not self._has_begun and self._encoding.accepted:
            self._has_begun = True
            if self._on_begin is not None:
                self._on_begin()

    def _sleep(self) -> None:
        """Wait for work: long where there is none, else until the next write or sync is due."""
        outlet = self._outlet
        assert outlet is not None
        if self._queue or self._encoding.is_pending:
            wait_s = self.config.frame_interval_s
            if self._flush_wanted > self._flush_done or self._bytes_in - self._bytes_out > self._soft_bytes:
                wait_s = _BREATH_S if self._encoding.is_pending else 0.0
            if outlet.is_blocked:
                wait_s = max(wait_s, outlet.due_in_s(_IDLE_S))
        else:
            wait_s = outlet.due_in_s(_IDLE_S)
            if self._flush_wanted > self._flush_done and not outlet.is_blocked:
                wait_s = 0.0
            self._is_asleep = True
            self._set_limit()
            if self._queue or self._encoding.is_pending:
                # A span came between the two looks.
                self._is_asleep = False
                self._set_limit()
                wait_s = min(wait_s, self.config.frame_interval_s)
        if wait_s > 0:
            was_asleep = self._is_asleep
            try:
                self._wake.get(timeout=wait_s)
            except queue.Empty:
                pass
            else:
                if was_asleep and self._flush_wanted == self._flush_done and not self._is_stopping:
                    # Woken by the first span: wait for others that may share its frame.
                    self._wait_for_more()
        while not self._wake.empty():
            self._wake.get()

    def _wait_for_more(self) -> None:
        """Collect spans for one interval, or until a flush, a close or much data."""
        with contextlib.suppress(queue.Empty):
            self._wake.get(timeout=self.config.frame_interval_s)

    def _step(self) -> None:
        """Write what is queued, sync what is due, and answer flushes."""
        outlet = self._outlet
        assert outlet is not None
        with self._stepping:
            wanted = self._flush_wanted
            is_flush = wanted > self._flush_done
            # No further than what is queued now: a sync must not wait for callers to pause.
            left = len(self._queue)
            if self._is_pressed and not is_flush and not self._is_stopping:
                # Whole frames only: what is left over is not old, and shares its frame with what comes.
                left -= left % self.config.frame_spans_max if left > self.config.frame_spans_max else 0
            while self._hand_over(self._encoding.hand_out()) and left > 0:
                for _ in range(_FRAMES_A_WRITE):
                    left -= self._encode()
                    if left <= 0:
                        break
                outlet.sync(is_forced=False)
            # What other threads took out of the queue before this line, they are about to give back encoded.
            are_all_there = self._await_helpers(self._encoding.taken)
            self._hand_over(self._encoding.hand_out())
            if self._hand_over(self._batcher.gap_bodies()) and not self._queue:
                # Counters of spans that other threads added without a lock, made right.
                self._bytes_in = max(self._bytes_in, self._bytes_out)
            is_synced = outlet.sync(is_forced=is_flush) and are_all_there
            self._is_pressed = False
            if is_flush and is_synced:
                with self._flushed:
                    self._flush_done = max(self._flush_done, wanted)
                    self._flushed.notify_all()
            if outlet.has_rotated:
                outlet.has_rotated = False
                self._seal_in_background()

    def _encode(self) -> int:
        """Encode one frame's worth; returns how many spans and outcomes left the queue, or a little more."""
        before = self._encoding.items
        freed = self._encoding.encode(can_wait=True)
        if freed != NOTHING:
            self._free(freed)
        return max(self._encoding.items - before, 1)

    def _await_helpers(self, taken: int) -> bool:
        """Wait until calling threads have encoded what they took; a moment, for they do no I/O."""
        deadline = time.monotonic() + _HELPERS_WAIT_S_MAX
        while self._encoding.is_waiting_for(taken):
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.0005)
        return True

    def _hand_over(self, bodies: Sequence[Body]) -> bool:
        """Give frames to the outlet; what it could not write counts as queued. False where it refuses."""
        outlet = self._outlet
        assert outlet is not None
        self._handed_bytes += sum([len(body.data) for body in bodies])
        is_taken = outlet.put(bodies)
        if not outlet.is_waiting:
            self._free(self._handed_bytes)
            self._handed_bytes = 0
        return is_taken

    def _finish(self, deadline: float) -> None:
        """Write the rest, close the file and seal it; the thread has ended."""
        outlet = self._outlet
        assert outlet is not None
        try:
            while True:
                outlet.retry_now()
                self._flush_wanted += 1
                self._step()
                left_s = deadline - time.monotonic()
                if not ((outlet.trouble or self._encoding.is_pending) and left_s > 0):
                    break
                time.sleep(min(self.config.retry_interval_s if outlet.trouble else _BREATH_S, left_s))
            outlet.close()
            if self.config.is_sealing:
                outlet.seal_own()
        except Exception as error:  # Law 1: closing never raises.
            self._on_internal_error("store.close", error)

    def _seal_in_background(self) -> None:
        """Seal what other writers, or rotation, left behind."""
        if self.config.is_sealing and not self._is_stopping:
            self._sealing.ask()
