"""The ASGI middleware by the protocol itself: what no server of a test shows."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

import agentguard
from agentguard.integrations.asgi import AgentGuardMiddleware
from agentguard.values import attributes as names
from tests.support.governed import Governed


def scope(kind: str = "http", **more: Any) -> dict[str, Any]:
    """The least scope."""
    return {"type": kind, "path": "/a", "method": "GET", "headers": [], **more}


def call(app: Any, given: dict[str, Any]) -> list[dict[str, Any]]:
    """Call an application; gives what it sent."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(given, receive, send))
    return sent


async def fine(scope: Any, receive: Any, send: Any) -> None:
    """Answer."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"a", "more_body": True})
    await send({"type": "http.response.body", "body": b"b"})


async def silent(scope: Any, receive: Any, send: Any) -> None:
    """Answer nothing, as for a lifespan or a caller that is gone."""


def test_messages_pass_unchanged(governed: Governed) -> None:
    """Every message goes on as the application made it."""
    governed.start()
    assert [m["type"] for m in call(AgentGuardMiddleware(fine), scope())] == [
        "http.response.start",
        "http.response.body",
        "http.response.body",
    ]
    assert governed.only().attributes[names.HTTP_STATUS_CODE] == 200


def test_lifespan_is_left_alone(governed: Governed) -> None:
    """Only requests are runs."""
    governed.start()
    call(AgentGuardMiddleware(silent), {"type": "lifespan"})
    assert governed.spans() == []


def test_shutdown_flushes(governed: Governed, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is queued is on disk before the server hears that the application has shut down."""
    governed.start()
    order: list[str] = []
    monkeypatch.setattr("agentguard.integrations.asgi.flush", lambda: order.append("flush"))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "lifespan.startup.complete"})
        order.append("stopping")
        await send({"type": "lifespan.shutdown.complete"})

    sent = call(AgentGuardMiddleware(app), {"type": "lifespan"})
    assert [message["type"] for message in sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]
    assert order == ["stopping", "flush"]


def test_websockets_last_as_long_as_the_application(governed: Governed) -> None:
    """A connection is one run, and no abandoned answer."""
    governed.start()
    call(AgentGuardMiddleware(silent), scope("websocket"))
    span = governed.only()
    assert (span.name, span.status) == ("GET", "unset")


def test_websockets_have_a_route(governed: Governed) -> None:
    """The framework has said which one by the time the connection is over."""
    governed.start()

    async def routed(scope: Any, _receive: Any, _send: Any) -> None:
        scope["route"] = SimpleNamespace(path="/talk/{room}")

    call(AgentGuardMiddleware(routed), scope("websocket"))
    assert governed.only().name == "GET /talk/{room}"


def test_an_answer_that_never_came(governed: Governed) -> None:
    """The application returned without one: the caller was gone."""
    governed.start()
    call(AgentGuardMiddleware(silent), scope())
    assert governed.only().attributes[names.STREAM_OUTCOME] == "abandoned"


@pytest.mark.parametrize(
    "headers",
    [
        [(b"traceparent", b"nonsense")],
        [(b"traceparent", b"00-00000000000000000000000000000000-0000000000000000-00")],
        [(b"traceparent", b"\xff\xfe"), (b"baggage", b"=,;\xff"), (b"tracestate", b"a=b,,,")],
        [(b"x-conversation-id", b"a" * 10_000)],
        [(b"x-conversation-id", b"\x1b[31m")],
        [(b"baggage", b"a=" + b"b" * 20_000)],
    ],
)
def test_what_comes_from_outside_breaks_nothing(governed: Governed, headers: Any) -> None:
    """Malformed headers are as if they were not there."""
    governed.start()
    assert len(call(AgentGuardMiddleware(fine), scope(headers=headers))) == 3
    span = governed.only()
    assert span.parent_span_id == ""
    assert names.CONVERSATION_ID not in span.attributes


def test_unknown_methods_have_one_name(governed: Governed) -> None:
    """Callers cannot make names of spans."""
    governed.start()
    call(AgentGuardMiddleware(fine), scope(method="<script>"))
    assert governed.only().name == "HTTP"


def test_facts_that_cannot_be_known_stop_the_request(governed: Governed) -> None:
    """Policy must not judge an unknown person as nobody."""
    governed.start()

    def facts(_: Any) -> dict[str, str]:
        raise LookupError("no user")

    with pytest.raises(LookupError):
        call(AgentGuardMiddleware(fine, facts=facts), scope())


def test_the_context_is_restored(governed: Governed) -> None:
    """After the request no run is current."""
    governed.start()

    async def failing(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("x")

    with pytest.raises(RuntimeError):
        call(AgentGuardMiddleware(failing), scope())
    assert agentguard.current() is None


def test_skip_is_by_path_segments(governed: Governed) -> None:
    """`/health` skips what is below it, not what begins like it."""
    governed.start()
    app = AgentGuardMiddleware(fine, skip=["/health"])
    for path in ("/health", "/health/live", "/healthy"):
        call(app, scope(path=path))
    assert len(governed.spans()) == 1
