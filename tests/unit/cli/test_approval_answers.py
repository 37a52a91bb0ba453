"""Answers of approvers over HTTP: one that is signed counts once, and every hostile one is refused in a line."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentguard.cli import _approvals_serving as serving
from agentguard.cli import main
from agentguard.errors import PolicyError
from agentguard.runtime.clock import SystemClock
from agentguard.runtime.webhook import webhook_body
from agentguard.seal import SigningKey
from agentguard.state import (
    Approver,
    MemoryState,
    create_approver_key,
    freeze_action,
    sign_vote,
    vote_document,
    vote_of,
)
from agentguard.values import ApprovalTerms, GrantScopes

KEYS = {"ann": SigningKey(bytes(32)), "bob": SigningKey(bytes([1]) * 32), "eve": SigningKey(bytes([2]) * 32)}
APPROVERS = {name: Approver(KEYS[name].verify_key.raw, ("pay",)) for name in ("ann", "bob")}
TERMS = ApprovalTerms(("group:pay",), 2, 900.0, GrantScopes(5, 3600.0, any_arguments=True))
TOKEN = "a-token-of-senders"


class Place:
    """A server over a state in memory, and one request with two approvals."""

    def __init__(self) -> None:
        self.state = MemoryState(SystemClock())
        asked = freeze_action("tool.before", tool="pay", args={"to": "<b>\x1b[2J", "usd": 3})
        self.token = self.state.approvals.request(asked, TERMS, reason="trust me", run_id="r1")
        self.nonces = self.state.approvals.invite(self.token)
        self.log: list[str] = []
        self.server = serving.AnswerServer(("127.0.0.1", 0), TOKEN, self.count, self.log.append)
        self.port = self.server.server_address[1]

    def count(self, found: Any) -> str:
        """Count an answer."""
        vote = vote_of(found)
        return self.state.approvals.answer(found["request"], found["nonce"], vote, APPROVERS).state.value

    def body(self, who: str = "ann", nonce: int = 0, **more: Any) -> dict[str, Any]:
        """A signed answer."""
        request = self.state.approvals.show(self.token)
        vote = sign_vote(
            KEYS[who], store_id=self.state.approvals.store_id, token=self.token, digest=request.digest,
            approver=more.pop("approver", who), time_unix_s=int(time.time()),
        )  # fmt: skip
        return {"request": self.token, "nonce": self.nonces[nonce], **vote_document(vote), **more}

    def post(
        self, body: Any, *, method: str = "POST", path: str = serving.PATH, **headers: str
    ) -> tuple[int, dict[str, Any]]:
        """Send it as a client would."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        sent = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        sent.update({name.replace("_", "-"): value for name, value in headers.items()})
        try:
            connection.request(method, path, data, {name: value for name, value in sent.items() if value})
            answer = connection.getresponse()
            found = answer.read()
        finally:
            connection.close()
        return answer.status, json.loads(found) if found else {}


@pytest.fixture
def place() -> Iterator[Place]:
    """It, running."""
    made = Place()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def test_a_signed_answer_counts_once(place: Place) -> None:
    """Two people, two nonces; the same answer again is refused."""
    assert place.post(place.body("ann", 0)) == (200, {"state": "pending"})
    status, found = place.post(place.body("ann", 0))
    assert (status, "nonce is used" in found["error"]) == (403, True)
    assert place.post(place.body("bob", 1)) == (200, {"state": "granted"})
    assert place.state.approvals.show(place.token).state.value == "granted"
    assert place.log[0] == "counted: pending"


HOSTILE: list[tuple[str, Any, dict[str, Any], int, str]] = [
    ("GET", None, {"method": "GET"}, 405, "an answer is a POST"),
    ("PUT", None, {"method": "PUT"}, 405, "an answer is a POST"),
    ("no token", None, {"Authorization": ""}, 401, "the token is missing"),
    ("another token", None, {"Authorization": "Bearer x"}, 401, "the token is missing"),
    ("another path", None, {"path": "/v1/answer"}, 404, "expected /v1/answers"),
    ("a form", None, {"Content_Type": "application/x-www-form-urlencoded"}, 415, "application/json"),
    ("too long", b"x" * (serving.BODY_BYTES_MAX + 1), {}, 413, "at most 16384 bytes"),
    ("no JSON", b"{", {}, 400, "no JSON"),
    ("deep", b"[" * 16_000, {}, 400, "no JSON"),
    ("a list", b"[]", {}, 400, "expected the fields"),
    ("more fields", {"approve_all": True}, {}, 400, "expected the fields"),
    ("another nonce", {"nonce": "0" * 32}, {}, 403, "the nonce is used, or of another request"),
    ("another request", {"request": "0" * 16}, {}, 403, "the nonce is used, or of another request"),
    ("another verdict", {"verdict": "deny"}, {}, 403, "the signature is not"),
    ("another person", {"approver": "bob"}, {}, 403, "the signature is not"),
    ("a stranger", {"approver": "eve"}, {}, 403, "no listed approver"),
    ("another time", {"time_unix_s": 1}, {}, 403, "signed before the request was made"),
    ("no number", {"time_unix_s": "1"}, {}, 403, "not a signed vote"),
    ("a number", {"nonce": 7}, {}, 400, "expected texts"),
    ("a scope", {"scope": {"uses": 9, "lasts_s": 9, "run": "", "when": ""}}, {}, 403, "the signature is not"),
    ("a false scope", {"scope": 7}, {}, 403, "not a scope"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "change", "how", "status", "said"), HOSTILE, ids=[row[0] for row in HOSTILE]
)
def test_a_hostile_answer_is_refused(
    place: Place, name: str, change: Any, how: dict[str, Any], status: int, said: str
) -> None:
    """One clear line to sender and log; the request is as it was, and the nonce still good."""
    before = place.state.approvals.show(place.token)
    body = change if isinstance(change, bytes) else {**place.body(), **(change or {})}
    got, found = place.post(body, **how)
    assert (got, said in found["error"]) == (status, True), (name, found)
    assert "\n" not in found["error"]
    assert len(place.log) == 1
    assert place.state.approvals.show(place.token) == before
    assert place.post(place.body())[0] == 200


