"""The one-liners for tenacity, stamina, httpx and httpx2, with the real libraries against a server on loopback."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Iterator
from typing import Any

import pytest

import agentguard
from agentguard.integrations.retries import async_http_hooks, http_hooks, stamina_hook, tenacity_hook
from agentguard.values import SpanRecord
from agentguard.values import attributes as names
from tests.support.governed import Governed
from tests.support.wire import WireServer

tenacity = pytest.importorskip("tenacity")
stamina = pytest.importorskip("stamina")
HTTP = ["httpx", "httpx2"]


def retries(span: SpanRecord) -> list[dict[str, Any]]:
    """What the span says of its retries."""
    return [dict(event.attributes) for event in span.events if event.name == names.EVENT_RETRY]


@pytest.fixture(autouse=True)
def stamina_hooks() -> Iterator[None]:
    """Install the hook of stamina as its users do, and take it out again."""
    before = stamina.instrumentation.get_on_retry_hooks()
    stamina.instrumentation.set_on_retry_hooks([*before, stamina_hook])
    yield
    stamina.instrumentation.set_on_retry_hooks(before)


def test_tenacity(governed: Governed) -> None:
    """Attempts, causes and waits; sync."""
    governed.start()
    attempts = iter([TimeoutError("a"), ConnectionError("b"), None])

    @agentguard.tool
    @tenacity.retry(wait=tenacity.wait_fixed(0.01), before_sleep=tenacity_hook)
    def flaky() -> str:
        error = next(attempts)
        if error is not None:
            raise error
        return "ok"

    assert flaky() == "ok"
    span = governed.only()
    assert span.attributes[names.ATTEMPTS] == 3
    assert [(r[names.RETRY_ATTEMPT], r[names.ERROR_TYPE], r[names.RETRY_SOURCE]) for r in retries(span)] == [
        (1, "TimeoutError", "tenacity"),
        (2, "ConnectionError", "tenacity"),
    ]
    assert all(r[names.RETRY_BACKOFF_S] == 0.01 for r in retries(span))


def test_tenacity_async(governed: Governed) -> None:
    """The same for coroutines."""
    governed.start()
    attempts = iter([TimeoutError("a"), None])

    @agentguard.tool
    @tenacity.retry(wait=tenacity.wait_fixed(0.01), before_sleep=tenacity_hook)
    async def flaky() -> str:
        error = next(attempts)
        if error is not None:
            raise error
        return "ok"

    assert asyncio.run(flaky()) == "ok"
    assert [r[names.ERROR_TYPE] for r in retries(governed.only())] == ["TimeoutError"]


def test_stamina(governed: Governed) -> None:
    """Through its instrumentation, beside the hooks that are there."""
    governed.start()
    attempts = iter([TimeoutError("a"), TimeoutError("b"), None])

    @agentguard.tool
    @stamina.retry(on=TimeoutError, attempts=3, wait_initial=0.01, wait_max=0.02)
    def flaky() -> str:
        error = next(attempts)
        if error is not None:
            raise error
        return "ok"

    assert flaky() == "ok"
    found = retries(governed.only())
    assert [(r[names.RETRY_ATTEMPT], r[names.ERROR_TYPE], r[names.RETRY_SOURCE]) for r in found] == [
        (1, "TimeoutError", "stamina"),
        (2, "TimeoutError", "stamina"),
    ]


def test_giving_up(governed: Governed) -> None:
    """The last failure is the error of the call, not one more retry; it stays the library's exception."""
    governed.start()

    @agentguard.tool
    @tenacity.retry(stop=tenacity.stop_after_attempt(3), before_sleep=tenacity_hook, reraise=True)
    def broken() -> None:
        raise TimeoutError("secret")

    with pytest.raises(TimeoutError):
        broken()
    span = governed.only()
    assert (span.attributes[names.ATTEMPTS], span.attributes[names.ERROR_TYPE]) == (3, "TimeoutError")
    assert "secret" not in str(span)


@pytest.mark.parametrize("library", HTTP)
def test_http_client(governed: Governed, wire: WireServer, library: str) -> None:
    """A request that is sent again after a 503: status and wait, for both generations of the client."""
    governed.start()
    http = importlib.import_module(library)
    with http.Client(event_hooks=http_hooks().as_event_hooks(), trust_env=False) as client:

        @agentguard.tool
        def ask() -> int:
            while (answer := client.post(f"{wire.url}/x", json={})).status_code != 200:
                pass
            return answer.status_code

        wire.refuse(503, 429)
        assert ask() == 200
    assert [r[names.HTTP_STATUS_CODE] for r in retries(governed.only())] == [503, 429]


@pytest.mark.parametrize("library", HTTP)
def test_async_http_client(governed: Governed, wire: WireServer, library: str) -> None:
    """The same, async."""
    governed.start()
    http = importlib.import_module(library)

    async def scene() -> None:
        hooks = async_http_hooks().as_event_hooks()
        async with http.AsyncClient(event_hooks=hooks, trust_env=False) as client:

            @agentguard.tool
            async def ask() -> None:
                while (await client.post(f"{wire.url}/x", json={})).status_code != 200:
                    pass

            wire.refuse(503)
            await ask()

    asyncio.run(scene())
    assert [r[names.HTTP_STATUS_CODE] for r in retries(governed.only())] == [503]


@pytest.mark.parametrize("library", HTTP)
def test_wrap_of_a_client_that_is_there(governed: Governed, wire: WireServer, library: str) -> None:
    """`agentguard.wrap` adds the hooks beside those of the application, once."""
    governed.start()
    http = importlib.import_module(library)
    seen: list[int] = []
    hooks = {"response": [lambda response: seen.append(response.status_code)]}
    with http.Client(event_hooks=hooks, trust_env=False) as client:
        assert agentguard.wrap(agentguard.wrap(client)) is client

        @agentguard.tool
        def ask() -> None:
            while client.post(f"{wire.url}/x", json={}).status_code != 200:
                pass

        wire.refuse(503)
        ask()
    assert seen == [503, 200]
    assert len(retries(governed.only())) == 1


def test_two_requests_are_no_retry(governed: Governed, wire: WireServer) -> None:
    """Two successful requests to one address are two requests."""
    governed.start()
    http = importlib.import_module("httpx2")
    with http.Client(event_hooks=http_hooks().as_event_hooks(), trust_env=False) as client:

        @agentguard.tool
        def ask() -> None:
            for _ in range(2):
                client.post(f"{wire.url}/x", json={})

        ask()
    assert retries(governed.only()) == []


def test_outside_any_call_nothing_happens(wire: WireServer) -> None:
    """Hooks without a span do nothing, and break nothing."""
    http = importlib.import_module("httpx2")
    with http.Client(event_hooks=http_hooks().as_event_hooks(), trust_env=False) as client:
        wire.refuse(503)
        assert client.post(f"{wire.url}/x").status_code == 503
