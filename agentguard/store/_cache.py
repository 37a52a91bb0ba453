"""Footers that were read before: what makes the second look-up of a trace quick."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path

from agentguard.seal import Keystore
from agentguard.store._damage import Damage
from agentguard.store._footer import Footer
from agentguard.store._segment import ReportDamage, SegmentFile

FOOTERS_MAX = 4096


class FooterCache:
    """Footers by file; a file that was replaced is read again."""

    def __init__(self) -> None:
        self._footers: OrderedDict[tuple[str, int, int, int], Footer] = OrderedDict()

    def open(self, path: Path, keystore: Keystore, report: ReportDamage) -> SegmentFile | None:
        """Open a segment, with its footer where it is known."""
        segment = SegmentFile.open(path, keystore, report)
        if segment is None or not segment.is_sealed:
            return segment
        status = os.fstat(segment.fd)
        key = (str(path), status.st_ino, status.st_size, status.st_mtime_ns)
        footer = self._footers.get(key)
        if footer is not None:
            segment.use_footer(footer)
            for kind, count in footer.damage.items():
                report(
                    Damage(kind, path.name, 0, 0, f"{count} places were lost before the segment was sealed")
                )
            self._footers.move_to_end(key)
            return segment
        footer = segment.footer
        if footer is not None:
            self._footers[key] = footer
            if len(self._footers) > FOOTERS_MAX:
                self._footers.popitem(last=False)
        return segment
