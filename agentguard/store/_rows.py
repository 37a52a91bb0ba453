"""
Spans, outcomes and gaps as rows.

Each frame decodes by itself. Outcomes and gaps are rows in their frames too; spans
are columns there, see `_grid`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any, NamedTuple, cast

import msgspec

from agentguard.errors import SegmentCorruptError
from agentguard.store._content_frame import InContent
from agentguard.store._grid import Column, Grid, Ids, grid_of, pack_grid, unpack_grid
from agentguard.store._msgpack import decode_plain, encode_plain
from agentguard.values import Attributes, GapRecord, OutcomeRecord, SpanEvent, SpanLink, SpanRecord

ROWS_VERSION = 1

# Places in a span row.
TRACE, SPAN, PARENT, NAME, KIND, OTEL_KIND, START, DURATION, STATUS = range(9)
STATUS_DESCRIPTION, SHAPE, VALUES, EVENTS, LINKS, SCOPE, SCOPE_VERSION, TRACE_STATE = range(9, 17)
_ROW_LENGTH = 17

Row = list[Any]


class SpanRows(NamedTuple):
    """The rows of one frame, not yet made into records."""

    first_sequence: int
    shapes: Sequence[Sequence[str]]
    rows: list[Row]


def encode_spans(records: Sequence[SpanRecord], first_sequence: int) -> bytes:
    """Encode consecutive spans as one frame."""
    return pack_grid(grid_of(records, first_sequence))


def id_text(packed: bytes | str) -> str:
    """An id as text."""
    return packed.hex() if type(packed) is bytes else str(packed)


def decode_spans(plain: bytes) -> SpanRows:
    """
    Decode one frame of spans into rows.

    Raises:
        SegmentCorruptError: The bytes are no spans of this format.
    """
    grid = unpack_grid(plain)
    return SpanRows(grid.first_sequence, [group.names for group in grid.groups], _rows_of(grid))


def _rows_of(grid: Grid) -> list[Row]:
    """
    Take columns apart into rows.

    A row has the columns in their order, and behind the status description the group
    of the row and its values. Ids are bytes where they are ids.
    """
    count = grid.count

    def every(column: Column) -> Iterable[Any]:
        return column if len(column) == count else repeat(column[0], count)

    if not count:
        return []
    return list(map(list, zip(
        _id_values(grid.trace, 16), _id_values(grid.span, 8), _id_values(grid.parent, 8), every(grid.name),
        every(grid.kind), every(grid.otel_kind), every(grid.start), every(grid.duration), every(grid.status),
        every(grid.description), every(grid.shape), _values(grid), every(grid.event), every(grid.link),
        every(grid.scope), every(grid.scope_version), every(grid.trace_state), strict=True,
    )))  # fmt: skip


def _id_values(ids: Ids, size: int) -> Sequence[bytes | str]:
    if not isinstance(ids, bytes):
        return ids
    found = [ids[i : i + size] for i in range(0, len(ids), size)]
    nothing = bytes(size)
    return ["" if each == nothing else each for each in found] if nothing in found else found


def _values(grid: Grid) -> Iterable[Any]:
    """The attribute values of each span."""
    shape = grid.expanded(grid.shape)
    parts = []
    for number, group in enumerate(grid.groups):
        count = shape.count(number)
        columns = [column if len(column) == count else repeat(column[0], count) for column in group.columns]
        parts.append(zip(*columns, strict=True) if columns else repeat((), count))
    return parts[0] if len(parts) == 1 else [next(parts[number]) for number in shape]


def span_record(row: Row, shapes: Sequence[Sequence[str]]) -> SpanRecord:
    """
    Make a record of a row, with its content where that can be opened.

    Raises:
        SegmentCorruptError: The row or its content is not of this format.
    """
    if len(row) > _ROW_LENGTH:
        return cast("InContent", row[_ROW_LENGTH]).merge(span_record(row[:_ROW_LENGTH], shapes))
    try:
        (trace, span, parent, name, kind, otel_kind, start, duration, status, description, shape,
         values, events, links, scope, scope_version, trace_state) = row  # fmt: skip
        return SpanRecord(
            id_text(trace), id_text(span), id_text(parent), name, kind, otel_kind, start, duration,
            status, description, dict(zip(shapes[shape], map(_value, values), strict=True)),
            tuple(map(event_of, events)), tuple(map(link_of, links)), scope, scope_version, trace_state,
        )  # fmt: skip
    except (AttributeError, TypeError, ValueError, LookupError) as error:
        raise SegmentCorruptError("spans: got a row that does not decode, expected 17 places") from error


def event_of(item: Sequence[Any]) -> SpanEvent:
    """Make an event of its three places."""
    return SpanEvent(item[0], item[1], _attributes(item[2]))


def link_of(item: Sequence[Any]) -> SpanLink:
    """Make a link of its three places."""
    return SpanLink(item[0], item[1], _attributes(item[2]))


def _value(value: Any) -> Any:
    """Sequences come back as tuples, so that a record stays a value."""
    return tuple(value) if type(value) is list else value


def _attributes(attributes: Mapping[str, Any]) -> Attributes:
    """Attributes of an event or a link."""
    return {name: _value(value) for name, value in attributes.items()}


def encode_outcomes(outcomes: Sequence[OutcomeRecord], first_sequence: int) -> bytes:
    """Encode consecutive outcomes as one frame."""
    rows = [
        (o.call_id, o.time_unix_ns, o.predicted_label, o.true_label, o.score, o.attributes) for o in outcomes
    ]
    return _encode_numbered(rows, first_sequence)


def encode_gaps(gaps: Sequence[GapRecord], first_sequence: int) -> bytes:
    """Encode consecutive gaps as one frame."""
    return _encode_numbered([tuple(gap) for gap in gaps], first_sequence)


def _encode_numbered(rows: list[Any], first_sequence: int) -> bytes:
    """Encode rows that have no shapes."""
    return encode_plain((ROWS_VERSION, first_sequence, rows))


def decode_outcomes(plain: bytes) -> Iterator[tuple[int, OutcomeRecord]]:
    """Decode a frame of outcomes into sequence numbers and records."""
    for sequence, row in _decode_numbered(plain, "outcomes"):
        call_id, time_unix_ns, predicted, true, score, attributes = row
        yield sequence, OutcomeRecord(call_id, time_unix_ns, predicted, true, score, _attributes(attributes))


def decode_gaps(plain: bytes) -> Iterator[tuple[int, GapRecord]]:
    """Decode a frame of gaps into sequence numbers and records."""
    for sequence, row in _decode_numbered(plain, "gaps"):
        yield sequence, GapRecord(*row)


def _decode_numbered(plain: bytes, what: str) -> list[tuple[int, list[Any]]]:
    """
    Decode rows that have no shapes.

    Raises:
        SegmentCorruptError: The bytes are no rows of this format.
    """
    length = {"outcomes": 6, "gaps": 4}[what]
    try:
        version, first_sequence, rows = decode_plain(plain, what)
        if version != ROWS_VERSION or any(len(row) != length for row in rows):
            raise SegmentCorruptError(f"{what}: got version {version}, expected {ROWS_VERSION}")
        return list(enumerate(rows, first_sequence))
    except (msgspec.DecodeError, TypeError, ValueError, RecursionError) as error:
        raise SegmentCorruptError(f"{what}: got bytes that do not decode, expected rows") from error
