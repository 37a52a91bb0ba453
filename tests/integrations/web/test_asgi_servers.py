"""The ASGI middleware under Starlette and FastAPI, on uvicorn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry import baggage

import agentguard
from agentguard.integrations.asgi import AgentGuardMiddleware
from agentguard.values import attributes as names
from tests.support.governed import Governed

httpx2 = pytest.importorskip("httpx2")
pytest.importorskip("starlette")

from fastapi import BackgroundTasks, FastAPI  # noqa: E402
from starlette.applications import Starlette  # noqa: E402
from starlette.requests import Request  # noqa: E402
from starlette.responses import JSONResponse, StreamingResponse  # noqa: E402
from starlette.routing import Route  # noqa: E402

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
async def refund(order: str) -> str:
    """Pay money back."""
    await asyncio.sleep(0)
    return f"refunded {order}"


@agentguard.tool(effect="read")
def look_up(order: str) -> str:
    """Find an order, in a thread of the framework."""
    return f"order {order}"


def get(url: str, **options: Any) -> Any:
    """Ask without a proxy."""
    with httpx2.Client(trust_env=False, timeout=20) as client:
        return client.get(url, **options)


def application(**options: Any) -> Any:
    """A FastAPI application with everything that can go wrong."""
    app = FastAPI()
    app.add_middleware(AgentGuardMiddleware, **options)

    @app.get("/refunds/{order}")
    async def refunds(order: str) -> dict[str, object]:
        return {"said": await refund(order), "tenant": baggage.get_baggage("tenant")}

    @app.get("/orders/{order}")
    def orders(order: str) -> str:
        return look_up(order)

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def pieces() -> AsyncIterator[str]:
            for n in range(4):
                yield await refund(str(n))
                await asyncio.sleep(0.02)

        return StreamingResponse(pieces())

    @app.get("/later")
    async def later(tasks: BackgroundTasks) -> str:
        async def work() -> None:
            await asyncio.sleep(0.05)
            await refund("later")

        tasks.add_task(work)
        return "soon"

    @app.get("/broken")
    async def broken() -> None:
        raise ValueError("secret")

    @app.get("/health")
    async def health() -> str:
        return "ok"

    return app


def test_a_request_is_a_run(governed: Governed, serve_asgi: Serve) -> None:
    """The caller's trace, the route, the conversation, the principal: on the span and on what is called inside."""
    governed.start()
    url = serve_asgi(application(facts=lambda scope: {"principal": "ann", "labels": {"path": scope["path"]}}))
    answer = get(f"{url}/refunds/A-1", headers=HEADERS)
    assert answer.json() == {"said": "refunded A-1", "tenant": "acme"}
    request, tool = governed.spans()
    assert request.name == "GET /refunds/{order}"
    assert (request.trace_id, request.parent_span_id) == (TRACE, "b7ad6b7169203331")
    assert (tool.trace_id, tool.parent_span_id) == (TRACE, request.span_id)
    assert tool.attributes[names.CONVERSATION_ID] == "conv-7"
    assert tool.attributes["agentguard.label.path"] == "/refunds/A-1"
    assert request.attributes[names.HTTP_STATUS_CODE] == 200


def test_a_function_in_the_thread_pool(governed: Governed, serve_asgi: Serve) -> None:
    """A plain `def` route runs in a thread, and is still of its request."""
    governed.start()
    url = serve_asgi(application())
    assert get(f"{url}/orders/A-1").json() == "order A-1"
    request, tool = governed.spans()
    assert tool.parent_span_id == request.span_id


def test_streaming_bodies_keep_the_span(governed: Governed, serve_asgi: Serve) -> None:
    """Calls made while the body streams are of the request, which lasts as long as the body."""
    governed.start()
    url = serve_asgi(application())
    assert get(f"{url}/stream").text == "".join(f"refunded {n}" for n in range(4))
    request, *tools = governed.spans()
    assert {tool.parent_span_id for tool in tools} == {request.span_id}
    assert len(tools) == 4
    last = tools[-1]
    assert request.start_unix_ns + request.duration_ns >= last.start_unix_ns + last.duration_ns
    assert request.duration_ns >= 60_000_000


