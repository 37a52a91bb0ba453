"""
The chunks that streams are made of: a piece of content, and nothing else.

Of a stream a few chunks say something of it: who answers, why it ended, what it
used. All others only carry content. For each dialect there is a function here that makes, of one chunk with
content, what tells the chunks of its class that are such, with as few reads as can be.
"""

# ruff: noqa: SIM210, TRY300 - not `bool(...)`: that would be a call for each chunk

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, TypeAlias

from agentguard.capture.usage_quick import keeps_fields

IsPlain: TypeAlias = Callable[[Any], bool | None]
"""
Whether something is a chunk of one class, with content and nothing else; never raises.

What is not True is to be looked at closely (`stream_usage`); None says that it may be the usage, and nothing else.
"""

_BLOCK_DELTA: Final = "content_block_delta"


def _chat_fields(first: Any) -> IsPlain:
    """Tell chunks of chat completions, objects of an SDK: their dicts are read at half the cost of their attributes."""
    choice_of_first = first.choices[0]
    kind, choice_kind, delta_kind = type(first), type(choice_of_first), type(choice_of_first.delta)

    def is_plain(chunk: Any) -> bool | None:
        if type(chunk) is not kind:
            return False
        try:
            fields = chunk.__dict__
            choices = fields["choices"]
            if len(choices) != 1:
                return False if choices else None
            choice = choices[0]
            if type(choice) is not choice_kind or fields["usage"] is not None:
                return False
            fields = choice.__dict__
            delta = fields["delta"]
            if type(delta) is not delta_kind or fields["finish_reason"] is not None:
                return False
            return True if delta.__dict__["content"] or delta.tool_calls or delta.reasoning_content else False
        except Exception:  # It is of another shape than the first one.
            return False

    return is_plain


def _keeps(value: Any, *fields: str) -> bool:
    """Whether these attributes are in the object's dict, and come from nowhere else."""
    kind, kept = type(value), value.__dict__
    return keeps_fields(value) and all(name in kept and not hasattr(kind, name) for name in fields)


def _chat_object(first: Any) -> IsPlain:
    """Tell chunks of chat completions."""
    with suppress(Exception):
        choice = first.choices[0]
        if (
            _keeps(first, "choices", "usage")
            and _keeps(choice, "delta", "finish_reason")
            and _keeps(choice.delta, "content")
        ):
            return _chat_fields(first)
    kind = type(first)

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
        except Exception:
            return False

    return is_plain


def _chat_dict(first: Any) -> IsPlain:
    """Tell the same as dicts."""
    kind = type(first)

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


def _event_object(first: Any) -> IsPlain:
    """Tell events of the Responses API, or of Anthropic's messages."""
    kind = type(first)

    def is_plain(event: Any) -> bool:
        if type(event) is not kind:
            return False
        try:
            name: str = event.type
            return name == _BLOCK_DELTA or (name.endswith(".delta") and name.startswith("response."))
        except Exception:
            return False

    return is_plain


def _event_dict(first: Any) -> IsPlain:
    """Tell the same as dicts."""
    kind = type(first)

    def is_plain(event: Any) -> bool:
        if type(event) is not kind:
            return False
        try:
            name: str = event["type"]
            return name == _BLOCK_DELTA or (name.endswith(".delta") and name.startswith("response."))
        except Exception:
            return False

    return is_plain


def _message_object(first: Any) -> IsPlain:
    """Tell message chunks of LangChain."""
    kind = type(first)

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


def _message_dict(first: Any) -> IsPlain:
    """Tell the same as dicts."""
    kind = type(first)

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


def _text(first: Any) -> IsPlain:
    """Tell pieces of text."""
    kind = type(first)
    return lambda chunk: type(chunk) is kind and bool(chunk)


PLAIN: Final[Mapping[str, tuple[Callable[[Any], IsPlain], Callable[[Any], IsPlain]]]] = {
    "chat": (_chat_object, _chat_dict),
    "event": (_event_object, _event_dict),
    "message": (_message_object, _message_dict),
    "text": (_text, _text),
}
"""By dialect: what makes what tells its plain chunks, of one that is an object, and of one that is a dict."""
