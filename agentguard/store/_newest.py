"""
Spans by start, latest first, over all files at once.

Files are opened in the order of their latest start, and only once a span of them
can be the next one; of a file no more is kept in memory than may be asked for.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from agentguard.errors import SegmentCorruptError
from agentguard.store._filter import RowFilter
from agentguard.store._folder import File, SegmentFolder
from agentguard.store._reading import SequenceBook
from agentguard.store._row_reader import RowReader
from agentguard.store._rows import START, Row, span_record
from agentguard.store._segment import SegmentFile
from agentguard.values import SpanRecord

_LATEST = 2**63 - 1


class _Candidate(NamedTuple):
    """A row that may be given."""

    start_unix_ns: int
    writer: bytes
    row: Row
    shapes: Sequence[Sequence[str]]


class _Next(NamedTuple):
    """The next span of one file."""

    minus_start: int
    span_id: str
    file: int
    """Decides where the two are the same: the rest has no order."""
    rest: Any
    writer: bytes
    span: SpanRecord


def newest_first(
    folder: SegmentFolder, reader: RowReader, wanted: RowFilter, limit: int
) -> Iterator[SpanRecord]:
    """Give the spans that are wanted, latest first; at least *limit* of them, or all where it is 0."""
    ranges = sorted(_start_ranges(folder, wanted), key=lambda pair: -pair[0])
    waiting, starts = deque(file for _, file in ranges), deque(start for start, _ in ranges)
    heap: list[_Next] = []
    opened, given_start, given = 0, 0, set[tuple[bytes, str, str]]()
    while waiting or heap:
        while heap and (not waiting or -heap[0].minus_start > starts[0]):
            found = heapq.heappop(heap)
            # A disk error may have made the writer write a span into two files:
            # both copies start at the same time, so they come one after the other.
            if found.span.start_unix_ns != given_start:
                given_start, given = found.span.start_unix_ns, set()
            identity = (found.writer, found.span.trace_id, found.span.span_id)
            if identity not in given:
                given.add(identity)
                yield found.span
            _push(heap, found.rest, found.file)
        if waiting:
            file = waiting.popleft()
            starts.popleft()
            before = list(waiting)
            for segment in _opened(folder, file, waiting):
                with segment:
                    _push(heap, _sorted(segment, reader, wanted, limit), opened)
                opened += 1
            if len(waiting) < len(before):  # Others went into the same pack, and came with it.
                kept = set(waiting)
                starts = deque(start for start, file in zip(starts, before, strict=True) if file in kept)


def _opened(folder: SegmentFolder, file: File, waiting: deque[File]) -> Iterator[SegmentFile]:
    """Open a file, or the packs that its content went into."""
    segment = folder.open(file.path)
    if segment is not None:
        yield segment
    elif not file.path.exists():
        yield from folder.moved(file, waiting)


def _push(heap: list[_Next], rest: Iterator[tuple[bytes, SpanRecord]], file: int) -> None:
    """Put the next span of a file on the heap."""
    following = next(rest, None)
    if following is not None:
        writer, span = following
        heapq.heappush(heap, _Next(-span.start_unix_ns, span.span_id, file, rest, writer, span))


def _sorted(
    segment: SegmentFile, reader: RowReader, wanted: RowFilter, limit: int
) -> Iterator[tuple[bytes, SpanRecord]]:
    """The spans of one file, latest first; read before the first one is given."""
    found: list[_Candidate] = []
    for batch in reader.batches(segment, SequenceBook(), wanted):
        try:
            found += [
                _Candidate(row[START], batch.writer, row, batch.shapes)
                for row in wanted.select(batch.rows, batch.shapes)
            ]
        except (LookupError, TypeError) as error:
            reader.note_undecodable(segment, batch.first_sequence, error)
        if limit and len(found) > 4 * limit + 1024:
            found = heapq.nlargest(limit, found, key=_start)
    found.sort(key=_start, reverse=True)
    for each in found:
        try:
            record = span_record(each.row, each.shapes)
        except SegmentCorruptError as error:
            reader.note_undecodable(segment, 0, error)
            continue
        yield each.writer, record


def _start(candidate: _Candidate) -> int:
    return candidate.start_unix_ns


def _start_ranges(folder: SegmentFolder, wanted: RowFilter) -> Iterator[tuple[int, File]]:
    """For each file the latest start in it; a live file may hold anything."""
    for file in folder.listing().files:
        footer = folder.footer(file.path)
        if footer is None:
            yield _LATEST, file
        elif footer.spans and wanted.overlaps(*footer.start_range_unix_ns):
            yield footer.start_range_unix_ns[1], file
