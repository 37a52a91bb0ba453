"""Footers that were read before: what makes the second look-up of a trace quick."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

from agentguard.seal import Keystore, SealKey
from agentguard.store._damage import Damage
from agentguard.store._footer import Footer
from agentguard.store._segment import ReportDamage, SegmentFile

FOOTERS_MAX = 4096


class _Known(NamedTuple):
    """A sealed file that was opened before."""

    identity: tuple[int, int, int, int]
    """Device, inode, size and time of change: another file has another one."""
    footer: Footer
    key: SealKey


class FooterCache:
    """Footers and keys by file name; a file that was replaced is read again."""

    def __init__(self) -> None:
        self._known: OrderedDict[Path, _Known] = OrderedDict()

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


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    """What changes when a file is replaced or written to."""
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
