"""Tokens are read from what LangChain returns, without importing it: messages, streams, tool calls."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.tools import tool as langchain_tool

import agentguard
from agentguard.runtime.active import ACTIVE
from agentguard.runtime.core import Runtime
from agentguard.values import SpanRecord

USAGE = {
    "input_tokens": 12,
    "output_tokens": 3,
    "total_tokens": 15,
    "input_token_details": {"cache_read": 5},
    "output_token_details": {"reasoning": 2},
}


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    """A runtime with a store of the test."""
    made = agentguard.init(store=tmp_path / "store", strict=True, drift_interval_s=0)
    assert made is not None
    yield made
    agentguard.shutdown()
    ACTIVE.runtime = None


def only(runtime: Runtime, kind: str) -> SpanRecord:
    """The one span of a kind."""
    runtime.flush(5)
    [span] = runtime.store.query().spans(kind=kind)
    return span


def answer() -> AIMessage:
    """A message as a provider's integration fills it."""
    return AIMessage(
        content="hello",
        id="run-1",
        usage_metadata=USAGE,  # type: ignore[arg-type]
        response_metadata={"model_name": "gpt-5", "finish_reason": "stop"},
    )


def test_message_of_a_chat_model(runtime: Runtime) -> None:
    """A real chat model class answers; input, output, cache and reasoning tokens are on the span."""
    chat = GenericFakeChatModel(messages=iter([answer()]))

    @agentguard.model(provider="openai", model="gpt-5")
    def ask(question: str) -> Any:
        return chat.invoke(question)

    assert ask("hi").content == "hello"
    found = only(runtime, "model").attributes
    assert found["gen_ai.usage.input_tokens"] == 12
    assert found["gen_ai.usage.output_tokens"] == 3
    assert found["gen_ai.usage.cache_read.input_tokens"] == 5
    assert found["gen_ai.usage.reasoning.output_tokens"] == 2
    assert found["gen_ai.response.model"] == "gpt-5"
    assert found["gen_ai.response.finish_reasons"] == ("stop",)


def test_chunks_of_a_stream_add_up(runtime: Runtime) -> None:
    """The chunks of one answer are summed, and the first with content is timed."""

    @agentguard.model(provider="openai", model="gpt-5")
    def stream() -> Iterator[AIMessageChunk]:
        yield AIMessageChunk(
            content="", usage_metadata={"input_tokens": 12, "output_tokens": 0, "total_tokens": 12}
        )
        yield AIMessageChunk(content="hel")
        yield AIMessageChunk(
            content="lo", usage_metadata={"input_tokens": 0, "output_tokens": 3, "total_tokens": 3}
        )

    assert "".join(str(chunk.content) for chunk in stream()) == "hello"
    found = only(runtime, "model").attributes
    assert (found["gen_ai.usage.input_tokens"], found["gen_ai.usage.output_tokens"]) == (12, 3)
    assert "gen_ai.response.time_to_first_chunk" in found


def test_decorated_function_is_a_langchain_tool(runtime: Runtime) -> None:
    """LangChain builds its schema from a guarded function as from the bare one."""

    @langchain_tool
    @agentguard.tool(effect="read")
    def look_up(order: str, count: int = 1) -> str:
        """Look an order up."""
        return f"{order} x {count}"

    assert look_up.args == {
        "order": {"title": "Order", "type": "string"},
        "count": {"default": 1, "title": "Count", "type": "integer"},
    }
    assert look_up.invoke({"order": "A-1"}) == "A-1 x 1"
    assert only(runtime, "tool").name == "execute_tool look_up"
