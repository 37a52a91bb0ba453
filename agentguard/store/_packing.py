"""
Writing a pack: the frames of many small segments, side by side in larger frames.

What a frame holds is copied as it is, content that is sealed for a person
included. Only where it began, how many rows it has and which traces are in it is
looked at, for the footer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from agentguard.errors import SegmentCorruptError
from agentguard.store import _codec
from agentguard.store._content_frame import ContentFrame
from agentguard.store._facts import Facts, facts_of
from agentguard.store._features import decode_features
from agentguard.store._footer import CHUNKS_MAX, Footer, Tags
from agentguard.store._grid import unpack_grid
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
_LATER_BYTES_MAX: Final = 1 << 18
"""Feature blocks that wait to be written side by side. All those of a pack would be many megabytes."""
_START: Final = frozenset({"start_unix_ns"})


class _Group:
    """The parts of one frame to come."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.rows = 0
        self.bytes = 0
        self.start_range: tuple[int, int] | None = None
        self.members: set[tuple[bytes, int]] = set()

    def add(self, part: Part, start_range: tuple[int, int] | None) -> None:
        """Take one part."""
        self.parts.append(part)
        self.rows += part.rows
        self.bytes += len(part.plain)
        self.members.add((part.writer, part.n))
        if start_range is not None:
            low, high = self.start_range or start_range
            self.start_range = min(low, start_range[0]), max(high, start_range[1])

    def is_full(self, rows: int) -> bool:
        """Whether *rows* more do not belong here; 0 where they are not counted."""
        return bool(self.parts) and (
            (rows > 0 and self.rows + rows > GROUP_ROWS)
            or self.bytes > _GROUP_BYTES_MAX
            or len(self.parts) >= _GROUP_PARTS_MAX
        )

    def body(self, kind: int) -> Body:
        """Compress, but for what is sealed already."""
        plain = encode_parts(self.parts)
        if kind == Kind.CONTENT:
            return Body(kind, _codec.RAW, plain)
        return make_body(Kind(kind), plain, records=self.rows, level=_codec.SEALED_LEVEL)


class PackWriter:
    """Puts frames together. Frames of one segment and kind come one after the other, in their order."""

    def __init__(self, sealed: SealedFile, rest: Callable[[], None] = lambda: None) -> None:
        """
        Begin a pack.

        Args:
            sealed:
                The file.

            rest:
                Called between the pieces of what is done at the end; what it raises ends the work.
        """
        self._sealed = sealed
        self._rest = rest
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
        tags: Sequence[int] = ()
        if frame.kind == Kind.SPANS:
            grid = unpack_grid(frame.plain)
            if not grid.count:
                return
            first, rows, *ends, tags = facts_of(grid)
            starts = ends[0], ends[1]
            following = max(member.next_sequence, first + rows)
            member = member._replace(spans=member.spans + rows, next_sequence=following)
        elif frame.kind == Kind.CONTENT:
            content = ContentFrame(frame.plain)
            first, rows = content.first_sequence, content.rows
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
        if self._group(frame.kind).is_full(0 if frame.kind == Kind.CONTENT else rows):
            self._flush(frame.kind)
        group = self._group(frame.kind)
        group.add(Part(frame.writer, frame.n, first, rows, frame.plain), starts)
        self._tags.add(tags, self._chunks)

    def finish(self, damage: Mapping[str, int], now_unix_ns: int) -> Footer:
        """Write what is left and the footer, and bring all to disk."""
        for kind in sorted(self._groups):
            self._flush(kind)  # Spans come first, and take their content with them.
            self._rest()
        self._write_later()
        tags, chunks = self._tags.arrays(self._rest)
        footer = Footer(
            self._sealed.places, tags, chunks, spans=self._counts[Kind.SPANS],
            outcomes=self._counts[Kind.OUTCOMES], damage=damage, sealed_unix_ns=now_unix_ns,
            members=Members.of(self._members.values()),
        )  # fmt: skip
        self._rest()
        self._sealed.finish(footer)
        return footer

    def _group(self, kind: int) -> _Group:
        """What the next frame of a kind will hold."""
        return self._groups.setdefault(kind, _Group())

    def _flush(self, kind: int) -> None:
        """Write a frame of spans, those of its content before it; keep one of another kind until there are many."""
        group = self._groups.pop(kind, None)
        if group is None or not group.parts:
            return
        if kind == Kind.SPANS:
            if not group.members.isdisjoint(self._group(Kind.CONTENT).members):
                self._flush(Kind.CONTENT)
            self._write(group.body(kind), group)
            self._chunks += 1
            if self._chunks >= CHUNKS_MAX:
                raise SegmentCorruptError("pack: got more chunks than can be numbered")
        elif kind == Kind.CONTENT:
            self._write(group.body(kind), group)
        else:
            body = group.body(kind)
            group.parts = []
            self._later.append((body, group))
            self._later_bytes += len(body.data)
            if self._later_bytes >= _LATER_BYTES_MAX:
                self._write_later()

    def _write_later(self) -> None:
        """Write what waits: those of one kind side by side, since a scan reads neighbours at once."""
        for body, group in sorted(self._later, key=lambda pair: pair[0].kind == Kind.FEATURES):
            self._write(body, group)
            self._rest()
        self._later, self._later_bytes = [], 0

    def _write(self, body: Body, group: _Group) -> None:
        self._sealed.add(body._replace(facts=Facts(0, group.rows, *(group.start_range or (0, 0)))))
