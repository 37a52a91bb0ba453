"""
Columns by group: splits those of a grid, and puts those of its groups together again.

All of it at the speed of C: a frame may have as many groups as spans.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from operator import itemgetter
from typing import Any, Final

from agentguard.store._grid import Column, Grid

_FEW: Final = 8
"""Up to so many groups are counted one by one."""


class Order:
    """Where the spans of each group stand in a grid: splits columns by group, and puts them together again."""

    def __init__(self, grid: Grid) -> None:
        size = len(grid.groups)
        if size == 1:
            self.counts: Sequence[int] = (grid.count,)
            """How many spans each group has."""
            return
        shape = grid.shape
        self._spread = itemgetter(*shape)
        self._bytes = bytes(shape) if size <= 256 else b""
        self.counts = _counts(shape, size)
        self._ends = list(accumulate(self.counts))
        order = sorted(range(grid.count), key=shape.__getitem__)
        # Two groups have two spans at least, so that these give tuples.
        self._split = itemgetter(*order)
        self._merge = itemgetter(*sorted(range(grid.count), key=order.__getitem__))

    def parts(self, column: Column) -> Sequence[Column]:
        """The values of a column of the grid for each group; one for all where the column has one."""
        if len(self.counts) == 1 or len(column) == 1:
            return [column] * len(self.counts)
        split = self._split(column)
        found = [split[end - count : end] for count, end in zip(self.counts, self._ends, strict=True)]
        return [part[:1] if part.count(part[0]) == len(part) else part for part in found]

    def merged(self, parts: Sequence[Column]) -> Column:
        """One column of what each group has."""
        if len(parts) == 1:
            return parts[0]
        whole: list[Any] = []
        for part, count in zip(parts, self.counts, strict=True):
            whole += part if len(part) == count else list(part) * count
        return self._merge(whole)  # type: ignore[no-any-return] # a tuple

    def numbers(self, parts: Sequence[array[Any]]) -> array[Any]:
        """One column of the numbers that each group has; one for all where all have the same one."""
        first = parts[0]
        if len(parts) == 1:
            return first
        if max(map(len, parts)) == 1:
            # By their bits: not a number is equal to nothing, and 0.0 to -0.0.
            if len(set(map(array.tobytes, parts))) == 1:
                return first
            return array(first.typecode, self._spread([part[0] for part in parts]))
        whole = array(first.typecode)
        for part, count in zip(parts, self.counts, strict=True):
            whole += part if len(part) == count else part * count
        return array(first.typecode, self._merge(whole))

    def codes(self, codes: Sequence[int]) -> array[int]:
        """A column of codes, where each group has one."""
        if self._bytes:
            return array("B", self._bytes.translate(bytes(codes).ljust(256)))
        return array("B" if max(codes) < 256 else "H", self._spread(codes))


def _counts(shape: Sequence[int], size: int) -> list[int]:
    """How many spans each group has."""
    if size <= _FEW:
        return list(map(shape.count, range(size)))
    counts = Counter(shape)
    return [counts[number] for number in range(size)]
