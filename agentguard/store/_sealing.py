"""
Sealing what its writer did not: turning a closed live segment into long frames with a footer.

A writer whose frames are long finishes its file by itself (`LiveSegment.finish`). What is left are files with many
short frames, those whose content is better put together, and those of processes that died.

The sealed file takes the name of the live one in one step, so a reader sees the
one or the other. What was damaged in the live file is counted in the footer, and
the live file is kept in quarantine.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from agentguard.errors import SealError, SegmentCorruptError
from agentguard.seal import Keystore, open_regular
from agentguard.store import _codec
from agentguard.store._content_frame import ContentFrame
from agentguard.store._content_keys import ContentKeys
from agentguard.store._damage import Damage
from agentguard.store._derive import encode_features
from agentguard.store._disk import Disk, try_lock
from agentguard.store._facts import Facts, facts_of
from agentguard.store._features import decode_features, place_of
from agentguard.store._footer import Footer, Tags
from agentguard.store._grid import Grid, cut, joined, pack_grid, unpack_grid
from agentguard.store._keyring import Keyring
from agentguard.store._layout import (
    CHUNK_SPANS,
    HEADER_BYTES,
    Header,
    Kind,
    State,
    parse_segment_name,
    segment_name,
    unpack_header,
)
from agentguard.store._live import Body, make_body, new_header
from agentguard.store._msgpack import decode_map
from agentguard.store._rows import decode_gaps, decode_outcomes
from agentguard.store._sealed_file import SealedFile
from agentguard.store._segment import Frame, SegmentFile
from agentguard.values import Clock

QUARANTINE = "quarantine"
_LEFTOVER_AGE_NS = 60 * 10**9
_DATA_KINDS = frozenset(Kind) - {Kind.FOOTER, Kind.END}
_STRETCH_SPANS = 16 * CHUNK_SPANS
"""So many spans share a frame of content: a person's words in fewer and larger groups."""
_STRETCH_CHUNKS = 32
_STRETCH_BYTES = 1 << 20
_FEATURES_BYTES_MAX = 1 << 18
"""Feature blocks that wait to be written side by side: a scan over them reads a few large pieces of the file."""


class Sealer:
    """Seals the live segments of a store whose writers are gone."""

    def __init__(self, segments: Path, keystore: Keystore, clock: Clock, disk: Disk) -> None:
        self._folder = segments
        self._keystore = keystore
        self._clock = clock
        self._disk = disk
        self._known_sealed: set[str] = set()
        keyring = Keyring(segments.parent, keystore, clock, disk)
        self._content = ContentKeys(keyring, keystore.store_id)

    def seal_all(self) -> int:
        """
        Seal every live segment that no process writes to.

        Returns:
            How many were sealed.

        Raises:
            OSError: The disk refused; what was not sealed stays as it was.

        """
        sealed = 0
        names = {path.name for path in self._folder.iterdir()}
        self._known_sealed &= names
        for name in sorted(names - self._known_sealed):
            path = self._folder / name
            if name.startswith(".") and path.suffix in {".new", ".tmp"}:
                self._remove_leftover(path)
            if parse_segment_name(name) is None:
                continue
            if _says_sealed(path):
                # No key is derived for it: a store has thousands of these.
                self._known_sealed.add(name)
            elif self.seal(path):
                sealed += 1
        return sealed

    def _remove_leftover(self, path: Path) -> None:
        """Remove what a process that died was about to put into place."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return  # It is in its place by now, or it is no file of ours.
        try:
            # Young, it may be made this moment, and not be locked yet.
            age_ns = self._clock.unix_ns() - os.fstat(fd).st_mtime_ns
            if age_ns > _LEFTOVER_AGE_NS and try_lock(fd):
                self._disk.unlink(path)
        finally:
            os.close(fd)

    def seal(self, path: Path) -> bool:
        """Seal one live segment; False where it is sealed, in use, or cannot be opened."""
        damage: list[Damage] = []
        live = SegmentFile.open(path, self._keystore, damage.append)
        if live is None:
            return False
        with live:
            if live.is_sealed:
                self._known_sealed.add(path.name)
                return False
            if live.header.name != path.name or not try_lock(live.fd) or not _is_same_file(live, path):
                return False
            if _says_sealed(path):
                return False  # Its writer has finished it since it was opened.
            self._replace(live, path, damage)
            self._known_sealed.add(path.name)
            return True

    def rebuild(self, path: Path) -> bool:
        """Seal a damaged sealed segment anew from what can be read; False where another process is at it."""
        damage: list[Damage] = []
        segment = SegmentFile.open(path, self._keystore, damage.append)
        if segment is None:
            return False
        with segment:
            if not try_lock(segment.fd) or not _is_same_file(segment, path):
                return False
            self._replace(segment, path, damage)
            return True

    def _replace(self, live: SegmentFile, path: Path, damage: list[Damage]) -> None:
        """Write the sealed file beside the live one, and put it into its place."""
        temporary = path.with_name(f".{path.name}.tmp")
        header = new_header(self._keystore, live.header.writer, live.header.n, State.SEALED)
        fd = self._disk.create_over(temporary)
        try:
            self._disk.lock(fd)
            sealed = SealedFile(header, header.seal_key(self._keystore.root), self._disk, fd)
            footer = _copy(
                live, sealed, self._content, damage, self._clock.unix_ns(), self._frames_said(live.header)
            )
            sealed.finish(footer)
        except BaseException:
            self._disk.unlink(temporary)
            raise
        finally:
            self._disk.close(fd)
        if set(footer.damage) - {"torn"}:
            quarantine = path.parent.parent / QUARANTINE
            quarantine.mkdir(mode=0o700, exist_ok=True)
            self._disk.link(path, quarantine / path.name)
        self._disk.rename(temporary, path)
        self._disk.sync_folder(path.parent)

    def _frames_said(self, header: Header) -> int:
        """How many frames a file had at least, as its writer's next one says; 0 where nothing says so."""
        if header.state == State.SEALED:
            return 0  # Its frames are not those that its writer counted.
        path = self._folder / segment_name(header.writer, header.n + 1)
        following = SegmentFile.open(path, self._keystore, lambda _: None)  # Who reads that file is told.
        if following is None:
            return 0
        with following:
            for frame in following.frames({Kind.RESOURCE}):
                try:
                    said = decode_map(frame.plain, "resource").get("previous_frames")
                except SegmentCorruptError:
                    continue
                return said if type(said) is int else 0
        return 0


