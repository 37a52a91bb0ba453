"""
The byte layout of a decision journal: header, frames, leaves.

Pure: bytes in, values out; no clock, no file, no key. A journal is one header
and then frames. A frame holds the records that were written at one time, and names
the frame before it. Every record is one leaf of the journal's Merkle tree. The normative
page is `docs/reference/decision-log-format.md`.
"""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from operator import add
from typing import NamedTuple

from agentguard.audit.call_record import digest_of, hashed_part, with_form

MAGIC = b"AGDECJ1\n"
FRAME_MAGIC = b"AGDF"
FORMAT_VERSION = 5

HEADER = struct.Struct(">8sHHI16s8sI24s32sI")
"""magic, version, flags, generation of the root key, store id, writer, n, salt, key commitment, CRC-32 of all before."""
PREFIX = struct.Struct(">4sIQIIQ32sI")
"""magic, length of the sealed body, first index, records, number of the frame, ledger sequence, link, CRC-32."""
TRAILER = struct.Struct(">32sI")
"""MAC, CRC-32 of leaf hashes, sealed body and MAC."""

LEAF_BYTES = 32
BLIND_BYTES = 16
DRAWN_BYTES = 1 + BLIND_BYTES
"""Random bytes that a writer draws for each record."""
RECORD_BYTES_MAX = 1 << 20
"""Longest record."""
SEALED_BYTES_MAX = RECORD_BYTES_MAX + 1024
"""Longest sealed body; a frame that claims more is damaged."""
FRAME_RECORDS_MAX = 256
"""Records that a writer puts into one frame."""
FRAME_BYTES_MAX = 1 << 18
"""Bytes of records that a writer puts into one frame, unless one record alone is longer."""
CLAIMED_RECORDS_MAX = 4096
"""A frame that claims more records is damaged."""
ZERO_LINK = bytes(32)
"""What the first frame of a journal names as the frame before it."""

_NAME = re.compile(r"([0-9a-f]{16})-([0-9]{1,9})\Z")
_SECTOR_BYTES = 512


class JournalId(NamedTuple):
    """Which journal: the writer, a random number of one process, and its n-th file."""

    store_id: bytes
    writer: bytes
    n: int

    @property
    def name(self) -> str:
        """`<writer>-<n>`, the name of the file without its suffix."""
        return f"{self.writer.hex()}-{self.n}"


class Header(NamedTuple):
    """What stands at the start of a journal, in clear."""

    journal: JournalId
    salt: bytes
    commitment: bytes
    generation: int = 1
    """Of the root key that the journal's keys are derived from."""


class Frame(NamedTuple):
    """One frame as it stands in the file; nothing of it is authenticated yet."""

    offset: int
    end: int
    number: int
    """Index of its first record among those of the journal, from 0, as it claims."""
    position: int
    """Which frame of the journal it claims to be, from 0."""
    ledger_sequence: int
    """Sequence of the newest ledger entry the writer knew: a ledger that ends before it was cut."""
    previous: bytes
    """Link of the frame before."""
    leaves: tuple[bytes, ...]
    """Leaf hash of each record: lets roots be computed without any decryption key."""
    sealed: bytes
    mac: bytes
    attested: bytes
    """What the MAC covers and the sealed body is bound to: prefix and leaf hashes."""

    @property
    def records(self) -> int:
        """How many records it holds."""
        return len(self.leaves)


class Damage(NamedTuple):
    """Bytes of a journal that are no frame."""

    offset: int
    end: int
    is_torn: bool
    """What a crash leaves at the end of a file, as opposed to damage or alteration."""
    records: int = 1
    """How many records were sealed together there, where that can still be read; else 1."""


class HeaderDamagedError(ValueError):
    """The header does not parse; the message says why."""


def pack_header(header: Header) -> bytes:
    """
    Write a header.

    Args:
        header:
            What to write; the version is `FORMAT_VERSION`.

    Returns:
        `HEADER.size` bytes.
    """
    journal = header.journal
    body = HEADER.pack(
        MAGIC,
        FORMAT_VERSION,
        0,
        header.generation,
        journal.store_id,
        journal.writer,
        journal.n,
        header.salt,
        header.commitment,
        0,
    )[:-4]
    return body + struct.pack(">I", zlib.crc32(body))


