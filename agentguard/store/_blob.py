"""Small sealed files beside the segments, replaced whole: references, verdicts, cursors."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agentguard.errors import SealError, StoreError, TamperedError
from agentguard.seal import Keystore, open_box, read_file, seal_box, write_file_atomic
from agentguard.store._disk import unlock

BLOB_BYTES_MAX = 64 * 1024 * 1024
BLOB_KINDS = frozenset(
    {
        "cursor",
        "dependencies",
        "drift-reference",
        "drift-state",
        "drift-verdict",
        "holds",
        "policy-state",
        "settings",
        "tool-definitions",
    }
)
"""What may be kept; a kind may be followed by `-` and 16 hexadecimal digits.

No file name is ever made from what somebody sent.
"""
_DIGEST = re.compile(r"-[0-9a-f]{16}", re.ASCII)
_GENERATION_BYTES = 4


class SealedBlob:
    """One sealed file with a fixed name. Writers of several processes take turns by `locked`."""

    def __init__(self, folder: Path, name: str, keystore: Keystore) -> None:
        if name not in BLOB_KINDS and not (name[:-17] in BLOB_KINDS and _DIGEST.fullmatch(name[-17:])):
            raise StoreError(
                f"blob: got the name {name!r}, expected one of {', '.join(sorted(BLOB_KINDS))}, "
                "and `-` with 16 hexadecimal digits after it where there are several"
            )
        self.name = name
        self._path = folder / f"{name}.agb"
        self._lock_path = folder / f"{name}.lock"
        self._keystore = keystore

    def read(self) -> bytes | None:
        """
        Return what was written last; `None` where nothing was.

        Raises:
            TamperedError: The file is not what was written.
            StoreError: It cannot be read.

        """
        try:
            data = read_file(self._path, bytes_max=BLOB_BYTES_MAX)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{self._path}: cannot be read: {error.strerror or error}") from error
        except SealError as error:
            raise TamperedError(str(error)) from error
        generation = int.from_bytes(data[:_GENERATION_BYTES], "little")
        try:
            root = self._keystore.root_of(generation)
        except SealError as error:
            raise TamperedError(
                f"{self._path}: got an unknown key generation, expected a known one"
            ) from error
        try:
            return open_box(root, data[_GENERATION_BYTES:], purpose="blob", context=self._context(generation))
        except TamperedError as error:
            raise TamperedError(f"{self._path}: {error}") from None

    def write(self, data: bytes) -> None:
        """
        Replace the content, durable and at once.

        Raises:
            StoreError: It is too long, or cannot be written; the old content is still there.

        """
        if len(data) > BLOB_BYTES_MAX - 4096:
            raise StoreError(
                f"blob {self.name}: got {len(data)} bytes, expected at most {BLOB_BYTES_MAX - 4096}"
            )
        generation = self._keystore.generation
        box = seal_box(self._keystore.root, data, purpose="blob", context=self._context(generation))
        try:
            write_file_atomic(self._path, generation.to_bytes(_GENERATION_BYTES, "little") + box)
        except OSError as error:
            raise StoreError(f"{self._path}: cannot be written: {error.strerror or error}") from error

    @contextmanager
    def locked(self, *, is_waiting: bool = True) -> Iterator[bool]:
        """
        Hold the lock of this blob, for a read and a write that belong together.

        Args:
            is_waiting:
                Whether to wait for another process that has it.

        Yields:
            Whether the lock is held; always True when waiting.

        """
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(self._lock_path, flags, 0o600)
        except OSError as error:
            raise StoreError(f"{self._lock_path}: cannot be opened: {error.strerror or error}") from error
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX if is_waiting else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield False
            else:
                try:
                    yield True
                finally:
                    unlock(fd)
        finally:
            os.close(fd)

    def _context(self, generation: int) -> bytes:
        """What the box is bound to."""
        return self._keystore.store_id + generation.to_bytes(4, "little") + self.name.encode()