def _says_sealed(path: Path) -> bool:
    """Whether the header of a file says that it is sealed; False where it cannot be read."""
    try:
        fd = open_regular(path)
    except (OSError, SealError):
        return False
    try:
        header = unpack_header(os.pread(fd, HEADER_BYTES, 0))
    except OSError:
        return False
    finally:
        os.close(fd)
    return header is not None and header.state != State.LIVE


def _is_same_file(live: SegmentFile, path: Path) -> bool:
    """Whether the path still names the file that was opened: another process may have sealed it."""
    try:
        here, there = os.fstat(live.fd), path.lstat()
    except OSError:
        return False
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


class _Spans(NamedTuple):
    """A live frame of spans, with its feature block where that came behind it."""

    frame: Frame
    grid: Grid
    features: Frame | None = None


class _Chunks:
    """Cuts a stream of spans into chunks of consecutive ones, each stretch of them behind its content."""

    def __init__(self, sealed: SealedFile, content: ContentKeys, chunk_spans: int = CHUNK_SPANS) -> None:
        self._sealed = sealed
        self._keys = content
        self._size = chunk_spans
        self._waiting: list[Grid] = []
        self._count = 0
        self._contents: list[ContentFrame] = []
        self._content_bytes = 0
        self._held: list[Body] = []
        """Chunks behind content that is not written yet."""
        self._features: list[Body] = []
        """Those wait for their like."""
        self._features_bytes = 0
        self.tags = Tags()
        self.chunks = 0
        self.spans = 0

    def add_content(self, frame: Frame) -> None:
        """
        Take a frame of content; that of the spans that come next.

        Raises:
            SegmentCorruptError: It does not decode.
        """
        content = ContentFrame(
            frame.plain, self._keys
        )  # A group that does not open is its reader's to report.
        if self._contents:
            first = self._contents[0].first_sequence
            size = self._content_bytes + len(frame.plain)
            if not first < content.following <= first + _STRETCH_SPANS or size > _STRETCH_BYTES:
                self.flush()
        self._contents.append(content)
        self._content_bytes += len(frame.plain)

    def add(self, spans: _Spans) -> None:
        """Take the spans of one live frame; as they are, compressed, where they are enough."""
        grid = spans.grid
        if not grid.count:
            return
        if (
            self._waiting
            and grid.first_sequence != self._waiting[-1].first_sequence + self._waiting[-1].count
        ):
            self._end_chunk()  # Spans are absent in between: a chunk has consecutive ones only.
        if spans.features is not None and grid.count >= 0.75 * self._size:
            self._end_chunk()
            self._write(grid, _as_it_is(spans.frame), _as_it_is(spans.features))
            return
        self._waiting.append(grid)
        self._count += grid.count
        if self._count >= self._size:
            self._cut()

    def _cut(self) -> None:
        """Write whole chunks of the spans at hand."""
        grid = joined(self._waiting)
        start = 0
        while grid.count - start >= self._size:
            self._encode(cut(grid, start, start + self._size))
            start += self._size
        self._waiting = [cut(grid, start, grid.count)] if start < grid.count else []
        self._count = grid.count - start

    def flush(self) -> None:
        """Write all spans that are at hand."""
        self._end_chunk()
        self._end_stretch()

    def write_features(self) -> None:
        """Write the feature blocks that wait."""
        self._add_all(self._features)
        self._features, self._features_bytes = [], 0

    def _end_chunk(self) -> None:
        """Make a chunk of the spans at hand."""
        if self._waiting:
            self._encode(joined(self._waiting))
        self._waiting, self._count = [], 0

    def _end_stretch(self) -> None:
        """Write the content at hand as one frame, and the chunks behind it."""
        if self._contents:
            joint = self._keys.joined(self._contents)
            self._sealed.add(joint.body._replace(facts=Facts(joint.first_sequence, joint.rows)))
        self._contents, self._content_bytes = [], 0
        self._add_all(self._held)
        self._held = []
        if self._features_bytes >= _FEATURES_BYTES_MAX:
            self.write_features()

    def _add_all(self, frames: list[Body]) -> None:
        """Write frames one after the other."""
        for frame in frames:
            self._sealed.add(frame)

    def _encode(self, grid: Grid) -> None:
        """Make a chunk of spans and write it."""
        spans = make_body(Kind.SPANS, pack_grid(grid), level=_codec.SEALED_LEVEL)
        self._write(grid, spans, Body(Kind.FEATURES, _codec.RAW, encode_features(grid)))

    def _write(self, grid: Grid, spans: Body, features: Body) -> None:
        """Write one chunk once its content is, and its features with those of others."""
        facts = facts_of(grid)
        self.tags.add(facts.tags, self.chunks)
        self._held.append(spans._replace(facts=facts))
        self._keep_features(features._replace(facts=facts))
        self.chunks += 1
        self.spans += grid.count
        if not self._contents or len(self._held) >= _STRETCH_CHUNKS:
            self._end_stretch()

    def add_features(self, frame: Frame) -> None:
        """Keep a feature block whose spans are damaged: its numbers are not."""
        block = decode_features(frame.plain, frozenset({"start_unix_ns"}))
        if block.rows:
            starts = block.columns["start_unix_ns"].values
            facts = Facts(block.first_sequence, block.rows, min(starts), max(starts))
            self._keep_features(_as_it_is(frame)._replace(facts=facts))

    def _keep_features(self, block: Body) -> None:
        """Keep a feature block until there are many: a scan over them reads neighbours at once."""
        self._features.append(block)
        self._features_bytes += len(block.data)


