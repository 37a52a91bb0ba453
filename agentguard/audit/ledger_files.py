"""
The files of the ledger: their names, the lock of those who append, and the entries in them.

Bytes in, bytes out: what an entry states is for `ledger` and `ledger_reader`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from agentguard.audit.checkpoint import key_name
from agentguard.errors import AuditError, SealError
from agentguard.seal import PRIVATE_FILE_MODE, open_regular

FOLDER = "log"
READ_BYTES_MAX = 1 << 28
LOCK_WAIT_S_MAX = 5.0
_LINE_BYTES = 92 + 1
"""Base64 of key id and Ed25519 signature, and the line feed."""
_SECOND_LINE_BYTES = 4 * (-(-(4 + 8 + 2420) // 3)) + 1
"""The same of an ML-DSA-44 cosignature."""

_NAME = re.compile(r"ledger-([0-9]{8})\.agl\Z")
_ENTRY = re.compile(rb"([^\x00]+?\n\n(?:\xe2\x80\x94 [^\n\x00]+\n)+)\n")


@contextlib.contextmanager
def locked(folder: Path, *, wait_s_max: float = LOCK_WAIT_S_MAX) -> Iterator[None]:
    """
    Hold the ledger's lock: one process at a time, and one thread of it.

    Args:
        folder:
            The `log` folder.
        wait_s_max:
            A process that stops while it holds the lock must not stop all others.

    Raises:
        AuditError: Someone else held it for that long.
    """
    fd = _open_lock(folder)
    try:
        deadline = time.monotonic() + wait_s_max
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    raise AuditError(f"ledger: locked by another process for {wait_s_max:g} s") from error
                time.sleep(0.002)
        try:
            yield
        finally:
            # Unlocked by name: a child forked meanwhile shares the lock, closing alone would not end it.
            fcntl.flock(fd, fcntl.LOCK_UN)
    finally:
        os.close(fd)


def _open_lock(folder: Path) -> int:
    """Open the file to lock; where nothing may be written, as an auditor's copy is mounted, what is there."""
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(folder / "lock", flags | os.O_RDWR | os.O_CREAT, PRIVATE_FILE_MODE)
    except OSError as error:
        if error.errno not in {errno.EROFS, errno.EACCES}:
            raise
    try:
        return os.open(folder / "lock", flags | os.O_RDONLY)
    except FileNotFoundError:
        return os.open(folder, flags | os.O_RDONLY | os.O_DIRECTORY)


def read_from(path: Path, start: int) -> bytes:
    """Read what stands behind a place: each checkpoint does, and finds little."""
    fd = open_regular(path)
    try:
        size = os.fstat(fd).st_size
        if size > READ_BYTES_MAX:
            raise SealError(f"{path}: got {size} bytes, expected at most {READ_BYTES_MAX}")
        return os.pread(fd, size - start, start) if size > start else b""
    finally:
        os.close(fd)


def path_of(folder: Path, number: int) -> Path:
    """Name a file of the ledger; *folder* is the `log` folder, as everywhere here."""
    return folder / f"ledger-{number:08d}.agl"


def files(folder: Path) -> list[tuple[int, Path]]:
    """List the ledger's files, oldest first."""
    found: list[tuple[int, Path]] = []
    with contextlib.suppress(FileNotFoundError):
        found = [(int(match[1]), path) for path in folder.iterdir() if (match := _NAME.match(path.name))]
    return sorted(found)


def split(data: bytes) -> Iterator[bytes]:
    """Cut a ledger file into its complete entries; an incomplete last one is left out."""
    offset = 0
    while match := _ENTRY.match(data, offset):
        yield match[1]
        offset = match.end()


def is_torn(rest: bytes, store_id: bytes) -> bool:
    """
    Whether a crash explains what stands behind the last complete entry.

    Args:
        rest:
            Those bytes.
        store_id:
            Gives the length of a signature line.

    Returns:
        True for zeros, at the end or where a part never reached the disk, and for an entry that
        is cut short; False for one that has its whole length, and is not an entry: that was changed.
    """
    written = rest.rstrip(b"\x00")
    hole = rest.find(b"\x00")
    if hole >= 0:
        # No entry has a zero in it. Each is brought to disk before the next: behind a hole of a crash none begins.
        return f"\n\n{key_name(store_id)}/".encode() not in rest[hole:]
    _, separator, signatures = written.partition(b"\n\n")
    if written.endswith(b"\n\n") or not separator:
        return not written.endswith(b"\n\n")
    name = f"— {key_name(store_id)} ".encode()
    second = signatures[len(name) + _LINE_BYTES :]
    # Behind the first line, which has a known length, stands nothing or the beginning of another.
    is_other = name.startswith(second[: len(name)]) and len(second) <= len(name) + _SECOND_LINE_BYTES
    return not second or is_other
