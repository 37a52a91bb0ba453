"""
Spans as OTLP messages, written as the bytes that they are on the wire.

Pure. Of many spans at once whatever they share is written once, and each of the others a
column at a time; a span by itself is written by the same parts.

Source:
    opentelemetry-proto 1.10: trace/v1/trace.proto, resource/v1/resource.proto,
    collector/trace/v1/trace_service.proto.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import repeat
from operator import add
from struct import Struct
from typing import Any, Final, NamedTuple

from agentguard.export._columns import cut, of_groups, whole
from agentguard.export._content import Content, outgoing, outgoing_column, outgoing_items
from agentguard.export._wire import attribute_column, delimited, key_value, key_values, length, utf8
from agentguard.values import Column, SpanColumns, SpanEvent, SpanLink, SpanRecord

# Tags: the number of a field and its type. Fields stand in the order of their numbers.
_SPAN: Final = b"\x12"
_TRACE_ID: Final = b"\x0a\x10"
_SPAN_ID: Final = b"\x12\x08"
_TRACE_STATE: Final = b"\x1a"
_PARENT_ID: Final = b"\x22\x08"
_NAME: Final = b"\x2a"
_ATTRIBUTE: Final = b"\x4a"
_EVENT: Final = b"\x5a"
_LINK: Final = b"\x6a"
_STATUS: Final = b"\x7a"
_FLAGS: Final = b"\x85\x01\x00\x01\x00\x00"
"""SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK is set, the bit for remote is not: parents are in this process."""
_KINDS: Final = {
    "server": b"\x30\x02",
    "client": b"\x30\x03",
    "producer": b"\x30\x04",
    "consumer": b"\x30\x05",
}
_INTERNAL: Final = b"\x30\x01"
_STATUSES: Final = {"ok": b"\x18\x01", "error": b"\x18\x02"}

_UINT64_MAX: Final = 2**64 - 1
_pack_start_and_end: Final = Struct("<BQBQ").pack
_pack_time: Final = Struct("<BQ").pack
_START, _END, _EVENT_TIME = 0x39, 0x41, 0x09


class Origin(NamedTuple):
    """What the spans of one part of a request share."""

    resource: tuple[tuple[str, str], ...]
    """Attributes of the process, sorted."""
    scope: tuple[str, str]
    """Name and version of the instrumentation."""


class Item(NamedTuple):
    """One span on its way out."""

    data: bytes
    """The span as a field of its request."""
    origin: Origin


_make_item: Final = partial(tuple.__new__, Item)


def encode_spans(
    spans: SpanColumns | SpanRecord, resource: Mapping[str, str], *, content: Content
) -> list[Item]:
    """Encode what the store gave: many spans, or one that is better looked at by itself."""
    if isinstance(spans, SpanRecord):
        return [encode_item(spans, resource, content=content)]
    return encode_items(spans, resource, content=content)


def encode_item(record: SpanRecord, resource: Mapping[str, str], *, content: Content) -> Item:
    """
    Encode one span.

    Args:
        record:
            The span. Ids that are not hexadecimal become zero bytes of the right
            length, which a backend refuses by itself: a span is never lost here.

        resource:
            Attributes of the process that made it.

        content:
            What becomes of recorded content.
    """
    record = outgoing(record, content)
    span = (
        _TRACE_ID, _id(record.trace_id, 16), _SPAN_ID, _id(record.span_id, 8),
        _trace_state(record.trace_state),
        _PARENT_ID + _id(record.parent_span_id, 8) if record.parent_span_id else b"",
        _name(record.name), _kind(record.otel_kind), _times(record.start_unix_ns, record.duration_ns),
        key_values(_ATTRIBUTE, record.attributes), _events(record.events), _links(record.links),
        _status(record.status, record.status_description), _FLAGS,
    )  # fmt: skip
    return Item(delimited(_SPAN, b"".join(span)), _origin(resource, record.scope, record.scope_version))


def encode_items(columns: SpanColumns, resource: Mapping[str, str], *, content: Content) -> list[Item]:
    """
    Encode many spans; each becomes what `encode_item` makes of it.

    Args:
        columns:
            The spans.

        resource:
            Attributes of the process that made them.

        content:
            What becomes of recorded content.
    """
    count = len(columns.span_ids) // 8

    def each(encode: Callable[..., Any], *some: Column) -> Iterable[Any]:
        return _each(encode, some, count)

    spans = map(b"".join, zip(
        repeat(_TRACE_ID, count), cut(columns.trace_ids, 16), repeat(_SPAN_ID, count),
        cut(columns.span_ids, 8), each(_trace_state, columns.trace_states), _parents(columns.parent_span_ids),
        each(_name, columns.names), each(_kind, columns.otel_kinds),
        _times_of(whole(columns.starts_unix_ns, count), whole(columns.durations_ns, count)),
        of_groups(columns, partial(_of_group, content=content)),
        whole([_events(outgoing_items(tuple(some), content)) if some else b"" for some in columns.events], count),
        whole([_links(outgoing_items(tuple(some), content)) if some else b"" for some in columns.links], count),
        each(_status, columns.statuses, columns.status_descriptions), repeat(_FLAGS, count), strict=True,
    ))  # fmt: skip
    fields = [b"".join((_SPAN, length(len(span)), span)) for span in spans]
    origins = each(partial(_origin, resource), columns.scopes, columns.scope_versions)
    return list(map(_make_item, zip(fields, origins, strict=True)))


def encode_request(items: Sequence[Item]) -> bytes:
    """Group spans by resource and scope into one request."""
    resources: dict[tuple[tuple[str, str], ...], dict[tuple[str, str], list[bytes]]] = {}
    known: dict[int, list[bytes]] = {}
    for data, origin in items:
        # Most spans share the object: to look it up by what it says takes longer than all the rest.
        spans = known.get(id(origin))
        if spans is None:
            spans = resources.setdefault(origin.resource, {}).setdefault(origin.scope, [])
            known[id(origin)] = spans
        spans.append(data)
    return b"".join([_resource_spans(resource, scopes) for resource, scopes in resources.items()])


def _resource_spans(
    resource: tuple[tuple[str, str], ...], scopes: Mapping[tuple[str, str], list[bytes]]
) -> bytes:
    """Write the spans of one process."""
    parts = [delimited(b"\x0a", key_values(b"\x0a", dict(resource)))]
    for (name, version), spans in scopes.items():
        scope = delimited(b"\x0a", _text(b"\x0a", name) + _text(b"\x12", version))
        size = len(scope) + sum(map(len, spans))
        parts += (b"\x12", length(size), scope, *spans)
    return delimited(b"\x0a", b"".join(parts))


# Of one span, or of what many share ---------------------------------------------


def _text(tag: bytes, text: str) -> bytes:
    """Write a field of text; an empty one is left out."""
    return delimited(tag, utf8(text)) if text else b""


_trace_state: Final = partial(_text, _TRACE_STATE)
_name: Final = partial(_text, _NAME)


def _kind(otel_kind: str) -> bytes:
    return _KINDS.get(otel_kind, _INTERNAL)


def _status(status: str, description: str) -> bytes:
    return delimited(_STATUS, _text(b"\x12", description) + _STATUSES.get(status, b""))


def _origin(resource: Mapping[str, str], scope: str, scope_version: str) -> Origin:
    return Origin(tuple(sorted(resource.items())), (scope, scope_version))


def _times(start_unix_ns: int, duration_ns: int) -> bytes:
    """Write start and end; what is before 1970 is left out."""
    start, end = _time(start_unix_ns), _time(start_unix_ns + duration_ns)
    if start and end:
        return _pack_start_and_end(_START, start, _END, end)
    return (_pack_time(_START, start) if start else b"") + (_pack_time(_END, end) if end else b"")


def _time(unix_ns: int) -> int:
    return min(max(unix_ns, 0), _UINT64_MAX)


def _events(events: Sequence[SpanEvent]) -> bytes:
    parts = []
    for name, time_unix_ns, attributes in events:
        time = _time(time_unix_ns)
        written = _pack_time(_EVENT_TIME, time) if time else b""
        parts.append(delimited(_EVENT, written + _text(b"\x12", name) + key_values(b"\x1a", attributes)))
    return b"".join(parts)


def _links(links: Sequence[SpanLink]) -> bytes:
    return b"".join([
        delimited(
            _LINK, b"".join((_TRACE_ID, _id(trace_id, 16), _SPAN_ID, _id(span_id, 8), key_values(b"\x22", attributes)))
        )
        for trace_id, span_id, attributes in links
    ])  # fmt: skip


def _id(text: str, length: int) -> bytes:
    try:
        packed = bytes.fromhex(text)
    except ValueError:
        return bytes(length)
    return packed if len(packed) == length else bytes(length)


# Of many spans ------------------------------------------------------------------


def _each(encode: Callable[..., Any], columns: Sequence[Column], count: int) -> Iterable[Any]:
    """Encode what is text in a column, or side by side in several: what is the same once."""
    if all(len(column) == 1 for column in columns):
        return repeat(encode(*[column[0] for column in columns]), count)
    rows = list(zip(*[whole(column, count) for column in columns], strict=True))
    known = {row: encode(*row) for row in set(rows)}
    return map(known.__getitem__, rows)


def _parents(ids: bytes) -> list[bytes]:
    nothing = bytes(8)
    return [b"" if each == nothing else _PARENT_ID + each for each in cut(ids, 8)]


def _times_of(starts_unix_ns: Sequence[int], durations_ns: Sequence[int]) -> Iterable[bytes]:
    ends = list(map(add, starts_unix_ns, durations_ns))
    if min(*starts_unix_ns, *ends) <= 0 or max(*starts_unix_ns, *ends) > _UINT64_MAX:
        return map(_times, starts_unix_ns, durations_ns)
    return map(_pack_start_and_end, repeat(_START), starts_unix_ns, repeat(_END), ends)


def _of_group(
    names: Sequence[str], columns: Sequence[Column], count: int, *, content: Content
) -> Iterable[bytes]:
    """The attributes of the spans of one group: what stands between two that differ is written once."""
    parts: list[Iterable[bytes]] = []
    same: list[bytes] = []
    for name, column in zip(names, columns, strict=True):
        left = outgoing_column(name, column, content)
        if len(left) == 1:
            same.append(key_value(_ATTRIBUTE, name, left[0]))
        elif left:
            if same:
                parts.append(repeat(b"".join(same), count))
                same = []
            parts.append(attribute_column(_ATTRIBUTE, name, left))
    if same or not parts:
        parts.append(repeat(b"".join(same), count))
    return parts[0] if len(parts) == 1 else map(b"".join, zip(*parts, strict=True))
