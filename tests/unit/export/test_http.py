"""OTLP over HTTP against a server that answers well, badly, or not at all."""

from __future__ import annotations

import base64
import os
import socket
import threading
import time
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

import pytest

from agentguard.export._config import otlp_config
from agentguard.export._encode import encode_item
from agentguard.export._http import HttpTransport
from agentguard.export._transport import Answer, Ending
from tests.support.clock import FrozenClock
from tests.support.otlp import OK, RESOURCE, Receiver, Reply, make_span, rejecting

ITEMS = [encode_item(make_span(n), RESOURCE, content="none") for n in range(4)]
INSECURE = {"OTEL_EXPORTER_OTLP_INSECURE": "true"}


def ask(receiver: Receiver, **options: object) -> Answer:
    transport = HttpTransport(otlp_config(receiver.endpoint, **options), clock=FrozenClock())  # type: ignore[arg-type]
    try:
        return transport.send(ITEMS)
    finally:
        transport.close()


def test_a_request_is_what_the_specification_says() -> None:
    """Content type, compression, headers and spans arrive."""
    with Receiver() as receiver:
        assert ask(receiver, headers=[("x-api-key", "k")]).ending is Ending.SENT
    (headers, request) = receiver.requests[0]
    assert headers["Content-Type"] == "application/x-protobuf"
    assert headers["Content-Encoding"] == "gzip"
    assert headers["x-api-key"] == "k"
    assert headers["User-Agent"].startswith("agentguard/")
    assert len(request.resource_spans[0].scope_spans[0].spans) == 4


@pytest.mark.parametrize(
    ("status", "ending"),
    [
        (200, Ending.SENT),
        (202, Ending.SENT),
        (301, Ending.MISCONFIGURED),
        (307, Ending.MISCONFIGURED),
        (400, Ending.REFUSED),
        (401, Ending.MISCONFIGURED),
        (403, Ending.MISCONFIGURED),
        (404, Ending.MISCONFIGURED),
        (408, Ending.RETRY),
        (413, Ending.TOO_LARGE),
        (422, Ending.REFUSED),
        (429, Ending.RETRY),
        (500, Ending.RETRY),
        (502, Ending.RETRY),
        (503, Ending.RETRY),
        (599, Ending.RETRY),
    ],
)
def test_statuses_mean_what_they_say(status: int, ending: Ending) -> None:
    """Each status has one meaning, and redirects are not followed."""
    with Receiver(lambda _: (status, {"Location": "http://169.254.169.254/"}, b"")) as receiver:
        answer = ask(receiver)
    assert answer == Answer(ending, f"HTTP {status}")
    assert {request[0]["Host"] for request in receiver.requests} == {
        receiver.endpoint.removeprefix("http://")
    }


def test_receivers_without_gzip_are_found_out() -> None:
    """A 400 to a compressed body is checked with a plain one; later requests are plain at once."""
    with Receiver() as receiver:
        receiver.judge = lambda _: (
            OK if "Content-Encoding" not in receiver.requests[-1][0] else (400, {}, b"")
        )
        transport = HttpTransport(otlp_config(receiver.endpoint), clock=FrozenClock())
        assert transport.send(ITEMS).ending is Ending.SENT
        assert transport.send(ITEMS).ending is Ending.SENT
        transport.close()
    assert [headers.get("Content-Encoding") for headers, _ in receiver.requests] == ["gzip", None, None]


def test_a_refusal_after_gzip_was_taken_is_a_refusal() -> None:
    """Once a compressed body went through, a 400 is about the spans."""
    with Receiver() as receiver:
        transport = HttpTransport(otlp_config(receiver.endpoint), clock=FrozenClock())
        assert transport.send(ITEMS).ending is Ending.SENT
        receiver.judge = lambda _: (400, {}, b"")
        assert transport.send(ITEMS).ending is Ending.REFUSED
        transport.close()
    assert len(receiver.requests) == 2


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("99999999999999", 999_999_999.0),
        ("soon", None),
        ("-3", None),
        ("²", None),
        (format_datetime(datetime(2026, 1, 1, 0, 0, 30, tzinfo=UTC), usegmt=True), 30.0),
        (format_datetime(datetime(2020, 1, 1, tzinfo=UTC), usegmt=True), 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str, seconds: float | None) -> None:
    """Dates are read against the clock that was handed in."""
    raw = text.encode("utf-8").decode("latin-1")
    with Receiver(lambda _: (503, {"Retry-After": raw}, b"")) as receiver:
        assert ask(receiver).retry_after_s == seconds


@pytest.mark.parametrize(
    ("reply", "rejected"),
    [
        (rejecting(3), 3),
        (rejecting(99), 4),
        (rejecting(-1), 0),
        ((200, {}, b"\xff\xff garbage"), 0),
        ((200, {}, b"x" * 200_000), 0),
        (OK, 0),
    ],
)
def test_partial_success_is_read_within_bounds(reply: Reply, rejected: int) -> None:
    """A number is at most what was sent; garbage and floods after a 200 change nothing."""
    with Receiver(lambda _: reply) as receiver:
        answer = ask(receiver)
    assert (answer.ending, answer.rejected) == (Ending.SENT, rejected)


