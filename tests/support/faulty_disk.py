"""
A disk that fails as told: full, short, torn, failing to sync, read-only.

Faults are set by hand; the bytes that do arrive are real files, so everything
else can be read back as usual.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from agentguard.store import Disk


class FaultyDisk(Disk):
    """The real disk with faults."""

    def __init__(self) -> None:
        self.writes = 0
        self.syncs = 0
        self.room_bytes: int | None = None
        """How much may still be written; `None` for no bound. A write takes what fits, as a full disk does."""
        self.sync_errors: list[int] = []
        """Error numbers of the next syncs."""
        self.write_errors: list[int] = []
        """Error numbers of the next writes."""
        self.create_errors: list[int] = []
        self.truncate_fails = False
        self.pause_s = 0.0

    def create(self, path: Path) -> int:
        if self.create_errors:
            raise _error(self.create_errors.pop(0))
        return super().create(path)

    def write(self, fd: int, data: bytes) -> None:
        self.writes += 1
        if self.write_errors:
            number = self.write_errors.pop(0)
            os.write(fd, data[: len(data) // 2])  # torn: a part arrives
            raise _error(number)
        if self.room_bytes is not None:
            fitting = min(self.room_bytes, len(data))
            os.write(fd, data[:fitting])
            self.room_bytes -= fitting
            if fitting < len(data):
                raise _error(errno.ENOSPC)
            return
        super().write(fd, data)

    def truncate(self, fd: int, size_bytes: int) -> None:
        if self.truncate_fails:
            raise _error(errno.EIO)
        if self.room_bytes is not None:
            self.room_bytes += os.fstat(fd).st_size - size_bytes
        super().truncate(fd, size_bytes)

    def sync(self, fd: int) -> None:
        self.syncs += 1
        if self.sync_errors:
            raise _error(self.sync_errors.pop(0))
        super().sync(fd)


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
