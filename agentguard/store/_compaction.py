"""
Compaction: many small segments become packs, and small packs larger ones.

A pack is written beside everything else, brought to disk, named, and only then
what is in it is removed. So each record is in one place or, after a crash, in two
of which a reader takes one. Packs hold what began on one day, so that retention
is as exact as a day; what a legal hold keeps is left as it is.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final, NamedTuple

from agentguard.errors import SegmentCorruptError
from agentguard.seal import Keystore
from agentguard.store._cache import FooterCache
from agentguard.store._damage import Damage
from agentguard.store._disk import Disk
from agentguard.store._folder import File, SegmentFolder
from agentguard.store._layout import State, parse_pack_name
from agentguard.store._live import new_header
from agentguard.store._members import Member, Members
from agentguard.store._packing import PackWriter
from agentguard.store._reading import SegmentInfo
from agentguard.store._sealed_file import SealedFile
from agentguard.store._segment import PACKED_KINDS, SegmentFile
from agentguard.values import Clock

SMALL_BYTES: Final = 4 * 1024 * 1024
"""A segment up to this size is worth packing."""
PACK_BYTES_MAX: Final = 32 * 1024 * 1024
PACK_FILES_MAX: Final = 20_000
FILES_MIN: Final = 8
"""So many files of the current day are packed; of a day that is past, two are enough."""
_FOOTERS_BYTES_MAX: Final = 512 * 1024
"""Footers are read again when their turn comes: all of them at once would be many objects to look after."""
_DAY_NS: Final = 86_400 * 10**9
_WORK_S: Final = 0.005
"""After so much work there is a pause three times as long."""
_PAUSE_FACTOR: Final = 3.0

Pause = Callable[[float], bool]
"""Waits so many seconds; True where the work is to end."""


class Compacted(NamedTuple):
    """What compaction did."""

    files: int
    """Files that went into packs."""
    packs: int
    """Packs that were made of them."""
    removed: int
    """Files that an interrupted run had left behind."""


class _Source(NamedTuple):
    """One file that may be packed."""

    file: File
    size_bytes: int
    members: int
    start_unix_ns: int
    """The earliest in it."""
    day: int
    """Of its latest start, and never before that of its writer's segment before."""

    @property
    def writer(self) -> bytes:
        return self.file.key[0]


class _StopError(Exception):
    """The process ends: what was begun is thrown away."""


class _DamagedError(Exception):
    """A file cannot be read whole: it is not packed, `repair` is for it."""

    def __init__(self, path: Path) -> None:
        self.path = path