def test_a_lie_about_the_length_does_not_block() -> None:
    """An answer that never comes whole is waited for no longer than a request may take."""
    with Receiver(lambda _: (200, {"Content-Length": "50"}, b"short")) as receiver:
        started = time.monotonic()
        answer = ask(receiver, environ={"OTEL_EXPORTER_OTLP_TIMEOUT": "300"})
        assert time.monotonic() - started < 2
    assert answer.ending is Ending.SENT
    assert answer.is_unreadable


@pytest.mark.parametrize(
    ("kind", "body", "is_unreadable"),
    [
        ("application/x-protobuf", b"\xff\xff garbage", True),
        ("application/x-protobuf", b"", False),
        ("application/json", b"{}", False),
        ("application/json", b"x" * 200_000, True),
    ],
)
def test_an_answer_that_cannot_be_read_is_said(kind: str, body: bytes, is_unreadable: bool) -> None:
    """What says that it is a message and is none, or has no end, is not taken for a plain yes."""
    with Receiver(lambda _: (200, {"Content-Type": kind}, body)) as receiver:
        answer = ask(receiver)
    assert (answer.ending, answer.is_unreadable) == (Ending.SENT, is_unreadable)


def test_nobody_there_is_worth_another_try() -> None:
    """A refused connection is no error of the spans."""
    with Receiver() as receiver:
        pass
    assert ask(receiver).ending is Ending.RETRY


@pytest.mark.parametrize("behaviour", ["hangs", "resets", "garbage"])
def test_broken_servers_are_worth_another_try(behaviour: str) -> None:
    """Hanging, resetting and answering garbage all end within the time, as a retry."""
    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(100)
            if behaviour == "hangs":
                stop.wait(5)
            elif behaviour == "garbage":
                connection.sendall(b"SSH-2.0-OpenSSH\r\n\r\n")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        config = otlp_config(
            f"http://127.0.0.1:{listener.getsockname()[1]}", environ={"OTEL_EXPORTER_OTLP_TIMEOUT": "300"}
        )
        transport = HttpTransport(config, clock=FrozenClock())
        assert transport.send(ITEMS).ending is Ending.RETRY
        transport.close()
    finally:
        stop.set()
        thread.join()
        listener.close()


def test_plain_http_on_a_tls_port_and_the_other_way_round() -> None:
    """A server without TLS behind an https address is said to be misconfigured, not retried fast."""
    with Receiver() as receiver:
        config = otlp_config(receiver.endpoint.replace("http://", "https://"))
        transport = HttpTransport(config, clock=FrozenClock())
        assert transport.send(ITEMS).ending is Ending.MISCONFIGURED
        transport.close()


def test_missing_certificate_file_is_said() -> None:
    """A CA file that is not there is a person's to mend."""
    config = otlp_config("https://localhost:1", environ={"OTEL_EXPORTER_OTLP_CERTIFICATE": "/nowhere/ca.pem"})
    transport = HttpTransport(config, clock=FrozenClock())
    assert transport.send(ITEMS).ending is Ending.MISCONFIGURED
    transport.close()


def test_netrc_does_not_replace_the_configured_header(clean_environment: Path) -> None:
    """Authorization is what the configuration says, also where ~/.netrc knows the host."""
    netrc = clean_environment / ".netrc"
    netrc.write_text("machine 127.0.0.1 login me password hunter2\n")
    netrc.chmod(0o600)
    with Receiver() as receiver:
        ask(receiver, headers=[("Authorization", "Bearer k")])
        ask(receiver)
    assert receiver.requests[0][0]["Authorization"] == "Bearer k"
    assert "Authorization" not in receiver.requests[1][0]


def test_loopback_takes_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans for this machine go straight to it."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with Receiver() as receiver:
        assert ask(receiver).ending is Ending.SENT
    assert "HTTP_PROXY" in os.environ


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_other_machines_are_reached_over_the_proxy(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """The proxy of the environment is taken, with the name and the password in its address."""
    with Receiver() as proxy:
        monkeypatch.setenv(variable, proxy.endpoint.replace("://", "://ada:p%40ss@"))
        transport = HttpTransport(
            otlp_config("http://collector.invalid:4318", environ=INSECURE), clock=FrozenClock()
        )
        assert transport.send(ITEMS).ending is Ending.SENT
        transport.close()
    (headers, _) = proxy.requests[0]
    assert headers["Host"] == "collector.invalid:4318"
    assert headers["proxy-authorization"] == "Basic " + base64.b64encode(b"ada:p@ss").decode()


@pytest.mark.parametrize("excepted", ["collector.invalid", ".invalid", "*"])
def test_no_proxy_is_heeded(monkeypatch: pytest.MonkeyPatch, excepted: str) -> None:
    """Hosts that the environment excepts are asked straight: here in vain, for nobody has that name."""
    with Receiver() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.endpoint)
        monkeypatch.setenv("NO_PROXY", excepted)
        transport = HttpTransport(
            otlp_config("http://collector.invalid:4318", environ=INSECURE), clock=FrozenClock()
        )
        assert transport.send(ITEMS).ending is Ending.RETRY
        transport.close()
    assert not proxy.requests
