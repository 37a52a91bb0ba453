"""
The chunks that streams are made of: a piece of content, and nothing else.

Of a stream a few chunks say something of it: who answers, why it ended, what it
used. All others only carry content. For each dialect there is a function here that
tells such a chunk apart with as few reads as can be. It may raise: that, like False,
says that the chunk is to be looked at closely (`stream_usage`). None says that it may be
the one with the usage, and has nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

IsPlain: TypeAlias = Callable[[Any], bool | None]
"""Whether a chunk of one dialect carries content and nothing else; None where it may carry the usage alone."""

_BLOCK_DELTA: Final = "content_block_delta"


def _chat_object(chunk: Any) -> bool | None:
    """Tell a chunk of chat completions."""
    choices = chunk.choices
    if len(choices) != 1:
        return False if choices else None
    choice = choices[0]
    if choice.finish_reason is not None or getattr(chunk, "usage", None) is not None:
        return False
    delta = choice.delta
    return bool(delta.content or delta.tool_calls or delta.reasoning_content)


def _chat_dict(chunk: Any) -> bool | None:
    """Tell the same as a dict."""
    choices = chunk["choices"]
    if len(choices) != 1:
        return False if choices else None
    choice = choices[0]
    if choice.get("finish_reason") is not None or chunk.get("usage") is not None:
        return False
    delta = choice["delta"]
    return bool(delta.get("content") or delta.get("tool_calls") or delta.get("reasoning_content"))


def _event_object(event: Any) -> bool:
    """Tell an event of the Responses API, or of Anthropic's messages."""
    kind: str = event.type
    return kind == _BLOCK_DELTA or (kind.endswith(".delta") and kind.startswith("response."))


def _event_dict(event: Any) -> bool:
    """Tell the same as a dict."""
    kind: str = event["type"]
    return kind == _BLOCK_DELTA or (kind.endswith(".delta") and kind.startswith("response."))


def _message_object(chunk: Any) -> bool:
    """Tell a message chunk of LangChain."""
    if chunk.usage_metadata is not None or getattr(chunk, "chunk_position", None) is not None:
        return False
    return bool(chunk.content or chunk.tool_call_chunks)


def _message_dict(chunk: Any) -> bool:
    """Tell the same as a dict."""
    if chunk.get("usage_metadata") is not None or chunk.get("chunk_position") is not None:
        return False
    return bool(chunk["content"] or chunk["tool_call_chunks"])


PLAIN: Final[Mapping[str, tuple[IsPlain, IsPlain]]] = {
    "chat": (_chat_object, _chat_dict),
    "event": (_event_object, _event_dict),
    "message": (_message_object, _message_dict),
}
"""By dialect: what tells its plain chunks, as objects and as dicts."""
