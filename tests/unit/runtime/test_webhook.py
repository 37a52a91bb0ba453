"""People are told of requests by webhook: signed, escaped, once, and never at the cost of the call."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

import agentguard
from agentguard.errors import ConfigurationError
from agentguard.runtime.webhook import TRIES_MAX, read_secret, wrong_url
from agentguard.seal import SigningKey
from tests.unit.runtime.conftest import Start
from tests.unit.runtime.test_waiting import RULE, people

FAILED = "approvals.webhook: ExportError"
SECRET = b"a secret of two programs"
HELD = RULE.replace(", wait: %s", "")


class Receiver(HTTPServer):
    """A real server that keeps what it is told, and answers as it is set."""

    def __init__(self) -> None:
        self.told: list[tuple[dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        self.delay_s = 0.0
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_address[1]}/hook"

    def wait(self, count: int) -> None:
        """Wait until it was told so often."""
        for _ in range(300):
            if len(self.told) >= count:
                return
            time.sleep(0.02)
        raise AssertionError(f"told {len(self.told)} times, expected {count}")


class Handler(BaseHTTPRequestHandler):
    """Keeps each POST."""

    server: Receiver

    def do_POST(self) -> None:
        """Keep it."""
        time.sleep(self.server.delay_s)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.told.append((dict(self.headers), body))
        status = self.server.statuses.pop(0) if self.server.statuses else 204
        self.send_response(status)
        if status == 302:
            self.send_header("Location", self.server.url)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """It, running."""
    made = Receiver()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """The secret, as it is configured."""
    path = tmp_path / "webhook.key"
    path.write_bytes(SECRET + b"\n")
    path.chmod(0o600)
    return path


@agentguard.tool(name="pay", effect="write")
def pay(usd: float, note: str = "") -> str:
    """Pay."""
    return "paid"


def ask(usd: float, note: str = "") -> None:
    """Make a call that a person must decide on."""
    with pytest.raises(agentguard.ApprovalPending):
        pay(usd, note)


def begin(start: Start, receiver: Receiver, key_file: Path, **more: Any) -> Any:
    """Start with the webhook configured."""
    runtime = start(
        HELD, more=people(SigningKey.generate()), approval_webhook=receiver.url,
        approval_webhook_key=str(key_file), **more,
    )  # fmt: skip
    runtime.webhook.pause_first_s = 0.01
    return runtime


def test_a_request_is_told_once_and_signed(start: Start, receiver: Receiver, key_file: Path) -> None:
    """The receiver can prove who sent it and when; the same request is not told again; no arguments."""
    runtime = begin(start, receiver, key_file)
    ask(5.0, "secret words")
    ask(5.0, "secret words")
    ask(6.0)
    receiver.wait(2)
    assert runtime.flush(5.0).is_complete
    time.sleep(0.1)
    assert len(receiver.told) == 2
    headers, body = receiver.told[0]
    seconds, signature = (part.split("=")[1] for part in headers["AgentGuard-Signature"].split(","))
    assert hmac.new(SECRET, f"{seconds}.".encode() + body, hashlib.sha256).hexdigest() == signature
    assert abs(int(seconds) - time.time()) < 60
    told = json.loads(body)
    request = runtime.state.approvals.show(told["request"])
    assert (told["action_sha256"], told["rule"]["id"]) == (request.digest, "PAY-001")
    assert len(told["nonces"]) == 1
    assert b"secret words" not in body
    assert "canonical" not in told


def test_arguments_are_escaped_and_marked(start: Start, receiver: Receiver, key_file: Path) -> None:
    """What a model wrote is no markup and no command of a terminal, and stands under `untrusted`."""
    begin(start, receiver, key_file, approval_webhook_content=True)
    ask(5.0, "<script>alert(1)</script>\x1b[2J\u202e")
    receiver.wait(1)
    body = receiver.told[0][1]
    told = json.loads(body)
    shown = told["untrusted"]["arguments"]["note"]
    assert "<" not in shown
    assert "\x1b" not in shown
    assert body.isascii()
    assert hashlib.sha256(told["canonical"].encode()).hexdigest() == told["action_sha256"]


def test_it_is_tried_again_and_given_up(
    start: Start, receiver: Receiver, key_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that fails is asked a few times; then it is counted and logged, and the call is as it was."""
    runtime = begin(start, receiver, key_file, strict=False)
    receiver.statuses = [503, 204]
    ask(1.0)
    receiver.wait(2)
    receiver.statuses = [500] * TRIES_MAX
    ask(2.0)
    receiver.wait(2 + TRIES_MAX)
    receiver.statuses = [404]
    ask(3.0)
    receiver.wait(3 + TRIES_MAX)
    receiver.statuses = [302]
    ask(4.0)
    receiver.wait(4 + TRIES_MAX)
    for _ in range(100):
        if runtime.health.counts[FAILED] >= 3:
            break
        time.sleep(0.02)
    assert runtime.health.counts[FAILED] == 3
    assert "approval webhook" in caplog.text
    assert len(receiver.told) == 4 + TRIES_MAX


def test_a_slow_receiver_does_not_hold_the_call(start: Start, receiver: Receiver, key_file: Path) -> None:
    """The call ends at once; what is told is told later."""
    begin(start, receiver, key_file)
    receiver.delay_s = 4.0
    began = time.monotonic()
    ask(1.0)
    assert time.monotonic() - began < 3.5
    receiver.wait(1)


def test_what_is_configured_wrongly_does_not_start(start: Start, receiver: Receiver, tmp_path: Path) -> None:
    """One line: an address in clear, no key, a key that others may read, one that is too short."""
    short = tmp_path / "short"
    short.write_text("abc")
    short.chmod(0o600)
    open_to_all = tmp_path / "open"
    open_to_all.write_bytes(SECRET)
    open_to_all.chmod(0o644)
    for settings, said in (
        ({"approval_webhook": "http://example.org/"}, "in clear"),
        ({"approval_webhook": "ftp://example.org/"}, "expected https"),
        ({"approval_webhook": receiver.url}, "needs `approval_webhook_key`"),
        ({"approval_webhook": receiver.url, "approval_webhook_key": str(short)}, "got 3 bytes"),
        ({"approval_webhook": receiver.url, "approval_webhook_key": str(open_to_all)}, "expected 0600"),
        (
            {"approval_webhook": receiver.url, "approval_webhook_key": str(tmp_path / "none")},
            "cannot be read",
        ),
    ):
        with pytest.raises(ConfigurationError, match=said):
            start(HELD, more=people(SigningKey.generate()), **settings)


def test_addresses() -> None:
    """https anywhere, http only to this machine, never with a password."""
    assert [wrong_url(url) for url in ("https://h/x", "http://127.0.0.1:1/", "http://[::1]/")] == ["", "", ""]
    for wrong in ("", "h", "https://", "https://u:p@h/", "http://h/", "https://h:x/"):
        assert wrong_url(wrong)


def test_the_secret_is_in_no_repr(key_file: Path) -> None:
    """It is read, and shown nowhere."""
    assert read_secret(key_file) == SECRET
