"""
The bytes of a segment: header, frame heads, trailer, and what each seal is bound to.

Pure: no file is opened here. `docs/reference/segment-format.md` is the normative
text of the same.
"""

from __future__ import annotations

import re
import struct
import zlib
from enum import IntEnum
from typing import NamedTuple

from agentguard.seal import NONCE_BYTES, TAG_BYTES, RootKey, SealKey

SEGMENT_VERSION = 1
SEGMENT_LABEL = b"agentguard/v1/seg"
HEADER_MAGIC = b"\x89AGSEG\r\n"
FRAME_MAGIC = b"\xa6AGf"
TRAILER_MAGIC = b"AGSEGEND"

_HEADER = struct.Struct("<8sHBBI16s8sII24s32s20sI")
HEADER_BYTES = _HEADER.size
_BOUND_BYTES = 72
"""Magic to salt: what every seal of the file is bound to."""
_FRAME = struct.Struct("<4sBBBBIII")
FRAME_HEAD_BYTES = _FRAME.size
_FRAME_CHECKED_BYTES = FRAME_HEAD_BYTES - 4
_TRAILER = struct.Struct("<8sQII")
TRAILER_BYTES = _TRAILER.size

PAYLOAD_BYTES_MAX = 32 * 1024 * 1024
"""A longer frame is damage: no length field makes a reader reserve more."""
PLAIN_BYTES_MAX = 64 * 1024 * 1024
"""What a frame may grow to when it is decompressed."""
SEGMENT_FILE_BYTES_MAX = 1024 * 1024 * 1024
"""A reader looks no further than this into a file."""

_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{8})\.ags", re.ASCII)
PACK_SUFFIX = ".agp"
_PACK_NAME = re.compile(r"([0-9a-f]{8})-([0-9a-f]{16})\.agp", re.ASCII)


class State(IntEnum):
    """What a segment file is."""

    LIVE = 0
    """Frames, appended by one process."""
    SEALED = 1
    """Written once, with a footer."""
    PACKED = 2
    """Many whole segments in one file, written once, with a footer."""
    FINISHED = 3
    """Live once; the process that appended to it has put a footer behind its frames."""


class Kind(IntEnum):
    """What a frame holds."""

    SPANS = 1
    OUTCOMES = 2
    GAPS = 3
    RESOURCE = 4
    FEATURES = 5
    FOOTER = 6
    END = 7
    """The writer closed the live segment on purpose; nothing follows."""
    CONTENT = 8
    """What was said in the spans that follow, sealed for the persons it is about."""


FLAG_LAST = 1
"""Nothing follows this frame."""

CHUNK_SPANS = 128
"""So many spans a sealed frame has where short ones are put together; one that is at least half as long may stay."""


class Header(NamedTuple):
    """The first 128 bytes of a segment."""

    state: int
    n: int
    """Number of the segment in its writer, from 0."""
    store_id: bytes
    writer: bytes
    """8 random bytes, new for each process and after each fork."""
    generation: int
    salt: bytes
    commitment: bytes
    version: int = SEGMENT_VERSION

    @property
    def name(self) -> str:
        """The name that the file must have."""
        if self.state == State.PACKED:
            return f"{self.n:08x}-{self.writer.hex()}.agp"
        return segment_name(self.writer, self.n)

    def pack(self) -> bytes:
        """Put the header together, checksum included."""
        body = _HEADER.pack(
            HEADER_MAGIC, self.version, self.state, 0, self.n, self.store_id, self.writer,
            self.generation, 0, self.salt, self.commitment, b"", 0,
        )[:-4]  # fmt: skip
        return body + struct.pack("<I", zlib.crc32(body))

    @property
    def bound(self) -> bytes:
        """What every seal of the file is bound to: the header up to the salt, as it was when the file was begun."""
        begun = self._replace(state=State.LIVE) if self.state == State.FINISHED else self
        return begun.pack()[:_BOUND_BYTES]

    def seal_key(self, root: RootKey) -> SealKey:
        """Derive the key of this file; its commitment is not checked here."""
        return segment_key(root, store_id=self.store_id, writer=self.writer, n=self.n, salt=self.salt)


def unpack_header(data: bytes) -> Header | None:
    """Take the header apart; `None` where it is no undamaged header."""
    if len(data) < HEADER_BYTES:
        return None
    (magic, version, state, _, n, store_id, writer, generation, _, salt, commitment, _, checksum) = (
        _HEADER.unpack_from(data)
    )
    if magic != HEADER_MAGIC or checksum != zlib.crc32(data[: HEADER_BYTES - 4]):
        return None
    return Header(state, n, store_id, writer, generation, salt, commitment, version)


