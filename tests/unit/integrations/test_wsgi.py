"""The WSGI middleware by the protocol itself, between two validators of the standard library."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

import agentguard
from agentguard.integrations.wsgi import AgentGuardMiddleware
from agentguard.values import attributes as names
from tests.support.governed import Governed


@agentguard.tool(effect="read")
def look_up(n: int) -> bytes:
    """One piece of work."""
    return b"%d" % n


def environ(**more: str) -> dict[str, Any]:
    """The least environ."""
    given: dict[str, Any] = {"QUERY_STRING": "", **more}
    setup_testing_defaults(given)
    return given


def call(app: Any, given: dict[str, Any]) -> tuple[str, bytes]:
    """Call an application as a server does."""
    began: list[str] = []

    def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
        began.append(status)
        return lambda _: None

    body = app(given, start_response)
    try:
        return began[0] if began else "", b"".join(body)
    finally:
        if hasattr(body, "close"):
            body.close()


class Body:
    """A body with a close of its own, as PEP 3333 has it."""

    def __init__(self) -> None:
        self.is_closed = False
        self._count = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        self._count += 1
        if self._count > 3:
            raise StopIteration
        return look_up(self._count)

    def close(self) -> None:
        """Be closed."""
        self.is_closed = True


def piecewise(_: Any, start_response: Any) -> Body:
    """Answer piece by piece."""
    start_response("200 OK", [("content-type", "text/plain")])
    return Body()


def whole(_: Any, start_response: Any) -> list[bytes]:
    """Answer with a list."""
    start_response("200 OK", [("content-type", "text/plain")])
    return [look_up(7)]


@pytest.mark.parametrize(("app", "expected", "calls"), [(piecewise, b"123", 3), (whole, b"7", 1)])
def test_both_sides_keep_to_the_protocol(governed: Governed, app: Any, expected: bytes, calls: int) -> None:
    """A validator before it and one behind it find nothing; all calls are of the request."""
    governed.start()
    guarded = validator(AgentGuardMiddleware(validator(app)))
    assert call(guarded, environ(REQUEST_METHOD="GET")) == ("200 OK", expected)
    request, *tools = governed.spans()
    assert (request.name, request.attributes[names.HTTP_STATUS_CODE]) == ("GET", 200)
    assert len(tools) == calls
    assert {tool.parent_span_id for tool in tools} == {request.span_id}


def test_a_list_stays_a_list(governed: Governed) -> None:
    """Servers look at its length."""
    governed.start()
    body = AgentGuardMiddleware(whole)(environ(), lambda *_: None)
    assert isinstance(body, list)


def test_the_applications_body_is_closed(governed: Governed) -> None:
    """Closing before the end closes it, and the span says so."""
    governed.start()
    bodies: list[Body] = []

    def app(given: Any, start_response: Any) -> Body:
        bodies.append(piecewise(given, start_response))
        return bodies[0]

    body = AgentGuardMiddleware(app)(environ(), lambda *_: None)
    next(iter(body))
    body.close()  # type: ignore[attr-defined]
    assert bodies[0].is_closed
    request = next(span for span in governed.spans() if span.kind == "request")
    assert request.attributes[names.STREAM_OUTCOME] == "abandoned"


def test_another_thread_may_send_the_body(governed: Governed) -> None:
    """A server may hand the body to another thread: the request goes with it, nothing stays behind."""
    governed.start()
    body = AgentGuardMiddleware(piecewise)(environ(), lambda *_: None)
    assert agentguard.current() is None
    sent: list[bytes] = []
    thread = threading.Thread(target=lambda: sent.extend(body))
    thread.start()
    thread.join()
    assert sent == [b"1", b"2", b"3"]
    request, *tools = governed.spans()
    assert {tool.parent_span_id for tool in tools} == {request.span_id}


def test_an_application_that_fails(governed: Governed) -> None:
    """Its exception is the server's to see."""
    governed.start()

    def app(_: Any, __: Any) -> Any:
        raise LookupError("secret")

    with pytest.raises(LookupError):
        call(AgentGuardMiddleware(app), environ())
    assert governed.only().attributes[names.ERROR_TYPE] == "LookupError"
    assert agentguard.current() is None


@pytest.mark.parametrize(
    "header",
    [
        {"HTTP_TRACEPARENT": "nonsense"},
        {"HTTP_X_CONVERSATION_ID": "a" * 1000},
        {"HTTP_BAGGAGE": "=,;\xff"},
    ],
)
def test_what_comes_from_outside_breaks_nothing(governed: Governed, header: dict[str, str]) -> None:
    """Malformed headers are as if they were not there."""
    governed.start()
    assert call(AgentGuardMiddleware(whole), environ(**header))[1] == b"7"
    request = governed.spans()[0]
    assert request.parent_span_id == ""
    assert names.CONVERSATION_ID not in request.attributes


def test_a_body_that_nobody_closes(governed: Governed) -> None:
    """A server that forgets `close` loses no record: the request ends when the body is gone, as abandoned."""
    governed.start()

    def application(_environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return iter([b"a", b"b"])

    body = AgentGuardMiddleware(application)(environ(), lambda *_: None)
    next(iter(body))
    del body
    assert governed.only().attributes[names.STREAM_OUTCOME] == "abandoned"
