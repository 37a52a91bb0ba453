"""The thread that saves what was drawn and settled, so that no call waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from agentguard.forks import is_outdated
from agentguard.values import InternalErrorHook

INTERVAL_S = 0.5
"""How often what was spent is saved."""
URGENT_S = 0.05
"""The least time between two savings, where leases run out."""


class Keeper:
    """Runs while there is something to keep, then sleeps until there is."""

    def __init__(
        self, save: Callable[[], None], is_busy: Callable[[], bool], on_internal_error: InternalErrorHook
    ) -> None:
        self._save = save
        self._is_busy = is_busy
        self._on_internal_error = on_internal_error
        self._is_closed = False
        self.after_fork()

    def after_fork(self) -> None:
        """Begin with a thread and locks of our own."""
        self._lock = threading.Lock()
        self._work = threading.Event()
        self._urgent = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_idle = True

    def wake(self, *, is_urgent: bool = False) -> None:
        """Say that there is something to save; *is_urgent*: now."""
        if is_urgent and not self._urgent.is_set():
            self._urgent.set()
        if self._is_idle and not self._is_closed:
            with self._lock:
                if self._thread is None:
                    if is_outdated(self._lock):
                        self._work, self._urgent = threading.Event(), threading.Event()
                    thread = threading.Thread(target=self._run, name="agentguard-limits", daemon=True)
                    try:
                        thread.start()
                    except RuntimeError as error:
                        # The system has none left: nothing is lost, and the next call tries again.
                        self._on_internal_error("state.limits", error)
                        return
                    self._thread = thread
            self._is_idle = False
            self._work.set()

    def close(self, timeout_s: float) -> None:
        """Stop the thread; what is left to save is the caller's to do."""
        self._is_closed = True
        self._work.set()
        self._urgent.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout_s)

    def _run(self) -> None:
        while not self._is_closed:
            self._work.wait()
            self._work.clear()
            is_busy = True
            while is_busy and not self._is_closed:
                self._urgent.wait(INTERVAL_S)
                self._urgent.clear()
                if self._is_closed:
                    return
                try:
                    self._save()
                except Exception as error:  # The thread must live; nothing is lost, and it is tried again.
                    self._on_internal_error("state.limits", error)
                is_busy = self._is_busy()
                if is_busy and self._urgent.is_set():
                    # Whoever is urgent for ever must not hold the lock of the machine for ever.
                    threading.Event().wait(URGENT_S)
            self._is_idle = True
            if self._is_busy():
                self.wake()
