"""When the spans of a frame began, and nothing else of it: a fifth of what it takes to decode all of its columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from agentguard.errors import SegmentCorruptError
from agentguard.store._grid import SPANS_VERSION


class _Beginning(msgspec.Struct, array_like=True, frozen=True):
    """The beginning of a `Grid`, of which nothing is decoded but when spans began."""

    version: int
    first_sequence: int
    count: int
    trace: msgspec.Raw
    span: msgspec.Raw
    parent: msgspec.Raw
    name: msgspec.Raw
    kind: msgspec.Raw
    otel_kind: msgspec.Raw
    start: Sequence[int]


_decoder: Final = msgspec.msgpack.Decoder(_Beginning)


def unpack_starts(plain: bytes) -> tuple[int, Sequence[int]]:
    """
    Decode no more of a frame of spans than its first sequence number, and when each span began.

    Raises:
        SegmentCorruptError: The bytes are no spans of this format, as far as this looks.
    """
    try:
        found = _decoder.decode(plain)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise SegmentCorruptError("spans: got bytes that do not decode, expected columns") from error
    starts, count = found.start, found.count
    # An id takes a byte at least: no count is taken on trust.
    is_told = 0 <= count <= len(bytes(found.span)) and len(starts) in ((1, count) if count else (0,))
    if found.version != SPANS_VERSION or not is_told:
        raise SegmentCorruptError(f"spans: got no columns of version {SPANS_VERSION} and {count} places each")
    return found.first_sequence, starts if len(starts) == count else list(starts) * count
