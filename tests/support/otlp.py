"""OTLP receivers for tests: one that answers as it is told, and builders of spans to send."""

from __future__ import annotations

import gzip
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from agentguard.export._source import Position
from agentguard.values import SpanRecord

RESOURCE = {"service.name": "shop", "process.pid": "7"}


def make_span(number: int, **changes: Any) -> SpanRecord:
    """A span whose ids say its number."""
    values: dict[str, Any] = {
        "trace_id": f"{number // 10 + 1:032x}",
        "span_id": f"{number + 1:016x}",
        "parent_span_id": f"{number // 10 * 10 + 1:016x}" if number % 10 else "",
        "name": f"execute_tool t{number % 3}",
        "kind": "tool",
        "otel_kind": "internal",
        "start_unix_ns": 1_767_225_600_000_000_000 + number * 1_000_000,
        "duration_ns": 5_000_000 + number,
        "status": "unset",
        "status_description": "",
        "attributes": {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": f"t{number % 3}"},
        **changes,
    }
    return SpanRecord(**values)


class FakeBlob:
    """A side file in memory."""

    def __init__(self) -> None:
        self.data: bytes | None = None
        self.writes = 0

    def read(self) -> bytes | None:
        return self.data

    def write(self, data: bytes) -> None:
        self.data = data
        self.writes += 1


class FakeStore:
    """A store in memory with one writer, as far as the exporter sees it."""

    def __init__(self, folder: Path, spans: Sequence[SpanRecord] = ()) -> None:
        self.folder = folder
        self.spans = list(spans)
        self.blobs: dict[str, FakeBlob] = {}

    def query(self) -> FakeStore:
        return self

    def columns(self, after: Any = None) -> Iterator[Position]:
        start = after["w"][1] + 1 if after else 0
        for sequence in range(start, len(self.spans)):
            yield ("w", 0, sequence), self.spans[sequence], RESOURCE

    def writers(self) -> set[str]:
        return {"w"}

    def sealed_blob(self, name: str) -> FakeBlob:
        return self.blobs.setdefault(name, FakeBlob())


Reply = tuple[int, Mapping[str, str], bytes]
OK: Reply = (200, {"Content-Type": "application/x-protobuf"}, b"")


def rejecting(count: int) -> Reply:
    """A 200 that takes not all of the spans."""
    response = ExportTraceServiceResponse()
    response.partial_success.rejected_spans = count
    response.partial_success.error_message = "\x1b[31mno"
    return 200, {}, response.SerializeToString()


class _Server(ThreadingHTTPServer):
    """Says nothing of clients that break off."""

    def handle_error(self, *_: object) -> None:
        pass


class Receiver:
    """An OTLP/HTTP receiver that answers with what *judge* says, and keeps what it took."""

    def __init__(
        self,
        judge: Callable[[list[Any]], Reply] = lambda _: OK,
        *,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.judge = judge
        self.requests: list[tuple[dict[str, str], ExportTraceServiceRequest]] = []
        self.taken: list[Any] = []
        """Spans of the requests that were answered with 200, in order."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                request = ExportTraceServiceRequest.FromString(body)
                spans = [s for r in request.resource_spans for c in r.scope_spans for s in c.spans]
                receiver.requests.append((dict(self.headers), request))
                status, headers, answer = receiver.judge(spans)
                if status == 200:
                    receiver.taken.extend(spans)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if "Content-Length" not in headers:
                    self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self._server = _Server(("127.0.0.1", port), Handler)
        if tls is not None:
            # The handshake is the handler thread's: a client that fails must not stop the one that accepts.
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def names(self) -> list[str]:
        """Ids of the spans taken."""
        return [span.span_id.hex() for span in self.taken]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
