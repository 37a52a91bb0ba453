"""
Reading the store back: spans, outcomes, gaps, features, while others write.

A query sees each file as it is when it comes to it. What cannot be read is
counted in `damage` and passed over; a record is given once, even where a disk
error made the writer write it twice.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from agentguard.errors import SegmentCorruptError
from agentguard.seal import Keystore
from agentguard.store._cache import FooterCache
from agentguard.store._damage import Damage, DamageReport
from agentguard.store._features import FeatureBlock, decode_features
from agentguard.store._filter import RowFilter
from agentguard.store._layout import Kind, parse_segment_name
from agentguard.store._reading import (
    Cursor,
    Positioned,
    RowBatch,
    SegmentInfo,
    Sequences,
    by_start,
    may_hold,
    push,
    rows_to_keep,
)
from agentguard.store._rows import (
    START,
    Row,
    decode_gaps,
    decode_map,
    decode_outcomes,
    decode_spans,
    span_record,
)
from agentguard.store._segment import Frame, SegmentFile
from agentguard.store._table import AsTables
from agentguard.values import GapRecord, OutcomeRecord, SpanRecord


class Query(AsTables):
    """Reads one store. Cheap to make; not for several threads at once."""

    def __init__(self, segments: Path, keystore: Keystore, cache: FooterCache) -> None:
        self._folder = segments
        self._keystore = keystore
        self._cache = cache
        self.damage = DamageReport()
        """What this query could not read so far."""

    # Spans -----------------------------------------------------------------------

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
        found = self._sorted_spans(wanted, limit) if newest_first else self._spans(wanted)
        if limit:
            for _, span in zip(range(limit), found, strict=False):
                yield span
        else:
            yield from found

    def _spans(self, wanted: RowFilter) -> Iterator[SpanRecord]:
        """Spans in the order of the files."""
        for segment, next_sequence in self._segments(wanted):
            for batch in self._batches(segment, next_sequence, wanted):
                yield from self._records(segment, batch, wanted)

    def _records(self, segment: SegmentFile, batch: RowBatch, wanted: RowFilter) -> Iterator[SpanRecord]:
        """Make records of the rows that are wanted."""
        try:
            for row in wanted.select(batch.rows, batch.shapes):
                yield span_record(row, batch.shapes)
        except (SegmentCorruptError, LookupError, TypeError) as error:
            self.damage.add(Damage("undecodable", segment.path.name, batch.first_sequence, 0, str(error)))

    def _batches(
        self,
        segment: SegmentFile,
        next_sequence: Sequences,
        wanted: RowFilter | None = None,
        after_sequence: int = -1,
    ) -> Iterator[RowBatch]:
        """Rows of one file, frame by frame, without those that were given before."""
        for frame in self._span_frames(segment, wanted, after_sequence):
            try:
                decoded = decode_spans(frame.plain)
            except SegmentCorruptError as error:
                segment.note_undecodable(frame, error)
                continue
            if not segment.is_sealed:
                self._cache.remember(segment, frame, decoded.first_sequence)
            rows = next_sequence.fresh(Kind.SPANS, decoded.first_sequence, decoded.rows)
            if rows:
                first = decoded.first_sequence + len(decoded.rows) - len(rows)
                yield RowBatch(first, rows, decoded.shapes)

    def _span_frames(
        self, segment: SegmentFile, wanted: RowFilter | None, after_sequence: int
    ) -> Iterator[Frame]:
        """Open the frames of spans; only those that may hold what is wanted, as far as that is known."""
        footer = segment.footer
        if footer is None:
            resume = self._cache.resume(segment, after_sequence) if after_sequence >= 0 else None
            return segment.frames({Kind.SPANS}, resume)
        places = footer.span_places
        if wanted is None:
            return segment.frames_at([p for p in places if p.first_sequence + p.rows > after_sequence + 1])
        if wanted.has_whole_trace_id and wanted.trace_id is not None:
            places = [
                places[chunk] for chunk in sorted(footer.chunks_of(wanted.trace_id)) if chunk < len(places)
            ]
        return segment.frames_at([place for place in places if may_hold(place, wanted)])

    def _sorted_spans(self, wanted: RowFilter, limit: int) -> Iterator[SpanRecord]:
        """
        Spans by start, latest first.

        Segments are opened in the order of their latest start, and only once a
        span of them can be the next one.
        """
        waiting = sorted(self._start_ranges(wanted), key=lambda pair: -pair[0])
        heap: list[Any] = []
        opened, given_start, given = 0, 0, set[tuple[str, str, str]]()
        for start_max, path in [*waiting, (None, None)]:
            while heap and (start_max is None or -heap[0][0] > start_max):
                _, _, number, rest, writer, span = heapq.heappop(heap)
                # A disk error may have made the writer write a span into two files:
                # both copies start at the same time, so they come one after the other.
                if span.start_unix_ns != given_start:
                    given_start, given = span.start_unix_ns, set()
                identity = (writer, span.trace_id, span.span_id)
                if identity not in given:
                    given.add(identity)
                    yield span
                push(heap, rest, number, writer)
            if path is not None:
                push(heap, self._sorted_segment(path, wanted, limit), opened, path.name[:16])
                opened += 1

    def _sorted_segment(
        self, path: Path, wanted: RowFilter, limit: int
    ) -> Iterator[tuple[int, str, SpanRecord]]:
        """The spans of one segment, latest first; no more of them in memory than are asked for."""
        with_file = self._open(path)
        if with_file is None:
            return
        found: list[tuple[int, str, Row, Sequence[Sequence[str]]]] = []
        with with_file as segment:
            for batch in self._batches(segment, Sequences(), wanted):
                try:
                    found += [
                        (row[START], "", row, batch.shapes) for row in wanted.select(batch.rows, batch.shapes)
                    ]
                except (LookupError, TypeError) as error:
                    self.damage.add(Damage("undecodable", path.name, batch.first_sequence, 0, str(error)))
                if limit and len(found) > 4 * limit + 1024:
                    found = heapq.nlargest(limit, found, key=by_start)
        found.sort(key=by_start, reverse=True)
        for start, _, row, shapes in found:
            try:
                record = span_record(row, shapes)
            except SegmentCorruptError as error:
                self.damage.add(Damage("undecodable", path.name, 0, 0, str(error)))
                continue
            yield start, record.span_id, record

    def _start_ranges(self, wanted: RowFilter) -> Iterator[tuple[int, Path]]:
        """For each file the latest start in it; a live file may hold anything."""
        for path, _ in self._files():
            opened = self._open(path)
            if opened is None:
                continue
            with opened as segment:
                footer = segment.footer
                if footer is None:
                    yield 2**63 - 1, path
                elif footer.spans:
                    start_min, start_max = footer.start_range_unix_ns
                    if wanted.overlaps(start_min, start_max):
                        yield start_max, path

    # Everything else ---------------------------------------------------------------

    def outcomes(self) -> Iterator[OutcomeRecord]:
        """Give all outcomes, in the order in which each writer recorded them."""
        for segment, next_sequence in self._segments():
            for frame in segment.frames({Kind.OUTCOMES}):
                try:
                    rows = list(decode_outcomes(frame.plain))
                except SegmentCorruptError as error:
                    segment.note_undecodable(frame, error)
                    continue
                if rows:
                    yield from (o for _, o in next_sequence.fresh(Kind.OUTCOMES, rows[0][0], rows))

    def gaps(self) -> Iterator[GapRecord]:
        """Give all losses that writers counted."""
        for segment, next_sequence in self._segments():
            for frame in segment.frames({Kind.GAPS}):
                try:
                    rows = list(decode_gaps(frame.plain))
                except (SegmentCorruptError, TypeError) as error:
                    segment.note_undecodable(frame, error)
                    continue
                if rows:
                    yield from (gap for _, gap in next_sequence.fresh(Kind.GAPS, rows[0][0], rows))

    def resources(self) -> Mapping[str, Mapping[str, str]]:
        """Give for each writer what it said of its process."""
        found: dict[str, Mapping[str, str]] = {}
        for segment, _ in self._segments():
            writer = segment.header.writer.hex()
            if writer not in found:
                found[writer] = self._resource(segment)
        return found

    def _resource(self, segment: SegmentFile) -> Mapping[str, str]:
        """What the writer of a file said of its process."""
        known = self._cache.resources.get(segment.header.salt)
        if known is not None:
            return known
        for frame in segment.frames({Kind.RESOURCE}):
            try:
                resource = decode_map(frame.plain, "resource").get("resource", {})
            except SegmentCorruptError as error:
                segment.note_undecodable(frame, error)
                continue
            if isinstance(resource, dict):
                found = {str(key): str(value) for key, value in resource.items()}
                self._cache.remember_resource(segment, found)
                return found
        return {}

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
        for segment, next_sequence in self._segments():
            footer = segment.footer
            if footer is None:
                frames = segment.frames({Kind.FEATURES})
            else:
                frames = segment.frames_at(
                    [p for p in footer.places if p.kind == Kind.FEATURES and may_hold(p, wanted)]
                )
            for frame in frames:
                try:
                    block = decode_features(frame.plain, columns)
                except SegmentCorruptError as error:
                    segment.note_undecodable(frame, error)
                    continue
                skipped = next_sequence.skip(Kind.FEATURES, block.first_sequence, block.rows)
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
                to it are left out. Places stay the same when a segment is sealed.

        """
        taken = dict(after or {})
        for segment, next_sequence in self._segments():
            writer, n = segment.header.writer.hex(), segment.header.n
            last_n, last_sequence = taken.get(writer, (-1, -1))
            footer = segment.footer
            if footer is not None and n <= last_n and all(
                place.first_sequence + place.rows <= last_sequence + 1 for place in footer.span_places
            ):  # fmt: skip
                continue
            resource = self._resource(segment)
            for batch in self._batches(segment, next_sequence, after_sequence=last_sequence):
                for sequence, row in enumerate(batch.rows, batch.first_sequence):
                    if sequence <= last_sequence:
                        continue
                    try:
                        span = span_record(row, batch.shapes)
                    except SegmentCorruptError as error:
                        self.damage.add(Damage("undecodable", segment.path.name, sequence, 0, str(error)))
                        continue
                    yield Positioned((writer, n, sequence), span, resource)

    def segments(self) -> list[SegmentInfo]:
        """Say of each file what is in it."""
        found = []
        for segment, sequences in self._segments():
            footer = segment.footer
            spans, starts, following = 0, (0, 0), 0
            if footer is not None:
                spans, starts = footer.spans, footer.start_range_unix_ns
                following = max((p.first_sequence + p.rows for p in footer.span_places), default=0)
            else:
                for batch in self._batches(segment, sequences):
                    times = [row[START] for row in batch.rows]
                    known = starts if spans else (times[0], times[0])
                    starts = (min(known[0], *times), max(known[1], *times))
                    spans += len(times)
                    following = batch.first_sequence + len(times)
            header, name = segment.header, segment.path.name
            found.append(
                SegmentInfo(
                    header.writer.hex(), header.n, segment.is_sealed, spans, starts, segment.size_bytes,
                    following, name,
                )
            )  # fmt: skip
        return found

    # Files -------------------------------------------------------------------------

    def _segments(self, wanted: RowFilter | None = None) -> Iterator[tuple[SegmentFile, Sequences]]:
        """Open the files one after the other, each writer's in order; not those that hold nothing wanted."""
        writer, sequences = b"", Sequences()
        for path, of_writer in self._files():
            if of_writer != writer:
                writer, sequences = of_writer, Sequences()
            if wanted is not None and self._is_useless(path, wanted):
                continue
            opened = self._open(path)
            if opened is not None:
                with opened as segment:
                    yield segment, sequences

    def _open(self, path: Path) -> SegmentFile | None:
        """Open a file whose name and header agree."""
        segment = self._cache.open(path, self._keystore, self.damage.add)
        if segment is not None and segment.header.name != path.name:
            twin = self._folder / segment.header.name
            is_twin = twin.is_file() and not twin.is_symlink()
            if is_twin and self._holds(twin, segment.header.name):
                self.damage.add(Damage("duplicate", path.name, 0, 0, f"it is a copy of {twin.name}"))
                segment.close()
                return None
            self.damage.add(Damage("misnamed", path.name, 0, 0, f"its header says {twin.name}"))
        return segment

    def _is_useless(self, path: Path, wanted: RowFilter) -> bool:
        """Whether a footer that was read before says that a file holds nothing wanted."""
        footer = self._cache.peek(path)
        if footer is None or footer.damage:
            return False
        if wanted.has_times and not wanted.overlaps(*footer.start_range_unix_ns):
            return True
        return wanted.has_whole_trace_id and next(footer.chunks_of(wanted.trace_id or ""), None) is None

    def _holds(self, path: Path, name: str) -> bool:
        """Whether the file at *path* is the segment *name*."""
        found = SegmentFile.open(path, self._keystore, lambda _: None)
        if found is None:
            return False
        with found:
            return found.header.name == name

    def _files(self) -> list[tuple[Path, bytes]]:
        """All segment files by writer and number; other files are not ours."""
        try:
            names = [path.name for path in self._folder.iterdir()]
        except FileNotFoundError:
            return []
        parsed = [(parse_segment_name(name), name) for name in names]
        ordered = sorted((key, name) for key, name in parsed if key is not None)
        return [(self._folder / name, key[0]) for key, name in ordered]
