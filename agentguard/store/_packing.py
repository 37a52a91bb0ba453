"""
Writing a pack: the frames of many small segments, side by side in larger frames.

What a frame holds is copied as it is, content that is sealed for a person
included. Only where it began, how many rows it has and which traces are in it is
looked at, for the footer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

from agentguard.errors import SegmentCorruptError
from agentguard.store import _codec
from agentguard.store._features import decode_features
from agentguard.store._footer import CHUNKS_MAX, Footer, Tags, trace_tag
from agentguard.store._grid import trace_ids, unpack_grid
from agentguard.store._layout import Kind
from agentguard.store._live import Body, make_body
from agentguard.store._members import Member, Members
from agentguard.store._parts import Part, encode_parts
from agentguard.store._rows import decode_gaps, decode_outcomes
from agentguard.store._sealed_file import SealedFile
from agentguard.store._segment import Frame

GROUP_ROWS: Final = 128
"""Spans in a frame of a pack, as in a chunk of a segment."""
_GROUP_PARTS_MAX: Final = 1024
_GROUP_BYTES_MAX: Final = 1 << 20
_LATER_BYTES_MAX: Final = 1 << 20
"""Feature blocks that wait to be written side by side. All those of a pack would be many megabytes."""
_START: Final = frozenset({"start_unix_ns"})


class _Group:
    """The parts of one frame to come."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.rows = 0
        self.bytes = 0
        self.start_range: tuple[int, int] | None = None

    def add(self, part: Part, start_range: tuple[int, int] | None) -> None:
        """Take one part."""
        self.parts.append(part)
        self.rows += part.rows
        self.bytes += len(part.plain)
        if start_range is not None:
            low, high = self.start_range or start_range
            self.start_range = min(low, start_range[0]), max(high, start_range[1])

    def is_full(self, rows: int) -> bool:
        """Whether *rows* more do not belong here."""
        return bool(self.parts) and (
            self.rows + rows > GROUP_ROWS
            or self.bytes > _GROUP_BYTES_MAX
            or len(self.parts) >= _GROUP_PARTS_MAX
        )

    def body(self, kind: int) -> Body:
        """Compress."""
        return make_body(Kind(kind), encode_parts(self.parts), records=self.rows, level=_codec.SEALED_LEVEL)


class PackWriter:
    """Puts frames together. Frames of one segment and kind come one after the other, in their order."""

    def __init__(self, sealed: SealedFile) -> None:
        self._sealed = sealed
        self._groups: dict[int, _Group] = {}
        self._later: list[tuple[Body, _Group]] = []
        self._later_bytes = 0
        self._tags = Tags()
        self._chunks = 0
        self._members: dict[tuple[bytes, int], Member] = {}
        self._counts: Counter[int] = Counter()

    @property
    def size_bytes(self) -> int:
        """What is written or will be, but for the footer."""
        return self._sealed.size_bytes + self._later_bytes

    @property
    def is_full(self) -> bool:
        """Whether no more chunks can be numbered."""
        return self._chunks >= CHUNKS_MAX - 4096

    def add(self, frame: Frame) -> None:
        """
        Take one frame of a segment.

        Raises:
            SegmentCorruptError: It does not decode; the pack is of no use.
        """
        key = (frame.writer, frame.n)
        member = self._members.setdefault(key, Member(*key, 0, 0))
        first = rows = 0
        starts: tuple[int, int] | None = None
        tags: set[int] = set()
        if frame.kind == Kind.SPANS:
            grid = unpack_grid(frame.plain)
            first, rows = grid.first_sequence, grid.count
            if not rows:
                return
            starts, tags = (min(grid.start), max(grid.start)), set(map(trace_tag, trace_ids(grid)))
            following = max(member.next_sequence, first + rows)
            member = member._replace(spans=member.spans + rows, next_sequence=following)
        elif frame.kind == Kind.FEATURES:
            block = decode_features(frame.plain, _START)
            first, rows = block.first_sequence, block.rows
            if not rows:
                return
            values = block.columns["start_unix_ns"].values
            starts = min(values), max(values)
        elif frame.kind in {Kind.OUTCOMES, Kind.GAPS}:
            is_gap = frame.kind == Kind.GAPS
            numbers = [number for number, _ in (decode_gaps if is_gap else decode_outcomes)(frame.plain)]
            if not numbers:
                return
            first, rows = numbers[0], len(numbers)
            if is_gap:
                member = member._replace(next_gap=max(member.next_gap, first + rows))
            else:
                member = member._replace(next_outcome=max(member.next_outcome, first + rows))
        self._members[key] = member
        self._counts[frame.kind] += rows
        group = self._groups.setdefault(frame.kind, _Group())
        if group.is_full(rows):
            self._flush(frame.kind)
            group = self._groups[frame.kind] = _Group()
        group.add(Part(frame.writer, frame.n, first, rows, frame.plain), starts)
        for tag in tags:
            self._tags.add(tag, self._chunks)

    def finish(self, damage: Mapping[str, int], now_unix_ns: int) -> Footer:
        """Write what is left and the footer, and bring all to disk."""
        for kind in sorted(self._groups):
            self._flush(kind)
        self._write_later()
        tags, chunks = self._tags.arrays()
        footer = Footer(
            self._sealed.places, tags, chunks, spans=self._counts[Kind.SPANS],
            outcomes=self._counts[Kind.OUTCOMES], damage=damage, sealed_unix_ns=now_unix_ns,
            members=Members.of(self._members.values()),
        )  # fmt: skip
        self._sealed.finish(footer)
        return footer

    def _flush(self, kind: int) -> None:
        """Write a frame of spans, or keep another one until there are many."""
        group = self._groups[kind]
        if not group.parts:
            return
        body = group.body(kind)
        if kind == Kind.SPANS:
            self._write(body, group)
            self._chunks += 1
            if self._chunks >= CHUNKS_MAX:
                raise SegmentCorruptError("pack: got more chunks than can be numbered")
        else:
            group.parts = []
            self._later.append((body, group))
            self._later_bytes += len(body.data)
            if self._later_bytes >= _LATER_BYTES_MAX:
                self._write_later()

    def _write_later(self) -> None:
        """Write what waits: those of one kind side by side, since a scan reads neighbours at once."""
        for body, group in sorted(self._later, key=lambda pair: pair[0].kind == Kind.FEATURES):
            self._write(body, group)
        self._later, self._later_bytes = [], 0

    def _write(self, body: Body, group: _Group) -> None:
        self._sealed.add(body, rows=group.rows, start_range=group.start_range or (0, 0))
