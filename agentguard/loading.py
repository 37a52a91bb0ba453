"""
Late imports on threads of our own, which a fork must not cut in half.

A thread that imports holds the lock of the module. A child that is forked at that
moment has the lock and not the thread: whoever imports the module there, ours or the
application, waits for ever. So a thread of ours imports only while it holds
`IMPORTS`, and a fork waits until nobody does.
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import Final

FORK_WAIT_S_MAX: Final = 5.0
"""Longest wait of a fork. It is met only where a module forks while it is itself imported, and what it
has locked is waited for by the thread that the fork waits for."""

IMPORTS: Final = threading.RLock()
"""Held around an import on a background thread, and around nothing else."""


def _before_fork() -> None:
    IMPORTS.acquire(timeout=FORK_WAIT_S_MAX)


def _after_fork() -> None:
    with contextlib.suppress(RuntimeError):  # The wait was in vain.
        IMPORTS.release()


def _in_child() -> None:
    # Whoever held it does not live here.
    IMPORTS._at_fork_reinit()  # type: ignore[attr-defined]  # noqa: SLF001 - as the standard library does


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)
