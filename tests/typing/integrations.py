"""What the integrations mean to a type checker. Checked, never executed."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any, assert_type

from openai import AsyncOpenAI, OpenAI

import agentguard
from agentguard.integrations.asgi import AgentGuardMiddleware as ForAsgi
from agentguard.integrations.concurrency import Carried, ContextThreadPoolExecutor, carry, in_context, submit
from agentguard.integrations.retries import HttpHooks, http_hooks
from agentguard.integrations.wsgi import AgentGuardMiddleware as ForWsgi

assert_type(agentguard.wrap(OpenAI()), OpenAI)
assert_type(agentguard.wrap(AsyncOpenAI()), AsyncOpenAI)


def work(n: int, *, name: str = "") -> str:
    return name * n


with ContextThreadPoolExecutor(2) as threads, ProcessPoolExecutor() as processes:
    assert_type(threads.submit(work, 1, name="a"), Future[str])
    assert_type(submit(processes, work, 1, name="a"), Future[str])
assert_type(in_context(work)(1, name="a"), str)
assert_type(carry(), Carried)
assert_type(carry().call(work, 1), str)
assert_type(http_hooks(), HttpHooks)


def wsgi_app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [])
    return [b""]


async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})


ForWsgi(wsgi_app, skip=["/health"], facts=lambda environ: {"principal": environ["REMOTE_USER"]})
ForAsgi(asgi_app, conversation_header="x-thread", answer_denials=True)
