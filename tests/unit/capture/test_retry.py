"""Retries are seen: in the HTTP clients of real SDKs, and in retry libraries."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace as Object
from typing import Any

import pytest
from opentelemetry import context as otel_context

from agentguard.capture import (
    CaptureEnvironment,
    RandomIds,
    Span,
    async_http_hooks,
    context_with,
    http_hooks,
    stamina_hook,
    tenacity_hook,
)
from tests.support.clock import FrozenClock

ANSWER = {
    "id": "c1", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}  # fmt: skip


@pytest.fixture
def span(clock: FrozenClock, on_internal_error: Any) -> Iterator[Span]:
    """A span that is current."""
    environment = CaptureEnvironment(
        clock=clock, ids=RandomIds(), sink=lambda _span: None, on_internal_error=on_internal_error
    )
    span = Span(environment, "chat m", "model")
    token = otel_context.attach(context_with(span))
    yield span
    otel_context.detach(token)
    span.end()


@pytest.fixture
def server() -> Iterator[tuple[str, list[int]]]:
    """A server on loopback that answers with the statuses of a list, then with 200."""
    statuses: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            status = statuses.pop(0) if statuses else 200
            body = json.dumps(ANSWER if status == 200 else {"error": {"message": "no"}}).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.send_header("retry-after-ms", "1")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}/v1", statuses
        running.shutdown()
        thread.join()


def ask(base_url: str) -> Any:
    """One chat completion by the real client with our hooks."""
    openai = pytest.importorskip("openai")
    httpx2 = pytest.importorskip("httpx2")
    with (
        httpx2.Client(event_hooks=http_hooks().as_event_hooks()) as http,
        openai.OpenAI(api_key="k", base_url=base_url, http_client=http, max_retries=3) as client,
    ):
        return client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])


def test_openai_429_then_200(span: Span, server: tuple[str, list[int]]) -> None:
    """The real SDK retries by itself; the span has one retry with its status."""
    base_url, statuses = server
    statuses.append(429)
    span.record_usage(ask(base_url))
    assert span.retries == 1
    assert span.attributes["http.request.resend_count"] == 1
    assert span.attributes["gen_ai.usage.input_tokens"] == 3
    (event,) = span.record().events
    assert event.name == "agentguard.retry"
    assert event.attributes["http.response.status_code"] == 429
    assert event.attributes["agentguard.retry.source"] == "sdk"
    assert event.attributes["agentguard.retry.attempt"] == 1


def test_openai_several_and_none(span: Span, server: tuple[str, list[int]]) -> None:
    """Three failures make three retries; a second call without one adds none."""
    base_url, statuses = server
    statuses.extend([500, 429, 503])
    ask(base_url)
    assert span.retries == 3
    ask(base_url)
    assert span.retries == 3
    assert [event.attributes["http.response.status_code"] for event in span.record().events] == [
        500,
        429,
        503,
    ]


def test_async_openai(span: Span, server: tuple[str, list[int]]) -> None:
    """The same through the asynchronous client."""
    openai = pytest.importorskip("openai")
    httpx2 = pytest.importorskip("httpx2")
    base_url, statuses = server
    statuses.extend([429, 429])

    async def main() -> None:
        async with (
            httpx2.AsyncClient(event_hooks=async_http_hooks().as_event_hooks()) as http,
            openai.AsyncOpenAI(api_key="k", base_url=base_url, http_client=http, max_retries=3) as client,
        ):
            await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])

    asyncio.run(main())
    assert span.retries == 2


def test_anthropic(span: Span, server: tuple[str, list[int]]) -> None:
    """Anthropic's SDK counts in the same header."""
    anthropic = pytest.importorskip("anthropic")
    httpx2 = pytest.importorskip("httpx2")
    base_url, statuses = server
    statuses.append(529)
    hooks = http_hooks().as_event_hooks()
    with (
        httpx2.Client(event_hooks=hooks) as http,
        anthropic.Anthropic(api_key="k", base_url=base_url, http_client=http, max_retries=2) as client,
    ):
        client.messages.create(model="m", max_tokens=5, messages=[{"role": "user", "content": "Hi"}])
    assert span.retries == 1


