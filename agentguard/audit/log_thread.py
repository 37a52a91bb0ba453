"""The thread of a journal: writes what was queued within the window, and a checkpoint within its interval."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from agentguard.audit.batches import Batches
from agentguard.forks import is_outdated
from agentguard.values import InternalErrorHook


class LogThread:
    """One thread, begun when there is something to do, asleep while there is nothing."""

    def __init__(
        self,
        batches: Batches,
        on_internal_error: InternalErrorHook,
        *,
        on_awake: Callable[[], None],
        on_asleep: Callable[[], None],
    ) -> None:
        """
        Args:
            batches:
                Write what is queued.
            on_internal_error:
                Told of failures that no caller sees.
            on_awake:
                Called whenever it is called, and again and again while it looks at the queue by itself.
            on_asleep:
                Called before it looks for the last time: from then on it is to be called.
        """  # noqa: D205 - the arguments say it all
        self._batches = batches
        self._on_internal_error = on_internal_error
        self._on_awake = on_awake
        self._on_asleep = on_asleep
        self._mutex = threading.Lock()
        self._thread: threading.Thread | None = None
        self._make_waits()
        self.is_awake = False
        """Who queues something need not call it."""
        self.is_idle = True
        """It waits, and not for the time of a checkpoint."""
        self.is_over = False
        """It is to end, or never to begin."""

    def _make_waits(self) -> None:
        """Make what the thread waits for."""
        self._wake = threading.Event()
        self._hurry = threading.Event()

    def call(self, *, hurry: bool = False) -> bool:
        """
        Wake the thread, or start it; who comes before it runs need not wake it again.

        Args:
            hurry:
                Have it write at once, without waiting for more.

        Returns:
            Whether there is a thread.
        """
        self.is_awake = True
        if self._thread is None:
            with self._mutex:
                if self._thread is None and not self.is_over:
                    if is_outdated(self._mutex):
                        self._make_waits()
                    thread = threading.Thread(target=self._work, name="agentguard-decision-log", daemon=True)
                    try:
                        thread.start()
                    except RuntimeError as error:
                        # The system has none left, or the interpreter shuts down. What is queued stays
                        # queued for the next try; whoever waits, flushes or closes writes it himself.
                        self.is_awake = False
                        self._on_internal_error("audit.thread", error)
                        return False
                    self._thread = thread
        try:
            # At once, as it may be a while until the thread runs; and before it is woken, as it sleeps only after that.
            self._on_awake()
        finally:
            if hurry:
                self._hurry.set()
            self._wake.set()
        return self._thread is not None

    def end(self, timeout_s: float) -> bool:
        """Have it end; True where it has."""
        self.is_over = True
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return True
        self._hurry.set()
        self._wake.set()
        thread.join(timeout_s)
        return not thread.is_alive()

    def _work(self) -> None:
        batches, limits = self._batches, self._batches.limits
        queue, committer = batches.records.items, batches.committer
        due, behind = time.monotonic() + limits.checkpoint_interval_s, 0
        while not self.is_over:
            try:
                if not queue:
                    self._sleep(due if behind else None)
                self._wake.clear()
                self._on_awake()
                if queue and not self._hurry.is_set() and time.monotonic() < due:
                    self._hurry.wait(limits.window_s)
                self._hurry.clear()
                with committer.lock:
                    # Where records come without a pause, the checkpoint comes all the same.
                    while batches.write(must_sync=False) and queue and time.monotonic() < due:
                        self._on_awake()
                    behind = committer.behind
                if behind and (behind >= limits.checkpoint_records_max or time.monotonic() >= due):
                    committer.checkpoint()
                    behind = 0
                    due = time.monotonic() + limits.checkpoint_interval_s
                elif not behind:
                    due = time.monotonic() + limits.checkpoint_interval_s
            except Exception as error:  # The thread must live; the records are counted where they failed.
                self._on_internal_error("audit.thread", error)
                self._hurry.wait(limits.checkpoint_interval_s)
        self._on_asleep()

    def _sleep(self, due_s: float | None) -> None:
        """Wait until called; where records have no checkpoint yet, until it is due at the longest."""
        self.is_awake = False
        self.is_idle = due_s is None
        self._on_asleep()
        # In this order: who queued something before that is seen here, who does so after it calls.
        if not self._batches.records.items:
            self._wake.wait(None if due_s is None else max(due_s - time.monotonic(), 0.0))
        self.is_awake, self.is_idle = True, False
