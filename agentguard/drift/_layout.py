"""
Segments: the parts of the traffic that get lines of evidence of their own.

A layout is fixed when a reference is fitted: the commonest values of each dimension that the reference
holds, and their pairs. What comes later and is not in it counts in the whole alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Final, NamedTuple, TypeAlias

import numpy as np

from agentguard.drift._sample import Bools, Ints

PLACES: Final = 128
"""Series numbers of one segment: more than any source of series has."""
VALUES_MAX: Final = 12
"""Values of one dimension that become segments; rarer ones count in the whole alone."""
PAIRS_MAX: Final = 48
"""Pairs of values of two dimensions that are counted."""

Parts: TypeAlias = tuple[tuple[str, str], ...]


class Segment(NamedTuple):
    """A part of the traffic: one value of one dimension, or two of two."""

    parts: Parts

    @property
    def name(self) -> str:
        """
        The name in alarms.

        Example:
            >>> Segment((("model", "m1"), ("prompt_version", "7"))).name
            'model=m1, prompt_version=7'
        """
        return ", ".join(f"{dimension}={value}" for dimension, value in self.parts)

    @property
    def is_pair(self) -> bool:
        """Whether it is a pair: counted for attribution, not watched."""
        return len(self.parts) > 1


class Layout(NamedTuple):
    """All segments in a fixed order; the whole traffic is place 0, the first of these is place 1."""

    segments: tuple[Segment, ...] = ()

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Names of the dimensions, in order."""
        return tuple(dict.fromkeys(dimension for s in self.segments for dimension, _ in s.parts))

    def code(self, place: int, base: int) -> int:
        """Return the series number of a base series within a segment."""
        return place * PLACES + base

    def members(self, columns: Mapping[str, Sequence[str] | tuple[Ints, tuple[str, ...]]], n: int) -> Members:
        """
        Find out which rows are in which segment.

        Args:
            columns:
                By dimension: the text of each row, or indices and the texts that they stand for.
            n:
                Rows.
        """
        known = {name: coded(column) for name, column in columns.items() if name in self.dimensions}
        single: dict[tuple[str, str], Bools] = {}
        nowhere = np.zeros(n, dtype=bool)

        def holds(dimension: str, value: str) -> Bools:
            if (dimension, value) not in single:
                codes, texts = known.get(dimension, (None, ()))
                is_there = codes is not None and value in texts
                single[dimension, value] = np.equal(codes, texts.index(value)) if is_there else nowhere  # type: ignore[arg-type]
            return single[dimension, value]

        return tuple(
            (place, np.logical_and.reduce([holds(*part) for part in segment.parts]))
            for place, segment in enumerate(self.segments, 1)
        )


Members: TypeAlias = tuple[tuple[int, Bools], ...]
"""For each place, which rows are in it."""

WHOLE: Final = Layout()


def coded(column: Sequence[str] | tuple[Ints, tuple[str, ...]]) -> tuple[Ints, tuple[str, ...]]:
    """Return a column of texts as indices and the texts that they stand for."""
    if isinstance(column, tuple) and len(column) == 2 and isinstance(column[0], np.ndarray):
        return column[0], column[1]
    places: dict[str, int] = {}
    codes = [places.setdefault(str(text), len(places)) for text in column]
    return np.array(codes, dtype=np.int64), tuple(places)


def layout_of(counts: Mapping[str, Mapping[str, int]], pairs: Iterable[tuple[str, str]] = ()) -> Layout:
    """
    Choose the segments of a reference.

    A dimension with one value has none: it would be the whole again.

    Args:
        counts:
            By dimension: rows of each value. The empty text is no value.
        pairs:
            Dimensions whose pairs are counted, where both have segments.
    """
    chosen: dict[str, list[str]] = {}
    for dimension in sorted(counts):
        values = {value: n for value, n in counts[dimension].items() if value}
        if len(values) > 1:
            chosen[dimension] = sorted(values, key=lambda v: (-values[v], v))[:VALUES_MAX]
    segments = [Segment(((d, v),)) for d, values in chosen.items() for v in values]
    wanted = {tuple(sorted(pair)) for pair in pairs}
    crossed = [
        Segment(((a, v), (b, w)))
        for a, b in combinations(chosen, 2)
        if (a, b) in wanted
        for v in chosen[a]
        for w in chosen[b]
    ]
    rank = {(d, v): i for d, values in chosen.items() for i, v in enumerate(values)}
    crossed.sort(key=lambda s: (sum(rank[part] for part in s.parts), s.name))
    return Layout(tuple(segments + crossed[:PAIRS_MAX]))
