"""Ids that count, so that a test can name them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence


class SequentialIds:
    """`Ids` that give 1, 2, 3 …, one sequence for traces and one for spans."""

    def __init__(self, first: int = 1) -> None:
        self._traces = itertools.count(first)
        self._spans = itertools.count(first)

    def trace_id(self) -> int:
        return next(self._traces)

    def span_id(self) -> int:
        return next(self._spans)

    def drawing(self) -> tuple[Sequence[int], Callable[[int], int]]:
        """As that of `RandomIds`, of the same sequences."""
        return (1,), lambda bits: self.span_id() if bits == 64 else self.trace_id()


def trace_hex(number: int) -> str:
    """Return the 32 digits of a trace id."""
    return f"{number:032x}"


def span_hex(number: int) -> str:
    """Return the 16 digits of a span id."""
    return f"{number:016x}"