def _copy(
    live: SegmentFile,
    sealed: SealedFile,
    content: ContentKeys,
    damage: list[Damage],
    now_unix_ns: int,
    frames_said: int,
) -> Footer:
    """Copy all that a live file holds: spans in chunks, then the rest; features in a few places, side by side."""
    chunks = _Chunks(sealed, content)
    others: list[tuple[Frame, int]] = []
    waiting: _Spans | None = None
    following = 0
    for frame in live.frames(_DATA_KINDS):
        following = max(following, frame.number + 1)
        try:
            if frame.kind == Kind.FEATURES:
                if waiting is not None and place_of(frame.plain) == (
                    waiting.grid.first_sequence,
                    waiting.grid.count,
                ):
                    chunks.add(waiting._replace(features=frame))
                    waiting = None
                else:
                    chunks.add_features(frame)
                continue
            if waiting is not None:
                chunks.add(waiting)  # Its feature block did not come: it is derived anew.
                waiting = None
            if frame.kind == Kind.CONTENT:
                chunks.add_content(frame)
            elif frame.kind == Kind.SPANS:
                waiting = _Spans(frame, unpack_grid(frame.plain))
            else:
                others.append((frame, _rows_of(frame)))
        except (SegmentCorruptError, KeyError) as error:
            live.note_undecodable(frame, error)
    if waiting is not None:
        chunks.add(waiting)
    chunks.flush()
    outcomes = 0
    for frame, count in others:
        sealed.add(_as_it_is(frame)._replace(facts=Facts(rows=count)))
        outcomes += count if frame.kind == Kind.OUTCOMES else 0
    chunks.write_features()
    if following < frames_said:
        detail = f"frames {following} to {frames_said - 1} are absent, the writer's next file says"
        damage.append(Damage("missing", live.path.name, 0, 0, detail))
    tags, numbers = chunks.tags.arrays()
    counts = Counter(place.kind for place in damage)
    return Footer(
        sealed.places, tags, numbers, spans=chunks.spans, outcomes=outcomes, damage=dict(counts),
        sealed_unix_ns=now_unix_ns,
    )  # fmt: skip


def _as_it_is(frame: Frame) -> Body:
    """The content of a frame as it was compressed when it was written."""
    return Body(frame.kind, frame.codec, frame.packed)


def _rows_of(frame: Frame) -> int:
    """
    Count the records of a frame that has no spans, and see that it decodes.

    Raises:
        SegmentCorruptError: It does not.

    """
    if frame.kind == Kind.OUTCOMES:
        return sum(1 for _ in decode_outcomes(frame.plain))
    if frame.kind == Kind.GAPS:
        return sum(1 for _ in decode_gaps(frame.plain))
    return 0
