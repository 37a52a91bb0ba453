"""
A checkpoint of the decision log as one OTLP span: a second domain that most users have already.

Sent by itself and at once, not through the store: whoever calls learns whether it arrived.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from agentguard.errors import ExportError
from agentguard.export._config import OtlpConfig
from agentguard.export._encode import encode_item
from agentguard.export._protocols import open_transport
from agentguard.export._transport import Ending
from agentguard.values import AttributeValue, Clock, SpanRecord
from agentguard.version import __version__

NAME = "agentguard.log.checkpoint"


def checkpoint_sender(
    config: OtlpConfig, *, clock: Clock, resource: Mapping[str, str], new_id: Callable[[int], str]
) -> Callable[[Mapping[str, AttributeValue]], None]:
    """
    Make what sends a checkpoint to a destination.

    Args:
        config:
            The destination.
        clock:
            Stamps the spans.
        resource:
            Attributes of this process.
        new_id:
            Gives so many random bytes in hexadecimal.

    Returns:
        Sends attributes as a span of their own; raises ExportError where it did not arrive.
    """
    # Loads what the protocol needs now, on the thread that asks: sending is done on one of our own.
    open_transport(config, clock=clock).close()

    def send(attributes: Mapping[str, AttributeValue]) -> None:
        span = SpanRecord(
            trace_id=new_id(16), span_id=new_id(8), parent_span_id="", name=NAME, kind="internal",
            otel_kind="internal", start_unix_ns=clock.unix_ns(), duration_ns=0, status="ok",
            status_description="", attributes=attributes, scope_version=__version__,
        )  # fmt: skip
        transport = open_transport(config, clock=clock)
        try:
            answer = transport.send([encode_item(span, resource, content="none")])
        finally:
            transport.close()
        if answer.ending is not Ending.SENT or answer.rejected:
            raise ExportError(f"export: {config.endpoint}: {answer.reason or 'rejected'}")

    return send
