"""
Span records as OTLP messages.

Pure. Importing it loads protobuf, so only the exporter's thread does.

Source:
    opentelemetry-proto 1.10: trace/v1/trace.proto, common/v1/common.proto.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from agentguard.export._content import Content, outgoing
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


class Item(NamedTuple):
    """One span on its way out."""

    span: Span
    bytes: int
    resource: tuple[tuple[str, str], ...]
    scope: tuple[str, str]


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
    return Item(span, span.ByteSize(), tuple(sorted(resource.items())), (record.scope, record.scope_version))


def encode_request(items: Sequence[Item]) -> ExportTraceServiceRequest:
    """Group spans by resource and scope into one request."""
    resources: dict[tuple[tuple[str, str], ...], dict[tuple[str, str], list[Span]]] = {}
    for item in items:
        resources.setdefault(item.resource, {}).setdefault(item.scope, []).append(item.span)
    return ExportTraceServiceRequest(
        resource_spans=[
            ResourceSpans(
                resource=Resource(attributes=_key_values(dict(resource))),
                scope_spans=[
                    ScopeSpans(
                        scope=InstrumentationScope(name=_text(name), version=_text(version)), spans=spans
                    )
                    for (name, version), spans in scopes.items()
                ],
            )
            for resource, scopes in resources.items()
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