def request(url: str = "http://h/x", **headers: str) -> Object:
    """A request as httpx hands it to a hook."""
    return Object(method="POST", url=url, headers=headers)


def test_a_client_that_does_not_count(span: Span, clock: FrozenClock) -> None:
    """A failed response and then the same target again is a retry; another target is not."""
    hooks = http_hooks()
    hooks.request(request())
    hooks.response(Object(status_code=503, request=request()))
    clock.advance(2)
    hooks.request(request("http://h/other"))
    assert span.retries == 0
    hooks.request(request())
    assert span.retries == 1
    (event,) = span.record().events
    assert event.attributes["agentguard.retry.backoff_s"] == 2.0
    hooks.response(Object(status_code=200, request=request()))
    hooks.request(request())
    assert span.retries == 1


@pytest.mark.parametrize("count", ["0", "", "-1", "x", "99999", "²"])
def test_headers_that_say_nothing(span: Span, count: str) -> None:
    """A first attempt, and counts that are no counts, are no retry."""
    http_hooks().request(request(**{"x-stainless-retry-count": count}))
    assert span.retries == 0


def test_objects_of_unknown_shape(clock: FrozenClock) -> None:
    """A hook never stops a request; the error goes to our own counters."""
    seen: list[str] = []
    environment = CaptureEnvironment(
        clock=clock,
        ids=RandomIds(),
        sink=lambda _s: None,
        on_internal_error=lambda where, _e: seen.append(where),
    )
    span = Span(environment, "x", "model")
    hooks = http_hooks(lambda: span)
    hooks.request(5)
    hooks.response(5)
    token = otel_context.attach(context_with(span))
    tenacity_hook(5)
    stamina_hook(5)
    otel_context.detach(token)
    assert seen == ["capture.retry"] * 4


def test_without_a_span_hooks_do_nothing() -> None:
    """Outside of any call there is nothing to record on."""
    http_hooks().request(request(**{"x-stainless-retry-count": "2"}))
    http_hooks().response(Object(status_code=500, request=request()))
    tenacity_hook(Object())
    stamina_hook(Object())


def test_tenacity_state(span: Span) -> None:
    """A state as tenacity hands it to before_sleep."""
    outcome: Future[None] = Future()
    outcome.set_exception(TimeoutError("secret"))
    tenacity_hook(
        Object(
            attempt_number=2,
            outcome=Object(failed=True, exception=outcome.exception),
            next_action=Object(sleep=1.5),
        )
    )
    (event,) = span.record().events
    assert event.attributes == {
        "agentguard.retry.attempt": 2,
        "agentguard.retry.source": "tenacity",
        "error.type": "TimeoutError",
        "agentguard.retry.backoff_s": 1.5,
    }


def test_real_tenacity(span: Span) -> None:
    """The library itself, where it is installed."""
    tenacity = pytest.importorskip("tenacity")
    attempts = iter([ValueError("a"), ValueError("b"), None])

    @tenacity.retry(before_sleep=tenacity_hook, wait=tenacity.wait_none())  # type: ignore[untyped-decorator]
    def work() -> None:
        error = next(attempts)
        if error is not None:
            raise error

    work()
    assert span.retries == 2


def test_stamina_details(span: Span) -> None:
    """Details as stamina hands them to its hooks."""
    stamina_hook(Object(retry_num=1, caused_by=ConnectionError("secret"), wait_for=0.1))
    (event,) = span.record().events
    assert event.attributes["agentguard.retry.source"] == "stamina"
    assert event.attributes["error.type"] == "ConnectionError"


def test_real_stamina(span: Span) -> None:
    """The library itself, where it is installed."""
    stamina = pytest.importorskip("stamina")
    hooks = stamina.instrumentation.get_on_retry_hooks()
    stamina.instrumentation.set_on_retry_hooks([*hooks, stamina_hook])
    attempts = iter([ValueError("a"), None])

    @stamina.retry(on=ValueError, attempts=3, wait_initial=0.001)  # type: ignore[untyped-decorator]
    def work() -> None:
        error = next(attempts)
        if error is not None:
            raise error

    try:
        work()
    finally:
        stamina.instrumentation.set_on_retry_hooks(hooks)
    assert span.retries == 1
