"""Real handshakes: TLS and mutual TLS, over HTTP and gRPC, with certificates that fit and that do not."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import add_TraceServiceServicer_to_server

from agentguard.export._config import otlp_config
from agentguard.export._encode import encode_item
from agentguard.export._protocols import open_transport
from agentguard.export._transport import Answer, Ending
from tests.support.certificates import Authority, Pair
from tests.support.clock import FrozenClock
from tests.support.otlp import RESOURCE, Receiver, make_span
from tests.unit.export.test_grpc import Service

ITEMS = [encode_item(make_span(n), RESOURCE, content="none") for n in range(3)]
MISFIT = Answer(Ending.MISCONFIGURED, "TLS: the certificates do not fit")

Serve = Callable[..., str]


class Certificates:
    """Everything that a test may hand to either side."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self.stranger = Authority(folder, "another authority")
        self.server = self.authority.sign("server")
        self.client = self.authority.sign("client", is_client=True)


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Made once."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(params=["http/protobuf", "grpc"])
def protocol(request: pytest.FixtureRequest) -> str:
    """Both of them."""
    return str(request.param)


@pytest.fixture
def serve(protocol: str) -> Iterator[tuple[Serve, list[Any]]]:
    """Start a server with a certificate, and with an authority where clients must show one; gives what it took."""
    taken: list[Any] = []
    closing: list[Callable[[], object]] = []

    def http(pair: Pair, clients: Path | None = None) -> str:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        if clients is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(clients)
        receiver = Receiver(tls=context)
        receiver.taken = taken
        closing.append(receiver.close)
        return f"https://127.0.0.1:{receiver.port}"

    def over_grpc(pair: Pair, clients: Path | None = None) -> str:
        own = Service()
        own.requests = taken
        server = grpc.server(ThreadPoolExecutor(2))
        add_TraceServiceServicer_to_server(own, server)
        credentials = grpc.ssl_server_credentials(
            [(pair.key.read_bytes(), pair.certificate.read_bytes())],
            root_certificates=clients.read_bytes() if clients else None,
            require_client_auth=clients is not None,
        )
        port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        closing.append(lambda: server.stop(None).wait())
        return f"https://127.0.0.1:{port}"

    yield (http if protocol == "http/protobuf" else over_grpc), taken
    for close in closing:
        close()


def ask(endpoint: str, protocol: str, **files: Any) -> Answer:
    """Send three spans."""
    config = otlp_config(
        endpoint,
        protocol=protocol,
        environ={"OTEL_EXPORTER_OTLP_TIMEOUT": "5000"},
        **{name: str(path) for name, path in files.items()},  # type: ignore[arg-type]
    )
    transport = open_transport(config, clock=FrozenClock())
    try:
        return transport.send(ITEMS)
    finally:
        transport.close()


def test_tls(known: Certificates, serve: tuple[Serve, list[Any]], protocol: str) -> None:
    """Under the authority that is named spans arrive; under that of the system they do not leave."""
    start, taken = serve
    endpoint = start(known.server)
    assert ask(endpoint, protocol, ca_file=known.authority.certificate).ending is Ending.SENT
    assert taken
    taken.clear()
    assert ask(endpoint, protocol) == MISFIT
    assert ask(endpoint, protocol, ca_file=known.stranger.certificate) == MISFIT
    assert not taken


@pytest.mark.parametrize("wrong", [{"host": "elsewhere.example"}, {"is_expired": True}])
def test_a_certificate_of_another_host_or_time(
    known: Certificates, serve: tuple[Serve, list[Any]], protocol: str, wrong: dict[str, Any]
) -> None:
    """Signed by the right authority is not enough."""
    start, taken = serve
    endpoint = start(known.authority.sign("wrong", **wrong))
    assert ask(endpoint, protocol, ca_file=known.authority.certificate) == MISFIT
    assert not taken


def test_mutual_tls(known: Certificates, serve: tuple[Serve, list[Any]], protocol: str) -> None:
    """A server that wants a certificate gets ours; without one, or with one of a stranger, nothing arrives."""
    start, taken = serve
    endpoint = start(known.server, known.authority.certificate)
    trust = {"ca_file": known.authority.certificate}
    own = {"client_certificate_file": known.client.certificate, "client_key_file": known.client.key}
    assert ask(endpoint, protocol, **trust, **own).ending is Ending.SENT
    assert taken
    taken.clear()
    strange = known.stranger.sign("stranger", is_client=True)
    for files in ({}, {"client_certificate_file": strange.certificate, "client_key_file": strange.key}):
        answer = ask(endpoint, protocol, **trust, **files)
        assert answer.ending in {Ending.MISCONFIGURED, Ending.RETRY}, answer
    assert not taken


def test_a_key_that_is_not_that_of_the_certificate(
    known: Certificates, serve: tuple[Serve, list[Any]], protocol: str
) -> None:
    """Said with each request, and never raised into the exporter's thread."""
    start, taken = serve
    endpoint = start(known.server, known.authority.certificate)
    answer = ask(
        endpoint, protocol, ca_file=known.authority.certificate,
        client_certificate_file=known.client.certificate, client_key_file=known.server.key,
    )  # fmt: skip
    assert answer.ending in {Ending.MISCONFIGURED, Ending.RETRY}
    assert not taken
