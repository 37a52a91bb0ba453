"""
The chunks that streams are made of: a piece of content, and nothing else.

Of a stream a few chunks say something of it: who answers, why it ended, what it
used. All others only carry content. For each dialect there is a function here that makes, for one class of
chunks, what tells such a chunk apart with as few reads as can be.
"""

# ruff: noqa: SIM210, TRY300 - not `bool(...)`: that would be a call for each chunk

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

IsPlain: TypeAlias = Callable[[Any], bool | None]
"""
Whether something is a chunk of one class, with content and nothing else; never raises.

What is not True is to be looked at closely (`stream_usage`); None says that it may be the usage, and nothing else.
"""

_BLOCK_DELTA: Final = "content_block_delta"


def _chat_object(kind: type[Any]) -> IsPlain:
    """Tell chunks of chat completions."""

    def is_plain(chunk: Any) -> bool | None:
        if type(chunk) is not kind:
            return False
        try:
            choices = chunk.choices
            if len(choices) != 1:
                return False if choices else None
            choice = choices[0]
            if choice.finish_reason is not None or getattr(chunk, "usage", None) is not None:
                return False
            delta = choice.delta
            return True if delta.content or delta.tool_calls or delta.reasoning_content else False
        except Exception:  # It is of another shape than the last one.
            return False

    return is_plain


def _chat_dict(kind: type[Any]) -> IsPlain:
    """Tell the same as dicts."""

    def is_plain(chunk: Any) -> bool | None:
        if type(chunk) is not kind:
            return False
        try:
            choices = chunk["choices"]
            if len(choices) != 1:
                return False if choices else None
            choice = choices[0]
            if choice.get("finish_reason") is not None or chunk.get("usage") is not None:
                return False
            of = choice["delta"].get
            return True if of("content") or of("tool_calls") or of("reasoning_content") else False
        except Exception:
            return False

    return is_plain


def _event_object(kind: type[Any]) -> IsPlain:
    """Tell events of the Responses API, or of Anthropic's messages."""

    def is_plain(event: Any) -> bool:
        if type(event) is not kind:
            return False
        try:
            name: str = event.type
            return name == _BLOCK_DELTA or (name.endswith(".delta") and name.startswith("response."))
        except Exception:
            return False

    return is_plain


def _event_dict(kind: type[Any]) -> IsPlain:
    """Tell the same as dicts."""

    def is_plain(event: Any) -> bool:
        if type(event) is not kind:
            return False
        try:
            name: str = event["type"]
            return name == _BLOCK_DELTA or (name.endswith(".delta") and name.startswith("response."))
        except Exception:
            return False

    return is_plain


def _message_object(kind: type[Any]) -> IsPlain:
    """Tell message chunks of LangChain."""

    def is_plain(chunk: Any) -> bool:
        if type(chunk) is not kind:
            return False
        try:
            if chunk.usage_metadata is not None or getattr(chunk, "chunk_position", None) is not None:
                return False
            return True if chunk.content or chunk.tool_call_chunks else False
        except Exception:
            return False

    return is_plain


def _message_dict(kind: type[Any]) -> IsPlain:
    """Tell the same as dicts."""

    def is_plain(chunk: Any) -> bool:
        if type(chunk) is not kind:
            return False
        try:
            if chunk.get("usage_metadata") is not None or chunk.get("chunk_position") is not None:
                return False
            return True if chunk["content"] or chunk["tool_call_chunks"] else False
        except Exception:
            return False

    return is_plain


def _text(kind: type[Any]) -> IsPlain:
    """Tell pieces of text."""
    return lambda chunk: type(chunk) is kind and bool(chunk)


PLAIN: Final[Mapping[str, tuple[Callable[[type], IsPlain], Callable[[type], IsPlain]]]] = {
    "chat": (_chat_object, _chat_dict),
    "event": (_event_object, _event_dict),
    "message": (_message_object, _message_dict),
    "text": (_text, _text),
}
"""By dialect: what makes what tells its plain chunks, of a class of objects and of one of dicts."""
