"""
What the writer does to files, behind one door, so that tests can make the disk fail.

Each method raises `OSError` as the system does; none retries and none hides.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path

from agentguard.seal import PRIVATE_FILE_MODE, sync_data, sync_folder, write_all

_NEW = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Disk:
    """The real disk."""

    def create(self, path: Path) -> int:
        """Make a new file and open it for appending; an existing one is never touched."""
        fd = os.open(path, _NEW | os.O_EXCL | os.O_APPEND, PRIVATE_FILE_MODE)
        os.fchmod(fd, PRIVATE_FILE_MODE)
        return fd

    def create_over(self, path: Path) -> int:
        """Make or empty a temporary file of our own and open it for writing."""
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        return self.create(path)

    def write(self, fd: int, data: bytes) -> None:
        """Write all of *data*."""
        write_all(fd, data)

    def overwrite(self, fd: int, data: bytes) -> None:
        """Put *data* over the first bytes of a file to which nothing is appended any more."""
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_APPEND)
        if os.pwrite(fd, data, 0) < len(data):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def truncate(self, fd: int, size_bytes: int) -> None:
        """Cut the file back to *size_bytes*."""
        os.ftruncate(fd, size_bytes)

    def sync(self, fd: int) -> None:
        """Bring what was written to stable storage."""
        sync_data(fd)

    def sync_folder(self, folder: Path) -> None:
        """Bring names to stable storage."""
        sync_folder(folder)

    def lock(self, fd: int) -> None:
        """Mark the file as this process's; waits only for readers that look whether it is marked."""
        fcntl.flock(fd, fcntl.LOCK_EX)

    def rename(self, source: Path, target: Path) -> None:
        """Put *source* in the place of *target*, at once."""
        source.replace(target)

    def link(self, source: Path, target: Path) -> None:
        """Give a file a second name; one that is there already is kept."""
        with contextlib.suppress(FileExistsError):
            os.link(source, target, follow_symlinks=False)

    def unlink(self, path: Path) -> None:
        """Remove a file; one that is gone already is fine."""
        path.unlink(missing_ok=True)

    def close(self, fd: int) -> None:
        """Close; an error here changes nothing that can still be changed."""
        with contextlib.suppress(OSError):
            os.close(fd)


def try_lock(fd: int, *, is_shared: bool = False) -> bool:
    """Take the lock of an open file if nobody else has it."""
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def unlock(fd: int) -> None:
    """
    Give a lock back, before the file is closed.

    A child that was forked meanwhile has the file open too and shares the lock: closing alone would not end it.
    """
    with contextlib.suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_UN)
