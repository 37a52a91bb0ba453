"""The real clock and the real ids; tests hand in others."""

from __future__ import annotations

import os
import random
import time


class SystemClock:
    """The clocks of the operating system."""

    __slots__ = ()

    unix_ns = staticmethod(time.time_ns)
    monotonic_ns = staticmethod(time.perf_counter_ns)


class RandomIds:
    """
    Ids from a generator that is seeded anew in every process.

    A forked child that kept the parent's state would repeat its ids.
    """

    __slots__ = ("_random",)

    def __init__(self) -> None:
        self._random = random.Random(os.urandom(32))  # noqa: S311 - ids are public, not secrets
        os.register_at_fork(after_in_child=self._reseed)

    def _reseed(self) -> None:
        self._random.seed(os.urandom(32))

    def trace_id(self) -> int:
        """128 random bits, not 0."""
        return self._random.getrandbits(128) or 1

    def span_id(self) -> int:
        """64 random bits, not 0."""
        return self._random.getrandbits(64) or 1
