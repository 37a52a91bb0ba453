"""
The outlet: brings frames into files, whatever the disk does.

Holds the frames that are not yet safe. A full disk is asked again; after an error
of a sync or of an unknown kind the file is given up, and what was not yet safe is
written into a new one. Frames keep their sequence numbers, so that a reader who
finds both takes each span once.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from agentguard.errors import SealError, StoreError
from agentguard.seal import Keystore
from agentguard.store._config import WriterConfig
from agentguard.store._content_keys import ContentKeys
from agentguard.store._disk import Disk
from agentguard.store._keyring import Keyring
from agentguard.store._layout import Kind
from agentguard.store._live import Body, LiveSegment
from agentguard.store._sealing import Sealer
from agentguard.values import Clock, InternalErrorHook

_FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT})
_COUNTED = frozenset({Kind.SPANS, Kind.OUTCOMES})


class Outlet:
    """Where the frames of one writer go. Used by one thread at a time."""

    def __init__(
        self,
        segments: Path,
        *,
        keystore: Keystore,
        clock: Clock,
        resource: Mapping[str, str],
        config: WriterConfig,
        disk: Disk,
        on_internal_error: InternalErrorHook,
    ) -> None:
        self._segments = segments
        self._keystore = keystore
        self._clock = clock
        self._resource = resource
        self._config = config
        self._disk = disk
        self._on_internal_error = on_internal_error
        keyring = Keyring(segments.parent, keystore, clock, disk)
        self._content = ContentKeys(keyring, keystore.store_id)
        self.writer = os.urandom(8)
        self._n = 0
        self._live: LiveSegment | None = None
        self._last_path: Path | None = None
        self._waiting: list[Body] = []
        """Not yet written: the disk refused."""
        self._unsynced: list[Body] = []
        """Written, and not yet known to be on disk."""
        self._unsynced_bytes = 0
        self._sync_due_ns = 0
        self._retry_ns = 0
        self.stored = 0
        self.trouble = ""
        """Why nothing can be written just now: disk_full, io_error or empty."""
        self.has_rotated = False
        """A segment was closed that is to be sealed."""
        self._is_sealed = False
        """Whether the segment that was closed last is sealed."""
        self._frames = 0
        """Of the segment that was closed last; 0 where its end is unknown."""

    @property
    def is_blocked(self) -> bool:
        """Whether the disk refused, and it is too early to ask again."""
        return bool(self.trouble) and time.monotonic_ns() < self._retry_ns

    @property
    def is_waiting(self) -> bool:
        """Whether frames wait for a disk that refuses."""
        return bool(self._waiting)

    def retry_now(self) -> None:
        """Ask the disk again at once, although it refused just now."""
        self._retry_ns = 0

    def due_in_s(self, idle_s: float) -> float:
        """Seconds until something is to be done: a sync, or another try."""
        now = time.monotonic_ns()
        due = idle_s
        if self._unsynced:
            due = min(due, (self._sync_due_ns - now) / 1e9)
        if self.trouble:
            due = max((self._retry_ns - now) / 1e9, 0.0)
        return max(due, 0.0)

    def put(self, bodies: Sequence[Body]) -> bool:
        """Write frames, after those that wait; False where the disk refuses, and they wait."""
        self._waiting.extend(bodies)
        if not self._waiting:
            return not self.is_blocked
        if self.is_blocked:
            return False
        try:
            self._seal_content()
            live = self._open()
            live.append(self._waiting)
        except OSError as error:
            self._refused(error)
            return False
        self.trouble = ""
        if not self._unsynced:
            self._sync_due_ns = time.monotonic_ns() + int(self._config.sync_interval_s * 1e9)
        self._unsynced += self._waiting
        self._unsynced_bytes += sum(len(body.data) for body in self._waiting)
        self._waiting = []
        if self._unsynced_bytes >= self._config.unsynced_bytes_max:
            return self.sync(is_forced=True)
        return True

    def _seal_content(self) -> None:
        """
        Seal the content of the frames that wait; what is sealed once stays so.

        Raises:
            OSError: A new key could not be brought to disk.
        """
        try:
            self._waiting = self._content.sealed(self._waiting)
        except (StoreError, SealError):
            self._waiting = [sealed for body in self._waiting for sealed in self._sealed_alone(body)]

    def _sealed_alone(self, body: Body) -> list[Body]:
        """One of them by itself, or nothing: spans without their content are better than none."""
        try:
            return self._content.sealed((body,))
        except (StoreError, SealError) as error:
            self._on_internal_error("store.content", error)
            return []

    def sync(self, *, is_forced: bool) -> bool:
        """Bring what is written to disk where that is due; True where nothing waits any more."""
        if self._live is not None and self._unsynced and (
            is_forced or time.monotonic_ns() >= self._sync_due_ns
        ):  # fmt: skip
            try:
                self._live.sync()
            except OSError as error:
                self._refused(error)
                if self.trouble != "disk_full" and not self._try_again_elsewhere():
                    return False
            else:
                self._mark_stored()
                self._rotate_if_due()
        return not self._unsynced and not self._waiting

    def _try_again_elsewhere(self) -> bool:
        """After a failed sync: write what was not safe into a new file, once, at once."""
        self._retry_ns = 0
        if not self.put(()) or self._live is None:
            return False
        try:
            self._live.sync()
        except OSError as error:
            self._refused(error)
            return False
        self._mark_stored()
        return True

    def _mark_stored(self) -> None:
        self.stored += sum(body.records for body in self._unsynced if body.kind in _COUNTED)
        self._unsynced, self._unsynced_bytes = [], 0

    def _refused(self, error: OSError) -> None:
        """Take note of an error of the disk, and decide what to do with the file."""
        self._on_internal_error("store.disk", error)
        self.trouble = "disk_full" if error.errno in _FULL_DISK else "io_error"
        self._retry_ns = time.monotonic_ns() + int(self._config.retry_interval_s * 1e9)
        live = self._live
        if live is not None and (live.is_broken or self.trouble != "disk_full"):
            self._give_up(live)

    def _give_up(self, live: LiveSegment) -> None:
        """Never touch the file again; what it may not hold is written into the next one."""
        live.close()
        self._live = None
        self._waiting = self._unsynced + self._waiting
        self._unsynced, self._unsynced_bytes = [], 0
        self.has_rotated = True

    def _open(self) -> LiveSegment:
        """The live segment; a new one where there is none."""
        if self._live is None:
            live = LiveSegment(
                self._segments, keystore=self._keystore, writer=self.writer, n=self._n,
                resource=self._resource, created_unix_ns=self._clock.unix_ns(), disk=self._disk,
                previous_frames=self._frames,
            )  # fmt: skip
            self._n, self._frames = self._n + 1, 0
            self._live, self._last_path, self._is_sealed = live, live.path, False
            self._opened_ns = time.monotonic_ns()
        return self._live

    def _rotate_if_due(self) -> None:
        """Close the segment when it is large or old; all in it is on disk."""
        live, config = self._live, self._config
        if live is None:
            return
        age_s = (time.monotonic_ns() - self._opened_ns) / 1e9
        if (
            live.size_bytes < config.segment_bytes_max
            and live.spans < config.segment_spans_max
            and age_s < config.segment_age_s_max
        ):
            return
        self._end(live)
        self.has_rotated = not self._is_sealed

    def _end(self, live: LiveSegment) -> None:
        """Close a segment on purpose: sealed where it lies, or marked for the sealer."""
        self._frames = live.frames
        self._is_sealed = self._config.is_sealing and live.is_long_framed
        try:
            if self._is_sealed:
                live.finish(self._clock.unix_ns())
            else:
                live.end()
        except OSError as error:
            # All records are on disk already: the sealer comes to it, or comes again.
            self._on_internal_error("store.disk", error)
            self._is_sealed = False
        live.close()
        self._live = None

    def close(self) -> None:
        """Close the file; what could not be written is lost with the process."""
        if self._live is not None:
            if self._unsynced:
                self._live.close()
                self._live = None
            else:
                self._end(self._live)

    def seal_own(self) -> None:
        """Seal the segment that was closed last, where that is still to be done."""
        if self._last_path is not None and self._live is None and not self._is_sealed:
            Sealer(self._segments, self._keystore, self._clock, self._disk).seal(self._last_path)

    def abandon(self) -> None:
        """In the child of a fork: close the parent's file without touching it or its lock."""
        if self._live is not None:
            self._live.close()
            self._live = None
