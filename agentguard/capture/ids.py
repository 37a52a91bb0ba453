"""Random ids that do not repeat after a fork."""

from __future__ import annotations

import os
import random
from collections.abc import Callable

from agentguard.forks import ProcessMark, process_mark

_BATCH_BYTES = 32


class RandomIds:
    """
    Ids from a generator that is seeded anew in every process.

    Implements `values.Ids`. Each draw looks at the mark of the process, so that a child
    made by a raw fork (a server written in C) gets its own sequence too. The
    ids are unique, not secret: whoever sees many of them can predict the next.
    """

    __slots__ = ("_bits", "_mark")

    def __init__(self) -> None:
        self._reseed()

    def _reseed(self) -> None:
        """Take 256 fresh bits from the operating system."""
        self._bits = random.Random(os.urandom(_BATCH_BYTES)).getrandbits  # noqa: S311 - ids are no secrets
        # The mark comes last: a thread that sees it also sees the new generator.
        self._mark = process_mark()

    def trace_id(self) -> int:
        """128 random bits, never 0."""
        if not self._mark[0]:
            self._reseed()
        return self._bits(128) or 1

    def span_id(self) -> int:
        """64 random bits, never 0."""
        if not self._mark[0]:
            self._reseed()
        return self._bits(64) or 1

    def drawing(self) -> tuple[ProcessMark, Callable[[int], int]]:
        """
        Give what draws random bits, for who does so at every call.

        Returns:
            The mark of the process, which is to be looked at before each draw: once its item 0 is 0 this is to be
            asked again. And a function that takes a number of bits, and may give 0.
        """
        if not self._mark[0]:
            self._reseed()
        return self._mark, self._bits