def parse_header(data: bytes) -> Header:
    """
    Read a header.

    Args:
        data:
            The start of a journal.

    Returns:
        The header; its commitment is not checked here.

    Raises:
        HeaderDamagedError: Too short, not a journal, damaged, or of another version.
    """
    if len(data) < HEADER.size:
        raise HeaderDamagedError(f"header has {len(data)} bytes, expected {HEADER.size}")
    magic, version, flags, generation, store_id, writer, n, salt, commitment, crc = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise HeaderDamagedError("the file does not begin as a decision journal does")
    if zlib.crc32(data[: HEADER.size - 4]) != crc:
        raise HeaderDamagedError("the checksum of the header is wrong")
    if version != FORMAT_VERSION or flags != 0:
        whose = ("an older" if version < FORMAT_VERSION else "a newer") + " agentguard"
        raise HeaderDamagedError(
            f"got format version {version}.{flags} that {whose} wrote, this one reads {FORMAT_VERSION}.0; "
            "that one can check it"
        )
    return Header(JournalId(store_id, writer, n), salt, commitment, generation)


def parse_name(name: str, store_id: bytes) -> JournalId | None:
    """Read `<writer>-<n>` from the name of a file without suffix; None where it is another file."""
    match = _NAME.match(name)
    return JournalId(store_id, bytes.fromhex(match[1]), int(match[2])) if match else None


def place_of(journal: JournalId) -> bytes:
    """
    Write what every sealed body of a journal is bound to.

    So a frame that is copied from another journal or store does not open.
    """
    return struct.pack(">4sH16s8sI", b"AGDL", FORMAT_VERSION, journal.store_id, journal.writer, journal.n)


def leaf_hash(blind: bytes, record: bytes) -> bytes:
    """
    Hash a leaf: SHA-256(0x00 || blind || record); the blind keeps short records from being guessed.

    Of a record with its form the leaf hashes the form's digest.

    Source: RFC 6962 section 2.1.
    """
    return hashlib.sha256(b"\x00" + blind + hashed_part(record)).digest()


def link_of(attested: bytes) -> bytes:
    """
    Hash what stands in clear of a frame: what the next one names.

    The link is over all leaf hashes and over the link before, so a frame names all records before it.
    """
    return hashlib.sha256(attested).digest()


def pack_body(
    records: Sequence[bytes], drawn: bytes, forms: Sequence[bytes] = ()
) -> tuple[list[bytes], list[bytes]]:
    """
    Write the body of a frame before it is sealed: lengths, forms, then what the leaf of each record hashes.

    Args:
        records:
            One or more.
        drawn:
            `DRAWN_BYTES` random bytes for each: the blind, behind a byte that becomes the zero of its leaf.
        forms:
            Those that its short records need.

    Returns:
        The body in pieces, and the leaf hash of each record.
    """
    count, sha256 = len(records), hashlib.sha256
    begins = bytearray(drawn)
    begins[::DRAWN_BYTES] = bytes(count)
    # In C as far as it goes: this is done for every record that there is.
    entries = list(map(add, struct.unpack(f"{DRAWN_BYTES}s" * count, begins), records))
    leaves = [sha256(entry).digest() for entry in entries]
    lengths = struct.pack(f">{1 + len(forms) + count}I", len(forms), *map(len, forms), *map(len, records))
    return [lengths, *forms, *entries], leaves


def parse_body(body: bytes, leaves: Sequence[bytes]) -> list[tuple[bytes, bytes]] | None:
    """
    Read the body of a frame.

    Args:
        body:
            Opened and authentic.
        leaves:
            As the frame states them.

    Returns:
        Blind and record of each, behind a short record its form; None where the body is not what the leaf hashes say.
    """
    count = int.from_bytes(body[:4], "big")
    at = 4 * (1 + count + len(leaves))
    if count > CLAIMED_RECORDS_MAX or at > len(body):
        return None
    lengths = struct.unpack_from(f">{count + len(leaves)}I", body, 4)
    forms: dict[bytes, bytes] = {}
    for length in lengths[:count]:
        start, at = at, at + length
        forms[digest_of(body[start:at])] = body[start:at]
    records = []
    for leaf, length in zip(leaves, lengths[count:], strict=True):
        start, at = at, at + DRAWN_BYTES + length
        entry = body[start:at]
        if at > len(body) or entry[0] or hashlib.sha256(entry).digest() != leaf:
            return None
        record = with_form(entry[DRAWN_BYTES:], forms)
        if record is None:
            return None
        records.append((entry[1:DRAWN_BYTES], record))
    return records if at == len(body) else None


