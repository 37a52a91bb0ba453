"""What was read before: footers of sealed files, and where live files were left."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from agentguard.seal import Keystore, SealKey
from agentguard.store._damage import Damage
from agentguard.store._footer import Footer
from agentguard.store._live_index import LiveIndex
from agentguard.store._segment import ReportDamage, SegmentFile

FOOTERS_BYTES_MAX = 64 * 1024 * 1024
"""Room for the footers of about thirty million spans."""
_KEYS_MAX = 128
"""A key takes three kilobytes, and a tenth of opening a small file to derive."""
_FOLLOWED_MAX = 256
_RESOURCES_MAX = 4096


class _Known(NamedTuple):
    """A sealed file that was opened before."""

    identity: tuple[int, int, int, int]
    """Device, inode, size and time of change: another file has another one."""
    footer: Footer


class FooterCache:
    """Footers and keys by file name; a file that was replaced is read again."""

    def __init__(self, bytes_max: int = FOOTERS_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._known: OrderedDict[str, _Known] = OrderedDict()
        """By name: a path is several objects."""
        self._keys: OrderedDict[str, SealKey] = OrderedDict()
        """Of files that were opened more than once, the last ones."""
        self._followed: OrderedDict[Path, LiveIndex] = OrderedDict()
        self.resources: OrderedDict[bytes, Mapping[str, str]] = OrderedDict()
        """What writers said of their process, by the salt of the file."""
        self.listing: tuple[object, object] | None = None
        """The state of the folder that was seen last, and what was made of it."""

    def open(self, path: Path, keystore: Keystore, report: ReportDamage) -> SegmentFile | None:
        """Open a segment, with its footer where it is known."""
        name = path.name
        known = self._known.get(name)
        segment = SegmentFile.open(path, keystore, report, self._keys.get(name))
        if segment is None:
            self._forget(name)
            return None
        if not segment.is_sealed:
            return segment
        self._followed.pop(path, None)
        identity = _identity(os.fstat(segment.fd))
        if known is not None and known.identity == identity:
            self._known.move_to_end(name)
            self._keep_key(name, segment.key)
            segment.use_footer(known.footer)
            for kind, count in known.footer.damage.items():
                report(
                    Damage(kind, path.name, 0, 0, f"{count} places were lost before the segment was sealed")
                )
            return segment
        self._forget(name)
        footer = segment.footer
        if footer is not None:
            self._known[name] = _Known(identity, footer)
            self._bytes += footer.memory_bytes
            while self._bytes > self._bytes_max and len(self._known) > 1:
                _, dropped = self._known.popitem(last=False)
                self._bytes -= dropped.footer.memory_bytes
        return segment

    def _keep_key(self, name: str, key: SealKey) -> None:
        """Keep the key of a file that was opened again."""
        self._keys.pop(name, None)
        self._keys[name] = key
        if len(self._keys) > _KEYS_MAX:
            self._keys.popitem(last=False)

    def keep(self, names: Collection[str]) -> None:
        """Drop what is known of files that are not there any more."""
        there = frozenset(names)
        for name in [name for name in self._known if name not in there]:
            self._forget(name)
        for path in [path for path in self._followed if path.name not in there]:
            del self._followed[path]

    def _forget(self, name: str) -> None:
        """Drop what was known of a file that is gone, or is another one now."""
        self._keys.pop(name, None)
        dropped = self._known.pop(name, None)
        if dropped is not None:
            self._bytes -= dropped.footer.memory_bytes

    def index_of(self, segment: SegmentFile) -> LiveIndex:
        """What is known of a live segment; empty where it was not read yet, or is another file now."""
        status = os.fstat(segment.fd)
        identity = (status.st_dev, status.st_ino)
        index = self._followed.get(segment.path)
        if index is None or index.identity != identity:
            index = self._followed[segment.path] = LiveIndex(identity)
            if len(self._followed) > _FOLLOWED_MAX:
                self._followed.popitem(last=False)
        return index

    def forget_index(self, segment: SegmentFile) -> None:
        """Begin anew with a live segment whose end was cut off."""
        self._followed.pop(segment.path, None)

    def remember_resource(self, segment: SegmentFile, resource: Mapping[str, str]) -> None:
        """Keep what a writer said of its process."""
        self.resources[segment.header.salt] = resource
        if len(self.resources) > _RESOURCES_MAX:
            self.resources.popitem(last=False)

    def peek(self, path: Path) -> Footer | None:
        """The footer of a file, if it is known and the file is still the same."""
        known = self._known.get(path.name)
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
