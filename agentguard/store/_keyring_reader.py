"""
Reading the keyring: what is in it now, while others add keys and erase them.

A writer needs the header only; who opens content reads the entries, and of those
only what was added since the last time.
"""

from __future__ import annotations

import errno
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from agentguard.errors import KeyUnavailableError, SealError, StoreError, TamperedError
from agentguard.seal import Keystore, RootKey, WrapKey, open_regular, open_wrap_key, read_wrap_key
from agentguard.store import _keyring_file as layout
from agentguard.store._keyring_file import KEYRING_FILE, KeyEntry

_WRAP_NAME = re.compile(r"wrap-([0-9a-f]{8})\.agw", re.ASCII)
_TRIES_MAX: Final = 16
"""How often a keyring is read again because somebody replaced it meanwhile."""


class Head(NamedTuple):
    """What is known of the file without its entries: all that a writer needs."""

    state: tuple[int, int, int, int]
    """Device, inode, size and time of change."""
    number: int
    """Of the wrap key."""
    wrap: WrapKey | None

    @property
    def is_there(self) -> bool:
        """Whether there is a file, be it damaged."""
        return self.state != _NOTHING.state


class _Index(NamedTuple):
    """The entries of one file, as far as they were read."""

    file: tuple[int, int, int]
    """Device, inode, number of the wrap key."""
    wrapped: dict[bytes, bytes]
    read_bytes: int


_NOTHING = Head((0, 0, 0, 0), 0, None)
_NO_INDEX = _Index((0, 0, 0), {}, layout.HEADER_BYTES)


class KeyringReader:
    """The keyring of one store, to look keys up in. Safe for threads, and beside any number of processes."""

    def __init__(self, folder: Path, keystore: Keystore) -> None:
        self._folder = folder
        self._path = folder / KEYRING_FILE
        self._path_text = str(self._path)
        """Looked at for each group of content: a `Path` becomes text anew each time."""
        self._keystore = keystore
        self._known = _NOTHING
        self._index = _NO_INDEX

    @property
    def number(self) -> int:
        """
        Of the wrap key, which changes when somebody is erased; 0 where there is no keyring.

        Raises:
            OSError: It cannot be read just now.
        """
        return self._head().number

    def find(self, ref: bytes) -> RootKey | None:
        """
        Look up a key by its reference.

        Returns:
            The key; `None` where it was erased.

        Raises:
            KeyUnavailableError: The wrap key or the entry is not there, as in a backup; or cannot be read just now.
        """
        try:
            head, entries = self._whole()
        except OSError as error:
            raise KeyUnavailableError(f"{self._path}: cannot be read: {error.strerror or error}") from error
        wrapped = entries.get(ref)
        if head.wrap is None or wrapped is None:
            raise KeyUnavailableError("subject key: got none that opens this content, expected one")
        entry = layout.open_entry(head.wrap, ref, wrapped)
        return None if entry.is_erased else RootKey(entry.key)

    def _head(self) -> Head:
        """
        The keyring as it is now, without its entries: nothing is read where nothing changed.

        Raises:
            OSError: It cannot be read just now. Whoever took it for gone would put an empty one into its place.
        """
        known = self._known
        try:
            status = os.lstat(self._path_text)
        except FileNotFoundError:
            self._known = _NOTHING
            return _NOTHING
        if state_of(status) != known.state:
            known = self._known = self._reread(known)
        return known

    def _reread(self, known: Head) -> Head:
        """Read the header."""
        fd = _open(self._path)
        if fd is None:
            return _NOTHING
        try:
            state = state_of(os.fstat(fd))
            number = layout.unpack_header(os.pread(fd, layout.HEADER_BYTES, 0), self._keystore.store_id)
        finally:
            os.close(fd)
        if number is None:
            return _NOTHING._replace(state=state)
        is_same = number == known.number and known.wrap is not None
        return Head(state, number, known.wrap if is_same else self._wrap_key(number))

    def _whole(self) -> tuple[Head, dict[bytes, bytes]]:
        """
        The keyring as it is now, with all entries by reference.

        Raises:
            OSError: It cannot be read just now.
        """
        for _ in range(_TRIES_MAX):
            head = self._head()
            entries = self._entries_of(head)
            if entries is not None:
                return head, entries
        raise OSError(errno.EBUSY, "it was replaced again and again")

    def _entries_of(self, head: Head) -> dict[bytes, bytes] | None:
        """The entries; only what was added since the last time is read. `None` where the file was replaced."""
        index, file = self._index, (*head.state[:2], head.number)
        if index.file != file or head.state[2] < index.read_bytes:
            index = _NO_INDEX._replace(file=file, wrapped={})
        if head.state[2] - index.read_bytes >= layout.ENTRY_BYTES:
            fd = _open(self._path)
            if fd is None:
                return None
            try:
                if state_of(os.fstat(fd))[:2] != file[:2]:
                    return None
                data = _read_from(fd, index.read_bytes, min(head.state[2], layout.KEYRING_BYTES_MAX))
            finally:
                os.close(fd)
            index.wrapped.update(layout.split_entries(data))
            whole = len(data) // layout.ENTRY_BYTES * layout.ENTRY_BYTES
            index = index._replace(read_bytes=index.read_bytes + whole)
        self._index = index
        return index.wrapped

    def _wrap_key(self, number: int) -> WrapKey | None:
        """Open a wrap key; `None` where it is not there, or not for these keys."""
        try:
            generation, data = read_wrap_key(self._wrap_path(number))
            root = self._keystore.root_of(generation)
            return open_wrap_key(data, number, root=root, store_id=self._keystore.store_id)
        except (KeyUnavailableError, TamperedError):
            return None

    def _wrap_path(self, number: int) -> Path:
        return self._folder / layout.wrap_file(number)

    def _entries(self) -> list[KeyEntry]:
        """All entries that can be opened; none where there is no keyring."""
        try:
            head, entries = self._whole()
        except OSError as error:
            raise StoreError(f"{self._path}: cannot be read: {error.strerror or error}") from error
        if head.wrap is None:
            if entries:
                raise KeyUnavailableError(
                    f"{self._wrap_path(head.number)}: got no wrap key, expected it"
                ).hint(
                    "a store that was restored without it has nothing left to erase: its content cannot be read"
                )
            return []
        found = []
        for ref, wrapped in entries.items():
            with suppress(TamperedError):
                found.append(layout.open_entry(head.wrap, ref, wrapped))
        return found

    def _wrap_files(self) -> list[tuple[int, Path]]:
        """The files of all wrap keys, with their numbers."""
        found = ((_WRAP_NAME.fullmatch(path.name), path) for path in self._folder.glob("wrap-*.agw"))
        return [(int(match[1], 16), path) for match, path in found if match]

    def _forget(self) -> None:
        """Keep nothing of what was read."""
        self._known, self._index = _NOTHING, _NO_INDEX

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._path)!r}, hidden)"


def state_of(status: os.stat_result) -> tuple[int, int, int, int]:
    """What changes when a file is replaced or written to."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _open(path: Path) -> int | None:
    """Open a keyring; `None` where there is no file of that name, or only a link or a folder."""
    try:
        return open_regular(path)
    except SealError:
        return None
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ELOOP}:
            return None
        raise


def _read_from(fd: int, begin: int, end: int) -> bytes:
    """Read a part of a file."""
    parts = []
    while begin < end and (part := os.pread(fd, min(end - begin, 1 << 24), begin)):
        parts.append(part)
        begin += len(part)
    return b"".join(parts)
