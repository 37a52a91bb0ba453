"""
One exporter a destination: of all processes that share a store, one holds the lock.

The operating system gives the lock back when its holder dies, however it dies.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class Lease:
    """
    The right to export to one destination.

    Args:
        path:
            The lock file; made where it is not there, readable by its owner only.
            It is never deleted: a file that is deleted while another process opens
            it would give two holders.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        self._pid = 0

    @property
    def is_held(self) -> bool:
        """Whether this process holds it; a child of the holder does not."""
        return self._descriptor >= 0 and self._pid == os.getpid()

    def acquire(self) -> bool:
        """
        Take it where it is free; never waits.

        Raises:
            OSError: The lock file cannot be opened.
        """
        if self.is_held:
            return True
        self.release()
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                return False
            raise
        self._descriptor, self._pid = descriptor, os.getpid()
        return True

    def release(self) -> None:
        """
        Give it back.

        In a forked child this only closes the child's copy: the lock belongs to
        the open file, so an unlock in the child would take it from the parent,
        and a copy that stays open would keep it from others after the parent's death.
        """
        if self._descriptor >= 0:
            if self.is_held:
                # By name: a child forked meanwhile may have a copy that is open.
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)
        self._descriptor, self._pid = -1, 0
