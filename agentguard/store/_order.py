"""
Columns by group: splits those of a grid, and puts those of its groups together again.

All of it at the speed of C: a frame may have as many groups as spans.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from operator import itemgetter
from typing import Any, Final

from agentguard.store._grid import Column, Grid, of_groups

_FEW: Final = 8
"""Up to so many groups are looked for one by one."""


class Order:
    """Where the spans of each group stand in a grid: splits columns by group, and puts them together again."""

    def __init__(self, grid: Grid) -> None:
        self._count = grid.count
        self.size = size = len(grid.groups)
        """How many groups there are."""
        if size == 1:
            self.counts: Sequence[int] = (grid.count,)
            """How many spans each group has."""
            return
        self._shape = shape = grid.shape
        self._spread = itemgetter(*shape)
        """Two groups have two spans at least, so that it gives a tuple."""
        self._merge: itemgetter[Any] | None = None
        self._bytes = numbers = bytes(shape) if size <= 256 else b""
        if size <= _FEW:
            self.counts = list(map(numbers.count, range(size)))
            self._firsts = list(map(numbers.index, range(size)))
        else:
            counts = Counter(shape)
            self.counts = [counts[number] for number in range(size)]
            firsts = dict(zip(reversed(shape), range(grid.count - 1, -1, -1), strict=True))
            self._firsts = [firsts[number] for number in range(size)]

    def parts(self, column: Column) -> Sequence[Column]:
        """The values of a column of the grid for each group; one for all where the spans of the group have one."""
        texts = of_groups(column)
        if texts is not None:
            return [(text,) for text in texts]
        if self.size == 1 or len(column) == 1:
            return [column] * self.size
        # Most groups are of one kind and end in one way: the first span of each says it.
        firsts = [column[place] for place in self._firsts]
        if self._spread(firsts) == tuple(column):
            return [(value,) for value in firsts]
        split = itemgetter(*sorted(range(self._count), key=self._shape.__getitem__))(column)
        ends = accumulate(self.counts)
        found = [split[end - count : end] for count, end in zip(self.counts, ends, strict=True)]
        return [part[:1] if part.count(part[0]) == len(part) else part for part in found]

    def merged(self, parts: Sequence[Column]) -> Column:
        """One column of what each group has."""
        if self.size == 1:
            return parts[0]
        whole: list[Any] = []
        for part, count in zip(parts, self.counts, strict=True):
            whole += part if len(part) == count else list(part) * count
        merge = self._merge
        if merge is None:
            ends = accumulate(self.counts)
            places = [iter(range(end - count, end)) for count, end in zip(self.counts, ends, strict=True)]
            merge = self._merge = itemgetter(*map(next, self._spread(places)))
        return merge(whole)  # type: ignore[no-any-return] # a tuple

    def spread(self, pieces: Sequence[bytes]) -> bytes:
        """
        Write what the spans of each group have in common once for each span; for more than one group.

        *pieces* are equally long, one for each group.
        """
        width = len(pieces[0])
        if not self._bytes or width > 4:
            return b"".join(self._spread(pieces))
        if width == 1:
            return self._bytes.translate(b"".join(pieces).ljust(256))
        # Byte by byte of the pieces: no object is made for a span.
        whole = bytearray(width * self._count)
        for place in range(width):
            whole[place::width] = self._bytes.translate(bytes([piece[place] for piece in pieces]).ljust(256))
        return bytes(whole)