def test_a_stream_that_the_caller_leaves(governed: Governed, serve_asgi: Serve) -> None:
    """The span says that the answer did not go out to its end."""
    governed.start()
    url = serve_asgi(application())
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


def test_background_tasks_are_of_the_run(governed: Governed, serve_asgi: Serve) -> None:
    """They come after the answer: same trace and run, outside the time of the request."""
    governed.start()
    url = serve_asgi(application())
    get(f"{url}/later")
    for _ in range(200):
        spans = governed.spans()
        if len(spans) == 2:
            break
        time.sleep(0.02)
    request, tool = spans
    assert tool.parent_span_id == request.span_id
    assert request.duration_ns < 50_000_000 < tool.start_unix_ns - request.start_unix_ns


def test_errors_stay_the_applications(governed: Governed, serve_asgi: Serve) -> None:
    """An exception is the framework's to answer; a missing page is no error of ours."""
    governed.start()
    url = serve_asgi(application())
    assert get(f"{url}/broken").status_code == 500
    assert get(f"{url}/nowhere").status_code == 404
    broken, nowhere = governed.spans()
    assert (broken.status, broken.attributes[names.ERROR_TYPE]) == ("error", "ValueError")
    assert "secret" not in str(dict(broken.attributes)) + broken.status_description
    assert (nowhere.name, nowhere.status) == ("GET", "unset")


def test_skipped_paths(governed: Governed, serve_asgi: Serve) -> None:
    """Health checks leave no spans."""
    governed.start()
    url = serve_asgi(application(skip=["/health"]))
    assert get(f"{url}/health").json() == "ok"
    assert governed.spans() == []


def test_denials_are_answered(governed: Governed, serve_asgi: Serve) -> None:
    """With `answer_denials` the caller is told why; without it the framework decides."""
    governed.start(NO_REFUND)
    url = serve_asgi(application(facts=lambda _: {"principal": "guest"}, answer_denials=True))
    answer = get(f"{url}/refunds/A-1")
    assert answer.status_code == 403
    assert answer.json()["error"]["message"].startswith("Denied by policy REF-001")
    bare = serve_asgi(application(facts=lambda _: {"principal": "guest"}))
    assert get(f"{bare}/refunds/A-1").status_code == 500


def test_requests_at_once_do_not_mix(governed: Governed, serve_asgi: Serve) -> None:
    """Each of many concurrent requests has its own run."""
    governed.start()
    url = serve_asgi(application())

    def ask(n: int) -> None:
        get(f"{url}/refunds/{n}", headers={"x-conversation-id": f"c{n}"})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(40)))
    spans = governed.spans()
    requests = {s.span_id: s for s in spans if s.kind == "request"}
    tools = [s for s in spans if s.kind == "tool"]
    assert len(requests) == len(tools) == 40
    for tool in tools:
        parent = requests[tool.parent_span_id]
        assert tool.attributes[names.RUN_ID] == parent.attributes.get(
            names.RUN_ID, tool.attributes[names.RUN_ID]
        )
    assert len({tool.attributes[names.RUN_ID] for tool in tools}) == 40
    assert {tool.attributes[names.CONVERSATION_ID] for tool in tools} == {f"c{n}" for n in range(40)}


def test_starlette(governed: Governed, serve_asgi: Serve) -> None:
    """Plain Starlette, without FastAPI's additions."""
    governed.start()

    async def home(request: Request) -> JSONResponse:
        return JSONResponse({"said": await refund(request.path_params["order"])})

    app = Starlette(routes=[Route("/r/{order}", home)])
    app.add_middleware(AgentGuardMiddleware)
    url = serve_asgi(app)
    assert get(f"{url}/r/1").json() == {"said": "refunded 1"}
    request, tool = governed.spans()
    assert tool.parent_span_id == request.span_id
    assert request.name in {"GET", "GET /r/{order}"}


def test_before_init_nothing_is_in_the_way(serve_asgi: Serve) -> None:
    """Without a runtime the application answers as ever."""
    url = serve_asgi(application())
    assert get(f"{url}/orders/A-1").json() == "order A-1"
