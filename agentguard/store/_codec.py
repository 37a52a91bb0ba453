"""
Compression, bounded on the way back: no frame grows past what was agreed.

A codec byte says how: 0 raw, 1 zlib, 2 zstd. For 1 and 2 the compressed bytes
follow four bytes with the plain length.
"""

from __future__ import annotations

import sys
import zlib
from collections import deque
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
_IDLE_MAX = 4
_idle: dict[int, deque[zstd.ZstdCompressor]] = {}
"""By level, compressors that nobody uses just now: what they need is not reserved for each frame anew."""


def compress(plain: bytes, level: int = LIVE_LEVEL) -> tuple[int, bytes]:
    """Compress where that helps; returns the codec byte and the bytes."""
    if len(plain) < _SMALL_BYTES:
        return RAW, plain
    packed = _packed(plain, level)
    if len(packed) + 4 >= len(plain):
        return RAW, plain
    return ZSTD, len(plain).to_bytes(4, "little") + packed


def _packed(plain: bytes, level: int) -> bytes:
    """
    Compress with a compressor that is at hand.

    While it is in use it is in no list, so that a thread, a signal handler or the child of
    a fork that comes in between takes another one.
    """
    idle = _idle.get(level)
    if idle is None:
        idle = _idle[level] = deque(maxlen=_IDLE_MAX)
    try:
        compressor = idle.pop()
    except IndexError:
        compressor = zstd.ZstdCompressor(level)
    packed = compressor.compress(plain, zstd.ZstdCompressor.FLUSH_FRAME)
    idle.append(compressor)  # Where it failed it is thrown away.
    return packed


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
