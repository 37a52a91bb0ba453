"""
Housekeeping: retention, sealing and packing of what was left behind, by one process at a time.

Every process of a store may ask; the lock of one file says whose turn it is, and
its time when the last pass was. Nothing here needs room on the disk.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from agentguard.errors import AgentGuardError, StoreError
from agentguard.seal import PRIVATE_FILE_MODE
from agentguard.store._compaction import Compacted, Pause
from agentguard.store._disk import try_lock, unlock
from agentguard.store._retention import Removed
from agentguard.store._store import Store

KEEP_INTERVAL_S = 3600.0
_LOCK = "keep.lock"
_LEASES = "export-*.lock"

Places = Mapping[str, tuple[int, int]]


class Housekeeper:
    """Removes old segments of one store and packs small ones, at most once an hour on one machine."""

    def __init__(
        self,
        store: Store,
        *,
        age_s_max: float | None,
        size_bytes_max: int | None,
        decode_cursor: Callable[[bytes | None], Places],
        interval_s: float = KEEP_INTERVAL_S,
        pause: Pause | None = None,
    ) -> None:
        """
        Say what is kept.

        Args:
            store:
                The store.

            age_s_max:
                A segment goes once its latest span started longer ago; `None` keeps all.

            size_bytes_max:
                What all segments may take; `None` for no bound.

            decode_cursor:
                Reads how far an exporter has come; asked only where one is at work.

            interval_s:
                A pass that another process made less than this ago stands for ours.

            pause:
                Waits so many seconds between pieces of the work, and says whether to stop, as
                `threading.Event.wait` does; `None` works without a break.
        """
        self._store = store
        self._age_s_max = age_s_max
        self._size_bytes_max = size_bytes_max
        self._decode_cursor = decode_cursor
        self._interval_s = interval_s
        self._pause = pause
        self.sealed = 0
        """Segments that the last pass sealed."""
        self.packed: Compacted | None = None
        """What the last pass packed."""
        self.trouble: StoreError | None = None
        """Why the last pass could not seal or pack; what it removed is removed all the same."""
        self._began_ns = store.clock.monotonic_ns()

    def run_once(self) -> Removed | None:
        """
        Make one pass.

        Returns:
            What was removed; `None` where another process sees to it, or did so lately.

        Raises:
            StoreError: A file could not be removed. Where one could not be sealed or packed, `trouble` says so.
        """
        with self._turn() as is_mine:
            if not is_mine:
                return None
            # Removing comes first: a full disk has no room for sealing.
            removed = self._store.remove_old(
                age_s_max=self._age_s_max, size_bytes_max=self._size_bytes_max, exported=self._exported(),
                witnessed_s=(self._store.clock.monotonic_ns() - self._began_ns) / 1e9,
            )  # fmt: skip
            self.sealed, self.packed, self.trouble = 0, None, None
            try:
                self.sealed = self._store.seal_segments()
                self.packed = self._store.compact(self._pause)
            except StoreError as error:
                self.trouble = error
            return removed

    @contextlib.contextmanager
    def _turn(self) -> Iterator[bool]:
        """Take the turn if nobody has it and it is time for one; leaves the time of the pass behind."""
        path = self._store.folder / _LOCK
        try:
            fd = _open_lock(path)
        except OSError as error:
            raise StoreError(f"{path}: cannot be opened: {error.strerror or error}") from error
        try:
            if not try_lock(fd):
                yield False
                return
            try:
                age_s = self._store.clock.unix_ns() / 1e9 - os.fstat(fd).st_mtime
                # A time to come is that of a clock that went wrong.
                is_due = not 0 <= age_s < self._interval_s
                yield is_due
                if is_due:
                    now_ns = self._store.clock.unix_ns()
                    os.utime(fd, ns=(now_ns, now_ns))
            finally:
                unlock(fd)
        finally:
            os.close(fd)

    def _exported(self) -> Places | None:
        """How far the slowest of the exporters at work has come with each writer; `None` where none is."""
        cursors: list[Places] = []
        for lease in sorted(self._store.folder.glob(_LEASES)):
            if not _is_held(lease):
                continue
            name = f"cursor-{lease.stem.removeprefix('export-')}"
            try:
                cursors.append(self._decode_cursor(self._store.sealed_blob(name).read()))
            except AgentGuardError:
                cursors.append({})  # Unreadable: the exporter begins anew, so nothing counts as sent.
        if not cursors:
            return None
        shared = set.intersection(*map(set, cursors))
        return {writer: min(cursor[writer] for cursor in cursors) for writer in shared}


def _open_lock(path: Path) -> int:
    """Open the lock file; a new one says that the last pass was long ago. It never has a byte in it."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, PRIVATE_FILE_MODE)
    except FileExistsError:
        return os.open(path, flags)
    os.utime(fd, (0, 0))
    return fd


def _is_held(path: Path) -> bool:
    """Whether some process holds the lock of a file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        if not try_lock(fd, is_shared=True):
            return True
        unlock(fd)
        return False
    finally:
        os.close(fd)
