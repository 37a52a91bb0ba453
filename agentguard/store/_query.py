"""
Reading the store back: spans, outcomes, gaps, features, while others write.

A query sees each file as it is when it comes to it. What cannot be read is
counted in `damage` and passed over; a record is given once, wherever it lies and
however often it was written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

from agentguard.errors import SegmentCorruptError
from agentguard.seal import Keystore
from agentguard.store._cache import FooterCache
from agentguard.store._columns import columns_of_grid
from agentguard.store._damage import DamageReport
from agentguard.store._features import FeatureBlock, decode_features
from agentguard.store._filter import RowFilter
from agentguard.store._folder import SegmentFolder
from agentguard.store._footer import Footer
from agentguard.store._groups import GroupOpener
from agentguard.store._layout import Kind, parse_segment_name
from agentguard.store._members import Member
from agentguard.store._newest import newest_first as _newest_first
from agentguard.store._reading import (
    Cursor,
    Positioned,
    PositionedColumns,
    RowBatch,
    SegmentInfo,
    SequenceBook,
    may_hold,
    rows_to_keep,
)
from agentguard.store._resources import Resources
from agentguard.store._row_reader import RowReader
from agentguard.store._rows import decode_gaps, decode_outcomes, span_record
from agentguard.store._segment import SegmentFile
from agentguard.store._table import AsTables
from agentguard.store._telling import OnContentRead, has_content, tell_before_content
from agentguard.values import GapRecord, OutcomeRecord, SpanRecord

_NOTHING = (-1, -1)
"""The place of a writer of which nothing was taken."""


class Query(AsTables):
    """Reads one store. Cheap to make; not for several threads at once."""

    def __init__(
        self,
        segments: Path,
        keystore: Keystore,
        cache: FooterCache,
        content: GroupOpener | None = None,
        on_content_read: OnContentRead | None = None,
    ) -> None:
        self._on_content_read = on_content_read
        self._cache = cache
        self.damage = DamageReport()
        """What this query could not read so far."""
        self._folder = SegmentFolder(segments, keystore, cache, self.damage.add)
        self._reader = RowReader(cache, self.damage, content)
        self._resources = Resources(cache)

    def spans(
        self,
        *,
        since_unix_ns: int | None = None,
        until_unix_ns: int | None = None,
        trace_id: str | None = None,
        call_id: str | None = None,
        kind: str | None = None,
        name: str | None = None,
        agent: str | None = None,
        status: str | None = None,
        limit: int = 0,
        newest_first: bool = False,
    ) -> Iterator[SpanRecord]:
        """
        Give the spans for which every condition holds.

        Args:
            since_unix_ns:
                Earliest start, included.

            until_unix_ns:
                Latest start, excluded.

            trace_id:
                32 hexadecimal digits, or the beginning of them.

            call_id:
                16 hexadecimal digits, or the beginning of them.

            kind:
                agent, model, tool …

            name:
                The name of the span.

            agent:
                The name of the agent.

            status:
                unset, ok or error.

            limit:
                How many at most; 0 for all.

            newest_first:
                Sort by start, latest first. Otherwise spans come in the order in
                which each writer finished them, one writer after the other.

        Returns:
            An iterator that holds one segment in memory, or with *newest_first*
            those that overlap in time.

        """
        wanted = RowFilter(since_unix_ns, until_unix_ns, trace_id, call_id, kind, name, agent, status)
        found = (
            _newest_first(self._folder, self._reader, wanted, limit) if newest_first else self._spans(wanted)
        )
        if self._on_content_read is not None:
            found = tell_before_content(found, partial(self._on_content_read, wanted.text), has_content)
        if limit:
            for _, span in zip(range(limit), found, strict=False):
                yield span
        else:
            yield from found

    def _spans(self, wanted: RowFilter) -> Iterator[SpanRecord]:
        """Spans in the order of the files."""
        for segment, book in self._segments(wanted):
            yield from self._reader.records(segment, book, wanted)

    def batches(self) -> Iterator[RowBatch]:
        """Give the rows of all spans, frame by frame, for counting: content that is sealed by itself stays sealed."""
        for segment, book in self._segments():
            yield from self._reader.batches(segment, book)

    # Everything else ---------------------------------------------------------------

    def outcomes(self) -> Iterator[OutcomeRecord]:
        """Give all outcomes, in the order in which each writer recorded them."""
        for segment, book in self._segments(kind=Kind.OUTCOMES):
            for frame in segment.frames({Kind.OUTCOMES}):
                try:
                    rows = list(decode_outcomes(frame.plain))
                except SegmentCorruptError as error:
                    segment.note_undecodable(frame, error)
                    continue
                if rows:
                    fresh = book.of(frame.writer).fresh(Kind.OUTCOMES, rows[0][0], rows)
                    yield from (outcome for _, outcome in fresh)

    def gaps(self) -> Iterator[GapRecord]:
        """Give all losses that writers counted."""
        for segment, book in self._segments(kind=Kind.GAPS):
            for frame in segment.frames({Kind.GAPS}):
                try:
                    rows = list(decode_gaps(frame.plain))
                except (SegmentCorruptError, TypeError) as error:
                    segment.note_undecodable(frame, error)
                    continue
                if rows:
                    yield from (gap for _, gap in book.of(frame.writer).fresh(Kind.GAPS, rows[0][0], rows))

    def resources(self) -> Iterator[tuple[str, Mapping[str, str]]]:
        """Give for each segment its writer, and what that said of its process."""
        for segment, _ in self._segments():
            for writer, resource in self._resources.of(segment):
                yield writer.hex(), resource

    def features(
        self,
        names: Iterable[str] | None = None,
        *,
        since_unix_ns: int | None = None,
        until_unix_ns: int | None = None,
    ) -> Iterator[FeatureBlock]:
        """
        Give feature blocks: columns of some spans each, no content.

        Args:
            names:
                Features of the catalogue that are asked for; `None` for all. A
                block of an older version may lack some.

            since_unix_ns:
                Earliest start, included.

            until_unix_ns:
                Latest start, excluded.

        Returns:
            An iterator over blocks, one frame in memory at a time.

        """
        asked = None if names is None else frozenset(names)
        wanted = RowFilter(since_unix_ns, until_unix_ns)
        columns = None if asked is None else asked | {"start_unix_ns"} if wanted.has_times else asked
        for segment, book in self._segments(wanted if wanted.has_times else None):
            footer = segment.footer
            if footer is None:
                frames = segment.frames({Kind.FEATURES})
            else:
                places = footer.places.having({Kind.FEATURES})
                frames = segment.frames_at([place for place in places if may_hold(place, wanted)])
            for frame in frames:
                try:
                    block = decode_features(frame.plain, columns)
                except SegmentCorruptError as error:
                    segment.note_undecodable(frame, error)
                    continue
                sequences = book.of(frame.writer)
                skipped = sequences.skip(Kind.FEATURES, block.first_sequence, block.rows)
                keep = rows_to_keep(block, wanted, skipped)
                if keep is not None:
                    block = block.select(keep)
                if block.rows:
                    yield block

    def positions(self, after: Cursor | None = None) -> Iterator[Positioned]:
        """
        Give spans with their places, in the order in which each writer finished them.

        Args:
            after:
                For each writer the place of the last span that was taken; spans up
                to it are left out. Places stay the same when a segment is sealed or packed.

        """
        found = self._positions(after)
        if self._on_content_read is not None:
            tell = partial(self._on_content_read, "all after a place")
            found = tell_before_content(found, tell, lambda position: has_content(position.span))
        return found

    def _positions(self, after: Cursor | None) -> Iterator[Positioned]:
        """Spans with their places."""
        taken = _places(after)
        for segment, book, after_sequence in self._after(taken):
            for batch in self._reader.batches(segment, book, after_sequence=after_sequence):
                last = taken.get(batch.writer, _NOTHING)[1]
                if batch.first_sequence + len(batch.rows) <= last + 1:
                    continue
                writer, resource = (
                    batch.writer.hex(),
                    self._resources.for_writer(segment, batch.writer, batch.n),
                )
                for sequence, row in enumerate(batch.rows, batch.first_sequence):
                    if sequence <= last:
                        continue
                    try:
                        span = span_record(row, batch.shapes)
                    except SegmentCorruptError as error:
                        self._reader.note_undecodable(segment, sequence, error)
                        continue
                    yield Positioned((writer, batch.n, sequence), span, resource)

    def columns(self, after: Cursor | None = None) -> Iterator[PositionedColumns]:
        """
        Give the same spans as `positions`, many at once as columns: four times as fast.

        Args:
            after:
                For each writer the place of the last span that was taken; spans up
                to it are left out.

        Returns:
            Columns of at most a frame each, or a record where a span is odd or stands beside a damaged one.

        """
        found = self._columns(after)
        if self._on_content_read is not None:
            tell = partial(self._on_content_read, "all after a place")
            found = tell_before_content(found, tell, lambda position: has_content(position.spans))
        return found

    def _columns(self, after: Cursor | None) -> Iterator[PositionedColumns]:
        """Columns with the places of their first spans."""
        taken = _places(after)
        for segment, book, after_sequence in self._after(taken):
            for frame, grid, contents, skipped in self._reader.grids(segment, book, after_sequence):
                start = max(skipped, taken.get(frame.writer, _NOTHING)[1] + 1 - grid.first_sequence)
                if start >= grid.count:
                    continue
                writer = frame.writer.hex()
                resource = self._resources.for_writer(segment, frame.writer, frame.n)
                columns = columns_of_grid(grid, contents, start)
                if columns is not None:
                    yield PositionedColumns((writer, frame.n, grid.first_sequence + start), columns, resource)
                    continue
                for sequence, span in self._reader.one_by_one(segment, frame, contents, start):
                    yield PositionedColumns((writer, frame.n, sequence), span, resource)

    def _after(
        self, taken: Mapping[bytes, tuple[int, int]]
    ) -> Iterator[tuple[SegmentFile, SequenceBook, int]]:
        """Open the files with spans that were not taken; the number says behind which one of a single segment they are."""
        for segment, book in self._segments(taken=taken):
            after_sequence = -1
            if not segment.is_pack:
                after_sequence = taken.get(segment.header.writer, _NOTHING)[1]
            elif segment.footer is not None:
                behind = _behind(segment.footer, taken)
                only = segment.only
                segment.only = behind if only is None else {key for key in behind if key in only}
            yield segment, book, after_sequence

    def end(self) -> dict[str, tuple[int, int]]:
        """Give the place of the last span of each writer: what `positions` takes to begin with the next one."""
        found: dict[str, tuple[int, int]] = {}
        for info in self.segments():
            for member in info.members:
                if member.next_sequence:
                    found[member.writer.hex()] = (member.n, member.next_sequence - 1)
        return found

    def writers(self) -> set[str]:
        """Give the ids of all who wrote what is in the store now; no segment is opened for it."""
        files = self._folder.listing().files
        keys = (file.members or (Member(*file.key, 0, 0),) for file in files)
        return {member.writer.hex() for members in keys for member in members}

    def segments(self) -> list[SegmentInfo]:
        """Say of each file what is in it."""
        found = []
        for segment, book in self._segments():
            footer, header, name = segment.footer, segment.header, segment.path.name
            if footer is not None:
                members = footer.members if segment.is_pack else (
                    Member(header.writer, header.n, footer.spans, footer.places.next_sequence),
                )  # fmt: skip
                found.append(
                    SegmentInfo(
                        name, True, footer.spans, footer.start_range_unix_ns, segment.size_bytes, members
                    )
                )
                continue
            spans, starts, following = 0, (0, 0), 0
            # Housekeeping asks this of a file that is being written: to decode all of it takes five times as much.
            for first, times in self._reader.starts(segment, book):
                if not times:
                    continue
                known = starts if spans else (times[0], times[0])
                starts = (min(known[0], *times), max(known[1], *times))
                spans += len(times)
                following = first + len(times)
            member = Member(header.writer, header.n, spans, following)
            found.append(SegmentInfo(name, segment.is_sealed, spans, starts, segment.size_bytes, (member,)))
        return found

    # Files -------------------------------------------------------------------------

    def _segments(
        self,
        wanted: RowFilter | None = None,
        *,
        taken: Mapping[bytes, tuple[int, int]] | None = None,
        kind: int = Kind.SPANS,
    ) -> Iterator[tuple[SegmentFile, SequenceBook]]:
        """Open the files one after the other, each writer's in order; not those that hold nothing wanted."""
        book = SequenceBook()

        def is_useless(path: Path) -> bool:
            footer = self._cache.peek(path)
            if footer is None or footer.damage:
                return False
            if taken is not None:
                return _is_taken(path, footer, taken)
            if kind != Kind.SPANS:
                return not footer.places.has(kind)
            return wanted is not None and not wanted.may_be_among(footer)

        for segment in self._folder.files(is_useless):
            yield segment, book
            if segment.is_pack and segment.footer is not None:
                book.leave(segment.footer.members)


def _places(after: Cursor | None) -> dict[bytes, tuple[int, int]]:
    """A cursor by the writers as they stand in files."""
    return {bytes.fromhex(writer): place for writer, place in (after or {}).items()}


def _behind(footer: Footer, taken: Mapping[bytes, tuple[int, int]]) -> set[tuple[bytes, int]]:
    """The segments of a pack with spans that were not taken."""
    return {
        member.key
        for member in footer.members
        if member.next_sequence > taken.get(member.writer, _NOTHING)[1] + 1
    }


def _is_taken(path: Path, footer: Footer, taken: Mapping[bytes, tuple[int, int]]) -> bool:
    """Whether all spans of a sealed file were taken."""
    key = parse_segment_name(path.name)
    if key is None:
        return not _behind(footer, taken)
    return footer.places.next_sequence <= taken.get(key[0], _NOTHING)[1] + 1
