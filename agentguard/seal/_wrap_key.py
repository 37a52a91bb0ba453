"""
The wrap key: 32 random bytes under which the keys of subjects are wrapped.

It is derived from nothing, so that destroying its file destroys what it wrapped,
whatever copies there are of the wrapped keys. The file itself is sealed under the
root: who has the file and no key of the store has nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from pathlib import Path
from typing import NoReturn

from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from agentguard.errors import KeyUnavailableError, SealError, TamperedError
from agentguard.seal._box import BOX_OVERHEAD_BYTES, open_box, seal_box
from agentguard.seal._files import open_regular, read_file, sync_data, sync_folder, write_all, write_new_file
from agentguard.seal._root import KEY_BYTES, RandomBytes, RootKey

WRAP_LABEL = b"agentguard/v1/wrap"
_MAGIC = b"\x89AGWRP\r\n"
_VERSION = 1
_HEAD = struct.Struct("<8sHHII")
_FILE_BYTES = _HEAD.size + BOX_OVERHEAD_BYTES + KEY_BYTES
_PURPOSE = "wrap-key"


class WrapKey:
    """Wraps keys with AES-256-KW, which is deterministic and notices every change (RFC 3394)."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise SealError(f"wrap key: got {len(key)} bytes, expected {KEY_BYTES}")
        self._key = key

    def wrap(self, plain: bytes) -> bytes:
        """Wrap a multiple of 8 bytes, at least 16; the result is 8 bytes longer."""
        return aes_key_wrap(self._key, plain)

    def unwrap(self, wrapped: bytes) -> bytes:
        """
        Undo `wrap`.

        Raises:
            TamperedError: It is something else, or wrapped under another key.
        """
        try:
            return aes_key_unwrap(self._key, wrapped)
        except (InvalidUnwrap, ValueError):
            raise TamperedError(
                "wrapped key: got something else than what was wrapped, expected it unaltered"
            ) from None

    def __repr__(self) -> str:
        return "WrapKey(hidden)"

    def __reduce__(self) -> NoReturn:
        raise SealError("key: got a request to pickle it, expected never")


def create_wrap_key(
    path: Path,
    number: int,
    *,
    root: RootKey,
    generation: int,
    store_id: bytes,
    random_bytes: RandomBytes = os.urandom,
) -> WrapKey:
    """
    Draw a new wrap key and write its file, durably.

    Args:
        path:
            The file; it must not be there.

        number:
            Which wrap key of the store it is, from 1.

        root:
            The root key that its file is sealed under.

        generation:
            Of the root.

        store_id:
            The store that it belongs to.

        random_bytes:
            Where the key comes from.

    Raises:
        OSError: It is there already, or cannot be written.
    """
    key = random_bytes(KEY_BYTES)
    head = _HEAD.pack(_MAGIC, _VERSION, 0, generation, number)
    box = seal_box(
        root.subkey(WRAP_LABEL), key, purpose=_PURPOSE, context=store_id + head, random_bytes=random_bytes
    )
    write_new_file(path, head + box)
    return WrapKey(key)


def read_wrap_key(path: Path) -> tuple[int, bytes]:
    """
    Read the file of a wrap key.

    Returns:
        The generation of the root that it is sealed under, and the sealed bytes for `open_wrap_key`.

    Raises:
        KeyUnavailableError: There is none.
        TamperedError: It is no such file.
        OSError: It cannot be read just now, as where all file descriptors are in use.
    """
    try:
        data = read_file(path, bytes_max=_FILE_BYTES)
    except FileNotFoundError as error:
        raise KeyUnavailableError(f"{path}: got no wrap key, expected one") from error
    except SealError as error:
        raise TamperedError(f"{path}: cannot be read: {error}") from error
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise TamperedError(f"{path}: got a link, expected a file") from error
    if len(data) != _FILE_BYTES:
        raise TamperedError(f"{path}: got {len(data)} bytes, expected {_FILE_BYTES}")
    magic, version, _, generation, _ = _HEAD.unpack_from(data)
    if magic != _MAGIC or version != _VERSION:
        raise TamperedError(f"{path}: got another kind of file, expected a wrap key")
    return generation, data


def open_wrap_key(data: bytes, number: int, *, root: RootKey, store_id: bytes) -> WrapKey:
    """
    Open what `read_wrap_key` read.

    Raises:
        TamperedError: It was altered, or is another one than *number* of this store.
        KeyUnavailableError: The root is an auditor's that may not read it.
    """
    head = data[: _HEAD.size]
    if _HEAD.unpack(head)[4] != number:
        raise TamperedError(f"wrap key: got number {_HEAD.unpack(head)[4]}, expected {number}")
    return WrapKey(
        open_box(root.subkey(WRAP_LABEL), data[_HEAD.size :], purpose=_PURPOSE, context=store_id + head)
    )


def destroy_file(path: Path, random_bytes: RandomBytes = os.urandom) -> None:
    """
    Write over a file and remove it.

    A file system that copies on write, or a flash disk, may keep the old bytes for
    a while; writing over them is the most that a program can do.

    Raises:
        OSError: It could not be removed.
    """
    with contextlib.suppress(FileNotFoundError):
        os.close(open_regular(path))  # No link, no FIFO.
        fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            write_all(fd, random_bytes(os.fstat(fd).st_size))
            sync_data(fd)
        finally:
            os.close(fd)
        path.unlink()
        sync_folder(path.parent)
