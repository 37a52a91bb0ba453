"""
The footer of a sealed segment: where each chunk is, and which traces are in it.

It is sealed like everything else, so the index leaks nothing. In memory it is a few
arrays: about 2 bytes a span with traces of ordinary length.
"""

from __future__ import annotations

import zlib
from array import array
from bisect import bisect_left
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, compress
from typing import Any, NamedTuple

from agentguard.errors import SegmentCorruptError
from agentguard.store._layout import HEADER_BYTES, Kind
from agentguard.store._members import NO_MEMBERS, Members, little_endian
from agentguard.store._msgpack import decode_map, encode

FOOTER_VERSION = 1
CHUNKS_MAX = 65_536
_SHARES = 64
_SHARE_SHIFT = 32 - 6


class Place(NamedTuple):
    """One frame of a sealed segment."""

    kind: int
    offset: int
    size_bytes: int
    """Head and payload."""
    first_sequence: int
    """Of its records; 0 in a pack, whose frames have parts."""
    rows: int
    start_min_unix_ns: int
    """Earliest start of its spans; 0 for other kinds."""
    start_max_unix_ns: int


_COLUMNS = (
    ("kinds", "B"), ("sizes", "I"), ("firsts", "Q"), ("rows", "I"), ("start_mins", "q"), ("start_maxs", "q"),
)  # fmt: skip


class Places:
    """The frames of a sealed segment in the order of the file, as columns: a place costs 33 bytes."""

    def __init__(self, columns: Mapping[str, array[int]]) -> None:
        self._kinds, self._sizes, self._firsts, self._rows, self._mins, self._maxs = (
            columns[name] for name, _ in _COLUMNS
        )
        if len({len(column) for column in columns.values()}) != 1:
            raise SegmentCorruptError("footer: got columns of different lengths, expected one")

    @classmethod
    def of(cls, places: Iterable[Place]) -> Places:
        """Take places that follow one another from the header on."""
        found = cls({name: array(code) for name, code in _COLUMNS})
        for place in places:
            found.append(place)
        return found

    def append(self, place: Place) -> None:
        """Take the frame that follows the last one; columns, since a large pack has many thousands."""
        self._kinds.append(place.kind)
        self._sizes.append(place.size_bytes)
        self._firsts.append(place.first_sequence)
        self._rows.append(place.rows)
        self._mins.append(place.start_min_unix_ns)
        self._maxs.append(place.start_max_unix_ns)

    def __len__(self) -> int:
        return len(self._kinds)

    def __iter__(self) -> Iterator[Place]:
        offsets = accumulate(self._sizes, initial=HEADER_BYTES)
        columns = (self._kinds, offsets, self._sizes, self._firsts, self._rows, self._mins, self._maxs)
        # One offset more than frames: where the last one ends.
        return map(Place, *columns)

    def has(self, kind: int) -> bool:
        """Whether there is a frame of this kind."""
        return kind in self._kinds.tobytes()

    def having(self, kinds: Container[int]) -> list[Place]:
        """Give the frames of these kinds."""
        return [place for place in self if place.kind in kinds]

    def chunks(self, numbers: Iterable[int]) -> list[Place]:
        """Give the frames of spans with these numbers, in order; numbers beyond the last are passed over."""
        offsets = list(accumulate(self._sizes, initial=HEADER_BYTES))
        chunks = [i for i, kind in enumerate(self._kinds) if kind == Kind.SPANS]
        found = [chunks[number] for number in sorted(set(numbers)) if number < len(chunks)]
        return [
            Place(Kind.SPANS, offsets[i], self._sizes[i], self._firsts[i], self._rows[i], self._mins[i], self._maxs[i])
            for i in found
        ]  # fmt: skip

    def with_content(self, chunks: Sequence[Place], kept: int) -> list[Place]:
        """
        Frames of spans, with those of their content before them.

        Args:
            chunks:
                Some frames of spans of this file, in order.

            kept:
                Content is in one of so many frames of content before its span.
        """
        if not self.has(Kind.CONTENT):
            return list(chunks)
        offsets = list(accumulate(self._sizes, initial=HEADER_BYTES))
        contents = [i for i, kind in enumerate(self._kinds) if kind == Kind.CONTENT]
        found: dict[int, Place] = {}
        for chunk in chunks:
            place = bisect_left(contents, bisect_left(offsets, chunk.offset))
            for i in contents[max(place - kept, 0) : place]:
                first = self._firsts[i]
                # In a pack both are 0: its frames hold content of many segments.
                if first < chunk.first_sequence + chunk.rows and (
                    first + self._rows[i] > chunk.first_sequence
                ):  # fmt: skip
                    found[i] = Place(Kind.CONTENT, offsets[i], self._sizes[i], first, self._rows[i], 0, 0)
        return sorted([*chunks, *found.values()], key=lambda place: place.offset)

    @property
    def end(self) -> int:
        """Where the last frame ends."""
        return HEADER_BYTES + sum(self._sizes)

    @property
    def start_range_unix_ns(self) -> tuple[int, int]:
        """Earliest and latest start of the spans; (0, 0) where there are none."""
        kinds = self._kinds.tobytes()
        if Kind.SPANS not in kinds:
            return (0, 0)
        is_spans = list(map(int(Kind.SPANS).__eq__, kinds))
        return min(compress(self._mins, is_spans)), max(compress(self._maxs, is_spans))

    @property
    def next_sequence(self) -> int:
        """One more than the number of the last span; 0 where there are none, and in a pack."""
        last = self._kinds.tobytes().rfind(Kind.SPANS)
        return self._firsts[last] + self._rows[last] if last >= 0 else 0

    def pack(self) -> dict[str, bytes]:
        """Encode the columns."""
        columns = (self._kinds, self._sizes, self._firsts, self._rows, self._mins, self._maxs)
        return {
            name: little_endian(column).tobytes() for (name, _), column in zip(_COLUMNS, columns, strict=True)
        }


