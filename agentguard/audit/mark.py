"""
The high-water mark: the newest ledger entry that this machine has seen, kept outside the store.

A store that is put back from a backup, or by somebody who wants a decision forgotten,
then ends before its mark, and is not written on.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from agentguard.audit.checkpoint import Checkpoint, parse
from agentguard.audit.keys import AuditKeys
from agentguard.audit.notes import NoteError
from agentguard.errors import SealError
from agentguard.seal import PRIVATE_FILE_MODE, read_file, write_all

MARK_BYTES_MAX = 1 << 24


class HighWaterMark:
    """One file with one signed note. Replaced whole, and not synced: it may lag, never lie."""

    def __init__(self, path: Path, keys: AuditKeys) -> None:
        self.path = path
        self._keys = keys

    def read(self) -> Checkpoint | None:
        """Return the entry; None where there is none, or no note of this store."""
        with contextlib.suppress(OSError, SealError, NoteError):
            note = read_file(self.path, bytes_max=MARK_BYTES_MAX)
            checkpoint = parse(note)
            if self._keys.is_signed(note):
                return checkpoint
        return None

    def write(self, note: bytes) -> None:
        """
        Keep a newer entry.

        Raises:
            OSError: The file cannot be written.
        """
        written = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(written, flags, PRIVATE_FILE_MODE)
        try:
            write_all(fd, note)
        finally:
            os.close(fd)
        written.replace(self.path)
