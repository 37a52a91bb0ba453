"""
What is kept of anchors in the store itself: which note went where, when, and what came back.

`log/anchors/<seq>.checkpoint` is the note, `<seq>-<who>.receipt` says in JSON where it went
and when, `<seq>-<who>.tsr` is a time stamp, which `openssl ts -verify` reads. Whoever sets
a store back can remove them; what lies elsewhere is what tells.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from pathlib import Path
from typing import NamedTuple

from agentguard.audit.anchors import Anchor
from agentguard.audit.ledger_files import FOLDER, READ_BYTES_MAX
from agentguard.audit.targets import TIMESTAMP
from agentguard.errors import AuditError, SealError
from agentguard.seal import ensure_private_folder, read_file, write_file_atomic

ANCHORS = "anchors"
KEPT_MAX = 200
"""Receipts; the oldest go first."""
KEPT_BYTES_MAX = 64 << 20
ANSWER_BYTES_MAX = 1 << 20

_NAME = re.compile(r"([0-9]{12})-([0-9a-f]{8})\.receipt\Z")


class Receipt(NamedTuple):
    """One anchor that somebody took."""

    sequence: int
    to: str
    """Name of the sink."""
    time_unix_ns: int
    """By our clock; a time stamp has its own."""
    note: bytes
    time_stamp: bytes
    """TimeStampResp in DER; empty where there is none."""


class Receipts:
    """The receipts of one store."""

    def __init__(self, folder: Path) -> None:
        """
        Name the folder.

        Args:
            folder:
                The store's.
        """
        self._folder = folder / FOLDER / ANCHORS

    def keep(self, anchor: Anchor, to: str, answer: bytes, time_unix_ns: int) -> None:
        """
        Note that an anchor was taken, and let go of the oldest notes beyond the bounds.

        Raises:
            AuditError: It cannot be written.
        """
        stem = f"{anchor.checkpoint.sequence:012d}"
        own = f"{stem}-{short(to)}"
        try:
            ensure_private_folder(self._folder)
            write_file_atomic(self._folder / f"{stem}.checkpoint", anchor.note)
            if to.startswith(TIMESTAMP) and answer:
                write_file_atomic(self._folder / f"{own}.tsr", answer[:ANSWER_BYTES_MAX])
            document = {"to": to, "time_unix_ns": time_unix_ns}
            write_file_atomic(self._folder / f"{own}.receipt", json.dumps(document).encode())
            self._bound()
        except (OSError, SealError) as error:
            raise AuditError(f"anchor {to}: it was taken, and the receipt cannot be written") from error

    def read(self) -> list[Receipt]:
        """List what is kept, the newest first; what cannot be read is left out."""
        found = []
        for path, match in self._listed():
            stem, own = match[1], path.stem
            with contextlib.suppress(OSError, SealError, ValueError, LookupError, TypeError):
                document = json.loads(read_file(path, bytes_max=ANSWER_BYTES_MAX))
                note = read_file(path.with_name(f"{stem}.checkpoint"), bytes_max=READ_BYTES_MAX)
                time_stamp = b""
                with contextlib.suppress(FileNotFoundError):
                    time_stamp = read_file(path.with_name(f"{own}.tsr"), bytes_max=ANSWER_BYTES_MAX)
                found.append(
                    Receipt(int(stem), str(document["to"]), int(document["time_unix_ns"]), note, time_stamp)
                )
        return found

    def _listed(self) -> list[tuple[Path, re.Match[str]]]:
        """List the receipts, the newest first."""
        found: list[tuple[Path, re.Match[str]]] = []
        with contextlib.suppress(FileNotFoundError):
            found = [(path, match) for path in self._folder.iterdir() if (match := _NAME.match(path.name))]
        return sorted(found, key=lambda pair: pair[0].name, reverse=True)

    def _bound(self) -> None:
        """Remove the oldest beyond the bounds, all of one anchor together."""
        by_sequence: dict[str, list[Path]] = {}
        for path in self._folder.iterdir():
            if path.name[:12].isdigit():
                by_sequence.setdefault(path.name[:12], []).append(path)
        count, size_bytes = 0, 0
        for position, sequence in enumerate(sorted(by_sequence, reverse=True)):
            paths = by_sequence[sequence]
            count += sum(path.suffix == ".receipt" for path in paths)
            size_bytes += sum(path.lstat().st_size for path in paths)
            if position and (count > KEPT_MAX or size_bytes > KEPT_BYTES_MAX):
                for path in paths:
                    path.unlink(missing_ok=True)


def short(name: str) -> str:
    """Name a sink in 8 digits, for file names."""
    return hashlib.sha256(name.encode()).hexdigest()[:8]
