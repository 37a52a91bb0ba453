"""Footers that were read before: what makes the second look-up of a trace quick."""

from __future__ import annotations

import os
from collections import OrderedDict, deque
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from agentguard.seal import Keystore, SealKey
from agentguard.store._damage import Damage
from agentguard.store._footer import Footer
from agentguard.store._segment import Frame, ReportDamage, Resume, SegmentFile

FOOTERS_MAX = 4096
FOLLOWED_MAX = 256
_POINTS_MAX = 64


class _Known(NamedTuple):
    """A sealed file that was opened before."""

    identity: tuple[int, int, int, int]
    """Device, inode, size and time of change: another file has another one."""
    footer: Footer
    key: SealKey


class _Followed:
    """A live file that was read before."""

    def __init__(self, identity: tuple[int, int]) -> None:
        self.identity = identity
        self.points: deque[tuple[int, Resume]] = deque(maxlen=_POINTS_MAX)
        """First sequence number and place of the latest frames of spans."""


class FooterCache:
    """Footers and keys by file name; a file that was replaced is read again."""

    def __init__(self) -> None:
        self._known: OrderedDict[Path, _Known] = OrderedDict()
        self._followed: OrderedDict[Path, _Followed] = OrderedDict()
        self.resources: OrderedDict[bytes, Mapping[str, str]] = OrderedDict()
        """What writers said of their process, by the salt of the file."""

    def open(self, path: Path, keystore: Keystore, report: ReportDamage) -> SegmentFile | None:
        """Open a segment, with its footer where it is known."""
        known = self._known.get(path)
        segment = SegmentFile.open(path, keystore, report, known.key if known else None)
        if segment is None or not segment.is_sealed:
            return segment
        identity = _identity(os.fstat(segment.fd))
        if known is not None and known.identity == identity:
            segment.use_footer(known.footer)
            for kind, count in known.footer.damage.items():
                report(
                    Damage(kind, path.name, 0, 0, f"{count} places were lost before the segment was sealed")
                )
            return segment
        footer = segment.footer
        if footer is not None:
            self._known[path] = _Known(identity, footer, segment.key)
            self._known.move_to_end(path)
            if len(self._known) > FOOTERS_MAX:
                self._known.popitem(last=False)
        return segment

    def remember(self, segment: SegmentFile, frame: Frame, first_sequence: int) -> None:
        """Note where a frame of a live segment is, for whoever asks for what comes after it."""
        identity = _inode(segment)
        followed = self._followed.get(segment.path)
        if followed is None or followed.identity != identity:
            followed = self._followed[segment.path] = _Followed(identity)
            if len(self._followed) > FOLLOWED_MAX:
                self._followed.popitem(last=False)
        points = followed.points
        if not points or points[-1][0] < first_sequence:
            points.append((first_sequence, Resume(frame.offset, frame.number)))

    def resume(self, segment: SegmentFile, last_sequence: int) -> Resume | None:
        """The frame from which on a live segment holds all spans after *last_sequence*."""
        followed = self._followed.get(segment.path)
        if followed is None or followed.identity != _inode(segment):
            return None
        for first_sequence, place in reversed(followed.points):
            if first_sequence <= last_sequence + 1:
                return place
        return None

    def remember_resource(self, segment: SegmentFile, resource: Mapping[str, str]) -> None:
        """Keep what a writer said of its process."""
        self.resources[segment.header.salt] = resource
        if len(self.resources) > FOOTERS_MAX:
            self.resources.popitem(last=False)

    def peek(self, path: Path) -> Footer | None:
        """The footer of a file, if it is known and the file is still the same."""
        known = self._known.get(path)
        if known is None:
            return None
        try:
            status = path.lstat()
        except OSError:
            return None
        return known.footer if _identity(status) == known.identity else None


def _inode(segment: SegmentFile) -> tuple[int, int]:
    """Which file it is; a live file keeps it while it grows."""
    status = os.fstat(segment.fd)
    return (status.st_dev, status.st_ino)


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    """What changes when a file is replaced or written to."""
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
