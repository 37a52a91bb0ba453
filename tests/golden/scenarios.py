"""
Every operation in every way it can end, through the decorators, as an application would.

What the calls do is fixed; what differs from run to run (ids, times, versions) is
left to the generator, which replaces it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import agentguard
from agentguard.errors import CallDenied

POLICY = """\
apiVersion: agentguard/v1
kind: Policy
metadata: {name: golden, version: 1.0.0, title: What denies the calls named so, owner: owner@corp.example}
scope: {agents: ["*"], environments: ["*"]}
defaults: {unmatched: allow, mode: enforce, timezone: UTC}
rules:
  - id: GLD-001
    title: No tool of this name
    at: tool.before
    when: "tool.name == 'denied'"
    then: deny
    message: { agent: "Not this one." }
  - id: GLD-002
    title: No model of this name
    at: model.before
    when: "model.name == 'denied'"
    then: deny
    message: { agent: "Not this one." }
  - id: GLD-003
    title: No agent of this name
    at: agent.before
    when: "agent.name == 'denied'"
    then: deny
    message: { agent: "Not this one." }
"""

CHAT = {
    "id": "chatcmpl-1",
    "model": "gpt-5-2025-08-07",
    "choices": [{"finish_reason": "stop"}],
    "usage": {
        "prompt_tokens": 1200,
        "completion_tokens": 90,
        "prompt_tokens_details": {"cached_tokens": 1000, "cache_write_tokens": 40},
        "completion_tokens_details": {"reasoning_tokens": 30},
    },
}
EMBEDDINGS = {"model": "text-embedding-3-small", "usage": {"prompt_tokens": 8, "total_tokens": 8}}
CHUNKS = [
    {"id": "chatcmpl-2", "model": "gpt-5-2025-08-07", "choices": [{"delta": {"content": "Pa"}}]},
    {"id": "chatcmpl-2", "model": "gpt-5-2025-08-07", "choices": [{"delta": {"content": "ris"}, "finish_reason": "stop"}]},
    {"id": "chatcmpl-2", "model": "gpt-5-2025-08-07", "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}},
]  # fmt: skip

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

RESULTS: dict[str, Any] = {"chat": CHAT, "embeddings": EMBEDDINGS}
ITEMS: dict[str, list[Any]] = {"chat": CHUNKS}


def decorator(operation: str, name: str) -> Decorator:
    """The decorator of an operation; the name is the model's for model calls."""
    if operation == "chat":
        return agentguard.model(model=name, provider="openai")
    if operation == "embeddings":
        return agentguard.model(model=name, provider="openai", operation="embeddings")
    if operation == "plan":
        return agentguard.guard(kind="plan", name=name)
    by_name: dict[str, Callable[..., Any]] = {
        "invoke_agent": agentguard.agent,
        "invoke_workflow": agentguard.workflow,
        "execute_tool": agentguard.tool,
        "retrieval": agentguard.retriever,
    }
    return by_name[operation](name=name)  # type: ignore[no-any-return]


OPERATIONS = ("chat", "embeddings", "invoke_agent", "invoke_workflow", "execute_tool", "retrieval", "plan")


def name_of(operation: str) -> str:
    """What is called where nothing is said of it."""
    return {"chat": "gpt-5", "embeddings": "text-embedding-3-small"}.get(operation, "billing")


def ok(operation: str) -> None:
    """Return."""
    decorator(operation, name_of(operation))(lambda: RESULTS.get(operation, "done"))()


def error(operation: str) -> None:
    """Raise."""

    def fail() -> None:
        raise ValueError("the card 4111 1111 1111 1111 was refused")

    with contextlib.suppress(ValueError):
        decorator(operation, name_of(operation))(fail)()


def cancelled(operation: str) -> None:
    """Be cancelled from outside."""

    @decorator(operation, name_of(operation))
    async def wait() -> None:
        await asyncio.sleep(60)

    async def cancel() -> None:
        task = asyncio.create_task(wait())
        await asyncio.sleep(0.01)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(cancel())


def _items(operation: str) -> Callable[[], Iterator[Any]]:
    def give() -> Iterator[Any]:
        yield from ITEMS.get(operation, ["a", "b"])

    return decorator(operation, name_of(operation))(give)


def abandoned(operation: str) -> None:
    """Be left after the first item."""
    items = _items(operation)()
    next(items)
    items.close()  # type: ignore[attr-defined] # a generator


def streamed(operation: str) -> None:
    """Be read to the end."""
    assert list(_items(operation)())


def denied(operation: str) -> None:
    """Be stopped by policy."""
    with contextlib.suppress(CallDenied):
        decorator(operation, "denied")(lambda: "never")()


def retried(operation: str) -> None:
    """Answer at the third attempt; a model's first answer is billed too."""

    def call() -> Any:
        if operation == "chat":
            agentguard.record_usage({**CHAT, "id": "chatcmpl-0"})
        agentguard.record_retry(1, "429", 0.5, source="sdk", status_code=429)
        agentguard.record_retry(2, TimeoutError("slow"), 1.0, source="sdk")
        return RESULTS.get(operation, "done")

    decorator(operation, name_of(operation))(call)()


WAYS: dict[str, Callable[[str], None]] = {
    "ok": ok,
    "error": error,
    "cancelled": cancelled,
    "abandoned": abandoned,
    "denied": denied,
    "retried": retried,
    "streamed": streamed,
}


def nested() -> None:
    """A workflow of an agent that plans, asks a model, looks something up and uses a tool."""

    @agentguard.tool(name="refund", effect="write", description="Pays back.")
    def refund(order_id: str) -> str:
        return order_id

    @agentguard.retriever(name="orders")
    def orders(query: str) -> str:
        return query

    @agentguard.model(provider="openai")
    def ask(model: str) -> Any:
        assert model
        return CHAT

    @agentguard.agent(name="billing", version="3", description="Pays back what was paid.")
    def billing() -> str:
        with agentguard.span("billing", kind="plan"):
            ask(model="gpt-5")
        orders("late")
        ask(model="unpriced-model")
        return refund("o-17")

    @agentguard.workflow(name="desk")
    def desk() -> str:
        return billing()

    with agentguard.run(conversation_id="c-1", principal="ann", labels={"team": "desk"}):
        desk()
