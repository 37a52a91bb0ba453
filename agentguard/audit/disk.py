"""
The few operations on files whose failure the decision log must survive; tests hand in a faulty one.

`ReservingDisk` keeps room for decisions on a disk that everything else fills: a file
that holds nothing, and is made shorter by what a decision needs.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from agentguard.seal import PRIVATE_FILE_MODE, sync_data, write_all, write_file_atomic

RESERVE = "reserve.bin"
RESERVE_BYTES = 16 << 20
_BLOCK_BYTES = 4096
FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT})


class Safeguards(NamedTuple):
    """What the log does beyond writing records, where it is asked to."""

    post_quantum: bool = False
    """Sign checkpoints with ML-DSA-44 too; a millisecond and 3 KiB for each."""
    mark: Path | None = None
    """File outside the store for the high-water mark: a store that ends before it is not written on."""
    reserve_bytes: int = RESERVE_BYTES
    """Room kept for decisions on a full disk, in `reserve.bin`; 0 keeps none."""


class Disk:
    """The real disk. Every method raises OSError where the system refuses."""

    __slots__ = ()

    def write(self, fd: int, data: bytes | memoryview) -> None:
        """Write all of the bytes; short writes are continued."""
        write_all(fd, data)

    def write_file(self, path: Path, data: bytes) -> None:
        """Write a whole file, durable, in place of what has its name."""
        write_file_atomic(path, data)

    def sync(self, fd: int) -> None:
        """Bring the bytes of a file to stable storage."""
        sync_data(fd)

    def truncate(self, fd: int, length: int) -> None:
        """Cut a file."""
        os.ftruncate(fd, length)

    def keep_reserve(self) -> None:
        """Fill up what is held back, where there is room again."""

    def reserve_left(self) -> int | None:
        """Give the bytes held back, once after some of them were used; else None."""
        return None


class ReservingDisk(Disk):
    """A disk that gives decisions room on a full file system."""

    __slots__ = ("_bytes", "_inner", "_is_used", "_path")

    def __init__(self, inner: Disk, path: Path, bytes_max: int = RESERVE_BYTES) -> None:
        """
        Args:
            inner:
                Does the work.
            path:
                Of the reserve; made by `keep_reserve`.
            bytes_max:
                Its size. Half of what is free must be left beside it.
        """  # noqa: D205 - the arguments say it all
        self._inner = inner
        self._path = path
        self._bytes = bytes_max
        self._is_used = False

    def write(self, fd: int, data: bytes | memoryview) -> None:
        """Write; where the disk is full, make the reserve shorter and write again."""
        start = os.fstat(fd).st_size
        while True:
            try:
                self._inner.write(fd, data)
            except OSError as error:
                if error.errno not in FULL_DISK or not self._release(len(data)):
                    raise
                # A part may have been written; the next try begins where this one did.
                self._inner.truncate(fd, start)
                os.lseek(fd, start, os.SEEK_SET)
            else:
                return

    def write_file(self, path: Path, data: bytes) -> None:
        """Write a whole file, with room from the reserve where there is none."""
        while True:
            try:
                self._inner.write_file(path, data)
            except OSError as error:
                if error.errno not in FULL_DISK or not self._release(len(data)):
                    raise
            else:
                return

    def sync(self, fd: int) -> None:
        """As the inner disk."""
        self._inner.sync(fd)

    def truncate(self, fd: int, length: int) -> None:
        """As the inner disk."""
        self._inner.truncate(fd, length)

    def keep_reserve(self) -> None:
        """
        Fill the reserve, where twice the room that it lacks is free.

        Raises:
            OSError: The file cannot be made.
        """
        if self._bytes <= 0:
            return
        with self._opened(os.O_RDWR | os.O_CREAT) as fd:
            lacking = self._bytes - os.fstat(fd).st_size
            status = os.fstatvfs(fd)
            if lacking > 0 and status.f_bavail * status.f_frsize >= 2 * lacking:
                _allocate(fd, self._bytes)

    def reserve_left(self) -> int | None:
        """Give the bytes held back, once after some of them were used; else None."""
        if not self._is_used:
            return None
        self._is_used = False
        with contextlib.suppress(OSError):
            return self._path.stat().st_size
        return 0

    def _release(self, data_bytes: int) -> bool:
        """Make the reserve shorter by what is needed, and a little; False where it is used up."""
        try:
            with self._opened(os.O_RDWR) as fd:
                size = os.fstat(fd).st_size
                needed = -(-data_bytes // _BLOCK_BYTES) * _BLOCK_BYTES + 2 * _BLOCK_BYTES
                if size == 0:
                    return False
                os.ftruncate(fd, max(size - needed, 0))
        except OSError:
            return False
        self._is_used = True
        return True

    @contextlib.contextmanager
    def _opened(self, flags: int) -> Iterator[int]:
        """Open the reserve, and hold its lock: several processes share it."""
        fd = os.open(self._path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE_FILE_MODE)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield fd
        finally:
            # By name: a child forked meanwhile shares the lock, closing alone would not end it.
            fcntl.flock(fd, fcntl.LOCK_UN)
            os.close(fd)


def _allocate(fd: int, size: int) -> None:
    """Give a file its blocks; it keeps what it has where there is no room."""
    before = os.fstat(fd).st_size
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(fd, 0, size)
            return
        os.lseek(fd, before, os.SEEK_SET)  # macOS: zeros take their room too.
        while (position := os.lseek(fd, 0, os.SEEK_CUR)) < size:
            write_all(fd, bytes(min(1 << 20, size - position)))
    except OSError as error:
        os.ftruncate(fd, before)
        if error.errno not in FULL_DISK:
            raise
