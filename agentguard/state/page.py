"""
The control page: what every call reads without a system call.

One memory-mapped page a store. It holds generations only, no content: a
generation that changed says that the sealed state must be read again. Whoever
writes to the page can make calls slower or stop them, never let one through.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from agentguard.errors import StoreError
from agentguard.seal import PRIVATE_FILE_MODE

FILE_NAME = "control"
PAGE_BYTES = 4096
KILL = 8
"""Offset of the generation of the kill orders; 16, 24, 32 are kept for bundle, verdicts, rates."""
BREAKERS = 40
"""Offset of the generation of the breakers."""

_MAGIC = b"AGCTRL1\n"
NUMBER_BYTES = 8
"""Of one generation: an integer without a sign, in the byte order of the machine, whose own page it is."""


class Page(Protocol):
    """Generations that every process of the machine sees."""

    @property
    def numbers(self) -> Sequence[int]:
        """All generations as they are now, each at its offset over eight: for whoever reads one at every call."""
        ...

    def read(self, offset: int) -> int:
        """Read one generation."""
        ...

    def write(self, offset: int, generation: int) -> None:
        """Write one generation."""
        ...

    def close(self) -> None:
        """Let go of the page."""
        ...


class MemoryPage:
    """A page of this process alone."""

    def __init__(self) -> None:
        self.numbers = [0] * (PAGE_BYTES // NUMBER_BYTES)

    def read(self, offset: int) -> int:
        """Read one generation."""
        return self.numbers[offset // NUMBER_BYTES]

    def write(self, offset: int, generation: int) -> None:
        """Write one generation."""
        self.numbers[offset // NUMBER_BYTES] = generation

    def close(self) -> None:
        """Nothing is open."""


class MappedPage:
    """The page of a store."""

    def __init__(self, folder: Path) -> None:
        """
        Map the page, and make it where there is none.

        Raises:
            StoreError: It cannot be made or mapped, or something else has its name.
        """
        path = folder / FILE_NAME
        try:
            fd = os.open(
                path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, PRIVATE_FILE_MODE
            )
            try:
                status = os.fstat(fd)
                if not stat.S_ISREG(status.st_mode):
                    raise StoreError(f"{path}: got something that is not a regular file, expected a file")
                if status.st_size < PAGE_BYTES:
                    # Several processes may do this at once: all write the same.
                    os.ftruncate(fd, PAGE_BYTES)
                    os.pwrite(fd, _MAGIC, 0)
                self._map = mmap.mmap(fd, PAGE_BYTES)
            finally:
                os.close(fd)
        except (OSError, ValueError) as error:
            raise StoreError(f"{path}: cannot be mapped ({type(error).__name__})") from error
        if self._map[: len(_MAGIC)] != _MAGIC:
            self._map.close()
            raise StoreError(f"{path}: not a control page").hint(
                "remove it; it holds nothing that is not made again"
            )
        self._view = memoryview(self._map).cast("Q")
        self.numbers: Sequence[int] = self._view

    def read(self, offset: int) -> int:
        """Read one generation: eight aligned bytes of memory."""
        return self._view[offset // NUMBER_BYTES]

    def write(self, offset: int, generation: int) -> None:
        """Write one generation."""
        self._view[offset // NUMBER_BYTES] = generation

    def close(self) -> None:
        """Unmap the page; whoever still looks at its numbers gets a ValueError."""
        self._view.release()
        with contextlib.suppress(BufferError):
            self._map.close()
