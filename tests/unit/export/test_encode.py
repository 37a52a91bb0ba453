"""Records as OTLP messages."""

from __future__ import annotations

import math

from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from agentguard.export import outgoing
from agentguard.export._encode import encode_item, encode_request
from agentguard.values import SpanEvent, SpanLink
from tests.support.otlp import RESOURCE, make_span
from tests.support.otlp_messages import request_of, span_of


def _values(pairs: object) -> dict[str, AnyValue]:
    return {pair.key: pair.value for pair in pairs}  # type: ignore[attr-defined]


def test_a_span_keeps_all_it_has() -> None:
    """Ids, times, kind, status, events, links and scope arrive as they are."""
    record = make_span(
        3,
        otel_kind="client",
        status="error",
        status_description="TimeoutError",
        trace_state="a=b",
        attributes={"s": "x", "b": True, "i": 7, "f": 0.5, "l": ("p", "q"), "n": (1, 2)},
        events=(SpanEvent("agentguard.retry", 5, {"agentguard.retry.attempt": 1}),),
        links=(SpanLink("0" * 31 + "9", "0" * 15 + "8", {"why": "fork"}),),
        scope="shop",
        scope_version="2",
    )
    request = request_of(encode_request([encode_item(record, RESOURCE, content="none")]))
    (resource_spans,) = request.resource_spans
    (scope_spans,) = resource_spans.scope_spans
    (span,) = scope_spans.spans
    assert _values(resource_spans.resource.attributes)["service.name"].string_value == "shop"
    assert (scope_spans.scope.name, scope_spans.scope.version) == ("shop", "2")
    assert span.trace_id.hex() == record.trace_id
    assert span.span_id.hex() == record.span_id
    assert span.parent_span_id.hex() == record.parent_span_id
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (record.start_unix_ns, record.end_unix_ns)
    assert span.kind == Span.SPAN_KIND_CLIENT
    assert (span.status.code, span.status.message) == (Status.STATUS_CODE_ERROR, "TimeoutError")
    assert span.trace_state == "a=b"
    found = _values(span.attributes)
    assert found["b"].WhichOneof("value") == "bool_value"
    assert (found["s"].string_value, found["i"].int_value, found["f"].double_value) == ("x", 7, 0.5)
    assert [v.string_value for v in found["l"].array_value.values] == ["p", "q"]
    assert [v.int_value for v in found["n"].array_value.values] == [1, 2]
    assert span.events[0].name == "agentguard.retry"
    assert span.links[0].span_id.hex() == "0000000000000008"


def test_roots_have_no_parent() -> None:
    """The parent of a root is empty, not zeros."""
    assert span_of(encode_item(make_span(0), {}, content="none")).parent_span_id == b""


def test_what_protobuf_refuses_is_made_to_fit() -> None:
    """Lone surrogates, integers beyond 64 bits and ids that are none do not lose a span."""
    record = make_span(
        1,
        name="a\ud800b",
        span_id="xyz",
        attributes={"big": 2**70, "nan": math.nan, "odd": b"x", "s\udfff": "\ud800"},
    )
    span = span_of(encode_item(record, {"r": "\ud800"}, content="full"))
    found = _values(span.attributes)
    assert span.name == "a\\ud800b"
    assert span.span_id == bytes(8)
    assert found["big"].string_value == str(2**70)
    assert math.isnan(found["nan"].double_value)
    assert found["odd"].string_value == "b'x'"
    assert len(encode_request([encode_item(record, {"r": "\ud800"}, content="full")])) > 0


def test_content_leaves_only_where_that_is_said() -> None:
    """Messages, arguments and exception texts stay, names and tokens go."""
    record = make_span(
        1,
        attributes={
            "gen_ai.input.messages": "SECRET",
            "gen_ai.tool.call.arguments": "SECRET",
            "agentguard.input.content": "SECRET",
            "gen_ai.usage.input_tokens": 5,
            "agentguard.input.hash": "ab",
        },
        events=(SpanEvent("exception", 1, {"exception.type": "ValueError", "exception.message": "SECRET"}),),
        links=(SpanLink("0" * 32, "0" * 16, {"input.value": "SECRET"}),),
    )
    without = encode_request([encode_item(record, RESOURCE, content="none")])
    assert b"SECRET" not in without
    assert b"gen_ai.usage.input_tokens" in without
    assert b"agentguard.input.hash" in without
    assert b"ValueError" in without
    full = encode_request([encode_item(record, RESOURCE, content="full")])
    assert full.count(b"SECRET") == 5


def test_content_is_redacted_on_the_way_out() -> None:
    """Texts and JSON lose what the detectors find, keys that say secret included; the store's span is not touched."""
    record = make_span(
        1,
        attributes={
            "gen_ai.input.messages": '[{"role": "user", "content": "I am ann@example.org", "n": 1}]',
            "gen_ai.tool.call.arguments": '{"password": "hunter", "note": "card 4111 1111 1111 1111"}',
            "agentguard.output.content": "see ann@example.org {",
            "agentguard.input.content": "nothing here",
            "agentguard.label.mail": "ann@example.org",
        },
        events=(SpanEvent("exception", 1, {"exception.message": "no card 4111 1111 1111 1111"}),),
    )
    before = repr(record)
    sent = outgoing(record, "redacted")
    assert (
        sent.attributes["gen_ai.input.messages"]
        == '[{"role": "user", "content": "I am [REDACTED:email]", "n": 1}]'
    )
    assert sent.attributes["gen_ai.tool.call.arguments"] == (
        '{"password": "[REDACTED:secret]", "note": "card [REDACTED:card]"}'
    )
    assert sent.attributes["agentguard.output.content"] == "see [REDACTED:email] {"
    # Labels are the application's own words, and no content.
    assert sent.attributes["agentguard.label.mail"] == "ann@example.org"
    assert sent.events[0].attributes["exception.message"] == "no card [REDACTED:card]"
    assert repr(record) == before
    assert outgoing(record, "full") is record


def test_spans_are_grouped_by_resource_and_scope() -> None:
    """One resource and one scope are written once."""
    items = [
        encode_item(make_span(n, scope="a" if n % 2 else "b"), RESOURCE if n < 4 else {}, content="none")
        for n in range(8)
    ]
    request = request_of(encode_request(items))
    assert [[len(s.spans) for s in r.scope_spans] for r in request.resource_spans] == [[2, 2], [2, 2]]


def test_sizes_are_those_of_the_message() -> None:
    """The sum of the items is within a little of the request."""
    items = [encode_item(make_span(n), RESOURCE, content="none") for n in range(100)]
    size = len(encode_request(items))
    assert 0.9 * size < sum(len(item.data) for item in items) < size
