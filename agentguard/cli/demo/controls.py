"""
Control arms: the same work done by the usual means and by agentguard, side by side.

A program of its own (`python -m agentguard.cli.demo.controls spans`), so that
an arm neither shares the demo's process-wide runtime nor waits for it. Prints
one JSON object.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import agentguard
from agentguard.cli.demo.receiver import Receiver

SPANS = 500
"""Spans that each arm makes while the backend is dead; one batch of the usual processor."""

_FLUSH_S = 30.0
_SEED = 11


def lose_spans(spans: int = SPANS) -> dict[str, Any]:
    """
    Send spans to a dead backend through OpenTelemetry's BatchSpanProcessor, with its defaults.

    The backend comes to life after the flush, and the processor may flush once
    more: what arrives then is counted.

    Args:
        spans:
            How many.

    Returns:
        Spans made and arrived, what `force_flush` answered and how long it took.
    """
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    port = free_port()
    provider = TracerProvider(shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"http://127.0.0.1:{port}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("control")
    for _ in range(spans):
        with tracer.start_as_current_span("execute_tool work"):
            pass
    began = time.monotonic()
    said = provider.force_flush()
    flush_s = time.monotonic() - began
    with Receiver(port=port) as receiver:
        provider.force_flush()
        provider.shutdown()
        arrived = len(receiver.span_ids)
    return {"made": spans, "arrived": arrived, "flush_said": said, "flush_s": flush_s}


def keep_spans(folder: Path, spans: int = SPANS) -> dict[str, Any]:
    """
    Do the same through agentguard: guarded calls, the store, its exporter, the same dead backend.

    The process shuts agentguard down while the backend is dead; the export goes
    on from the store when it is back, as `agentguard export otlp` does.

    Args:
        folder:
            Empty; for store and key.
        spans:
            How many.

    Returns:
        Spans made and arrived, what the flush answered and how long it took.
    """
    from agentguard.export import OtlpExporter, otlp_config
    from agentguard.runtime import SystemClock
    from agentguard.seal import FileKey, create_key_file
    from agentguard.store import Store

    endpoint = f"http://127.0.0.1:{free_port()}"
    create_key_file(folder / "key")
    agentguard.init(
        service="control",
        store=folder / "store",
        key=f"file:{folder / 'key'}",
        export=endpoint,
        drift_interval_s=0,
    )

    @agentguard.tool(effect="none")
    def work() -> None:
        """Do nothing."""

    for _ in range(spans):
        work()
    began = time.monotonic()
    flushed = agentguard.flush(_FLUSH_S)
    flush_s = time.monotonic() - began
    agentguard.shutdown(1.0)
    store = Store.open(folder / "store", provider=FileKey(folder / "key"), clock=SystemClock())
    with Receiver(port=int(endpoint.rpartition(":")[2])) as receiver:
        exporter = OtlpExporter(
            store, otlp_config(endpoint), clock=SystemClock(), on_internal_error=lambda *_: None
        )
        exporter.run_once(_FLUSH_S)
        arrived = len(receiver.span_ids)
    return {"made": spans, "arrived": arrived, "flush_said": flushed.is_complete, "flush_s": flush_s}


def free_port() -> int:
    """Find a port on loopback on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main(arm: str) -> None:
    """
    Run one arm and print what came out.

    Args:
        arm:
            spans or quiet-days.
    """
    # The scenes have the machine first.
    os.nice(10)
    # Both arms log that the backend is away: that is what they are for.
    logging.disable(logging.CRITICAL)
    if arm == "spans":
        with tempfile.TemporaryDirectory(prefix="agentguard-control-") as folder:
            result: dict[str, Any] = {"usual": lose_spans(), "agentguard": keep_spans(Path(folder))}
    else:
        from agentguard.drift import simulate_quiet_days

        result = dict(simulate_quiet_days(seed=_SEED)._asdict())
    print(json.dumps(result))  # noqa: T201 - the one line that the caller reads


if __name__ == "__main__":
    main(sys.argv[1])
