"""
What a fork does to a process with threads, and how we live with it.

`process_mark` tells a child from its parent, also where Python did not see the fork.
`IMPORTS` keeps a fork from cutting an import on a thread of ours in half: such a
thread holds the lock of the module, and a child that is forked at that moment has
the lock and not the thread. Whoever imports the module there, ours or the
application, would wait for ever. `free_in_child` does it for locks that are held for
moments. `is_outdated` tells whether what was made before the fork still fits the
threads that begin after it.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
import threading
import weakref
from typing import Any, Final, Protocol, TypeVar

FORK_WAIT_S_MAX: Final = 5.0
"""Longest wait of a fork for one lock. It is met only where a module forks while it is itself imported, and what it
has locked is waited for by the thread that the fork waits for; and where a disk takes so long for a change of the state."""

IMPORTS: Final = threading.RLock()
"""Held around an import on a background thread, and around nothing else; a fork waits until nobody holds it."""

Lock = TypeVar("Lock")

_free_in_child: Final[weakref.WeakSet[Any]] = weakref.WeakSet()

_WIPE_ON_FORK: Final = 18
"""MADV_WIPEONFORK: Linux gives the child a page of zeros. Source: madvise(2)."""


class ProcessMark(Protocol):
    """Item 0 is 1 in the process that asked for the mark, and 0 in all that were forked from it."""

    def __getitem__(self, index: int, /) -> int:
        """Look; ten times cheaper than asking the system for the process id, where the system helps."""


class _PidMark:
    """A mark where the system has none: compares process ids."""

    __slots__ = ("_pid",)

    def __init__(self) -> None:
        self._pid = os.getpid()

    def __getitem__(self, index: int, /) -> int:
        return int(os.getpid() == self._pid)


def _make_mark() -> ProcessMark:
    if sys.platform == "linux":
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        try:
            page.madvise(_WIPE_ON_FORK)
        except OSError:
            page.close()  # An older kernel, or one that is emulated.
        else:
            page[0] = 1
            return page
    return _PidMark()


_mark: ProcessMark = _make_mark()


def process_mark() -> ProcessMark:
    """
    Give the mark of this process.

    Returns:
        Keep it, and look at its item 0: once that is 0, this is another process than the one that asked,
        what belongs to threads and files of the parent is to be left alone, and a new mark is to be had here.
    """
    global _mark  # noqa: PLW0603 - one page for all who ask
    if not _mark[0]:
        _mark = _make_mark()
    return _mark


def free_in_child(lock: Lock) -> Lock:
    """
    Have every child of a fork find a lock free, whoever holds it in the parent at that moment.

    For what only memory of this process is changed under, a field or two: nobody in the child can finish that.
    """
    _free_in_child.add(lock)
    return lock


def is_outdated(lock: object) -> bool:
    """
    Say whether locks are of another kind since this one was made.

    gevent puts its own in their place, under gunicorn only after the fork. A green thread that waits for a
    lock of the system holds up all the others, so what a thread waits for is made anew before it starts.
    """
    return type(lock) is not type(threading.Lock())


def _before_fork() -> None:
    IMPORTS.acquire(timeout=FORK_WAIT_S_MAX)


def _after_fork() -> None:
    with contextlib.suppress(RuntimeError):  # The wait was in vain.
        IMPORTS.release()


def _in_child() -> None:
    # Taken before the fork, by the thread that lives here, or by one that does not.
    IMPORTS._at_fork_reinit()  # type: ignore[attr-defined]  # noqa: SLF001 - as the standard library does
    for lock in list(_free_in_child):
        # Whoever else held it does not live here; the thread that forked does, and gives it back.
        if not (hasattr(lock, "_is_owned") and lock._is_owned()):  # noqa: SLF001 - as the standard library does
            lock._at_fork_reinit()  # noqa: SLF001


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)
