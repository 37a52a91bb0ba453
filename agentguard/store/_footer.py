"""
The footer of a sealed segment: where each chunk is, and which traces are in it.

It is sealed like everything else, so the index leaks nothing. In memory it costs
about 10 bytes a trace and chunk.
"""

from __future__ import annotations

import hashlib
import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from agentguard.errors import SegmentCorruptError
from agentguard.store._layout import Kind
from agentguard.store._rows import decode_map, encode

FOOTER_VERSION = 1
_CHUNKS_MAX = 65_536


class Place(NamedTuple):
    """One frame of a sealed segment."""

    kind: int
    offset: int
    size_bytes: int
    """Head and payload."""
    first_sequence: int
    rows: int
    start_min_unix_ns: int
    """Earliest start of its spans; 0 for other kinds."""
    start_max_unix_ns: int


class Footer(NamedTuple):
    """The index of one sealed segment."""

    places: tuple[Place, ...]
    """All frames but the footer itself, in the order of the file."""
    tags: array[int]
    """Trace tags, sorted; one entry for each trace and chunk."""
    chunks: array[int]
    """For each tag, the number of the chunk among the frames of spans."""
    spans: int
    outcomes: int
    damage: Mapping[str, int]
    """What could not be carried over from the live file, by kind."""
    sealed_unix_ns: int

    @property
    def span_places(self) -> list[Place]:
        """The frames of spans, in the order of their chunk numbers."""
        return [place for place in self.places if place.kind == Kind.SPANS]

    @property
    def start_range_unix_ns(self) -> tuple[int, int]:
        """Earliest and latest start of the spans; (0, 0) where there are none."""
        places = self.span_places
        if not places:
            return (0, 0)
        return (
            min(place.start_min_unix_ns for place in places),
            max(place.start_max_unix_ns for place in places),
        )

    def chunks_of(self, trace_id: str) -> Iterator[int]:
        """Numbers of the chunks that may hold spans of the trace."""
        tag = trace_tag(_packed(trace_id))
        place = bisect_left(self.tags, tag)
        while place < len(self.tags) and self.tags[place] == tag:
            yield self.chunks[place]
            place += 1

    def pack(self) -> bytes:
        """Encode; the bytes are then compressed and sealed."""
        return encode(
            {
                "version": FOOTER_VERSION,
                "places": self.places,
                "tags": _little_endian(self.tags).tobytes(),
                "chunks": _little_endian(self.chunks).tobytes(),
                "spans": self.spans,
                "outcomes": self.outcomes,
                "damage": self.damage,
                "sealed_unix_ns": self.sealed_unix_ns,
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
        tags, chunks = array("Q"), array("H")
        tags.frombytes(document["tags"])
        chunks.frombytes(document["chunks"])
        if len(tags) != len(chunks):
            raise SegmentCorruptError(f"footer: got {len(tags)} tags, expected {len(chunks)}")
        return Footer(
            tuple(Place(*place) for place in document["places"]),
            _little_endian(tags),
            _little_endian(chunks),
            document["spans"],
            document["outcomes"],
            document["damage"],
            document["sealed_unix_ns"],
        )
    except (LookupError, TypeError, ValueError) as error:
        raise SegmentCorruptError("footer: got bytes that do not decode, expected a footer") from error


def trace_tag(trace_id: bytes | str) -> int:
    """
    Reduce a trace id to 64 bits: its last 8 bytes, which are random in every id scheme.

    Two traces may share a tag; the rows decide.
    """
    if isinstance(trace_id, bytes):
        return int.from_bytes(trace_id[-8:], "little")
    digest = hashlib.blake2b(trace_id.encode("utf-8", "backslashreplace"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def tag_arrays(pairs: Iterable[tuple[int, int]]) -> tuple[array[int], array[int]]:
    """Sort distinct pairs of tag and chunk number into two arrays."""
    ordered = sorted(set(pairs))
    return array("Q", [tag for tag, _ in ordered]), array("H", [chunk for _, chunk in ordered])


def _packed(trace_id: str) -> bytes | str:
    """The form of a trace id in the rows."""
    try:
        packed = bytes.fromhex(trace_id)
    except ValueError:
        return trace_id
    return packed if len(packed) == 16 else trace_id


def _little_endian(values: array[int]) -> array[int]:
    """Swap on machines of the other byte order; the arrays on disk are little-endian."""
    if sys.byteorder == "little":
        return values
    swapped = array(values.typecode, values)
    swapped.byteswap()
    return swapped
