"""Spans as OTLP messages, by the classes of the library of Protocol Buffers: what the exporter's bytes are compared with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from agentguard.export import Content, outgoing
from agentguard.export._encode import Item
from agentguard.values import SpanRecord

_KINDS = {
    "internal": Span.SPAN_KIND_INTERNAL,
    "server": Span.SPAN_KIND_SERVER,
    "client": Span.SPAN_KIND_CLIENT,
    "producer": Span.SPAN_KIND_PRODUCER,
    "consumer": Span.SPAN_KIND_CONSUMER,
}
_STATUSES = {"ok": Status.STATUS_CODE_OK, "error": Status.STATUS_CODE_ERROR}
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
_FLAGS = 0x100
"""SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK is set, the bit for remote is not: parents are in this process."""


def span_of(item: Item) -> Span:
    """Read what is on its way out."""
    return ScopeSpans.FromString(item.data).spans[0]


def request_of(body: bytes) -> ExportTraceServiceRequest:
    """Read a request."""
    return ExportTraceServiceRequest.FromString(body)


def span_message(record: SpanRecord, *, content: Content) -> Span:
    """Make the message of one span."""
    record = outgoing(record, content)
    span = Span(
        trace_id=_id(record.trace_id, 16),
        span_id=_id(record.span_id, 8),
        parent_span_id=_id(record.parent_span_id, 8) if record.parent_span_id else b"",
        name=_text(record.name),
        kind=_KINDS.get(record.otel_kind, Span.SPAN_KIND_INTERNAL),
        start_time_unix_nano=max(record.start_unix_ns, 0),
        end_time_unix_nano=max(record.end_unix_ns, 0),
        attributes=_key_values(record.attributes),
        trace_state=_text(record.trace_state),
        flags=_FLAGS,
        status=Status(
            code=_STATUSES.get(record.status, Status.STATUS_CODE_UNSET),
            message=_text(record.status_description),
        ),
    )
    for event in record.events:
        span.events.add(
            name=_text(event.name),
            time_unix_nano=max(event.time_unix_ns, 0),
            attributes=_key_values(event.attributes),
        )
    for link in record.links:
        span.links.add(
            trace_id=_id(link.trace_id, 16),
            span_id=_id(link.span_id, 8),
            attributes=_key_values(link.attributes),
        )
    return span


def request_message(
    records: Sequence[SpanRecord], resource: Mapping[str, str], *, content: Content
) -> ExportTraceServiceRequest:
    """Make the request of the spans of one process, by scope."""
    scopes: dict[tuple[str, str], list[Span]] = {}
    for record in records:
        message = span_message(record, content=content)
        scopes.setdefault((record.scope, record.scope_version), []).append(message)
    return ExportTraceServiceRequest(
        resource_spans=[
            ResourceSpans(
                resource=Resource(attributes=_key_values(dict(sorted(resource.items())))),
                scope_spans=[
                    ScopeSpans(
                        scope=InstrumentationScope(name=_text(name), version=_text(version)), spans=spans
                    )
                    for (name, version), spans in scopes.items()
                ],
            )
        ]
    )


def _key_values(attributes: Mapping[str, object]) -> list[KeyValue]:
    return [KeyValue(key=_text(name), value=_any(value)) for name, value in attributes.items()]


def _any(value: object) -> AnyValue:
    """Encode one value; what OTLP cannot say becomes its text."""
    if isinstance(value, str):
        return AnyValue(string_value=_text(value))
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int) and _INT64_MIN <= value <= _INT64_MAX:
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, Iterable) and not isinstance(value, (bytes, Mapping)):
        return AnyValue(array_value=ArrayValue(values=[_any(part) for part in value]))
    return AnyValue(string_value=_text(str(value)))


def _text(value: str) -> str:
    """Replace lone surrogates, which protobuf refuses."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "backslashreplace").decode()
    return value


def _id(text: str, length: int) -> bytes:
    try:
        packed = bytes.fromhex(text)
    except ValueError:
        return bytes(length)
    return packed if len(packed) == length else bytes(length)
