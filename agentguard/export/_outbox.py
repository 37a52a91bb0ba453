"""Spans gathered for one request: no more of them than it may hold."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from agentguard.export._encode import Item


class Outbox:
    """
    Gathers spans for one request at a time.

    Args:
        spans_max:
            So many at most.
    """

    def __init__(self, spans_max: int) -> None:
        self._spans_max = spans_max
        self.items: list[Item] = []
        self._bytes = 0

    def take(self, items: Sequence[Item], start: int, *, bytes_max: int) -> int:
        """
        Take as many as fit.

        Args:
            items:
                Spans.
            start:
                The first of them that is still to be taken.
            bytes_max:
                So long the spans may be together; one alone may be longer.

        Returns:
            The first one that was not taken; *start* where no more fits.
        """
        part = items[start : start + self._spans_max - len(self.items)]
        sizes = list(accumulate([len(item.data) for item in part], initial=self._bytes))
        if sizes[-1] > bytes_max:
            part = part[: max(bisect_right(sizes, bytes_max) - 1, 0 if self.items else 1)]
        self.items += part
        self._bytes = sizes[len(part)]
        return start + len(part)

    def clear(self) -> None:
        """Begin with the next request."""
        self.items, self._bytes = [], 0
