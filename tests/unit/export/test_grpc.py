"""OTLP over gRPC against a server that answers well and badly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

from agentguard.export._config import otlp_config
from agentguard.export._encode import encode_item
from agentguard.export._grpc import GrpcTransport
from agentguard.export._transport import Answer, Ending
from tests.support.otlp import RESOURCE, make_span

ITEMS = [encode_item(make_span(n), RESOURCE, content="none") for n in range(4)]


class Service(TraceServiceServicer):
    """Answers as the test says."""

    def __init__(self) -> None:
        self.behave: Callable[[Any], ExportTraceServiceResponse] = lambda _: ExportTraceServiceResponse()
        self.requests: list[Any] = []
        self.metadata: dict[str, str] = {}

    def Export(self, request: Any, context: Any) -> ExportTraceServiceResponse:
        self.requests.append(request)
        self.metadata = dict(context.invocation_metadata())
        return self.behave(context)


@pytest.fixture
def service() -> Iterator[tuple[Service, str]]:
    """A gRPC server on loopback that takes messages of at most 64 KiB."""
    own = Service()
    server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.max_receive_message_length", 65_536)])
    add_TraceServiceServicer_to_server(own, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield own, f"http://127.0.0.1:{port}"
    server.stop(None).wait()


def ask(endpoint: str, items: list[Any] = ITEMS, **options: Any) -> Answer:
    transport = GrpcTransport(otlp_config(endpoint, protocol="grpc", **options))
    try:
        return transport.send(items)
    finally:
        transport.close()


def test_spans_and_headers_arrive(service: tuple[Service, str]) -> None:
    """Metadata is the headers, in lower case, and the request holds the spans."""
    own, endpoint = service
    assert ask(endpoint, headers=[("X-Api-Key", "k")]).ending is Ending.SENT
    assert own.metadata["x-api-key"] == "k"
    assert own.metadata["user-agent"].startswith("agentguard/")
    assert len(own.requests[0].resource_spans[0].scope_spans[0].spans) == 4


def test_partial_success_is_read(service: tuple[Service, str]) -> None:
    """Rejected spans are counted, within bounds."""
    own, endpoint = service
    response = ExportTraceServiceResponse()
    response.partial_success.rejected_spans = 2
    own.behave = lambda _: response
    assert ask(endpoint).rejected == 2


@pytest.mark.parametrize(
    ("code", "ending"),
    [
        ("UNAVAILABLE", Ending.RETRY),
        ("DEADLINE_EXCEEDED", Ending.RETRY),
        ("ABORTED", Ending.RETRY),
        ("INTERNAL", Ending.RETRY),
        ("UNKNOWN", Ending.RETRY),
        ("RESOURCE_EXHAUSTED", Ending.RETRY),
        ("INVALID_ARGUMENT", Ending.REFUSED),
        ("UNAUTHENTICATED", Ending.MISCONFIGURED),
        ("PERMISSION_DENIED", Ending.MISCONFIGURED),
        ("UNIMPLEMENTED", Ending.MISCONFIGURED),
    ],
)
def test_statuses_mean_what_they_say(service: tuple[Service, str], code: str, ending: Ending) -> None:
    """Each status has one meaning; the server's words are not repeated."""
    own, endpoint = service
    own.behave = lambda context: context.abort(grpc.StatusCode[code], "\x1b[31mwords")
    assert ask(endpoint) == Answer(ending, f"gRPC {code}")


def test_retry_info_is_read(service: tuple[Service, str]) -> None:
    """The delay that the server asks for is kept."""
    own, endpoint = service
    detail = AnyMessage()
    detail.Pack(RetryInfo(retry_delay=Duration(seconds=3, nanos=500_000_000)))
    status = Status(code=8, details=[detail]).SerializeToString()

    def behave(context: Any) -> ExportTraceServiceResponse:
        context.set_trailing_metadata((("grpc-status-details-bin", status),))
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "slow down")
        raise AssertionError

    own.behave = behave
    assert ask(endpoint) == Answer(Ending.RETRY, "gRPC RESOURCE_EXHAUSTED", retry_after_s=3.5)


def test_a_message_that_is_too_large_is_to_be_split(service: tuple[Service, str]) -> None:
    """The one status with two meanings is told apart."""
    _, endpoint = service
    big = [encode_item(make_span(1, attributes={"pad": "x" * 100_000}), RESOURCE, content="none")]
    assert ask(endpoint, big, environ={"OTEL_EXPORTER_OTLP_COMPRESSION": "none"}).ending is Ending.TOO_LARGE


def test_nobody_there_is_worth_another_try() -> None:
    """A refused connection ends within the time of a request."""
    answer = ask("http://127.0.0.1:9", environ={"OTEL_EXPORTER_OTLP_TIMEOUT": "500"})
    assert answer.ending is Ending.RETRY


def test_missing_certificate_file_is_said() -> None:
    """A CA file that is not there is a person's to mend."""
    answer = ask("https://localhost:1", environ={"OTEL_EXPORTER_OTLP_CERTIFICATE": "/nowhere/ca.pem"})
    assert answer == Answer(Ending.MISCONFIGURED, "TLS: a certificate file cannot be read")
