"""
The place where answers of approvers come in: a small HTTP server on this machine.

It takes one kind of request, a POST of a signed answer, and lets nothing else
in. Who may talk to it at all shows a token; what counts is the approver's own
signature over the exact action.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import ipaddress
import json
import socket
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from agentguard import escape
from agentguard.errors import AgentGuardError, PolicyDocumentError, PolicyError
from agentguard.values import ApprovalTerms, GrantScopes

PATH = "/v1/answers"
BODY_BYTES_MAX = 16_384
CONNECTIONS_MAX = 16
"""Answers that come in at one time; one more is refused."""
REQUEST_S_MAX = 5.0
"""How long one request may take to come in, however it trickles."""

_FIELDS = {"request", "nonce", "approver", "verdict", "time_unix_s", "signature"}

Answer = Callable[[Mapping[str, object]], str]
"""Counts an answer, and says where the request stands; raises PolicyError where it does not count."""


class AnswerServer(ThreadingHTTPServer):
    """
    Listens for answers.

    Args:
        address:
            Host and port; port 0 takes a free one.
        token:
            What a sender shows in `Authorization: Bearer TOKEN`.
        answer:
            Counts an answer.
        log:
            Told one line for each request.
    """

    daemon_threads = True
    request_queue_size = CONNECTIONS_MAX

    def __init__(
        self, address: tuple[str, int], token: str, answer: Answer, log: Callable[[str], None]
    ) -> None:
        self.token = token
        self.answer = answer
        self.log = log
        self._places = threading.BoundedSemaphore(CONNECTIONS_MAX)
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve one connection in a thread of its own, as long as there is room."""
        if not self._places.acquire(blocking=False):
            self.log(f"refused: more than {CONNECTIONS_MAX} connections at one time")
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Cut it where it takes too long, and give the place back."""
        watch = threading.Timer(REQUEST_S_MAX, _cut, (request,))
        watch.daemon = True
        watch.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            watch.cancel()
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the server's signature
        """Say in a line that a connection broke; what came over it changed nothing."""
        self.log("refused: the connection broke, or took too long")


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _RefusedError(Exception):
    def __init__(self, status: HTTPStatus, what: str) -> None:
        super().__init__(what)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    """One request on one connection."""

    server: AnswerServer
    protocol_version = "HTTP/1.1"
    server_version = "agentguard"
    sys_version = ""
    timeout = REQUEST_S_MAX

    def handle_one_request(self) -> None:
        """Take one request, and close."""
        self.close_connection = True
        super().handle_one_request()
        self.close_connection = True

    def do_POST(self) -> None:
        """Take an answer."""
        try:
            state = self.server.answer(self._document())
        except _RefusedError as refused:
            self._say(refused.status, {"error": str(refused)})
        except PolicyDocumentError as error:
            self._fail(error)
        except PolicyError as error:
            self._say(HTTPStatus.FORBIDDEN, {"error": str(error)})
        except AgentGuardError as error:
            self._fail(error)
        else:
            self._say(HTTPStatus.OK, {"state": state})

    def _fail(self, error: Exception) -> None:
        # What the machine cannot do is not the sender's business.
        self.server.log(f"{type(error).__name__}: {escape.terminal(str(error))}")
        self._say(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": "the answer could not be counted"})

    def _document(self) -> dict[str, object]:
        """Read the answer; refuse whatever is not one."""
        headers = self.headers
        shown = headers.get("Authorization", "")
        if not hmac.compare_digest(shown.encode(), f"Bearer {self.server.token}".encode()):
            raise _RefusedError(HTTPStatus.UNAUTHORIZED, "the token is missing, or another one")
        if self.path != PATH:
            raise _RefusedError(HTTPStatus.NOT_FOUND, f"expected {PATH}")
        if headers.get_content_type() != "application/json":
            raise _RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected Content-Type: application/json")
        length = headers.get("Content-Length", "")
        if "Transfer-Encoding" in headers or not (length.isascii() and length.isdigit()):
            raise _RefusedError(HTTPStatus.LENGTH_REQUIRED, "expected Content-Length")
        if len(length) > 9 or int(length) > BODY_BYTES_MAX:
            raise _RefusedError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body has at most {BODY_BYTES_MAX} bytes"
            )
        body = self.rfile.read(int(length))
        if len(body) != int(length):
            raise _RefusedError(HTTPStatus.REQUEST_TIMEOUT, "the body did not come in time")
        return read_answer(body)

    def _say(self, status: HTTPStatus, fields: Mapping[str, object]) -> None:
        body = (json.dumps(fields) + "\n").encode()
        error = fields.get("error")
        self.server.log(
            f"refused ({status}): {escape.terminal(str(error))}" if error else f"counted: {fields['state']}"
        )
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002 - the handler's signature
        """Refuse a request that is no HTTP, or no POST, in the same form."""
        self.command = self.command or ""
        if code == HTTPStatus.NOT_IMPLEMENTED:
            code, message = HTTPStatus.METHOD_NOT_ALLOWED, "an answer is a POST"
        self._say(HTTPStatus(code), {"error": message or HTTPStatus(code).phrase})

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the handler's signature
        """Nothing: `log` has one line for each request."""


def read_answer(body: bytes) -> dict[str, object]:
    """
    Read an answer.

    Args:
        body:
            JSON.

    Returns:
        Its fields: texts, a whole number, and a scope where there is one.

    Raises:
        _RefusedError: It is none.
    """
    try:
        found = json.loads(body, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise _RefusedError(HTTPStatus.BAD_REQUEST, "the body is no JSON, or names a field twice") from None
    if not isinstance(found, dict) or not _FIELDS <= set(found) <= _FIELDS | {"scope"}:
        raise _RefusedError(HTTPStatus.BAD_REQUEST, f"expected the fields {', '.join(sorted(_FIELDS))}")
    if not all(isinstance(found[name], str) for name in _FIELDS - {"time_unix_s"}):
        raise _RefusedError(HTTPStatus.BAD_REQUEST, "expected texts, and `time_unix_s` as a whole number")
    return found


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field stands twice")
    return fields


class Asked(NamedTuple):
    """A request as it came by webhook."""

    token: str
    store_id: bytes
    digest: str
    nonces: tuple[str, ...]
    terms: ApprovalTerms
    run_id: str
    lines: tuple[str, ...]
    """What a person reads before signing; to be escaped."""


def read_request(body: bytes) -> Asked:
    """
    Read what `approval_webhook` was told.

    Args:
        body:
            JSON.

    Returns:
        The request. Where it has the action, its digest was worked out anew.

    Raises:
        PolicyError: It is none, or its digest is not that of its action.
    """
    try:
        found = json.loads(body, object_pairs_hook=_once)
        if found["type"] != "agentguard/v1/approval-request":
            raise ValueError("type")
        digest, canonical = str(found["action_sha256"]), found.get("canonical")
        asked = Asked(
            str(found["request"]), bytes.fromhex(found["store"]), digest, tuple(map(str, found["nonces"])),
            ApprovalTerms((), 1, 0.0, GrantScopes(**found["scopes"]) if found["scopes"] else None), str(found["run_id"]),
            (
                f"{found['rule']['title']} ({found['rule']['id']} of {found['rule']['policy']})",
                ", ".join(f"{name} {value}" for name, value in found["calls"].items() if value),
                f"exactly: {canonical}" if canonical is not None else f"SHA-256: {digest} (arguments were not sent)",
                "what a model wrote is untrusted",
            ),
        )  # fmt: skip
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise PolicyError("approval: not a request for approval") from error
    if canonical is not None and hashlib.sha256(str(canonical).encode()).hexdigest() != digest:
        raise PolicyError("approval: the SHA-256 is not that of the action")
    return asked


def local_address(text: str) -> tuple[str, int]:
    """
    Read HOST:PORT of this machine.

    Raises:
        PolicyError: It is none, or of another machine.
    """
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    try:
        is_local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_local = False
    if not is_local or not port.isdigit() or int(port) > 65_535:
        raise PolicyError(
            f"approvals serve: got `{text}`, expected an address of this machine, HOST:PORT"
        ).hint("put a proxy with TLS before it where approvers are elsewhere")
    return host, int(port)
