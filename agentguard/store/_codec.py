"""
Compression, bounded on the way back: no frame grows past what was agreed.

A codec byte says how: 0 raw, 1 zlib, 2 zstd. For 1 and 2 the compressed bytes
follow four bytes with the plain length. Content of persons, which is in small pieces, has
codec 3: zstd with a dictionary that comes with the package, and no bytes around it.
"""

from __future__ import annotations

import sys
import zlib
from collections import deque
from collections.abc import Sequence
from functools import cache
from pathlib import Path
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
CONTENT = 3
_SMALL_BYTES = 96
"""Below this, compression costs more than it saves."""

LIVE_LEVEL = 1
SEALED_LEVEL = 3
_SMALL: dict[int, dict[int, int]] = {
    LIVE_LEVEL: {
        zstd.CompressionParameter.compression_level: LIVE_LEVEL,
        zstd.CompressionParameter.window_log: 18,
        zstd.CompressionParameter.hash_log: 13,
    },
    SEALED_LEVEL: {
        zstd.CompressionParameter.compression_level: SEALED_LEVEL,
        zstd.CompressionParameter.window_log: 17,
        zstd.CompressionParameter.hash_log: 14,
        zstd.CompressionParameter.chain_log: 13,
    },
}
"""Frames are small: less memory, which stays in the cache of the processor, gives nearly the same bytes. A
compressor keeps what it once needed, which by default is two megabytes and a half after one long frame."""
_CONTENT_SMALL_BYTES = 16
_CONTENT_LARGE_BYTES = 4096
"""From here on a piece of content is compressed at once, and without the dictionary: it would gain little."""
_CONTENT_MEAN_BYTES = 3072
"""Where the pieces of a frame are so long on average, putting them together with those of others would gain little."""
_RAW_BYTE, _CONTENT_BYTE = bytes([RAW]), bytes([CONTENT])
_ZSTD_MAGIC = bytes.fromhex("28b52ffd")
_DICTIONARY = Path(__file__).with_name("content-1.dict")
_IDLE_MAX = 4
_idle: dict[int, deque[zstd.ZstdCompressor]] = {}
"""By level, or `_WITH_DICTIONARY`, compressors that nobody uses just now: what they need is not reserved for each frame anew."""
_WITH_DICTIONARY = -1


def compress(plain: bytes, level: int = LIVE_LEVEL) -> tuple[int, bytes]:
    """Compress where that helps; returns the codec byte and the bytes."""
    if len(plain) < _SMALL_BYTES:
        return RAW, plain
    packed = _packed(plain, level)
    if len(packed) + 4 >= len(plain):
        return RAW, plain
    return ZSTD, len(plain).to_bytes(4, "little") + packed


def _packed(plain: bytes, level: int) -> bytes:
    """Compress with a compressor that is at hand."""
    compressor = _taken(level)
    packed = compressor.compress(plain, zstd.ZstdCompressor.FLUSH_FRAME)
    _idle[level].append(compressor)  # Where it failed it is thrown away.
    return packed


def _taken(level: int) -> zstd.ZstdCompressor:
    """
    Take a compressor that nobody uses.

    While it is in use it is in no list, so that a thread, a signal handler or the child of
    a fork that comes in between takes another one.
    """
    idle = _idle.get(level)
    if idle is None:
        idle = _idle[level] = deque(maxlen=_IDLE_MAX)
    try:
        return idle.pop()
    except IndexError:
        return _new_compressor(level)


def _new_compressor(level: int) -> zstd.ZstdCompressor:
    if level >= 0:
        return zstd.ZstdCompressor(options=_SMALL[level])
    options: dict[int, int] = {
        zstd.CompressionParameter.compression_level: SEALED_LEVEL,
        zstd.CompressionParameter.dict_id_flag: 0,
    }
    return zstd.ZstdCompressor(options=options, zstd_dict=_dictionary())


@cache
def _dictionary() -> zstd.ZstdDict:
    """What pieces of content have in common: names, scaffolding of messages, common English."""
    return zstd.ZstdDict(_DICTIONARY.read_bytes())


def live_content(pieces: Sequence[bytes]) -> tuple[list[bytes], int]:
    """
    Make pieces of content for a live file: codec byte and bytes of each, as one.

    Compressing many small pieces would take longer than all else; sealing puts them together.

    Returns:
        The pieces, and how many bytes are in those that are better put together.
    """
    if sum(map(len, pieces)) >= _CONTENT_MEAN_BYTES * len(pieces):
        return list(map(compress_content, pieces)), 0
    short = [len(plain) for plain in pieces if len(plain) < _CONTENT_LARGE_BYTES]
    return [
        _RAW_BYTE + plain if len(plain) < _CONTENT_LARGE_BYTES else compress_content(plain)
        for plain in pieces
    ], sum(short)


def compress_content(plain: bytes) -> bytes:
    """Compress a piece of content; returns the codec byte and the bytes, as one."""
    if len(plain) >= _CONTENT_SMALL_BYTES:
        packed = _packed(plain, _WITH_DICTIONARY if len(plain) < _CONTENT_LARGE_BYTES else LIVE_LEVEL)
        if len(packed) - len(_ZSTD_MAGIC) < len(plain):
            return _CONTENT_BYTE + packed[len(_ZSTD_MAGIC) :]
    return _RAW_BYTE + plain


def is_compressed(packed: bytes) -> bool:
    """Whether `compress_content` compressed a piece."""
    return packed[:1] == _CONTENT_BYTE


def decompress_content(packed: bytes) -> bytes:
    """
    Undo `compress_content`.

    Raises:
        SegmentCorruptError: The codec is unknown, or the bytes do not decompress to at most
            `PLAIN_BYTES_MAX`.
    """
    codec, data = packed[0] if packed else None, packed[1:]
    if codec == RAW:
        return data
    if codec != CONTENT:
        raise SegmentCorruptError(f"content: got codec {codec}, expected 0 or 3")
    decompressor = zstd.ZstdDecompressor(zstd_dict=_dictionary())
    try:
        plain = decompressor.decompress(_ZSTD_MAGIC + data, PLAIN_BYTES_MAX + 1)
    except zstd.ZstdError as error:
        raise SegmentCorruptError("content: got bytes that do not decompress, expected them to") from error
    if not decompressor.eof or decompressor.unused_data or len(plain) > PLAIN_BYTES_MAX:
        raise SegmentCorruptError(f"content: got no whole piece of at most {PLAIN_BYTES_MAX} bytes")
    return plain


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