class Compactor:
    """Compacts one store. By one process at a time: whoever calls has the turn."""

    def __init__(
        self,
        segments: Path,
        keystore: Keystore,
        clock: Clock,
        disk: Disk,
        *,
        is_held: Callable[[SegmentInfo], bool] | None = None,
        pause: Pause | None = None,
    ) -> None:
        self._path = segments
        self._keystore = keystore
        self._clock = clock
        self._disk = disk
        self._is_held = is_held
        self._pause = pause
        self._began_s = time.monotonic()
        self._blocked: set[bytes] = set()
        """Writers with a segment that cannot be packed: nothing that they wrote later may be."""
        self._damage: list[Damage] = []
        self._folder = SegmentFolder(segments, keystore, FooterCache(_FOOTERS_BYTES_MAX), self._damage.append)

    def run(self) -> Compacted:
        """
        Make one pass.

        Raises:
            OSError: The disk refused; every record is still in one place at least.
        """
        files = packs = 0
        removed = self._remove_superseded()
        with contextlib.suppress(_StopError):
            for make in (self._singles, self._packs):
                for sources in make():
                    done = self._pack_what_can_be_read(sources)
                    files += done
                    packs += 1 if done else 0
        return Compacted(files, packs, removed)

    def rebuild(self, path: Path) -> bool:
        """Write a damaged pack anew from what can be read; the damaged one is for the caller to put aside."""
        parsed = parse_pack_name(path.name)
        segment = self._folder.open(path)
        if parsed is None or segment is None:
            return False
        with segment:
            self._write([segment], number=parsed[0], is_damage_counted=True)
        return True

    def _remove_superseded(self) -> int:
        """Remove what an interrupted run has left: all of it is in a pack."""
        superseded = self._folder.listing().superseded
        for file in superseded:
            self._disk.unlink(file.path)
        if superseded:
            self._disk.sync_folder(self._path)
        return len(superseded)

    # Which files -------------------------------------------------------------------

    def _singles(self) -> Iterator[list[_Source]]:
        """Small segments, together with those that began on the same day."""
        singles = [file for file in self._folder.listing().files if file.members is None]
        self._rest()
        chosen: list[_Source] = []
        for _, files in groupby(singles, key=lambda file: file.key[0]):
            chosen += self._of_writer(list(files))
        self._rest()
        firsts: dict[bytes, int] = {}
        for source in chosen:
            firsts.setdefault(source.writer, source.start_unix_ns)
        # Segments that began together lie together: a reader who asks for a time opens few chunks.
        self._rest()
        chosen.sort(key=lambda source: (source.day, firsts[source.writer], source.file.key))
        for batch in _carried_on(_batches(chosen)):
            left = [source for source in batch if source.writer not in self._blocked]
            if len(left) > 1:
                yield left

    def _of_writer(self, files: Sequence[File]) -> list[_Source]:
        """
        The segments of a writer that can be packed, from its first one on.

        None is passed over: packs are read first, and what comes later must lie later.
        """
        found: list[_Source] = []
        day = 0
        for file in files:
            source = self._source(file, day)
            if source is None:
                break
            day = source.day
            found.append(source)
        small = [source.size_bytes <= SMALL_BYTES for source in found]
        if small.count(True) < 4 * small.count(False):
            return found[: small.index(False)]  # Large ones among them are no burden to a reader.
        return found

    def _packs(self) -> Iterator[list[_Source]]:
        """Packs of one day that follow one another, and are small enough together."""
        found = [self._source(file, 0) for file in self._folder.listing().files if file.members is not None]
        for is_there, run in groupby(found, key=lambda source: source is not None):
            if is_there:
                batches = _batches([source for source in run if source is not None])
                yield from (batch.sources for batch in batches if batch.is_worthwhile)

    def _source(self, file: File, day: int) -> _Source | None:
        """What is to be known of a file; `None` for one that is live, held, or cannot be read."""
        self._rest()
        footer = self._folder.footer(file.path)
        try:
            size_bytes = file.path.stat().st_size
        except OSError:
            return None
        if footer is None or footer.places.end > PACK_BYTES_MAX * 2:
            return None
        starts = footer.start_range_unix_ns
        if self._is_held is not None:
            members = file.members or (Member(*file.key, footer.spans, footer.places.next_sequence),)
            if self._is_held(SegmentInfo(file.name, True, footer.spans, starts, size_bytes, members)):
                return None
        count = len(file.members or (file.key,))
        return _Source(file, size_bytes, count, starts[0], max(starts[1] // _DAY_NS, day))

    # Writing -----------------------------------------------------------------------

    def _pack_what_can_be_read(self, sources: list[_Source]) -> int:
        """Pack files without those that turn out to be damaged; returns how many."""
        while len(sources) > 1:
            try:
                self._pack(sources)
            except _DamagedError as damaged:
                place = next(i for i, source in enumerate(sources) if source.file.path == damaged.path)
                if sources[place].file.members is not None:
                    return 0
                writer = sources[place].writer
                # What the writer wrote later must not lie before it.
                self._blocked.add(writer)
                sources = [
                    s for i, s in enumerate(sources) if i < place or (i > place and s.writer != writer)
                ]
            else:
                return len(sources)
        return 0

    def _pack(self, sources: Sequence[_Source]) -> None:
        """Make one pack, and remove what is in it."""
        last = parse_pack_name(sources[-1].file.name)
        number = last[0] if last is not None else self._next_number()
        self._write(self._opened(sources), number=number, is_damage_counted=False)
        for source in sources:
            self._disk.unlink(source.file.path)
            with contextlib.suppress(
                _StopError
            ):  # They are in the pack: what is left now would be read twice.
                self._rest()
        self._disk.sync_folder(self._path)

    def _opened(self, sources: Sequence[_Source]) -> Iterator[SegmentFile]:
        """Open files one after the other."""
        for source in sources:
            segment = self._folder.open(source.file.path)
            if segment is None:
                raise _DamagedError(source.file.path)
            with segment:
                yield segment

    def _next_number(self) -> int:
        """A pack that is made of segments comes behind all others."""
        parsed = [parse_pack_name(file.name) for file in self._folder.listing().packs]
        return max((one[0] for one in parsed if one is not None), default=-1) + 1

    def _write(self, segments: Iterable[SegmentFile], *, number: int, is_damage_counted: bool) -> None:
        """Write a pack of files beside everything else, and name it."""
        header = new_header(self._keystore, os.urandom(8), number, State.PACKED)
        target = self._path / header.name
        temporary = target.with_name(f".{target.name}.tmp")
        lost: Counter[str] = Counter()
        fd = self._disk.create_over(temporary)
        try:
            self._disk.lock(fd)
            sealed = SealedFile(header, header.seal_key(self._keystore.root), self._disk, fd)
            pack = PackWriter(sealed, self._rest)
            earlier: list[Members] = []
            for segment in segments:
                if segment.is_pack and segment.footer is not None:
                    members = segment.footer.members
                    if any(member.key in one for member in members for one in earlier):
                        # A segment is in two packs: see `SegmentFolder`. Here it is once.
                        segment.only = {m.key for m in members if not any(m.key in one for one in earlier)}
                    earlier.append(members)
                lost.update(segment.footer.damage if segment.footer is not None else {})
                self._damage.clear()
                self._copy(segment, pack, is_damage_counted=is_damage_counted)
                lost.update(damage.kind for damage in self._damage)
            pack.finish(lost, self._clock.unix_ns())
        except BaseException:
            self._disk.unlink(temporary)
            raise
        finally:
            self._disk.close(fd)
        self._disk.rename(temporary, target)
        self._disk.sync_folder(self._path)

    def _copy(self, segment: SegmentFile, pack: PackWriter, *, is_damage_counted: bool) -> None:
        """Copy all that a file holds."""
        for frame in segment.frames(PACKED_KINDS):
            self._rest()
            try:
                pack.add(frame)
            except SegmentCorruptError as error:
                segment.note_undecodable(frame, error)
            if self._damage and not is_damage_counted:
                break
        if self._damage and not is_damage_counted:
            raise _DamagedError(segment.path)

    def _rest(self) -> None:
        """Leave most of the processor to those whose store this is."""
        worked_s = time.monotonic() - self._began_s
        if self._pause is None or worked_s < _WORK_S:
            return
        if self._pause(worked_s * _PAUSE_FACTOR):
            raise _StopError
        self._began_s = time.monotonic()


class _Batch(NamedTuple):
    """What may go into one pack."""

    sources: list[_Source]
    is_worthwhile: bool


def _batches(sources: Sequence[_Source]) -> Iterator[_Batch]:
    """Cut a sequence of files into what goes into one pack: one day, and not too much."""
    newest = max((source.day for source in sources), default=0)
    for day, of_day in groupby(sources, key=lambda source: source.day):
        batch: list[_Source] = []
        size = files = 0
        for source in of_day:
            if batch and (
                size + source.size_bytes > PACK_BYTES_MAX or files + source.members > PACK_FILES_MAX
            ):
                yield _Batch(batch, len(batch) > 1)
                batch, size, files = [], 0, 0
            batch.append(source)
            size += source.size_bytes
            files += source.members
        yield _Batch(batch, len(batch) >= (2 if day < newest else FILES_MIN))


def _carried_on(batches: Iterator[_Batch]) -> Iterator[list[_Source]]:
    """
    Give what is worth a pack; the few segments of a day that are not go with the next day's.

    Else a lonely segment would keep all that its writer wrote later from being packed.
    """
    left: list[_Source] = []
    for batch in batches:
        sources = left + batch.sources
        left = []
        if batch.is_worthwhile:
            yield sources
        else:
            left = sources
