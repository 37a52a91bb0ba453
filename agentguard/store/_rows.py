"""
Spans, outcomes and gaps as rows of MessagePack.

Each frame decodes by itself. Attribute names are hoisted: a frame lists the
distinct tuples of names once, and a row refers to one of them. Ids are raw bytes
where they are hexadecimal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import msgspec

from agentguard.errors import SegmentCorruptError, TamperedError
from agentguard.store._groups import GroupOpener, InGroup, attach_groups, collect_groups
from agentguard.values import Attributes, GapRecord, OutcomeRecord, SpanEvent, SpanLink, SpanRecord

ROWS_VERSION = 1
CONTENT_ROWS_VERSION = 2
"""Of a frame of spans whose content is sealed in groups of its own."""
_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1

# Places in a span row. The order is part of the format.
TRACE, SPAN, PARENT, NAME, KIND, OTEL_KIND, START, DURATION, STATUS = range(9)
STATUS_DESCRIPTION, SHAPE, VALUES, EVENTS, LINKS, SCOPE, SCOPE_VERSION, TRACE_STATE = range(9, 17)
_ROW_LENGTH = 17

Row = list[Any]


def _plain(value: object) -> object:
    """Turn what MessagePack does not know into what it knows: subclasses into their base."""
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Iterable):
        return list(value)
    return f"<{type(value).__name__}>"


_encoder = msgspec.msgpack.Encoder(enc_hook=_plain)
_decoder = msgspec.msgpack.Decoder()
encode: Callable[[object], bytes] = _encoder.encode
"""MessagePack of plain data."""


class SpanRows(NamedTuple):
    """The rows of one frame, not yet made into records."""

    first_sequence: int
    shapes: list[list[str]]
    rows: list[Row]


class Grid(NamedTuple):
    """Spans as rows, and what features are made of as columns."""

    shapes: Sequence[Sequence[str]]
    """Distinct tuples of attribute names."""
    rows: Sequence[Row | tuple[Any, ...]]
    shape: Sequence[int]
    """For each span the place of its tuple in `shapes`."""
    values: Sequence[Sequence[Any]]
    start: Sequence[int]
    duration: Sequence[int]
    status: Sequence[str]
    kind: Sequence[str]


def grid_of_records(records: Sequence[SpanRecord]) -> Grid:
    """Make rows of spans, a column at a time: the interpreter is slow at anything else."""
    (traces, spans, parents, span_names, kinds, otel_kinds, starts, durations, statuses, descriptions,
     attributes, events, links, scopes, scope_versions, trace_states) = zip(*records, strict=True)  # fmt: skip
    known: dict[tuple[str, ...], int] = {}
    shapes, place, last = [], -1, None
    for keys in map(tuple, attributes):
        if keys != last:
            # Names are mostly the same objects, so that comparing them is quicker than a hash.
            last, place = keys, known.setdefault(keys, len(known))
        shapes.append(place)
    values = [list(each.values()) for each in attributes]
    rows = list(zip(
        _ids(traces, 16), _ids(spans, 8), _ids(parents, 8), span_names, kinds, otel_kinds, starts, durations,
        statuses, descriptions, shapes, values, map(_event_rows, events) if any(events) else events,
        map(_link_rows, links) if any(links) else links, scopes, scope_versions, trace_states, strict=True,
    ))  # fmt: skip
    return Grid(list(known), rows, shapes, values, starts, durations, statuses, kinds)


def grid_of_rows(rows: SpanRows) -> Grid:
    """Take rows that were decoded apart into columns."""
    # The places that all rows have: where the content of some is comes behind them.
    columns = list(zip(*rows.rows, strict=False))
    return Grid(
        rows.shapes, rows.rows, columns[SHAPE], columns[VALUES], columns[START], columns[DURATION],
        columns[STATUS], columns[KIND],
    )  # fmt: skip


def _event_rows(events: Sequence[SpanEvent]) -> list[tuple[object, ...]]:
    return [(event.name, event.time_unix_ns, event.attributes) for event in events]


def _link_rows(links: Sequence[SpanLink]) -> list[tuple[object, ...]]:
    return [(_id_bytes(link.trace_id, 16), _id_bytes(link.span_id, 8), link.attributes) for link in links]


def _ids(texts: Sequence[str], length: int) -> Sequence[bytes | str]:
    """Pack a column of ids, all at once where each is hexadecimal."""
    if set(map(len, texts)) == {2 * length}:
        try:
            joined = bytes.fromhex("".join(texts))
        except ValueError:
            pass
        else:
            if len(joined) == length * len(texts):
                return [joined[i : i + length] for i in range(0, len(joined), length)]
    return [_id_bytes(text, length) for text in texts]


def pack_rows(shapes: Sequence[Sequence[str]], rows: Sequence[object], first_sequence: int) -> bytes:
    """
    Encode rows of consecutive spans as one frame.

    A value that cannot be stored (a lone surrogate, an integer beyond 64 bits) is
    replaced by its nearest text; the span is never lost for it.
    """
    return encode_plain((ROWS_VERSION, first_sequence, shapes, rows))


def encode_spans(records: Sequence[SpanRecord], first_sequence: int) -> bytes:
    """Encode consecutive spans as one frame."""
    if not records:
        return pack_rows((), (), first_sequence)
    grid = grid_of_records(records)
    return pack_rows(grid.shapes, grid.rows, first_sequence)


def encode_rows(rows: SpanRows) -> bytes:
    """Encode rows that were decoded before, with their shapes and groups reduced to what they use."""
    used: dict[int, int] = {}
    groups = collect_groups(rows.rows, _ROW_LENGTH)
    for row in rows.rows:
        row[SHAPE] = used.setdefault(row[SHAPE], len(used))
    plain = encode((ROWS_VERSION, rows.first_sequence, [rows.shapes[i] for i in used], rows.rows))
    return with_groups(plain, groups) if groups else plain


def with_groups(plain: bytes, groups: Sequence[object]) -> bytes:
    """Add sealed groups of content to an encoded frame: a fifth place in its list."""
    return b"\x95" + encode(CONTENT_ROWS_VERSION) + plain[2:] + encode(groups)


def encode_plain(document: object) -> bytes:
    """Encode plain data; what cannot be stored is replaced by its nearest text."""
    try:
        return encode(document)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return encode(_cleaned(document))


def decode_plain(plain: bytes, what: str) -> Any:
    """
    Decode plain data.

    Raises:
        SegmentCorruptError: The bytes are none.
    """
    try:
        return _decoder.decode(plain)
    except (msgspec.DecodeError, TypeError, ValueError, RecursionError) as error:
        raise SegmentCorruptError(f"{what}: got bytes that do not decode, expected plain data") from error


def _id_bytes(text: str, length: int) -> bytes | str:
    """Pack a hexadecimal id; another id stays text, and decodes to the same."""
    try:
        packed = bytes.fromhex(text)
    except ValueError:
        return text
    return packed if len(packed) == length and len(text) == 2 * length else text


def id_text(packed: bytes | str) -> str:
    """Undo `_id_bytes`."""
    return packed.hex() if type(packed) is bytes else str(packed)


def decode_spans(plain: bytes, opener: GroupOpener | None = None) -> SpanRows:
    """
    Decode one frame of spans into rows.

    Args:
        plain:
            The frame.

        opener:
            Opens content that is sealed by itself, once a record is made of its row.
            Without it such content stays sealed, and records say so.

    Raises:
        SegmentCorruptError: The bytes are no rows of this format.
    """
    try:
        version, first_sequence, shapes, rows, *groups = _decoder.decode(plain)
    except (msgspec.DecodeError, TypeError, ValueError, RecursionError) as error:
        raise SegmentCorruptError("spans: got bytes that do not decode, expected rows") from error
    if version != (CONTENT_ROWS_VERSION if groups else ROWS_VERSION) or len(groups) > 1:
        raise SegmentCorruptError(f"spans: got version {version}, expected at most {CONTENT_ROWS_VERSION}")
    is_sound = type(first_sequence) is int and type(shapes) is list and type(rows) is list
    if not is_sound or any(
        type(row) is not list or len(row) != _ROW_LENGTH or type(row[START]) is not int for row in rows
    ):
        raise SegmentCorruptError(f"spans: got rows of another form, expected {_ROW_LENGTH} places each")
    if groups:
        attach_groups(groups[0], rows, opener)
    return SpanRows(first_sequence, shapes, rows)


def span_record(row: Row, shapes: Sequence[Sequence[str]]) -> SpanRecord:
    """
    Make a record of a row, with its content where that can be opened.

    Raises:
        SegmentCorruptError: The row is not of this format, or its content is not what was sealed.
    """
    if len(row) > _ROW_LENGTH:
        try:
            return cast("InGroup", row[_ROW_LENGTH]).merge(span_record(row[:_ROW_LENGTH], shapes))
        except TamperedError as error:
            raise SegmentCorruptError(f"content: {error}") from error
    try:
        (trace, span, parent, name, kind, otel_kind, start, duration, status, description, shape,
         values, events, links, scope, scope_version, trace_state) = row  # fmt: skip
        return SpanRecord(
            id_text(trace), id_text(span), id_text(parent), name, kind, otel_kind, start, duration,
            status, description, dict(zip(shapes[shape], map(_value, values), strict=True)),
            tuple(SpanEvent(e[0], e[1], _attributes(e[2])) for e in events) if events else (),
            tuple(SpanLink(id_text(k[0]), id_text(k[1]), _attributes(k[2])) for k in links)
            if links else (),
            scope, scope_version, trace_state,
        )  # fmt: skip
    except (TypeError, ValueError, LookupError) as error:
        raise SegmentCorruptError("spans: got a row that does not decode, expected 17 places") from error


def check_row(row: Row, shapes: Sequence[Sequence[str]]) -> None:
    """
    See that a row refers to names for its values, and holds the numbers that columns are made of.

    Raises:
        SegmentCorruptError: It does not.
    """
    shape, values = row[SHAPE], row[VALUES]
    if not (
        type(values) is list
        and type(shape) is int
        and 0 <= shape < len(shapes)
        and len(shapes[shape]) == len(values)
        and type(row[DURATION]) is int
    ):
        raise SegmentCorruptError("spans: got a row that does not decode, expected 17 places")


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
    return _encode_plain(rows, first_sequence)


def encode_gaps(gaps: Sequence[GapRecord], first_sequence: int) -> bytes:
    """Encode consecutive gaps as one frame."""
    return _encode_plain([tuple(gap) for gap in gaps], first_sequence)


def _encode_plain(rows: list[Any], first_sequence: int) -> bytes:
    """Encode rows that have no shapes."""
    return encode_plain((ROWS_VERSION, first_sequence, rows))


def decode_outcomes(plain: bytes) -> Iterator[tuple[int, OutcomeRecord]]:
    """Decode a frame of outcomes into sequence numbers and records."""
    for sequence, row in _decode_plain(plain, "outcomes"):
        call_id, time_unix_ns, predicted, true, score, attributes = row
        yield sequence, OutcomeRecord(call_id, time_unix_ns, predicted, true, score, _attributes(attributes))


def decode_gaps(plain: bytes) -> Iterator[tuple[int, GapRecord]]:
    """Decode a frame of gaps into sequence numbers and records."""
    for sequence, row in _decode_plain(plain, "gaps"):
        yield sequence, GapRecord(*row)


def _decode_plain(plain: bytes, what: str) -> list[tuple[int, list[Any]]]:
    """
    Decode rows that have no shapes.

    Raises:
        SegmentCorruptError: The bytes are no rows of this format.
    """
    length = {"outcomes": 6, "gaps": 4}[what]
    try:
        version, first_sequence, rows = _decoder.decode(plain)
        if version != ROWS_VERSION or any(len(row) != length for row in rows):
            raise SegmentCorruptError(f"{what}: got version {version}, expected {ROWS_VERSION}")
        return list(enumerate(rows, first_sequence))
    except (msgspec.DecodeError, TypeError, ValueError, RecursionError) as error:
        raise SegmentCorruptError(f"{what}: got bytes that do not decode, expected rows") from error


def decode_map(plain: bytes, what: str) -> dict[str, Any]:
    """
    Decode a frame that holds one map.

    Raises:
        SegmentCorruptError: The bytes are no map.
    """
    try:
        document = _decoder.decode(plain)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise SegmentCorruptError(f"{what}: got bytes that do not decode, expected a map") from error
    if not isinstance(document, dict):
        raise SegmentCorruptError(f"{what}: got no map, expected one")
    return document


def _cleaned(value: object, depth: int = 0) -> object:
    """Replace what MessagePack refuses; slow, and only used once encoding has failed."""
    if isinstance(value, str):
        return str.__str__(value).encode("utf-8", "backslashreplace").decode()
    if value is None or isinstance(value, bool | bytes | float):
        return value
    if isinstance(value, int):
        return int(value) if _INT_MIN <= value <= _INT_MAX else str(value)[:400]
    if depth > 8:
        return f"<{type(value).__name__}>"
    if isinstance(value, Mapping):
        return {str(_cleaned(str(k))): _cleaned(v, depth + 1) for k, v in value.items()}
    if isinstance(value, Iterable):
        return [_cleaned(item, depth + 1) for item in value]
    return _cleaned(_plain(value), depth + 1)
