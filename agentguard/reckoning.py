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
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Protocol

_BATCH: Final = 128
"""So many are added together."""


class Owing(Protocol):
    """A call that has ended, and is in no sum yet."""

    @staticmethod
    def reckon(calls: Sequence[Any], each: Iterator[Any], *, is_ours: bool) -> list[Callable[[], object]]:
        """
        Add some of them to all sums; called under the lock of the reckoning.

        Args:
            calls:
                All of one class, in the order in which they ended.
            each:
                Gives them again, each right before it is added: an interrupt forgets one at most.
            is_ours:
                Whether this process is to share them with others; False in a child of the one where they ended.

        Returns:
            What is to be said of them, once nobody has to wait for that.
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
        waiting = self._waiting
        while waiting:
            is_ours = not self._inherited
            size = min(self._inherited or _BATCH, _BATCH)
            calls = [waiting.popleft()]
            each = iter(calls)
            try:
                # What the interpreter collects here may be a call that ends, and takes all the others.
                while waiting and len(calls) < size:
                    calls.append(waiting.popleft())
                self._inherited -= 0 if is_ours else len(calls)
                said += calls[0].reckon(calls, each, is_ours=is_ours)
            finally:
                waiting.extendleft(reversed(tuple(each)))  # Nothing, but for an interrupt.


RECKONING: Final = Reckoning()
"""The one of this process: few calls wait at any time, and those of several runtimes do not disturb each other."""

os.register_at_fork(after_in_child=RECKONING.begin_in_child)
