"""
The bytes of `keyring.agk`: a header, and one entry of fixed length for each key.

Pure: no file is opened here. `docs/reference/store-file-format.md` is the normative
text of the same.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from agentguard.errors import TamperedError
from agentguard.seal import KEY_BYTES, WrapKey

KEYRING_FILE = "keyring.agk"
KEYRING_VERSION = 1
KEYRING_BYTES_MAX = 128 * 1024 * 1024
"""Room for some 1.6 million keys; retention makes room again."""
REF_BYTES = 8
SUBJECT_BYTES = 16
_MAGIC = b"\x89AGKEY\r\n"
_HEADER = struct.Struct("<8sHHI16s28sI")
HEADER_BYTES = _HEADER.size
_WRAPPED_BYTES = 72
_ENTRY = struct.Struct(f"<{REF_BYTES}s{_WRAPPED_BYTES}sI")
ENTRY_BYTES = _ENTRY.size
_INNER = struct.Struct(f"<{KEY_BYTES}s{REF_BYTES}s{SUBJECT_BYTES}sIB3s")
_ERASED = 1


def wrap_file(number: int) -> str:
    """Name the file of a wrap key."""
    return f"wrap-{number:08x}.agw"


class KeyEntry(NamedTuple):
    """One key of a subject, or what is left of one."""

    ref: bytes
    """8 random bytes, by which sealed content names its key."""
    key: bytes
    """32 random bytes; zeros where it was erased."""
    subject: bytes
    """Keyed hash of whom it is about, 16 bytes; zeros where it was erased."""
    day: int
    """Days since 1970, when it was drawn."""
    is_erased: bool = False

    def erased(self) -> KeyEntry:
        """What stays in its place: that there was a key, not whose."""
        return KeyEntry(self.ref, bytes(KEY_BYTES), bytes(SUBJECT_BYTES), self.day, is_erased=True)

    def __repr__(self) -> str:
        return f"KeyEntry({self.ref.hex()}, hidden)"


def pack_header(number: int, store_id: bytes) -> bytes:
    """Put the header together: which wrap key wraps the entries."""
    body = _HEADER.pack(_MAGIC, KEYRING_VERSION, 0, number, store_id, b"", 0)[:-4]
    return body + struct.pack("<I", zlib.crc32(body))


def unpack_header(data: bytes, store_id: bytes) -> int | None:
    """Read the number of the wrap key; `None` where this is no undamaged keyring of the store."""
    if len(data) < HEADER_BYTES:
        return None
    magic, version, _, number, owner, _, checksum = _HEADER.unpack_from(data)
    is_sound = magic == _MAGIC and checksum == zlib.crc32(data[: HEADER_BYTES - 4])
    return int(number) if is_sound and version == KEYRING_VERSION and owner == store_id else None


def pack_entry(wrap: WrapKey, entry: KeyEntry) -> bytes:
    """Wrap one entry; what it says of the key is bound to the key."""
    inner = _INNER.pack(
        entry.key, entry.ref, entry.subject, entry.day, _ERASED if entry.is_erased else 0, b""
    )
    head = entry.ref + wrap.wrap(inner)
    return head + struct.pack("<I", zlib.crc32(head))


def split_entries(data: bytes | memoryview) -> Iterator[tuple[bytes, bytes]]:
    """Give reference and wrapped bytes of each undamaged entry; a torn one at the end is left out."""
    for ref, wrapped, checksum in _ENTRY.iter_unpack(data[: len(data) // ENTRY_BYTES * ENTRY_BYTES]):
        if checksum == zlib.crc32(wrapped, zlib.crc32(ref)):
            yield ref, wrapped


def open_entry(wrap: WrapKey, ref: bytes, wrapped: bytes) -> KeyEntry:
    """
    Unwrap one entry.

    Raises:
        TamperedError: It was altered, or stands under another reference.
    """
    key, inner_ref, subject, day, state, _ = _INNER.unpack(wrap.unwrap(wrapped))
    if inner_ref != ref:
        raise TamperedError("keyring: got an entry under another reference, expected its own")
    return KeyEntry(ref, key, subject, day, is_erased=state == _ERASED)
