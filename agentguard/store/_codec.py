"""
Compression, bounded on the way back: no frame grows past what was agreed.

A codec byte says how: 0 raw, 1 zlib, 2 zstd. For 1 and 2 the compressed bytes
follow four bytes with the plain length.
"""

from __future__ import annotations

import sys
import zlib
from typing import TYPE_CHECKING

from agentguard.errors import SegmentCorruptError
from agentguard.store._layout import PLAIN_BYTES_MAX

if TYPE_CHECKING or sys.version_info < (3, 14):
    from backports import zstd
else:
    from compression import zstd

RAW = 0
ZLIB = 1
ZSTD = 2
_SMALL_BYTES = 96
"""Below this, compression costs more than it saves."""

LIVE_LEVEL = 1
SEALED_LEVEL = 3


def compress(plain: bytes, level: int = LIVE_LEVEL) -> tuple[int, bytes]:
    """Compress where that helps; returns the codec byte and the bytes."""
    if len(plain) < _SMALL_BYTES:
        return RAW, plain
    packed = zstd.compress(plain, level)
    if len(packed) + 4 >= len(plain):
        return RAW, plain
    return ZSTD, len(plain).to_bytes(4, "little") + packed


def decompress(codec: int, data: bytes) -> bytes:
    """
    Undo `compress`.

    Raises:
        SegmentCorruptError: The codec is unknown, or the bytes do not give the
            length that they announce, or it is more than `PLAIN_BYTES_MAX`.
    """
    if codec == RAW:
        return data
    if codec not in {ZLIB, ZSTD}:
        raise SegmentCorruptError(f"frame: got codec {codec}, expected 0, 1 or 2")
    length = int.from_bytes(data[:4], "little")
    if length > PLAIN_BYTES_MAX:
        raise SegmentCorruptError(
            f"frame: got {length} bytes of plain text, expected at most {PLAIN_BYTES_MAX}"
        )
    try:
        if codec == ZSTD:
            # One byte more than announced shows a frame that grows further.
            plain = zstd.ZstdDecompressor().decompress(memoryview(data)[4:], length + 1)
        else:
            plain = zlib.decompressobj().decompress(data[4:], length + 1)
    except (zstd.ZstdError, zlib.error) as error:
        raise SegmentCorruptError("frame: got bytes that do not decompress, expected them to") from error
    if len(plain) != length:
        raise SegmentCorruptError(f"frame: got {len(plain)} bytes of plain text, expected {length}")
    return plain
