"""
Control arms: the same work done by the usual means and by agentguard, side by side.

A program of its own (`python -m agentguard.cli.demo.controls spans`), so that
an arm neither shares the demo's process-wide runtime nor waits for it. Prints
one JSON object.
"""

from __future__ import annotations

import json
import logging
import socket
import sys
import tempfile
import time
from pathlib import Path

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from agentguard.cli.demo.receiver import Receiver

SPANS = 500
"""Spans that each arm makes while the backend is dead."""


def lose_spans(spans: int = SPANS) -> dict[str, object]:
    """
    Send spans to a dead backend through OpenTelemetry's BatchSpanProcessor, with its defaults.

    The backend comes to life after the flush, and the processor may flush once
    more: what arrives then is counted.

    Args:
        spans:
            How many.

    Returns:
        Spans made and arrived, what `force_flush` answered, seconds.
    """
    port = free_port()
    began = time.monotonic()
    provider = TracerProvider(shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"http://127.0.0.1:{port}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("control")
    for _ in range(spans):
        with tracer.start_as_current_span("execute_tool work"):
            pass
    said = provider.force_flush()
    with Receiver(port=port) as receiver:
        receiver.unstick()
        provider.force_flush()
        provider.shutdown()
        arrived = len(receiver.span_ids)
    return {"made": spans, "arrived": arrived, "flush_said": said, "seconds": time.monotonic() - began}


def free_port() -> int:
    """Find a port on loopback on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
