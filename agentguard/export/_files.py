"""Files that leave the sealed store: readable by their owner only, whole or not there."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from agentguard.errors import ExportError


@contextmanager
def private_file(path: Path, *, is_replaced: bool) -> Iterator[BinaryIO]:
    """
    Open a file of mode 0600 that appears under its name only when all is written.

    Args:
        path:
            Where it shall lie.
        is_replaced:
            Whether a file of that name may be replaced.

    Raises:
        ExportError: There is one already, or the folder cannot be written.
    """
    if not is_replaced and path.exists():
        raise ExportError(f"export: `{path}` exists").hint("name another file, or replace it with --force")
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise ExportError(f"export: `{path}` cannot be written: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
