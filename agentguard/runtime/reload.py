"""
Policies that change while a process runs.

A thread looks at the files at most once a second. New policies come into force
whole or not at all: what does not load leaves those in force that were, and says
so in the log, in the decision log, and as the fact `policy.reload_failed`.
"""

from __future__ import annotations

import logging
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from weakref import WeakMethod

from agentguard import escape
from agentguard.runtime.in_force import accept_serials, load_policies
from agentguard.runtime.services import Services

if TYPE_CHECKING:
    # Only the type: without policies neither YAML nor pydantic is loaded.
    from agentguard.policy import Bundle

ENTRIES_MAX = 20_000
"""Files and folders that are looked at; what a bundle may hold is far less."""

Print: TypeAlias = tuple[tuple[str, int, int, int], ...]

logger = logging.getLogger("agentguard")


class Reloader:
    """
    Watches the configured policies of one runtime.

    Args:
        services:
            The wired whole.
        put_in_force:
            Exchanges its policies.
        seen:
            The `fingerprint` from before they were read.
        interval_s:
            Seconds between two looks.
    """

    def __init__(
        self, services: Services, put_in_force: Callable[[Bundle], None], *, seen: Print, interval_s: float
    ) -> None:
        self._services = services
        self._put_in_force = put_in_force
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._seen = seen
        self._pending: Print | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._start()
        # Weakly: what is registered for forks can never be taken back.
        own = WeakMethod(self._after_fork)
        os.register_at_fork(after_in_child=lambda: (found := own()) and found())

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._watch, name="agentguard-policies", daemon=True)
        self._thread.start()

    def _after_fork(self) -> None:
        """Watch in the child too: no thread of the parent lives there."""
        if not self._stop.is_set():
            self._stop = threading.Event()
            self._lock = threading.Lock()
            self._start()

    def _watch(self) -> None:
        stop = self._stop
        while not stop.wait(self._interval_s):
            try:
                self.look()
            except Exception as error:
                self._services.health("policy.reload", error)

    def look(self) -> bool:
        """
        Look once; load what has changed and is not being written any more.

        Returns:
            Whether other policies are in force now.
        """
        with self._lock:
            now = fingerprint(self._services.config.policies)
            if now == self._seen:
                self._pending = None
                return False
            if now != self._pending:
                # Somebody is still writing: only what two looks see alike is read.
                self._pending = now
                return False
            self._seen, self._pending = now, None
            return self._load()

    def _load(self) -> bool:
        services = self._services
        try:
            bundle = load_policies(services.config)
            assert bundle is not None
            if fingerprint(services.config.policies) != self._seen:
                # It changed while it was read: the next looks see to it.
                self._seen = ()
                return False
            accept_serials(services.store, bundle)
        except Exception as error:
            self._say_failed(error)
            return False
        services.reload_failed = False
        if bundle.revision == services.revision:
            return False
        before = services.revision
        self._put_in_force(bundle)
        logger.warning(
            "agentguard: policies changed: revision %s is in force, %s was", bundle.revision[:12], before[:12]
        )
        return True

    def _say_failed(self, error: Exception) -> None:
        """Keep what is in force, loudly."""
        services = self._services
        services.reload_failed = True
        said = escape.log_line(str(error))[:500]
        logger.error(
            "agentguard: the policies on disk do not load, revision %s stays in force: %s",
            services.revision[:12],
            said,
        )
        services.journal.append_event(
            "policies.reload_failed",
            {"revision": services.revision, "error": type(error).__name__, "problem": said},
        )

    def stop(self, timeout_s: float) -> None:
        """Stop looking."""
        self._stop.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout_s)


def fingerprint(paths: tuple[Path, ...]) -> Print:
    """
    Say in short which files there are, and when they changed.

    Args:
        paths:
            Files and folders.

    Returns:
        Path, time of change in ns, size and inode of every file; what cannot be looked at counts as absent.
    """
    found: list[tuple[str, int, int, int]] = []
    for path in paths:
        pending = [str(path)]
        while pending and len(found) < ENTRIES_MAX:
            name = pending.pop()
            try:
                about = os.stat(name)  # noqa: PTH116 - thousands of names, looked at each second
                if stat.S_ISDIR(about.st_mode):
                    pending.extend(entry.path for entry in os.scandir(name) if not entry.name.startswith("."))
            except OSError:
                found.append((name, -1, -1, -1))
                continue
            found.append((name, about.st_mtime_ns, about.st_size, about.st_ino))
    return tuple(sorted(found))
