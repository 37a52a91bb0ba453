"""
The rows of spans in one file, each once, opening no more of it than may be wanted.

A sealed file says by its footer which chunks may hold a trace or a time. Of a live
one that is remembered as far as it was read before; and a frame whose bytes do
not contain an id or a name that is asked for is not decoded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agentguard.errors import SegmentCorruptError
from agentguard.store._cache import FooterCache
from agentguard.store._content_frame import ContentFrame, attach_content
from agentguard.store._content_shelf import KEPT_FRAMES, ContentShelf
from agentguard.store._damage import Damage, DamageReport
from agentguard.store._filter import RowFilter
from agentguard.store._footer import Place, id_tag
from agentguard.store._grid import Grid, unpack_grid
from agentguard.store._groups import GroupOpener
from agentguard.store._layout import Kind
from agentguard.store._live_index import LiveIndex
from agentguard.store._reading import RowBatch, SequenceBook, may_hold
from agentguard.store._records import records_of
from agentguard.store._rows import decode_spans, span_record
from agentguard.store._segment import Frame, SegmentFile
from agentguard.store._starts import unpack_starts
from agentguard.values import SpanRecord

_KINDS = frozenset({Kind.SPANS, Kind.CONTENT})


class RowReader:
    """Reads rows for one query."""

    def __init__(self, cache: FooterCache, damage: DamageReport, content: GroupOpener | None = None) -> None:
        self._cache = cache
        self._content = content
        self._damage = damage

    def records(self, segment: SegmentFile, book: SequenceBook, wanted: RowFilter) -> Iterator[SpanRecord]:
        """Make records of the rows of a file that are wanted."""
        if segment.is_sealed and wanted.is_everything:
            yield from self._all_records(segment, book)
            return
        for batch in self.batches(segment, book, wanted):
            try:
                for row in wanted.select(batch.rows, batch.shapes):
                    yield span_record(row, batch.shapes)
            except (SegmentCorruptError, LookupError, TypeError) as error:
                self.note_undecodable(segment, batch.first_sequence, error)

    def _all_records(self, segment: SegmentFile, book: SequenceBook) -> Iterator[SpanRecord]:
        """Make records of all rows of a sealed file, a frame at a time."""
        for frame, grid, contents, skipped in self.grids(segment, book):
            try:
                yield from records_of(grid, contents)[skipped:]
            except SegmentCorruptError:
                for _, record in self.one_by_one(segment, frame, contents, skipped):
                    yield record

    def grids(
        self, segment: SegmentFile, book: SequenceBook, after_sequence: int = -1
    ) -> Iterator[tuple[Frame, Grid, list[ContentFrame], int]]:
        """
        Columns of one file, frame by frame.

        Args:
            segment:
                The file.

            book:
                Which spans of each writer were given before.

            after_sequence:
                Frames of a single segment with nothing behind this number may be left out.

        Returns:
            Frame, columns, content of their spans, and how many of them were given before.
        """
        index = None if segment.is_sealed else self._index_of(segment)
        shelf = ContentShelf(segment, self._content)
        for frame in self._frames(segment, index, None, after_sequence):
            if frame.kind == Kind.CONTENT:
                shelf.put(frame)
                continue
            try:
                grid = unpack_grid(frame.plain)
            except SegmentCorruptError as error:
                segment.note_undecodable(frame, error)
                continue
            if index is not None:
                index.add(frame, grid, shelf.right_before(frame))
            skipped = book.of(frame.writer).skip(Kind.SPANS, grid.first_sequence, grid.count)
            yield frame, grid, shelf.of(frame, grid.first_sequence, grid.count), skipped

    def starts(self, segment: SegmentFile, book: SequenceBook) -> Iterator[tuple[int, Sequence[int]]]:
        """For each frame of one file the number of its first span that was not given before, and when those began."""
        for frame in segment.frames({Kind.SPANS}):
            try:
                first, starts = unpack_starts(frame.plain)
            except SegmentCorruptError as error:
                segment.note_undecodable(frame, error)
                continue
            skipped = book.of(frame.writer).skip(Kind.SPANS, first, len(starts))
            yield first + skipped, starts[skipped:]

    def one_by_one(
        self, segment: SegmentFile, frame: Frame, contents: Sequence[ContentFrame], start: int
    ) -> Iterator[tuple[int, SpanRecord]]:
        """Make a record of each span of a frame from the place *start* on, with its number; those that cannot be are reported."""
        decoded = decode_spans(frame.plain)
        attach_content(contents, decoded.first_sequence, decoded.rows)
        for sequence, row in enumerate(decoded.rows[start:], decoded.first_sequence + start):
            try:
                yield sequence, span_record(row, decoded.shapes)
            except SegmentCorruptError as error:
                self.note_undecodable(segment, sequence, error)

    def note_undecodable(self, segment: SegmentFile, sequence: int, error: Exception) -> None:
        """Report a row that opened and does not decode."""
        self._damage.add(Damage("undecodable", segment.path.name, sequence, 0, str(error)))

    def batches(
        self,
        segment: SegmentFile,
        book: SequenceBook,
        wanted: RowFilter | None = None,
        after_sequence: int = -1,
    ) -> Iterator[RowBatch]:
        """
        Rows of one file, frame by frame, without those that were given before.

        Args:
            segment:
                The file.

            book:
                Which rows of each writer were given before.

            wanted:
                Frames that hold nothing of it may be left out; `None` for all.

            after_sequence:
                Frames of a single segment with nothing behind this number may be left out.
        """
        index = None if segment.is_sealed else self._index_of(segment)
        is_complete = wanted is None or not wanted.needles
        if index is not None and wanted is not None and wanted.has_whole_trace_id:
            index.lookups += 1
            # The second look-up pays for the index; one alone is quicker without.
            is_complete = index.lookups > 1
        shelf = ContentShelf(segment, self._content)
        for frame in self._frames(segment, index if is_complete else None, wanted, after_sequence):
            if frame.kind == Kind.CONTENT:
                shelf.put(frame)
                continue
            if wanted is not None and not is_complete and not wanted.may_be_in(frame.plain):
                continue
            try:
                decoded = decode_spans(frame.plain)
            except SegmentCorruptError as error:
                segment.note_undecodable(frame, error)
                continue
            if index is not None and is_complete:
                index.add(frame, decoded, shelf.right_before(frame))
            contents = shelf.of(frame, decoded.first_sequence, len(decoded.rows))
            attach_content(contents, decoded.first_sequence, decoded.rows)
            rows = book.of(frame.writer).fresh(Kind.SPANS, decoded.first_sequence, decoded.rows)
            if rows:
                first = decoded.first_sequence + len(decoded.rows) - len(rows)
                yield RowBatch(frame.writer, frame.n, first, rows, decoded.shapes)

    def _index_of(self, segment: SegmentFile) -> LiveIndex:
        """What is known of a live segment, if what is known is still there."""
        index = self._cache.index_of(segment)
        if index.resume is not None and not segment.has(index.resume):
            # The end of the file was cut off, and perhaps written anew.
            self._cache.forget_index(segment)
            index = self._cache.index_of(segment)
        return index

    def _frames(
        self, segment: SegmentFile, index: LiveIndex | None, wanted: RowFilter | None, after_sequence: int
    ) -> Iterator[Frame]:
        """
        Open the frames of spans, those of their content before them.

        Only those that may hold what is wanted, as far as that is known.
        """
        footer = segment.footer
        if footer is not None:
            if wanted is not None and wanted.has_whole_trace_id and wanted.trace_id is not None:
                places = footer.places.chunks(footer.chunks_of(wanted.trace_id))
            else:
                places = footer.places.having({Kind.SPANS})
            places = self._places(places, wanted, after_sequence)
            yield from segment.frames_at(footer.places.with_content(places, KEPT_FRAMES))
        elif index is None or index.resume is None:
            yield from segment.frames(_KINDS)
        elif wanted is None:
            yield from segment.frames(_KINDS, index.resume_after(after_sequence))
        else:
            tag = id_tag(wanted.trace_id) if wanted.has_whole_trace_id and wanted.trace_id else None
            # The index is shared with other readers and grows meanwhile: where to go on comes before the
            # places, and before the first frame is given. What is then met twice is left out by its number.
            resume = index.resume
            places = self._places(list(index.places(tag)), wanted, -1)
            yield from segment.frames_at(index.with_content(places))
            yield from segment.frames(_KINDS, resume)

    def _places(self, places: list[Place], wanted: RowFilter | None, after_sequence: int) -> list[Place]:
        """Leave out chunks that hold nothing wanted."""
        if wanted is None:
            return [p for p in places if p.first_sequence + p.rows > after_sequence + 1]
        return [place for place in places if may_hold(place, wanted)]
