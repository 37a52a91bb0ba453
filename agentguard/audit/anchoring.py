"""
Anchoring by itself: every so often each sink is handed a checkpoint of all journals.

Several processes share a store: the lock of one file for each sink says whose turn it
is, and its time when the sink last took one. Nothing here runs on a calling thread.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from agentguard.audit.anchors import Anchor, AnchorSink, make_anchor
from agentguard.audit.disk import Safeguards
from agentguard.audit.ledger_files import FOLDER, files
from agentguard.audit.receipts import Receipts, short
from agentguard.errors import AuditError
from agentguard.seal import PRIVATE_FILE_MODE, Keystore
from agentguard.values import Clock


class Kept(NamedTuple):
    """An anchor that was taken; also the details of the event that says so."""

    to: str
    seq: int


def anchor_due(
    folder: Path,
    keystore: Keystore,
    clock: Clock,
    sinks: Sequence[AnchorSink],
    *,
    interval_s: float,
    on_failure: Callable[[str, AuditError], None],
    safeguards: Safeguards | None = None,
) -> list[Kept]:
    """
    Hand an anchor to each sink that took none for so long.

    Args:
        folder:
            The store's folder.
        keystore:
            Its keys.
        clock:
            Says what is due, and stamps the notes.
        sinks:
            Who keeps them.
        interval_s:
            A sink that took one less than this ago waits.
        on_failure:
            Told, with its name, of each sink that did not take it; the others go on.
        safeguards:
            As the writers of the store have them.

    Returns:
        Where it went.

    Raises:
        AuditError: The ledger cannot be read or written.
        KeyUnavailableError: The store was opened to be read only.
        OSError: A lock cannot be made.
    """
    if not files(folder / FOLDER):
        return []  # Nothing was ever written.
    kept: list[Kept] = []
    receipts = Receipts(folder)
    made: Anchor | None = None
    for sink in sinks:
        with _turn(folder, sink.name, clock, interval_s) as turn:
            if turn is None:
                continue
            made = made or make_anchor(folder, keystore, clock, safeguards=safeguards)
            try:
                answer = sink.keep(made)
                turn()
                receipts.keep(made, sink.name, answer, clock.unix_ns())
            except AuditError as error:
                on_failure(sink.name, error)
            else:
                kept.append(Kept(sink.name, made.checkpoint.sequence))
    return kept


def last_kept_unix_ns(folder: Path, name: str) -> int | None:
    """Say when a sink last took an anchor; None where it never did."""
    try:
        return _lock_path(folder, name).stat().st_mtime_ns or None
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _turn(folder: Path, name: str, clock: Clock, interval_s: float) -> Iterator[Callable[[], None] | None]:
    """Take the turn for a sink where it is due; gives what says that it took one."""
    path = _lock_path(folder, name)
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, PRIVATE_FILE_MODE)
        os.utime(fd, (0, 0))
    except FileExistsError:
        fd = os.open(path, flags)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        age_s = (clock.unix_ns() - os.fstat(fd).st_mtime_ns) / 1e9

        def took() -> None:
            os.utime(fd, ns=(clock.unix_ns(), clock.unix_ns()))

        try:
            # A time to come is that of a clock that went wrong.
            yield None if 0 <= age_s < interval_s else took
        finally:
            fcntl.flock(fd, fcntl.LOCK_UN)
    finally:
        os.close(fd)


def _lock_path(folder: Path, name: str) -> Path:
    return folder / FOLDER / f"anchor-{short(name)}.lock"