def segment_key(root: RootKey, *, store_id: bytes, writer: bytes, n: int, salt: bytes) -> SealKey:
    """Derive the key of one segment file from the root of its generation."""
    context = SEGMENT_LABEL + store_id + writer + struct.pack("<I", n) + salt
    return SealKey(root.subkey(SEGMENT_LABEL), SEGMENT_LABEL, context)


def segment_name(writer: bytes, n: int) -> str:
    """Name the file of a segment; made of random bits and a number only."""
    return f"{writer.hex()}-{n:08x}.ags"


def parse_segment_name(name: str) -> tuple[bytes, int] | None:
    """Read writer and number from a file name; `None` where it is no segment's."""
    match = _NAME.fullmatch(name)
    return (bytes.fromhex(match[1]), int(match[2], 16)) if match else None


def parse_pack_name(name: str) -> tuple[int, bytes] | None:
    """Read number and writer from a file name; `None` where it is no pack's."""
    match = _PACK_NAME.fullmatch(name)
    return (int(match[1], 16), bytes.fromhex(match[2])) if match else None


class FrameHead(NamedTuple):
    """What stands in clear before the payload of a frame."""

    kind: int
    flags: int
    codec: int
    number: int
    """Number of the frame in its file, from 0, without gaps."""
    length: int
    """Bytes of the payload: nonce, ciphertext and tag."""
    checksum: int


def pack_frame(
    key: SealKey,
    bound: bytes,
    *,
    kind: int,
    codec: int,
    number: int,
    plain: bytes,
    is_last: bool = False,
    nonce: bytes = b"",
) -> bytes:
    """
    Seal *plain* and put the head before it.

    *nonce* is 12 random bytes, of whoever seals several frames and draws theirs at once; without it the key draws.
    """
    flags = FLAG_LAST if is_last else 0
    length = len(plain) + NONCE_BYTES + TAG_BYTES
    head = _FRAME.pack(FRAME_MAGIC, kind, flags, codec, 0, number, length, 0)[:_FRAME_CHECKED_BYTES]
    payload = nonce + key.seal_at(nonce, plain, bound + head) if nonce else key.seal(plain, bound + head)
    checksum = zlib.crc32(payload, zlib.crc32(head))
    return b"".join((head, checksum.to_bytes(4, "little"), payload))


def unpack_frame_head(data: bytes | memoryview, offset: int) -> FrameHead | None:
    """Read a frame head; `None` where there is none at *offset*."""
    if len(data) - offset < FRAME_HEAD_BYTES:
        return None
    magic, kind, flags, codec, _, number, length, checksum = _FRAME.unpack_from(data, offset)
    if magic != FRAME_MAGIC or not NONCE_BYTES + TAG_BYTES <= length <= PAYLOAD_BYTES_MAX:
        return None
    return FrameHead(kind, flags, codec, number, length, checksum)


def is_frame_intact(data: bytes | memoryview, offset: int, head: FrameHead) -> bool:
    """Whether head and payload are the bytes that were written (by accident, not by an attacker)."""
    start = offset + FRAME_HEAD_BYTES
    checksum = zlib.crc32(
        data[start : start + head.length], zlib.crc32(data[offset : offset + _FRAME_CHECKED_BYTES])
    )
    return checksum == head.checksum


def open_frame(key: SealKey, bound: bytes, data: bytes | memoryview, offset: int, head: FrameHead) -> bytes:
    """
    Check and decrypt the payload of a frame.

    Raises:
        TamperedError: It is not what was sealed at this place of this file.
    """
    start = offset + FRAME_HEAD_BYTES
    aad = bound + bytes(data[offset : offset + _FRAME_CHECKED_BYTES])
    return key.open(data[start : start + head.length], aad)


def pack_trailer(footer_offset: int, footer_bytes: int) -> bytes:
    """Say where the footer is, in the last bytes of a sealed file."""
    body = _TRAILER.pack(TRAILER_MAGIC, footer_offset, footer_bytes, 0)[:-4]
    return body + struct.pack("<I", zlib.crc32(body))


def unpack_trailer(data: bytes) -> tuple[int, int] | None:
    """Read offset and length of the footer frame; `None` where there is no undamaged trailer."""
    if len(data) != TRAILER_BYTES:
        return None
    magic, offset, length, checksum = _TRAILER.unpack(data)
    if magic != TRAILER_MAGIC or checksum != zlib.crc32(data[:-4]):
        return None
    return offset, length