def pack_prefix(
    *, sealed_bytes: int, index: int, count: int, position: int, ledger_sequence: int, previous: bytes
) -> bytes:
    """Write the part of a frame that stands before the leaf hashes."""
    body = PREFIX.pack(FRAME_MAGIC, sealed_bytes, index, count, position, ledger_sequence, previous, 0)[:-4]
    return body + struct.pack(">I", zlib.crc32(body))


def pack_trailer(leaves: bytes, nonce: bytes, sealed: bytes, mac: bytes) -> bytes:
    """Write the part of a frame that stands after the sealed body."""
    return TRAILER.pack(mac, zlib.crc32(mac, zlib.crc32(sealed, zlib.crc32(nonce, zlib.crc32(leaves)))))


def scan(data: bytes, start: int = HEADER.size) -> Iterator[Frame | Damage]:
    """
    Walk the frames of a journal and skip what is none.

    Never raises: whatever stands in the file comes out as frames and damage
    that together cover it. After damage the walk goes on at the next frame
    whose prefix has a right checksum.

    Args:
        data:
            The whole journal.
        start:
            Where the first frame begins.

    Yields:
        Frames and damage in the order of the file.
    """
    offset, size = start, len(data)
    while offset < size:
        frame, claimed_end, records = _frame_at(data, offset)
        if frame is not None:
            yield frame
            offset = frame.end
            continue
        following = _next_prefix(data, offset + 1)
        if following is not None:
            yield Damage(offset, following, is_torn=_has_hole(data, offset, following), records=records)
            offset = following
            continue
        # Nothing follows: a crash explains a frame that is cut short or has a hole where
        # the disk had not yet written; anything else was whole once, and is not now.
        is_short = size - offset < PREFIX.size or (claimed_end is not None and claimed_end > size)
        yield Damage(offset, size, is_torn=is_short or _has_hole(data, offset, size), records=records)
        return


def _frame_at(data: bytes, offset: int) -> tuple[Frame | None, int | None, int]:
    """Read the frame at an offset; else None and, where the prefix is sound, its end and number of records."""
    prefix = data[offset : offset + PREFIX.size]
    if len(prefix) < PREFIX.size:
        return None, None, 1
    magic, length, index, count, position, ledger_sequence, previous, crc = PREFIX.unpack(prefix)
    if (
        magic != FRAME_MAGIC
        or crc != zlib.crc32(prefix[:-4])
        or length > SEALED_BYTES_MAX
        or not 0 < count <= CLAIMED_RECORDS_MAX
    ):
        return None, None, 1
    leaves_start = offset + PREFIX.size
    body_start = leaves_start + count * LEAF_BYTES
    body_end = body_start + length
    end = body_end + TRAILER.size
    if end > len(data):
        return None, end, count
    mac, crc = TRAILER.unpack_from(data, body_end)
    if crc != zlib.crc32(data[leaves_start : body_end + len(mac)]):
        return None, end, count
    leaves = tuple(data[at : at + LEAF_BYTES] for at in range(leaves_start, body_start, LEAF_BYTES))
    sealed, attested = data[body_start:body_end], data[offset:body_start]
    frame = Frame(offset, end, index, position, ledger_sequence, previous, leaves, sealed, mac, attested)
    return frame, end, count


def _next_prefix(data: bytes, offset: int) -> int | None:
    """Find the next place where a sound prefix stands."""
    while (offset := data.find(FRAME_MAGIC, offset)) >= 0:
        prefix = data[offset : offset + PREFIX.size]
        if len(prefix) == PREFIX.size and zlib.crc32(prefix[:-4]) == int.from_bytes(prefix[-4:], "big"):
            return offset
        offset += 1
    return None


def _has_hole(data: bytes, offset: int, end: int) -> bool:
    """Whether a sector between two places is all zero, as far as it lies between them, or the rest of the file."""
    if end == len(data) and (
        not any(data[-16:]) or not any(data[(end - 1) // _SECTOR_BYTES * _SECTOR_BYTES :])
    ):
        return True
    first = -(-offset // _SECTOR_BYTES) * _SECTOR_BYTES
    if offset < first <= end and not any(data[offset:first]):
        return True
    hole = bytes(_SECTOR_BYTES)
    return any(
        data[at : at + _SECTOR_BYTES] == hole for at in range(first, end - _SECTOR_BYTES + 1, _SECTOR_BYTES)
    )
