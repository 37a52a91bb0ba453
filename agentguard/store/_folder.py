"""
The files of a store in their order, while others seal, pack and remove them.

Packs come first, in the order of their numbers, then single segments, each writer's
in order. So a writer's records come in the order in which it wrote them, wherever
they lie. A file that is gone when its turn comes was removed, or its content went
into a pack: then it is read there.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from agentguard.seal import Keystore
from agentguard.store._cache import FooterCache
from agentguard.store._damage import Damage
from agentguard.store._footer import Footer
from agentguard.store._layout import PACK_SUFFIX, parse_pack_name, parse_segment_name
from agentguard.store._members import Member, Members
from agentguard.store._segment import PACKED_KINDS, ReportDamage, SegmentFile

_TRIES_MAX = 16
"""How often a listing is taken again because files vanished meanwhile."""

Key = tuple[bytes, int]


class File(NamedTuple):
    """One file, and which segments are in it. A name: ten thousand paths are much for the garbage collector."""

    folder: Path
    name: str
    key: Key
    """Writer and number; of a pack its own."""
    members: Members | None
    """`None` for a single segment."""

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.folder / self.name

    def holds(self, key: Key) -> bool:
        """Whether a segment is in this file."""
        return key in self.members if self.members is not None else key == self.key


class Listing(NamedTuple):
    """All files that are to be read, and those that another one has made superfluous."""

    files: tuple[File, ...]
    superseded: tuple[File, ...]
    """Left behind by a packing that was interrupted: all that is in them is in a pack as well."""

    @property
    def packs(self) -> list[File]:
        """The packs, in their order."""
        return [file for file in self.files if file.members is not None]


class SegmentFolder:
    """The segments and packs of one store, as one query sees them."""

    def __init__(self, folder: Path, keystore: Keystore, cache: FooterCache, report: ReportDamage) -> None:
        self.path = folder
        self._keystore = keystore
        self._cache = cache
        self._report = report

    def listing(self) -> Listing:
        """List the files, each segment in one of them."""
        found = Listing((), ())
        for _ in range(_TRIES_MAX):
            names = self._names()
            packs = [self.path / name for name in names if parse_pack_name(name) is not None]
            state = (self.path, names, tuple(map(_identity, packs)))
            known = self._cache.listing
            if known is not None and known[0] == state and isinstance(known[1], Listing):
                return known[1]
            found = self._sorted_out(names, packs)
            if any(not file.members and not os.path.lexists(file.path) for file in found.packs):
                # It went into a larger one before anybody saw what was in it: nobody would look for that.
                continue
            self._cache.listing = (state, found)
            self._cache.keep(names)
            break
        return found

    def files(self, is_useless: Callable[[Path], bool] | None = None) -> Iterator[SegmentFile]:
        """Open the files one after the other; not those of which a footer that was read before says so."""
        remaining = deque(self.listing().files)
        while remaining:
            file = remaining.popleft()
            if is_useless is not None and is_useless(file.path):
                continue
            segment = self.open(file.path)
            if segment is not None:
                with segment:
                    yield segment
            elif not os.path.lexists(file.path):
                for moved in self.moved(file, remaining):
                    with moved:
                        yield moved

    def moved(self, file: File, remaining: deque[File]) -> Iterator[SegmentFile]:
        """
        Open the packs that the content of a file went into, each with the wanted members only.

        Others of *remaining* that went the same way come with it, and are taken out.
        """
        wanted = _keys(file)
        for _ in range(_TRIES_MAX):
            if not wanted:
                return
            has_vanished = False
            for pack in self.listing().packs:
                if pack.members is None or not any(key in pack.members for key in wanted):
                    continue
                segment = self.open(pack.path)
                if segment is None:
                    has_vanished = True
                    continue
                rest = [other for other in remaining if other != pack]
                asked = {key for other in (file, *rest) for key in _keys(other) if key in pack.members}
                wanted -= asked
                remaining.clear()
                remaining.extend(other for other in rest if not _keys(other) <= asked)
                segment.only = asked
                yield segment
            if not has_vanished:
                return  # What is nowhere was removed for good.

    def open(self, path: Path) -> SegmentFile | None:
        """Open a file whose name and header agree."""
        segment = self._cache.open(path, self._keystore, self._report)
        if segment is not None and segment.header.name != path.name:
            twin = self.path / segment.header.name
            is_twin = twin.is_file() and not twin.is_symlink()
            if is_twin and self._is_named(twin):
                self._report(Damage("duplicate", path.name, 0, 0, f"it is a copy of {twin.name}"))
                segment.close()
                return None
            self._report(Damage("misnamed", path.name, 0, 0, f"its header says {twin.name}"))
        return segment

    def footer(self, path: Path) -> Footer | None:
        """The footer of a file; `None` for a live one, and for one that has none that can be read."""
        known = self._cache.peek(path)
        if known is not None:
            return known
        segment = self._cache.open(path, self._keystore, self._report)
        if segment is None:
            return None
        with segment:
            return segment.footer

    def _is_named(self, path: Path) -> bool:
        """Whether the file at *path* is the one that its name says."""
        found = SegmentFile.open(path, self._keystore, _unheard)
        if found is None:
            return False
        with found:
            return found.header.name == path.name

    def _names(self) -> list[str]:
        """
        Name all segments and packs; others are not ours.

        A folder is not read in one moment: a pack may be missed, and what went into
        it as well. So it is read until nothing vanished between two times.
        """
        before: set[str] = set()
        names: set[str] = set()
        for attempt in range(_TRIES_MAX):
            try:
                listed = os.listdir(self.path)  # noqa: PTH208 - ten thousand paths cost more than their names
            except FileNotFoundError:
                return []
            names = {name for name in listed if name.endswith((".ags", PACK_SUFFIX))}
            if attempt and before <= names:
                break
            before = names
        return sorted(names)

    def _sorted_out(self, names: Sequence[str], paths: Sequence[Path]) -> Listing:
        """Put packs first, and leave out what lies in another file as well."""
        packs: list[File] = []
        for path in paths:
            parsed = parse_pack_name(path.name)
            if parsed is not None:
                packs.append(File(self.path, path.name, (parsed[1], parsed[0]), self._members(path)))
        named = [(parse_segment_name(name), name) for name in names]
        singles = [
            File(self.path, name, key, None)
            for key, name in sorted((key, name) for key, name in named if key is not None)
        ]
        files: list[File] = []
        superseded: list[File] = []
        for file in packs:
            (superseded if _has_greater(file, packs) else files).append(file)
        known = [file.members for file in files if file.members is not None]
        for file in singles:
            (superseded if any(file.key in members for members in known) else files).append(file)
        return Listing(tuple(files), tuple(superseded))

    def _members(self, path: Path) -> Members:
        """Say what is in a pack; where its footer is damaged, all of it is walked through."""
        segment = self._cache.open(path, self._keystore, _unheard)
        if segment is None:
            return Members.of(())
        with segment:
            if segment.header.name != path.name:
                return Members.of(())  # A copy of another file must not make that one superfluous.
            if segment.footer is not None:
                return segment.footer.members
            found = {(frame.writer, frame.n) for frame in segment.frames(PACKED_KINDS)}
            return Members.of(Member(writer, n, 0, 0) for writer, n in found)


def _keys(file: File) -> set[Key]:
    """All segments in a file."""
    return {file.key} if file.members is None else {member.key for member in file.members}


def _has_greater(file: File, packs: Sequence[File]) -> bool:
    """
    Whether a larger pack holds all that this one holds.

    Packs share members where one was made of the others; or where one could not be opened for a
    moment, and what was to be removed behind it was packed again: then neither holds all of the other.
    """
    first = next(iter(file.members or ()), None)
    return first is not None and any(
        other.members is not None
        and (len(other.members), other.name) > (len(file.members or ()), file.name)
        and first.key in other.members
        and all(member.key in other.members for member in file.members or ())
        for other in packs
    )


def _identity(path: Path) -> tuple[int, int, int]:
    """Which file has this name now."""
    try:
        status = path.lstat()
    except OSError:
        return (0, 0, 0)
    return (status.st_ino, status.st_size, status.st_mtime_ns)


def _unheard(_: Damage) -> None:
    """What is wrong is said when the file is read."""
