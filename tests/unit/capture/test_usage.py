"""Tokens are read from real responses, and from nothing else."""

from __future__ import annotations

import math
from types import SimpleNamespace as Object
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentguard.capture import extract_usage
from agentguard.values import Usage
from tests.support.look_alikes import as_objects

CHAT = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-5",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "x"}}],
    "usage": {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "total_tokens": 150,
        "prompt_tokens_details": {"cached_tokens": 40},
        "completion_tokens_details": {"reasoning_tokens": 20},
    },
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-x",
    "content": [],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 10,
        "output_tokens": 5,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 20,
    },
}


def placed(kind: type, module: str) -> type:
    """Pretend that a class comes from a package."""
    kind.__module__ = module
    return kind


def test_openai_chat_object() -> None:
    """A real ChatCompletion: input, output, cached, reasoning, model, id, reason."""
    types = pytest.importorskip("openai.types.chat")
    assert extract_usage(types.ChatCompletion.model_validate(CHAT)) == Usage(
        100, 50, 40, None, 20, "gpt-5", "c1", ("stop",), "openai"
    )


def test_openai_responses_object() -> None:
    """A real Response of the Responses API."""
    types = pytest.importorskip("openai.types.responses")
    response = types.Response.model_construct(
        id="resp_1",
        model="gpt-5",
        status="completed",
        usage=types.ResponseUsage.model_validate(
            {
                "input_tokens": 7,
                "output_tokens": 3,
                "total_tokens": 10,
                "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 1},
                "output_tokens_details": {"reasoning_tokens": 1},
            }
        ),
    )
    assert extract_usage(response) == Usage(7, 3, 2, 1, 1, "gpt-5", "resp_1", ("completed",), "openai")


def test_openai_embeddings_object() -> None:
    """Embeddings have input tokens only; output is unknown."""
    types = pytest.importorskip("openai.types")
    response = types.CreateEmbeddingResponse.model_validate(
        {"object": "list", "data": [], "model": "e", "usage": {"prompt_tokens": 8, "total_tokens": 8}}
    )
    usage = extract_usage(response)
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (8, None)


def test_anthropic_object() -> None:
    """A real Message: the input is the sum of plain, read and written tokens."""
    types = pytest.importorskip("anthropic.types")
    assert extract_usage(types.Message.model_validate(MESSAGE)) == Usage(
        130, 5, 100, 20, None, "claude-x", "msg_1", ("end_turn",), "anthropic"
    )


@pytest.mark.parametrize("build", [lambda value: value, as_objects])
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (CHAT, Usage(100, 50, 40, None, 20, "gpt-5", "c1", ("stop",))),
        (MESSAGE, Usage(130, 5, 100, 20, None, "claude-x", "msg_1", ("end_turn",))),
        (
            {"usage": {"prompt_tokens": 4, "completion_tokens": 1, "prompt_cache_hit_tokens": 3}},
            Usage(4, 1, 3),
        ),
        (
            {
                "usage": {
                    "inputTokens": 1,
                    "outputTokens": 2,
                    "cacheReadInputTokens": 3,
                    "cacheWriteInputTokens": 4,
                },
                "stopReason": "end_turn",
                "ResponseMetadata": {"RequestId": "q"},
            },
            Usage(8, 2, 3, 4, response_id="q", finish_reasons=("end_turn",), provider="aws.bedrock"),
        ),
        (
            {
                "usage_metadata": {
                    "prompt_token_count": 8,
                    "tool_use_prompt_token_count": 3,
                    "candidates_token_count": 6,
                    "thoughts_token_count": 9,
                    "cached_content_token_count": 2,
                },
                "model_version": "gemini-3",
                "response_id": "r",
                "candidates": [{"finish_reason": "STOP"}],
            },
            Usage(11, 15, 2, None, 9, "gemini-3", "r", ("STOP",)),
        ),
        (
            {
                "usage_metadata": {
                    "input_tokens": 12,
                    "output_tokens": 3,
                    "input_token_details": {"cache_read": 2, "cache_creation": 1},
                    "output_token_details": {"reasoning": 1},
                },
                "id": "m1",
                "response_metadata": {
                    "model_name": "gpt-5",
                    "finish_reason": "stop",
                    "model_provider": "openai",
                },
            },
            Usage(12, 3, 2, 1, 1, "gpt-5", "m1", ("stop",), "openai"),
        ),
        (
            {
                "usage": {
                    "input_tokens": 51,
                    "output_tokens": 4,
                    "cache_read_tokens": 0,
                    "cache_write_tokens": 0,
                    "details": {"reasoning_tokens": 2},
                },
                "response": {"model_name": "test", "provider_name": "test", "finish_reason": "stop"},
            },
            Usage(51, 4, 0, 0, 2, "test", None, ("stop",), "test"),
        ),
        ({"context_wrapper": {"usage": {"requests": 2, "input_tokens": 3, "output_tokens": 2}}}, None),
    ],
)
def test_look_alikes(build: Any, value: dict[str, Any], expected: Usage | None) -> None:
    """Objects and dicts of each shape, as the libraries make them."""
    found = extract_usage(build(value))
    if "context_wrapper" in value and build is as_objects:
        expected = Usage(3, 2)
    assert found == expected


