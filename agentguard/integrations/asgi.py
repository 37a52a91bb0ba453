"""
Middleware for ASGI: Starlette, FastAPI and anything else that speaks it.

Each request is a run with a span of its own, under the caller's trace; what
agents, models and tools do while it is answered belongs to it. Pure ASGI: the
body is neither read nor held, and streams stay streams.

Source: ASGI specification 3.0, HTTP & WebSocket 2.5; W3C Trace Context, Baggage.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, TypeAlias

from agentguard.errors import ApprovalPending, CallDenied
from agentguard.integrations.web import CONVERSATION_HEADER, WebRequest, is_skipped
from agentguard.runtime import flush

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


class AgentGuardMiddleware:
    """
    Opens a run and a span for each request, and flushes when the server shuts down.

    Args of the constructor: `app` is the application. `conversation_header` is
    the header with the id of the conversation. `facts` gives further arguments
    of `agentguard.run` for a request: principal, roles, labels; what it raises
    reaches the caller, because a policy must not judge an unknown person as
    nobody. `skip` are paths that are left alone, with all below them.
    `answer_denials` answers 403 with the text of the denial where the
    application lets one through; without it the exception goes its way.

    With Starlette and FastAPI: `app.add_middleware(AgentGuardMiddleware, skip=["/health"])`.
    """

    def __init__(
        self,
        app: Application,
        *,
        conversation_header: str = CONVERSATION_HEADER,
        facts: Callable[[Scope], Mapping[str, Any]] | None = None,
        skip: Sequence[str] = (),
        answer_denials: bool = False,
    ) -> None:
        self.app = app
        self._conversation_header = conversation_header.lower()
        self._facts = facts
        self._skip = tuple(skip)
        self._answers_denials = answer_denials

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or let anything else through as it is."""
        kind = scope["type"]
        if kind == "lifespan":
            await self.app(scope, receive, _flushing(send))
            return
        if kind not in {"http", "websocket"} or is_skipped(scope["path"], self._skip):
            await self.app(scope, receive, send)
            return
        request = WebRequest(str(scope.get("method", "WEBSOCKET")))
        facts = {} if self._facts is None else self._facts(scope)

        async def watched_send(message: Message) -> None:
            if message["type"] in {"http.response.start", "websocket.http.response.start"}:
                request.status = int(message["status"])
                request.route = _route(scope)
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                # Background tasks come after the answer: they are of the run, and not of the request.
                request.end()

        request.enter(_headers(scope), facts, self._conversation_header)
        try:
            await self.app(scope, receive, watched_send)
        except (CallDenied, ApprovalPending) as denied:
            if not self._answers_denials or request.status or kind != "http":
                request.route = _route(scope)
                request.end(error=denied)
                raise
            for message in _denial(denied):
                await watched_send(message)
        except BaseException as error:
            request.route = _route(scope)
            request.end(error=error)
            raise
        finally:
            if request.route is None:
                # A websocket has no answer whose beginning would have told it.
                request.route = _route(scope)
            request.end(is_whole=kind == "websocket")
            request.leave()


def _flushing(send: Send) -> Send:
    """Flush when the application has shut down: some servers end by the signal, which runs no `atexit`."""

    async def flushing_send(message: Message) -> None:
        if message["type"].startswith("lifespan.shutdown."):
            # Nothing else runs on the loop any more, and trio has no thread for us.
            flush()
        await send(message)

    return flushing_send


def _headers(scope: Scope) -> dict[str, str]:
    """Read the headers; of several with one name those that may be lists are joined."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        found[key] = f"{found[key]},{text}" if key in found and key in {"baggage", "tracestate"} else text
    return found


def _route(scope: Scope) -> str | None:
    """Give the template of the path, where the framework has said which one answers."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else None


def _denial(denied: CallDenied | ApprovalPending) -> tuple[Message, Message]:
    """Make the answer for a denial: its text holds no values and no thresholds."""
    error = {"type": type(denied).__name__, "message": str(denied), "decision_id": denied.decision_id}
    body = json.dumps({"error": error}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    return (
        {"type": "http.response.start", "status": 403, "headers": headers},
        {"type": "http.response.body", "body": body},
    )
