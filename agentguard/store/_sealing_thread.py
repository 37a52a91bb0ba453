"""The thread of a writer that seals what rotation, or a writer that is gone, left behind."""

from __future__ import annotations

import threading

from agentguard.store._sealing import Sealer
from agentguard.values import InternalErrorHook


class SealingThread:
    """
    Seals in the background, when it is asked to.

    One thread that lasts, not one for each pass: the C library's allocator has a heap for each
    thread, and a new thread may take another one, with the holes that sealing leaves in it.
    """

    def __init__(self, sealer: Sealer, on_internal_error: InternalErrorHook) -> None:
        """
        Args:
            sealer:
                Seals; it remembers which files are sealed, so one for all passes.
            on_internal_error:
                Told of what went wrong; what is not sealed stays readable as it is.
        """  # noqa: D205 - the arguments say it all
        self._sealer = sealer
        self._on_internal_error = on_internal_error
        self._asked = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_over = False
        self._wanted = 0
        self._done = 0

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being sealed, and nothing waits for it."""
        return self._done == self._wanted

    def ask(self) -> None:
        """Have everything sealed that no process writes to; asked again meanwhile, it looks once more."""
        self._wanted += 1
        self._asked.set()
        if self._thread is not None:
            return
        thread = threading.Thread(target=self._work, name="agentguard-seal", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return  # The interpreter shuts down; the next process seals.
        self._thread = thread

    def close(self, timeout_s: float) -> None:
        """End the thread, once the pass is over that it makes just now; waits so long at most."""
        self._is_over = True
        self._asked.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _work(self) -> None:
        while True:
            self._asked.wait()
            self._asked.clear()
            wanted = self._wanted
            if self._is_over:
                return
            try:
                self._sealer.seal_all()
            except Exception as error:  # Law 1: the thread must outlive any error of its own.
                self._on_internal_error("store.seal", error)
            self._done = wanted