def test_a_doubled_field_is_refused(place: Place) -> None:
    """What one reader takes first and another last is no answer."""
    text = json.dumps(place.body())
    status, _ = place.post((text[:-1] + ', "verdict": "approve"}').encode())
    assert status == 400


def test_who_is_slow_is_cut(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Byte after byte does not hold a place for long, and others are served meanwhile."""
    monkeypatch.setattr(serving, "REQUEST_S_MAX", 0.3)
    with socket.create_connection(("127.0.0.1", place.port), timeout=5) as slow:
        began = time.monotonic()
        slow.sendall(b"POST /v1/answers HTTP/1.1\r\n")
        assert place.post(place.body())[0] == 200
        while time.monotonic() - began < 5:
            try:
                slow.sendall(b"x")
                slow.settimeout(0.05)
                if slow.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        assert time.monotonic() - began < 3


def test_connections_are_bounded(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """One too many is refused at once."""
    del monkeypatch
    held = [
        socket.create_connection(("127.0.0.1", place.port), timeout=5) for _ in range(serving.CONNECTIONS_MAX)
    ]
    time.sleep(0.3)
    with socket.create_connection(("127.0.0.1", place.port), timeout=5) as late:
        late.settimeout(3)
        with contextlib.suppress(ConnectionResetError):
            assert late.recv(1) == b""
    for one in held:
        one.close()
    assert any("connections at one time" in line for line in place.log)


def test_an_approver_signs_what_came_by_webhook(
    place: Place, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The printed answer counts; a body whose digest is another one is not signed."""
    create_approver_key(tmp_path / "ann.key")
    monkeypatch.setattr("agentguard.state.load_approver_key", lambda _: KEYS["ann"])
    request = place.state.approvals.show(place.token)
    told = webhook_body(
        request, store_id=place.state.approvals.store_id, nonces=place.nonces, has_content=True
    )
    file = tmp_path / "request.json"

    def run(*more: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(["approvals", "answer", str(file), "--key", str(tmp_path / "ann.key"), "--as", "ann", *more])
        out, err = capfd.readouterr()
        return int(caught.value.code or 0), out, err

    file.write_text(json.dumps(told))
    status, out, err = run("--yes")
    assert status == 0, err
    assert "\x1b" not in err
    assert place.post(json.loads(out)) == (200, {"state": "pending"})
    assert run()[0] == 2
    status, out, err = run("--yes", "--uses", "3", "--when", "args.usd < 9")
    assert (status, json.loads(out)["scope"]) == (
        0,
        {"uses": 3, "lasts_s": 3600, "run": "r1", "when": "args.usd < 9"},
    )
    assert "for up to 3 calls of this run" in err
    assert run("--yes", "--uses", "6")[0] == 2
    assert run("--yes", "--any-run")[0] == 2
    assert run("--yes", "--when", "args.usd <")[0] == 2
    for wrong in ({**told, "canonical": "{}"}, {**told, "type": "x"}, {}, []):
        file.write_text(json.dumps(wrong))
        status, out, err = run("--yes")
        assert (status, out, err.count("\n")) == (2, "", 1), err


def test_only_this_machine_is_bound() -> None:
    """An address of the network is refused, with the way out."""
    assert serving.local_address("127.0.0.1:0") == ("127.0.0.1", 0)
    assert serving.local_address("[::1]:80") == ("::1", 80)
    for wrong in ("0.0.0.0:80", "example.org:80", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", ""):
        with pytest.raises(PolicyError, match="an address of this machine"):
            serving.local_address(wrong)
