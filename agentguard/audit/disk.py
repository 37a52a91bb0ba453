"""The few operations on files whose failure the decision log must survive; tests hand in a faulty one."""

from __future__ import annotations

import os

from agentguard.seal import sync_data, write_all


class Disk:
    """The real disk. Every method raises OSError where the system refuses."""

    __slots__ = ()

    def write(self, fd: int, data: bytes) -> None:
        """Write all of the bytes; short writes are continued."""
        write_all(fd, data)

    def sync(self, fd: int) -> None:
        """Bring the bytes of a file to stable storage."""
        sync_data(fd)

    def truncate(self, fd: int, length: int) -> None:
        """Cut a file."""
        os.ftruncate(fd, length)
