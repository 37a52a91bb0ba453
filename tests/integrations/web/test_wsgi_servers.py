"""The WSGI middleware under Flask, on Werkzeug's server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry import baggage

import agentguard
from agentguard.integrations.wsgi import AgentGuardMiddleware
from agentguard.values import attributes as names
from tests.support.governed import Governed

httpx2 = pytest.importorskip("httpx2")
flask = pytest.importorskip("flask")

Serve = Callable[[Any], str]
TRACE = "0af7651916cd43dd8448eb211c80319c"
HEADERS = {
    "traceparent": f"00-{TRACE}-b7ad6b7169203331-01",
    "baggage": "tenant=acme",
    "x-conversation-id": "conv-7",
}
NO_REFUND = """
- id: REF-001
  title: No refunds for guests
  at: tool.before
  when: tool.name == 'refund' && principal.id == 'guest'
  then: deny
"""


@agentguard.tool(effect="write")
def refund(order: str) -> str:
    """Pay money back."""
    return f"refunded {order}"


def get(url: str, **options: Any) -> Any:
    """Ask without a proxy."""
    with httpx2.Client(trust_env=False, timeout=20) as client:
        return client.get(url, **options)


def application(**options: Any) -> Any:
    """A Flask application."""
    app = flask.Flask(__name__)
    app.wsgi_app = AgentGuardMiddleware(app.wsgi_app, **options)

    @app.get("/refunds/<order>")
    def refunds(order: str) -> Any:
        return {"said": refund(order), "tenant": baggage.get_baggage("tenant")}

    @app.get("/stream")
    def stream() -> Any:
        def pieces() -> Iterator[str]:
            for n in range(4):
                yield refund(str(n))
                time.sleep(0.02)

        return flask.Response(flask.stream_with_context(pieces()))

    @app.get("/broken-stream")
    def broken_stream() -> Any:
        def pieces() -> Iterator[str]:
            yield "a"
            raise ValueError("secret")

        return flask.Response(pieces())

    @app.get("/broken")
    def broken() -> Any:
        raise ValueError("secret")

    return app


def test_a_request_is_a_run(governed: Governed, serve_wsgi: Serve) -> None:
    """The caller's trace, the route, the conversation."""
    governed.start()
    url = serve_wsgi(application(facts=lambda environ: {"principal": environ["REMOTE_ADDR"]}))
    answer = get(f"{url}/refunds/A-1", headers=HEADERS)
    assert answer.json() == {"said": "refunded A-1", "tenant": "acme"}
    request, tool = governed.spans()
    assert request.name == "GET /refunds/<order>"
    assert (request.trace_id, request.parent_span_id) == (TRACE, "b7ad6b7169203331")
    assert (tool.trace_id, tool.parent_span_id) == (TRACE, request.span_id)
    assert tool.attributes[names.CONVERSATION_ID] == "conv-7"
    assert request.attributes[names.HTTP_STATUS_CODE] == 200


def test_streaming_bodies_keep_the_span(governed: Governed, serve_wsgi: Serve) -> None:
    """Calls made while the body is produced are of the request, which lasts as long as the body."""
    governed.start()
    url = serve_wsgi(application())
    assert get(f"{url}/stream").text == "".join(f"refunded {n}" for n in range(4))
    request, *tools = governed.spans()
    assert {tool.parent_span_id for tool in tools} == {request.span_id}
    assert len(tools) == 4
    assert request.duration_ns >= 60_000_000


def test_a_stream_that_the_caller_leaves(governed: Governed, serve_wsgi: Serve) -> None:
    """The server closes the body: the span says that it did not go out to its end."""
    governed.start()
    url = serve_wsgi(application())
    with (
        httpx2.Client(trust_env=False, timeout=20) as client,
        client.stream("GET", f"{url}/stream") as answer,
    ):
        next(answer.iter_bytes())
    for _ in range(200):
        requests = [span for span in governed.spans() if span.kind == "request"]
        if requests:
            break
        time.sleep(0.02)
    assert requests[0].attributes[names.STREAM_OUTCOME] == "abandoned"


def test_errors_stay_the_applications(governed: Governed, serve_wsgi: Serve) -> None:
    """Flask answers its exceptions; one in the middle of a body is on the span."""
    governed.start()
    url = serve_wsgi(application())
    assert get(f"{url}/broken").status_code == 500
    with pytest.raises(httpx2.HTTPError):
        get(f"{url}/broken-stream")
    broken, streamed = governed.spans()
    assert (broken.status, broken.attributes[names.ERROR_TYPE]) == ("error", "500")
    assert (streamed.status, streamed.attributes[names.ERROR_TYPE]) == ("error", "ValueError")
    assert "secret" not in str(dict(streamed.attributes)) + streamed.status_description


def test_denials_are_answered(governed: Governed, serve_wsgi: Serve) -> None:
    """Where Flask lets the exception through, the caller is told why."""
    governed.start(NO_REFUND)
    app = application(facts=lambda _: {"principal": "guest"}, answer_denials=True)
    app.config["PROPAGATE_EXCEPTIONS"] = True
    answer = get(f"{serve_wsgi(app)}/refunds/A-1")
    assert answer.status_code == 403
    assert answer.json()["error"]["message"].startswith("Denied by policy REF-001")


def test_requests_at_once_do_not_mix(governed: Governed, serve_wsgi: Serve) -> None:
    """Each of many concurrent requests has its own run, and leaves nothing in its thread."""
    governed.start()
    url = serve_wsgi(application())

    def ask(n: int) -> None:
        get(f"{url}/refunds/{n}", headers={"x-conversation-id": f"c{n}"})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(40)))
    spans = governed.spans()
    requests = {span.span_id for span in spans if span.kind == "request"}
    tools = [span for span in spans if span.kind == "tool"]
    assert {tool.parent_span_id for tool in tools} == requests
    assert len(requests) == len({tool.attributes[names.RUN_ID] for tool in tools}) == 40
