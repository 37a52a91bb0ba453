"""
Telling people that a call waits for them: one POST for each request, to a configured address.

Takes tokens from calls and returns at once; a thread of its own sends, a few
times where it must. What cannot be sent is counted and logged, and the request
waits all the same: `agentguard approvals list` shows it.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import json
import logging
import os
import queue
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from agentguard import escape
from agentguard.errors import AgentGuardError, ConfigurationError, ExportError, SealError
from agentguard.runtime.config import Config
from agentguard.seal import read_file
from agentguard.state import canonical_json
from agentguard.values import Clock, InternalErrorHook

if TYPE_CHECKING:
    from agentguard.state import ApprovalRequest, MachineState

QUEUE_MAX = 256
"""Requests that wait to be sent; one more is not sent, and counted."""
TRIES_MAX = 4
PAUSE_FIRST_S = 1.0
"""After the first try; each further pause is four times as long."""
TIMEOUT_S = 5.0
ANSWER_BYTES_MAX = 4_096
SECRET_BYTES_MIN, SECRET_BYTES_MAX = 16, 256
TEXT_CHARACTERS_MAX = 4_000
"""Length of one argument as it is shown; the canonical text has all of it."""

logger = logging.getLogger("agentguard")

_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


class ApprovalWebhook:
    """
    Sends requests for approval.

    Args:
        url:
            `https:`, or `http:` to this machine.
        secret:
            Signs each body.
        state:
            Has the requests.
        clock:
            Tells when a body was signed.
        on_internal_error:
            Told of whatever could not be sent.
        has_content:
            Whether arguments are sent along.
    """

    def __init__(
        self,
        url: str,
        secret: bytes,
        state: MachineState,
        clock: Clock,
        on_internal_error: InternalErrorHook,
        *,
        has_content: bool,
    ) -> None:
        self._url = urlsplit(url)
        self._secret = secret
        self._state = state
        self._clock = clock
        self._on_internal_error = on_internal_error
        self._has_content = has_content
        self.pause_first_s = PAUSE_FIRST_S
        self._begin()

    @classmethod
    def of(
        cls, config: Config, state: MachineState, clock: Clock, on_internal_error: InternalErrorHook
    ) -> ApprovalWebhook | None:
        """
        Make it as configured.

        Returns:
            None where no address is configured.

        Raises:
            ConfigurationError: The address is none, or the key file cannot be used.
        """
        if not config.approval_webhook:
            return None
        problem = wrong_url(config.approval_webhook)
        if problem:
            raise ConfigurationError(f"approval_webhook: {problem}")
        if not config.approval_webhook_key:
            raise ConfigurationError("approval_webhook needs `approval_webhook_key`").hint(
                "a file with a secret of 16 characters or more, mode 0600, that the receiver has too"
            )
        return cls(
            config.approval_webhook, read_secret(Path(config.approval_webhook_key)), state, clock,
            on_internal_error, has_content=config.approval_webhook_content,
        )  # fmt: skip

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._queue: queue.Queue[str | None] = queue.Queue(QUEUE_MAX)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closing = threading.Event()

    def tell(self, token: str) -> None:
        """Have a request sent; returns at once, and never raises."""
        if self._pid != os.getpid():
            self._begin()
        try:
            self._queue.put_nowait(token)
        except queue.Full:
            self._fail(f"{QUEUE_MAX} requests wait to be sent")
            return
        if self._thread is None:
            with self._lock:
                if self._thread is None and not self._closing.is_set():
                    self._thread = threading.Thread(target=self._run, name="agentguard-webhook", daemon=True)
                    self._thread.start()

    def close(self, timeout_s: float) -> None:
        """Send what is under way, without further tries, and stop."""
        self._closing.set()
        thread = self._thread
        if thread is None or self._pid != os.getpid():
            return
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)
        thread.join(timeout_s)
        left = self._queue.qsize()
        if left and thread.is_alive():
            self._fail(f"{left} requests were not sent before the end")

    def _run(self) -> None:
        while (token := self._queue.get()) is not None:
            try:
                self._tell(token)
            except Exception as error:  # The thread must live; the request waits all the same.
                self._on_internal_error("approvals.webhook", error)

    def _tell(self, token: str) -> None:
        request = self._state.approvals.show(token)
        nonces = self._state.approvals.invite(request.token)
        if not nonces:
            return  # Another process, or an earlier call, has sent it.
        body = json.dumps(
            webhook_body(
                request, store_id=self._state.approvals.store_id, nonces=nonces, has_content=self._has_content
            ),
            ensure_ascii=True,
        ).encode("ascii")
        pause_s = self.pause_first_s
        for tries_left in range(TRIES_MAX - 1, -1, -1):
            problem, is_final = self._post(body, request.token)
            if not problem:
                return
            if is_final or not tries_left or self._closing.wait(pause_s):
                self._fail(f"request {request.token}: {problem}")
                return
            pause_s *= 4

    def _post(self, body: bytes, token: str) -> tuple[str, bool]:
        """Send once; what went wrong, or empty, and whether another try is in vain."""
        url = self._url
        kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        connection = kind(url.hostname or "", url.port, timeout=TIMEOUT_S)
        try:
            now = self._clock.unix_ns() // 1_000_000_000
            connection.request(
                "POST",
                (url.path or "/") + (f"?{url.query}" if url.query else ""),
                body,
                {
                    "Content-Type": "application/json",
                    "AgentGuard-Signature": sign_body(self._secret, body, now),
                    "AgentGuard-Delivery": token,
                },
            )
            answer = connection.getresponse()
            answer.read(ANSWER_BYTES_MAX)
        except (OSError, http.client.HTTPException) as error:
            return f"{url.hostname}: {type(error).__name__}", False
        finally:
            connection.close()
        if 200 <= answer.status < 300:
            return "", True
        # A redirect is not followed: it would carry the request to whomever it names.
        return f"{url.hostname} answered {answer.status}", answer.status < 500 and answer.status != 429

    def _fail(self, what: str) -> None:
        logger.warning("agentguard: approval webhook: %s; `agentguard approvals list` shows what waits", what)
        self._on_internal_error("approvals.webhook", ExportError(f"approval webhook: {what}"))


def webhook_body(
    request: ApprovalRequest, *, store_id: bytes, nonces: tuple[str, ...], has_content: bool
) -> dict[str, object]:
    """
    Say what a request is about, for people who are not at this machine.

    Args:
        request:
            The request.
        store_id:
            What votes on it are bound to.
        nonces:
            One for each answer that may come back.
        has_content:
            Whether arguments, and the agent's own words, are in it.

    Returns:
        Plain data. Texts that a model wrote are escaped for HTML and terminals, and stand under `untrusted`.
    """
    action = request.action
    fields: dict[str, object] = {
        "type": "agentguard/v1/approval-request",
        "request": request.token,
        "store": store_id.hex(),
        "action_sha256": request.digest,
        "rule": {"policy": request.policy, "id": request.rule_id, "title": request.title},
        "calls": {
            name: _shown(action.get(name)) for name in ("point", "tool", "model", "agent", "principal")
        },
        "run_id": request.run_id,
        "approvers": list(request.terms.approvers),
        "approvals": request.terms.approvals,
        "scopes": request.terms.scopes._asdict() if request.terms.scopes else None,
        "decision_id": request.decision_id,
        "created_unix_s": request.created_unix_s,
        "expires_unix_s": request.expires_unix_s,
        "nonces": list(nonces),
    }
    if has_content:
        args = action.get("args")
        fields["canonical"] = canonical_json(dict(action)).decode()
        fields["untrusted"] = {
            "arguments": {
                _shown(name): _shown(canonical_json(value).decode())
                for name, value in (args.items() if isinstance(args, dict) else ())
            },
            "reason": _shown(request.reason),
        }
    return fields


def _shown(value: object) -> str:
    """Text that neither a page nor a terminal takes for more than text."""
    text = str(value or "")
    return escape.html(escape.terminal(text[:TEXT_CHARACTERS_MAX]))


def sign_body(secret: bytes, body: bytes, unix_s: int) -> str:
    """
    Write the header that proves a body: `t=SECONDS,v1=HEX`.

    Args:
        secret:
            Of sender and receiver.
        body:
            As it is sent.
        unix_s:
            When; the receiver refuses what is old.

    Returns:
        HMAC-SHA256 over the seconds, a full stop and the body.

    Example:
        >>> sign_body(b"0123456789abcdef", b"{}", 1)[:16]
        't=1,v1=2af693cb5'
    """
    signature = hmac.digest(secret, f"{unix_s}.".encode() + body, hashlib.sha256).hex()
    return f"t={unix_s},v1={signature}"


def wrong_url(url: str) -> str:
    """Say why an address cannot be posted to; empty where it can."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "got no address, expected https://HOST/PATH"
    if parts.scheme not in ("https", "http") or not host:
        return "got no address, expected https://HOST/PATH"
    if parts.username or parts.password:
        return "an address with a password in it is not used"
    if parts.scheme == "http" and host not in _LOCAL:
        return f"http to `{host}` would send requests in clear; expected https"
    return ""


def read_secret(path: Path) -> bytes:
    """
    Read a secret that two programs share.

    Raises:
        ConfigurationError: It cannot be read, others may read it, or it is too short or long.
    """
    try:
        text = read_file(path, bytes_max=SECRET_BYTES_MAX + 2, follow_links=True).strip()
        mode = stat.S_IMODE(path.stat().st_mode)
    except (OSError, SealError, AgentGuardError) as error:
        raise ConfigurationError(f"{path}: cannot be read ({type(error).__name__})") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigurationError(f"{path}: got mode {mode:04o}, expected 0600").hint(f"chmod 600 {path}")
    if not SECRET_BYTES_MIN <= len(text) <= SECRET_BYTES_MAX:
        raise ConfigurationError(
            f"{path}: got {len(text)} bytes, expected {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX}"
        )
    return text
