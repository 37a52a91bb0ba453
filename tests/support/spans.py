"""Builders of spans, and a source that a writer takes."""

from __future__ import annotations

from typing import Any

from agentguard.values import SpanEvent, SpanLink, SpanRecord
from tests.support.clock import START_UNIX_NS
from tests.support.ids import span_hex, trace_hex


class FinishedSpan:
    """A `SpanSource` around a record."""

    def __init__(self, record: SpanRecord, bytes_estimate: int = 1300) -> None:
        self._record = record
        self.bytes_estimate = bytes_estimate

    def record(self) -> SpanRecord:
        return self._record


def make_span(number: int, **changes: Any) -> SpanRecord:
    """Make a model call that is different for each number; ten share a trace."""
    span = SpanRecord(
        trace_id=trace_hex(0xA000_0000_0000_0000_0000 + number // 10),
        span_id=span_hex(0xB000_0000_0000_0000 + number),
        parent_span_id="" if number % 10 == 0 else span_hex(0xB000_0000_0000_0000 + number - number % 10),
        name="chat gpt-5",
        kind="model",
        otel_kind="client",
        start_unix_ns=START_UNIX_NS + number * 1_000_000,
        duration_ns=1_000_000 + number * 7919 % 900_000_000,
        status="error" if number % 17 == 0 else "ok",
        status_description="",
        attributes={
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "gpt-5",
            "gen_ai.agent.name": "support" if number % 3 else "sales",
            "gen_ai.usage.input_tokens": 100 + number,
            "gen_ai.usage.output_tokens": number % 50,
            "gen_ai.response.finish_reasons": ("stop",),
        },
        events=(SpanEvent("agentguard.retry", START_UNIX_NS + number, {"attempt": 1}),)
        if number % 5 == 0
        else (),
        links=(SpanLink(trace_hex(1), span_hex(2), {}),) if number % 11 == 0 else (),
    )
    return span._replace(**changes)
