"""Another real receiver, with a protobuf reader of its own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import oteltap

from agentguard.export import OtlpExporter, otlp_config
from agentguard.values import SpanEvent
from tests.integrations.otlp.rotel import free_port
from tests.support.clock import FrozenClock
from tests.support.otlp import FakeStore, make_span


def test_spans_arrive_with_events_and_types(tmp_path: Path) -> None:
    """Numbers, booleans, lists and events have their types on the other side."""
    retry = SpanEvent("agentguard.retry", 1_767_225_600_000_000_123, {"agentguard.retry.attempt": 1})
    record = make_span(
        5,
        kind="model",
        otel_kind="client",
        name="chat gpt-5",
        attributes={
            "gen_ai.usage.input_tokens": 12,
            "agentguard.cost.usd": 0.25,
            "gen_ai.request.stream": True,
            "gen_ai.response.finish_reasons": ("stop", "length"),
        },
        events=(retry,),
    )
    port = free_port()

    async def receive() -> object:
        settings = oteltap.OtelTapHttpProtobufReceiverSettings(http_port=port)
        async with oteltap.OtelTapHttpProtobufReceiver(settings) as receiver:
            exporter = OtlpExporter(
                FakeStore(tmp_path, [record]),
                otlp_config(f"http://127.0.0.1:{port}"),
                clock=FrozenClock(),
                on_internal_error=lambda *_: None,
            )
            awaited = asyncio.create_task(
                receiver.await_trace(lambda span: span.name == "chat gpt-5", timeout=10)
            )
            await asyncio.sleep(0.3)  # it sees only what comes while it waits
            await asyncio.to_thread(exporter.run_once, 10)
            return await awaited

    span = asyncio.run(receive())
    values = {pair.key: pair.value for pair in span.attributes}  # type: ignore[attr-defined]
    assert values["gen_ai.usage.input_tokens"].int_value == 12
    assert values["agentguard.cost.usd"].double_value == 0.25
    assert values["gen_ai.request.stream"].bool_value
    reasons = values["gen_ai.response.finish_reasons"].array_value.values
    assert [reason.string_value for reason in reasons] == ["stop", "length"]
    (event,) = span.events  # type: ignore[attr-defined]
    assert (event.name, event.time_unix_nano) == (retry.name, retry.time_unix_ns)