def test_graph_states_count_each_message_once() -> None:
    """Messages are told apart by id, within a state and across states."""

    def message(identity: str, tokens: int) -> Object:
        return Object(id=identity, usage_metadata={"input_tokens": tokens, "output_tokens": 1})

    state = {"messages": [Object(content="q"), message("a", 10), message("a", 10), message("b", 5)]}
    seen: set[str] = set()
    first = extract_usage(state, seen_ids=seen)
    assert first is not None
    assert (first.input_tokens, first.output_tokens) == (15, 2)
    state["messages"].append(message("c", 1))
    second = extract_usage(state, seen_ids=seen)
    assert second is not None
    assert second.input_tokens == 1
    assert extract_usage(state, seen_ids=seen) is None


def test_a_method_is_called_only_on_pydantic_ai() -> None:
    """`usage()` of pydantic-ai 1.x is called; that of anything else never is."""

    def run(self: object) -> Object:
        called.append(self)
        return Object(input_tokens=1, output_tokens=2, cache_read_tokens=0)

    called: list[object] = []
    result = placed(type("AgentRunResult", (), {"usage": run}), "pydantic_ai.agent")()
    usage = extract_usage(result)
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (1, 2)
    called.clear()
    assert extract_usage(type("Disk", (), {"usage": run})()) is None
    assert not called


class Hostile:
    """Every attribute raises."""

    def __getattr__(self, name: str) -> object:
        raise RuntimeError(name)


class Endless:
    """Every attribute is another such object."""

    def __getattr__(self, name: str) -> object:
        return Endless()


@pytest.mark.parametrize(
    "value",
    ["text", b"x", 1, True, 1.5, None, {}, {"a": 1}, [], (1,), object(), Hostile(), Endless(), math, {"usage": 5},
     {"usage": "much"}, {"usage": {}}, {"usage_metadata": []}, {"messages": "hello"}, {"messages": [1, "a", None]}],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_no_usage(value: object) -> None:
    """Anything else has none, and nothing raises."""
    assert extract_usage(value) is None


@pytest.mark.parametrize("bad", [-1, 1.5, math.nan, "7", True, None, 2**64, [1]])
def test_counts_are_integers(bad: object) -> None:
    """What is no count is unknown; the other count still stands."""
    usage = extract_usage({"usage": {"prompt_tokens": 4, "completion_tokens": bad}})
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (4, None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["usage", "usage_metadata", "messages", "prompt_tokens", "completion_tokens", "input_tokens",
             "output_tokens", "type", "choices", "cache_read_input_tokens", "prompt_token_count", "id", "model",
             "prompt_tokens_details", "cached_tokens", "candidates", "context_wrapper", "inputTokens"]
        ),
        inner,
        max_size=5,
    ),
    max_leaves=20,
)  # fmt: skip


@given(JSON)
def test_no_shape_raises_and_counts_are_counts(value: object) -> None:
    """Whatever is nested how, the result is None or has counts that are counts."""
    for candidate in (value, as_objects(value)):
        usage = extract_usage(candidate)
        if usage is not None:
            for count in usage[:5]:
                assert count is None or (type(count) is int and count >= 0)
