"""
What a frame of a pack holds: parts, each the content of one frame of one segment.

The content stays what it was, byte for byte, so that packing needs to know of it
nothing but whose it is. Only the compression is shared, and that is where many
small segments are large.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from agentguard.errors import SegmentCorruptError
from agentguard.store._msgpack import encode

PARTS_VERSION = 1
_decoder = msgspec.msgpack.Decoder(tuple[int, list[tuple[bytes, int, int, int, bytes]]])


class Part(NamedTuple):
    """One frame of one segment."""

    writer: bytes
    n: int
    first_sequence: int
    rows: int
    plain: bytes


def encode_parts(parts: Sequence[Part]) -> bytes:
    """Encode the parts of one frame."""
    return encode((PARTS_VERSION, parts))


def decode_parts(plain: bytes) -> list[Part]:
    """
    Decode the parts of one frame.

    Raises:
        SegmentCorruptError: The bytes are no parts of this format.
    """
    try:
        version, parts = _decoder.decode(plain)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise SegmentCorruptError("pack: got bytes that do not decode, expected parts") from error
    if version != PARTS_VERSION:
        raise SegmentCorruptError(f"pack: got version {version}, expected {PARTS_VERSION}")
    if any(len(part[0]) != 8 or not 0 <= part[1] < 2**32 for part in parts):
        raise SegmentCorruptError("pack: got a part of no segment, expected writers of 8 bytes")
    return list(map(Part._make, parts))
