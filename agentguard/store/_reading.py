"""What a query hands out, and the small steps that it is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from agentguard.store._features import FeatureBlock
from agentguard.store._filter import RowFilter
from agentguard.store._footer import Place
from agentguard.store._layout import Kind
from agentguard.store._members import Member, Members
from agentguard.store._rows import Row
from agentguard.values import SpanColumns, SpanRecord

Cursor: TypeAlias = Mapping[str, tuple[int, int]]
"""For each writer: number of the segment, and of the last record that was taken."""


class Positioned(NamedTuple):
    """A span with its place in the store."""

    cursor: tuple[str, int, int]
    """Writer, segment number, sequence number: the same wherever the span lies."""
    span: SpanRecord
    resource: Mapping[str, str]


class PositionedColumns(NamedTuple):
    """Spans of one writer that follow one another, with the place of the first one in the store."""

    cursor: tuple[str, int, int]
    """Writer, segment number, sequence number."""
    spans: SpanColumns | SpanRecord
    """Columns; or a single span that is better looked at by itself."""
    resource: Mapping[str, str]


class SegmentInfo(NamedTuple):
    """One file, without its content: a segment, or a pack of many."""

    name: str
    """Of the file."""
    is_sealed: bool
    spans: int
    start_range_unix_ns: tuple[int, int]
    """Earliest and latest start of its spans; (0, 0) where there are none."""
    size_bytes: int
    members: Sequence[Member] | Members
    """The segments in it; one where it is no pack."""

    @property
    def is_pack(self) -> bool:
        """Whether many segments share the file."""
        return isinstance(self.members, Members)


class RowBatch(NamedTuple):
    """The rows of one frame that no earlier frame had."""

    writer: bytes
    n: int
    first_sequence: int
    rows: list[Row]
    shapes: Sequence[Sequence[str]]


class Sequences:
    """Which records of one writer were given already."""

    def __init__(self, following: Mapping[int, int] | None = None) -> None:
        self._next: dict[int, int] = dict(following or {})

    def skip(self, kind: int, first: int, count: int) -> int:
        """How many records at the beginning were given before; the rest counts as given now."""
        following = self._next.get(kind, 0)
        self._next[kind] = max(following, first + count)
        return min(max(following - first, 0), count)

    def fresh(self, kind: int, first: int, rows: list[Any]) -> list[Any]:
        """The rows that were not given before."""
        skipped = self.skip(kind, first, len(rows))
        return rows[skipped:] if skipped else rows


class SequenceBook:
    """
    Which records of each writer were given already.

    Only one writer is kept at a time, since a writer's records follow one another;
    of a writer that goes on behind a pack, the pack says how far it came.
    """

    def __init__(self) -> None:
        self._packs: list[Members] = []
        self._writer = b""
        self._current = Sequences()

    def of(self, writer: bytes) -> Sequences:
        """What was given of one writer."""
        if writer != self._writer:
            following: dict[int, int] = {}
            for members in self._packs:
                last = members.last_of(writer)
                if last is not None:
                    following = {
                        Kind.SPANS: last.next_sequence, Kind.FEATURES: last.next_sequence,
                        Kind.OUTCOMES: last.next_outcome, Kind.GAPS: last.next_gap,
                    }  # fmt: skip
            self._writer, self._current = writer, Sequences(following)
        return self._current

    def leave(self, members: Members) -> None:
        """Note that a pack has been read."""
        self._packs.append(members)
        self._writer = b""


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
