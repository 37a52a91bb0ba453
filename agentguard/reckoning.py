"""
Sums that ended calls have yet to be added to: of a run, of a day, of the calls around them.

A call that ends puts itself into one queue, and that is all that its thread does. It is added to the sums on the
thread of the store, or by whoever asks for a sum before that: nobody who asks sees a sum without a call that
had ended.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol


class Owing(Protocol):
    """A call that has ended, and is in no sum yet."""

    def reckon(self, *, is_ours: bool) -> Callable[[], object] | None:
        """
        Add it to all sums; called once, under the lock of the reckoning. Raises nothing.

        Args:
            is_ours:
                Whether this process is to share it with others; False in a child of the one where it ended.

        Returns:
            What is to be said of it, once nobody has to wait for that.
        """
        ...


class Reckoning:
    """The queue of those calls."""

    __slots__ = ("_inherited", "_is_busy", "_lock", "_pid", "_waiting", "add")

    def __init__(self) -> None:
        self._waiting: deque[Owing] = deque()
        self.add: Callable[[Owing], None] = self._waiting.append
        """Takes a call that has ended. It is for who calls this to see to it that `settle` is called some time."""
        self._inherited = 0
        """How many of those that wait ended in the parent of this process."""
        self._begin()

    def _begin(self) -> None:
        """Begin in this process: the owner of a lock may not live in a child."""
        # One that a thread may take again: what the interpreter collects meanwhile may be a stream that nobody has
        # read to its end, which is a call that ends there.
        self._lock = threading.RLock()
        self._is_busy = False
        self._pid = os.getpid()

    def begin_in_child(self) -> None:
        """Begin in a forked child. Its sums go on from those of its parent, which shares what is its own."""
        self._begin()
        self._inherited = len(self._waiting)

    def settle(self) -> None:
        """Add all calls that have ended before this to the sums."""
        if not (self._waiting or self._is_busy):
            return
        if self._pid != os.getpid():
            self._begin()  # Forked where Python did not see it.
        said: list[Callable[[], object]] = []
        with self._lock:
            was_busy = self._is_busy
            # Before one is taken out: who finds nothing waiting, and nobody busy, has nothing to wait for.
            self._is_busy = True
            try:
                self._take_all(said)
            finally:
                self._is_busy = was_busy
        for say in said:
            say()

    def _take_all(self, said: list[Callable[[], object]]) -> None:
        """Add each; the lock is held."""
        take = self._waiting.popleft
        while True:
            try:
                call = take()
            except IndexError:
                return
            is_ours = not self._inherited
            if not is_ours:
                self._inherited -= 1
            say = call.reckon(is_ours=is_ours)
            if say is not None:
                said.append(say)


RECKONING: Final = Reckoning()
"""The one of this process: few calls wait at any time, and those of several runtimes do not disturb each other."""

os.register_at_fork(after_in_child=RECKONING.begin_in_child)
