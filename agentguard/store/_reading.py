"""What a query hands out, and the small steps that it is made of."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from agentguard.store._features import FeatureBlock
from agentguard.store._filter import RowFilter
from agentguard.store._footer import Place
from agentguard.store._rows import Row
from agentguard.values import SpanRecord

Cursor: TypeAlias = Mapping[str, tuple[int, int]]
"""For each writer: number of the segment, and of the last record that was taken."""


class Positioned(NamedTuple):
    """A span with its place in the store."""

    cursor: tuple[str, int, int]
    """Writer, segment number, sequence number."""
    span: SpanRecord
    resource: Mapping[str, str]


class SegmentInfo(NamedTuple):
    """One segment file, without its content."""

    writer: str
    n: int
    is_sealed: bool
    spans: int
    start_range_unix_ns: tuple[int, int]
    """Earliest and latest start of its spans; (0, 0) where there are none."""
    size_bytes: int
    next_sequence: int
    """One more than the number of its last span; 0 where there are none."""
    name: str
    """Of the file."""


class RowBatch(NamedTuple):
    """The rows of one frame that no earlier frame had."""

    first_sequence: int
    rows: list[Row]
    shapes: Sequence[Sequence[str]]


class Sequences:
    """Which records of one writer were given already."""

    def __init__(self) -> None:
        self._next: dict[int, int] = {}

    def skip(self, kind: int, first: int, count: int) -> int:
        """How many records at the beginning were given before; the rest counts as given now."""
        following = self._next.get(kind, 0)
        self._next[kind] = max(following, first + count)
        return min(max(following - first, 0), count)

    def fresh(self, kind: int, first: int, rows: list[Any]) -> list[Any]:
        """The rows that were not given before."""
        skipped = self.skip(kind, first, len(rows))
        return rows[skipped:] if skipped else rows


def push(heap: list[Any], rest: Iterator[tuple[int, str, SpanRecord]], number: int, writer: str) -> None:
    """Put the next span of a segment on the heap."""
    following = next(rest, None)
    if following is not None:
        start, span_id, span = following
        heapq.heappush(heap, (-start, span_id, number, rest, writer, span))


def by_start(found: tuple[int, str, Row, Any]) -> int:
    return found[0]


def may_hold(place: Place, wanted: RowFilter) -> bool:
    """Whether a chunk may hold spans that start within the wanted times."""
    return wanted.overlaps(place.start_min_unix_ns, place.start_max_unix_ns)


def rows_to_keep(block: FeatureBlock, wanted: RowFilter, skipped: int) -> Sequence[int] | None:
    """Which rows of a block are wanted; `None` for all."""
    column = block.columns.get("start_unix_ns") if wanted.has_times else None
    if column is None:
        return range(skipped, block.rows) if skipped else None
    starts = column.values
    if not skipped and block.rows and wanted.contains(min(starts), max(starts)):
        return None
    return [i for i in range(skipped, block.rows) if wanted.contains(starts[i], starts[i])]