class Footer:
    """The index of one sealed segment, or of a pack of them."""

    __slots__ = (
        "chunks", "damage", "members", "outcomes", "places", "sealed_unix_ns", "spans",
        "start_range_unix_ns", "tags",
    )  # fmt: skip

    def __init__(
        self,
        places: Places,
        tags: array[int],
        chunks: array[int],
        *,
        spans: int,
        outcomes: int,
        damage: Mapping[str, int],
        sealed_unix_ns: int,
        members: Members = NO_MEMBERS,
    ) -> None:
        self.places = places
        """All frames but the footer itself, in the order of the file."""
        self.tags = tags
        """Trace tags, sorted; one entry for each trace and chunk."""
        self.chunks = chunks
        """For each tag, the number of the chunk among the frames of spans."""
        self.spans = spans
        self.outcomes = outcomes
        self.damage = damage
        """What could not be carried over from the live file, by kind."""
        self.sealed_unix_ns = sealed_unix_ns
        self.members = members
        """The segments in a pack; none in a segment."""
        self.start_range_unix_ns = places.start_range_unix_ns

    @property
    def memory_bytes(self) -> int:
        """About what it takes in memory."""
        per_tag = self.tags.itemsize + self.chunks.itemsize
        return 3500 + 33 * len(self.places) + per_tag * len(self.tags) + 40 * len(self.members)

    def chunks_of(self, trace_id: str) -> Iterator[int]:
        """Numbers of the chunks that may hold spans of the trace."""
        tag = id_tag(trace_id)
        place = bisect_left(self.tags, tag)
        while place < len(self.tags) and self.tags[place] == tag:
            yield self.chunks[place]
            place += 1

    def pack(self) -> bytes:
        """Encode; the bytes are then compressed and sealed."""
        return encode(
            {
                "version": FOOTER_VERSION,
                "places": self.places.pack(),
                "tags": little_endian(self.tags).tobytes(),
                "chunks": little_endian(self.chunks).tobytes(),
                "spans": self.spans,
                "outcomes": self.outcomes,
                "damage": self.damage,
                "sealed_unix_ns": self.sealed_unix_ns,
                "members": self.members.pack(),
            }
        )


