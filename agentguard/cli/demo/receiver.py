"""
An OTLP receiver on loopback that can be stuck: it then takes a request and does not answer.

Takes OTLP/HTTP protobuf, counts spans by id. The demo's observability backend.
"""

from __future__ import annotations

import contextlib
import gzip
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self, cast

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_BODY_BYTES_MAX = 64 << 20


class Receiver:
    """
    The receiver, as a context manager.

    Args:
        port:
            0 takes any free one.
    """

    def __init__(self, *, port: int = 0) -> None:
        self.span_ids: set[bytes] = set()
        """Spans that were accepted; sent twice counts once."""
        self.requests = 0
        """Requests begun, answered or not."""
        self._lock = threading.Lock()
        self._moving = threading.Event()
        self._moving.set()
        self._http = _Http(("127.0.0.1", port), _Handler)
        self._http.receiver = self
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )

    @property
    def url(self) -> str:
        """Endpoint, without the signal's path."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def stick(self) -> None:
        """Hang from now on: take requests, and keep them waiting."""
        self._moving.clear()

    def unstick(self) -> None:
        """Answer again, also those that wait."""
        self._moving.set()

    def wait(self) -> None:
        """Begin a request: it waits until the receiver moves."""
        with self._lock:
            self.requests += 1
        self._moving.wait()

    def take(self, request: ExportTraceServiceRequest) -> None:
        """Count the spans of one batch."""
        ids = {span.span_id for rs in request.resource_spans for ss in rs.scope_spans for span in ss.spans}
        with self._lock:
            self.span_ids |= ids

    def __enter__(self) -> Self:
        """Start to listen."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self._moving.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(timeout=2)


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    # Requests that hang on purpose must not hold up the end.
    block_on_close = False
    receiver: Receiver

    def handle_error(self, request: object, client_address: object) -> None:
        """Pass over clients that hang up; anything else is a fault of this file and is shown."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Say nothing: the terminal belongs to the demo."""

    def do_POST(self) -> None:
        """Take one batch of spans."""
        receiver = cast("_Http", self.server).receiver
        receiver.wait()
        length = int(self.headers.get("content-length") or 0)
        if length > _BODY_BYTES_MAX:
            self.close_connection = True
            return
        body = self.rfile.read(length)
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        receiver.take(ExportTraceServiceRequest.FromString(body))
        # Whoever waited too long has given up on this connection, and sends again on another one.
        with contextlib.suppress(ConnectionError):
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()
