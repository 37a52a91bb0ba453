"""
What happens to errors of agentguard itself.

Watching never breaks the watched: an internal error is counted, logged once per
kind and minute, and goes no further. With `strict` it is raised instead.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter

from agentguard import escape
from agentguard.forks import free_in_child
from agentguard.values import Clock

LOG_INTERVAL_NS = 60_000_000_000
KINDS_MAX = 256

logger = logging.getLogger("agentguard")


class Health:
    """Counts internal errors by kind; the hook that is handed to every room."""

    def __init__(self, clock: Clock, *, is_strict: bool = False) -> None:
        self._clock = clock
        self._is_strict = is_strict
        self._lock = free_in_child(threading.Lock())
        self._logged_ns: dict[str, int] = {}
        self.counts: Counter[str] = Counter()
        """Internal errors by place and class since the process began."""

    def __call__(self, where: str, error: BaseException) -> None:
        """
        Count an error and say so, at most once per kind and minute.

        The message of the error is not logged: it may quote a prompt.

        Args:
            where:
                Room and action.
            error:
                What happened.

        Raises:
            BaseException: The error itself, where the runtime is strict.
        """
        kind = f"{where}: {type(error).__name__}"
        now_ns = self._clock.monotonic_ns()
        with self._lock:
            if kind not in self.counts and len(self.counts) >= KINDS_MAX:
                kind = "other"
            self.counts[kind] += 1
            last_ns = self._logged_ns.get(kind)
            is_due = last_ns is None or now_ns - last_ns >= LOG_INTERVAL_NS
            if is_due:
                self._logged_ns[kind] = now_ns
            count = self.counts[kind]
        if is_due:
            logger.warning(
                "agentguard: internal error in %s (%d so far); the application runs on, with less telemetry",
                escape.log_line(kind),
                count,
            )
        if self._is_strict:
            raise error