def unpack_footer(plain: bytes) -> Footer:
    """
    Decode a footer.

    Raises:
        SegmentCorruptError: The bytes are no footer, or a newer version's.

    """
    document: dict[str, Any] = decode_map(plain, "footer")
    try:
        if document["version"] > FOOTER_VERSION:
            raise SegmentCorruptError(f"footer: got version {document['version']}, expected {FOOTER_VERSION}")
        tags = _array("I", document["tags"])
        is_narrow = len(document["chunks"]) == len(tags)
        chunks = _array("B" if is_narrow else "H", document["chunks"])
        if len(tags) != len(chunks):
            raise SegmentCorruptError(f"footer: got {len(tags)} tags, expected {len(chunks)}")
        return Footer(
            Places({name: _array(code, document["places"][name]) for name, code in _COLUMNS}),
            tags,
            chunks,
            spans=_count(document["spans"]),
            outcomes=_count(document["outcomes"]),
            damage={str(kind): _count(count) for kind, count in document["damage"].items()},
            sealed_unix_ns=int(document["sealed_unix_ns"]),
            members=Members.unpack(document["members"]),
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise SegmentCorruptError("footer: got bytes that do not decode, expected a footer") from error


def trace_tag(trace_id: bytes | str) -> int:
    """
    Reduce a trace id to 32 bits: its CRC-32, since not all of an id need be random.

    Two traces may share a tag; the rows decide.
    """
    if isinstance(trace_id, str):
        trace_id = trace_id.encode("utf-8", "backslashreplace")
    return zlib.crc32(trace_id)


class Tags:
    """
    Collects which traces are in which chunk; an entry takes 8 bytes until the footer is made.

    Sorted in shares by the first bits of the tag: no other thread gets in between a sort.
    """

    def __init__(self) -> None:
        self._shares: list[array[int]] = [array("Q") for _ in range(_SHARES)]

    def add(self, tags: Iterable[int], chunk: int) -> None:
        """Note which traces have spans in a chunk."""
        shares = self._shares
        for tag in tags:
            shares[tag >> _SHARE_SHIFT].append(tag << 16 | chunk)

    def arrays(self, rest: Callable[[], None] = lambda: None) -> tuple[array[int], array[int]]:
        """Give the distinct tags in order, and the chunk of each; *rest* is called between the shares."""
        tags, chunks = array("I"), array("H")
        for share in self._shares:
            rest()
            ordered = sorted(set(share))
            tags.extend([number >> 16 for number in ordered])
            chunks.extend([number & 0xFFFF for number in ordered])
        return tags, array("B", chunks) if max(chunks, default=0) < 256 else chunks


def tag_arrays(pairs: Iterable[tuple[int, int]]) -> tuple[array[int], array[int]]:
    """Sort distinct pairs of tag and chunk number into two arrays."""
    tags = Tags()
    for tag, chunk in pairs:
        tags.add((tag,), chunk)
    return tags.arrays()


def id_tag(trace_id: str) -> int:
    """Reduce a trace id that somebody asks for, as `trace_tag` does the one in the rows."""
    try:
        packed = bytes.fromhex(trace_id)
    except ValueError:
        return trace_tag(trace_id)
    return trace_tag(packed if len(packed) == 16 else trace_id)


def _array(code: str, data: bytes) -> array[int]:
    """Read little-endian numbers."""
    found: array[int] = array(code)
    found.frombytes(data)
    return little_endian(found)


def _count(value: object) -> int:
    """A number that cannot be negative."""
    if type(value) is not int or value < 0:
        raise ValueError
    return value
