"""
Tokens, model and finish reasons from what a model call returned.

Knows the objects of OpenAI (chat and responses, and all that speak this
dialect), Anthropic, Google, LangChain, LangGraph, pydantic-ai, OpenAI Agents and
Bedrock by their shape; imports none of them. Reads attributes and keys only,
never deeper than three levels, and never raises.

Source: verified on objects of openai 3.54, anthropic 2.12, google-genai 3.4,
langchain-core 1.7 and pydantic-ai 2.68. Input includes cached tokens and output
includes reasoning, as the GenAI conventions want it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from types import MethodType
from typing import Any, Final

from agentguard.values import Usage

_PLAIN_TYPES: Final = frozenset(
    {type(None), str, bytes, bytearray, bool, int, float, complex, list, tuple, set, frozenset}
)
_INT64_MAX: Final = 2**63 - 1
_NAME_CHARS_MAX: Final = 256
_CHOICES_MAX: Final = 16
_MESSAGES_MAX: Final = 1_000
_MODULES_MAX: Final = 256
"""Modules of responses whose package is remembered."""
_COUNT_TYPES: Final = frozenset({int, type(None)})
_make: Final = partial(tuple.__new__, Usage)
"""Makes a usage of its fields in their order: by name it would take four times as long."""

_PROVIDERS: Final[Mapping[str, str]] = {
    "openai": "openai",
    "anthropic": "anthropic",
    "google": "gcp.gen_ai",
    "groq": "groq",
    "mistralai": "mistral_ai",
    "cohere": "cohere",
}
"""By top-level package of the response's class: the conventions' name of the provider."""


def extract_usage(value: object, *, seen_ids: set[str] | None = None) -> Usage | None:
    """
    Read what a model call used from the object it returned.

    Args:
        value:
            What the call returned; anything.
        seen_ids:
            Ids of messages that were counted before, for states that carry the
            whole conversation: they are skipped, and new ids are added.

    Returns:
        The usage, or None where the object is of no known shape or has no
        count. A count that is no integer, or negative, is unknown: None.

    Example:
        >>> response = {"model": "m", "usage": {"prompt_tokens": 3, "completion_tokens": 1}}
        >>> extract_usage(response).input_tokens
        3
        >>> extract_usage("Paris") is None
        True

    """
    kind = type(value)
    if kind in _PLAIN_TYPES:
        return None
    if kind is Usage:
        return value  # type: ignore[return-value]
    try:
        if kind is dict:
            if "usage" not in value and "usage_metadata" not in value and "messages" not in value:  # type: ignore[operator]
                return None
            usage = _chat_of_dicts(value)  # type: ignore[arg-type]
            return _probe(value, seen_ids) if usage is None else usage
        usage = _chat_of_objects(value)
        return _probe(value, seen_ids) if usage is None else usage
    except Exception:
        # Law 1: an object whose attributes raise has no usage that we could read.
        return None


def token_count(value: object) -> int | None:
    """
    Take a number as a count of tokens.

    Returns:
        The count, or None for anything but a non-negative 64-bit integer; a
        bool is no count.

    """
    if type(value) is int:
        return value if 0 <= value <= _INT64_MAX else None
    if isinstance(value, int) and not isinstance(value, bool):
        number = int.__int__(value)
        return number if 0 <= number <= _INT64_MAX else None
    return None


def _token_counts(*values: object) -> list[int | None]:
    """Take numbers as counts of tokens, as `token_count` does each; in one frame, for the usual case."""
    return [
        value if value is None or (type(value) is int and 0 <= value <= _INT64_MAX) else token_count(value)
        for value in values
    ]


def reader(holder: object) -> Callable[[str, None], Any]:
    """Give what reads attributes, or keys of a dict, by name and with what there is otherwise; without a frame."""
    return holder.get if isinstance(holder, dict) else partial(getattr, holder)


def read(holder: object, name: str) -> object:
    """Read an attribute, or a key of a dict; None where there is none."""
    if isinstance(holder, dict):
        return holder.get(name)
    return getattr(holder, name, None)


def _text(value: object) -> str | None:
    """Take a short text, also from an enumeration of strings."""
    if isinstance(value, str):
        text = value if type(value) is str else str.__str__(value)
        return text if 0 < len(text) <= _NAME_CHARS_MAX else None
    return None


def _sum(*values: int | None) -> int | None:
    """Add what is known; None where nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _reasons(items: object, name: str) -> tuple[str, ...]:
    """Collect the finish reasons of choices or candidates."""
    if not isinstance(items, (list, tuple)):
        return ()
    if len(items) == 1:
        return _one(read(items[0], name))
    found = [_text(read(item, name)) for item in items[:_CHOICES_MAX]]
    return tuple([reason for reason in found if reason])


def _one(value: object) -> tuple[str, ...]:
    """Take one finish reason."""
    reason = _text(value)
    return (reason,) if reason else ()


def _package(value: object) -> str:
    """Name the top-level package of the class."""
    module = type(value).__module__
    return _package_of(module) if isinstance(module, str) else ""


@lru_cache(maxsize=_MODULES_MAX)
def _package_of(module: str) -> str:
    return module.partition(".")[0]


def _chat_of_dicts(value: dict[str, Any]) -> Usage | None:
    """
    Read a chat completion of plain dicts in one go, if all of it is as it should be.

    Most calls of models return one, or the object below: this is the shortest way to what
    `_openai_chat` reads with more care.

    Returns:
        None where anything at all is another way; that says nothing yet.
    """
    usage = value.get("usage")
    choices = value.get("choices")
    if type(usage) is not dict or type(choices) is not list or len(choices) != 1:
        return None
    inputs, outputs = usage.get("prompt_tokens"), usage.get("completion_tokens")
    read_details, write_details = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    if type(read_details) is not dict or type(write_details) is not dict or type(choices[0]) is not dict:
        return None
    cache_read = read_details.get("cached_tokens")
    if cache_read is None:
        cache_read = usage.get("prompt_cache_hit_tokens")  # DeepSeek
    return _chat_of_values(
        inputs, outputs, cache_read, read_details.get("cache_write_tokens"),
        write_details.get("reasoning_tokens"), value.get("model"), value.get("id"),
        choices[0].get("finish_reason"), None,
    )  # fmt: skip


def _chat_of_objects(value: Any) -> Usage | None:
    """Read a chat completion of OpenAI's SDK or the like, or the chunk that ends a stream of one, in the same way."""
    choices = getattr(value, "choices", None)
    if type(choices) is not list or len(choices) > 1:
        return None
    usage, package = getattr(value, "usage", None), _package(value)
    if usage is None or type(usage) is dict or package == "litellm":  # LiteLLM puts a price beside it.
        return None
    read_details = getattr(usage, "prompt_tokens_details", None)
    write_details = getattr(usage, "completion_tokens_details", None)
    if type(read_details) is dict or type(write_details) is dict:
        return None
    cache_read = getattr(read_details, "cached_tokens", None)
    if cache_read is None:
        cache_read = getattr(usage, "prompt_cache_hit_tokens", None)  # DeepSeek
    return _chat_of_values(
        getattr(usage, "prompt_tokens", None), getattr(usage, "completion_tokens", None), cache_read,
        getattr(read_details, "cache_write_tokens", None), getattr(write_details, "reasoning_tokens", None),
        getattr(value, "model", None), getattr(value, "id", None),
        getattr(choices[0], "finish_reason", None) if choices else "", _PROVIDERS.get(package),
    )  # fmt: skip


def _chat_of_values(
    inputs: Any,
    outputs: Any,
    cache_read: Any,
    cache_write: Any,
    reasoning: Any,
    model: Any,
    response_id: Any,
    reason: Any,
    provider: str | None,
) -> Usage | None:
    """Make the usage of a chat completion; None unless each value is of its type and within its bounds."""
    if (
        _COUNT_TYPES.issuperset((type(cache_read), type(cache_write), type(reasoning)))
        and type(inputs) is type(outputs) is int
        and type(model) is type(response_id) is type(reason) is str
        # All at once: a negative count leaves -1, one of more than 63 bits leaves what is above them.
        and not (inputs | outputs | (cache_read or 0) | (cache_write or 0) | (reasoning or 0)) >> 63
        and 0 < len(model) <= _NAME_CHARS_MAX
        and 0 < len(response_id) <= _NAME_CHARS_MAX
        and len(reason) <= _NAME_CHARS_MAX
    ):
        reasons = (reason,) if reason else ()
        return _make(
            (inputs, outputs, cache_read, cache_write, reasoning, model, response_id, reasons, provider, None)
        )
    return None


def _probe(value: object, seen_ids: set[str] | None) -> Usage | None:
    """Try the shapes, the most common first."""
    usage = read(value, "usage")
    if isinstance(usage, MethodType):
        # pydantic-ai 1.x has a method here. No other method is ever called.
        usage = usage() if _package(value) == "pydantic_ai" else None
    if usage is not None and type(usage) not in _PLAIN_TYPES:
        return _known(_from_usage(value, usage))
    metadata = read(value, "usage_metadata")
    if metadata is not None and type(metadata) not in _PLAIN_TYPES:
        return _known(_from_metadata(value, metadata))
    wrapper = read(value, "context_wrapper")
    if wrapper is not None:
        usage = read(wrapper, "usage")
        return None if usage is None else _known(_generic(value, usage))
    messages = read(value, "messages")
    if isinstance(messages, (list, tuple)):
        return _from_messages(messages, seen_ids)
    return None


def _known(usage: Usage) -> Usage | None:
    """Drop a usage that counts nothing."""
    return None if usage.input_tokens is None and usage.output_tokens is None else usage


def _from_usage(value: object, usage: object) -> Usage:
    """Tell the shapes that have `usage` apart."""
    shape: Callable[[object, object], Usage]
    count = reader(usage)
    if count("prompt_tokens", None) is not None:
        shape = _openai_chat
    elif count("inputTokens", None) is not None:
        shape = _bedrock
    elif (
        count("cache_read_input_tokens", None) is not None
        or count("cache_creation_input_tokens", None) is not None
        or read(value, "type") == "message"
    ):
        shape = _anthropic
    elif count("input_tokens_details", None) is not None:
        shape = _openai_responses
    elif count("cache_read_tokens", None) is not None:
        shape = _pydantic_ai
    else:
        shape = _generic
    return shape(value, usage)


def _openai_chat(value: object, usage: object) -> Usage:
    """Read a chat completion of OpenAI, or of what speaks its dialect."""
    count, of, package = reader(usage), reader(value), _package(value)
    read_detail = reader(count("prompt_tokens_details", None))
    inputs, outputs, cache_read, cache_write, reasoning = _token_counts(
        count("prompt_tokens", None),
        count("completion_tokens", None),
        read_detail("cached_tokens", None),
        read_detail("cache_write_tokens", None),
        read(count("completion_tokens_details", None), "reasoning_tokens"),
    )
    if cache_read is None:
        cache_read = token_count(count("prompt_cache_hit_tokens", None))  # DeepSeek
    return _make(
        (
            inputs, outputs, cache_read, cache_write, reasoning, _text(of("model", None)), _text(of("id", None)),
            _reasons(of("choices", None), "finish_reason"), _PROVIDERS.get(package),
            _litellm_cost(value) if package == "litellm" else None,
        )
    )  # fmt: skip


def _litellm_cost(value: object) -> float | None:
    """Read the price that LiteLLM puts beside its responses."""
    cost = read(read(value, "_hidden_params"), "response_cost")
    return float(cost) if isinstance(cost, (int, float)) and 0 <= cost < float("inf") else None


def _openai_responses(value: object, usage: object) -> Usage:
    """Read a response of OpenAI's Responses API."""
    details = read(usage, "input_tokens_details")
    return Usage(
        input_tokens=token_count(read(usage, "input_tokens")),
        output_tokens=token_count(read(usage, "output_tokens")),
        cache_read_tokens=token_count(read(details, "cached_tokens")),
        cache_write_tokens=token_count(read(details, "cache_write_tokens")),
        reasoning_tokens=token_count(read(read(usage, "output_tokens_details"), "reasoning_tokens")),
        model=_text(read(value, "model")),
        response_id=_text(read(value, "id")),
        finish_reasons=_one(read(value, "status")),
        provider=_PROVIDERS.get(_package(value)),
    )


def _anthropic(value: object, usage: object) -> Usage:
    """Read a message of Anthropic, whose input tokens leave out the cached ones."""
    cache_read = token_count(read(usage, "cache_read_input_tokens"))
    cache_write = token_count(read(usage, "cache_creation_input_tokens"))
    plain = token_count(read(usage, "input_tokens"))
    return Usage(
        input_tokens=None if plain is None else _sum(plain, cache_read, cache_write),
        output_tokens=token_count(read(usage, "output_tokens")),
        cache_read_tokens=cache_read,
        cache_write_tokens=cache_write,
        reasoning_tokens=token_count(read(read(usage, "output_tokens_details"), "thinking_tokens")),
        model=_text(read(value, "model")),
        response_id=_text(read(value, "id")),
        finish_reasons=_one(read(value, "stop_reason")),
        provider=_PROVIDERS.get(_package(value)),
    )


def _bedrock(value: object, usage: object) -> Usage:
    """Read the answer of Bedrock's converse operation."""
    cache_read = token_count(read(usage, "cacheReadInputTokens"))
    cache_write = token_count(read(usage, "cacheWriteInputTokens"))
    plain = token_count(read(usage, "inputTokens"))
    return Usage(
        input_tokens=None if plain is None else _sum(plain, cache_read, cache_write),
        output_tokens=token_count(read(usage, "outputTokens")),
        cache_read_tokens=cache_read,
        cache_write_tokens=cache_write,
        response_id=_text(read(read(value, "ResponseMetadata"), "RequestId")),
        finish_reasons=_one(read(value, "stopReason")),
        provider="aws.bedrock",
    )


def _pydantic_ai(value: object, usage: object) -> Usage:
    """Read a run or a response of pydantic-ai."""
    response = value if read(value, "model_name") is not None else read(value, "response")
    return Usage(
        input_tokens=token_count(read(usage, "input_tokens")),
        output_tokens=token_count(read(usage, "output_tokens")),
        cache_read_tokens=token_count(read(usage, "cache_read_tokens")),
        cache_write_tokens=token_count(read(usage, "cache_write_tokens")),
        reasoning_tokens=token_count(read(read(usage, "details"), "reasoning_tokens")),
        model=_text(read(response, "model_name")),
        response_id=_text(read(response, "provider_response_id")),
        finish_reasons=_one(read(response, "finish_reason")),
        provider=_text(read(response, "provider_name")),
    )


def _generic(value: object, usage: object) -> Usage:
    """Read what calls its counts input_tokens and output_tokens."""
    return Usage(
        input_tokens=token_count(read(usage, "input_tokens")),
        output_tokens=token_count(read(usage, "output_tokens")),
        model=_text(read(value, "model")),
        response_id=_text(read(value, "id")),
        provider=_PROVIDERS.get(_package(value)),
    )


def _from_metadata(value: object, metadata: object) -> Usage:
    """Tell Google from LangChain."""
    if read(metadata, "prompt_token_count") is not None:
        return _google(value, metadata)
    return _langchain(value, metadata)


def _google(value: object, metadata: object) -> Usage:
    """Read a response of Google's models, which count thoughts beside the candidates."""
    thoughts = token_count(read(metadata, "thoughts_token_count"))
    return Usage(
        input_tokens=_sum(
            token_count(read(metadata, "prompt_token_count")),
            token_count(read(metadata, "tool_use_prompt_token_count")),
        ),
        output_tokens=_sum(token_count(read(metadata, "candidates_token_count")), thoughts),
        cache_read_tokens=token_count(read(metadata, "cached_content_token_count")),
        reasoning_tokens=thoughts,
        model=_text(read(value, "model_version")),
        response_id=_text(read(value, "response_id")),
        finish_reasons=_reasons(read(value, "candidates"), "finish_reason"),
        provider=_PROVIDERS.get(_package(value)),
    )


def _langchain(value: object, metadata: object) -> Usage:
    """Read a message of LangChain."""
    details = read(metadata, "input_token_details")
    about = read(value, "response_metadata")
    return Usage(
        input_tokens=token_count(read(metadata, "input_tokens")),
        output_tokens=token_count(read(metadata, "output_tokens")),
        cache_read_tokens=token_count(read(details, "cache_read")),
        cache_write_tokens=token_count(read(details, "cache_creation")),
        reasoning_tokens=token_count(read(read(metadata, "output_token_details"), "reasoning")),
        model=_text(read(about, "model_name")) or _text(read(about, "model")),
        response_id=_text(read(value, "id")),
        finish_reasons=_one(read(about, "finish_reason") or read(about, "stop_reason")),
        provider=_text(read(about, "model_provider")),
    )


def _from_messages(messages: list[object] | tuple[object, ...], seen_ids: set[str] | None) -> Usage | None:
    """Add up the messages of a graph's state, each id once, the latest ones where there are many."""
    seen = set() if seen_ids is None else seen_ids
    total: Usage | None = None
    for message in messages[-_MESSAGES_MAX:]:
        metadata = read(message, "usage_metadata")
        if metadata is None or type(metadata) in _PLAIN_TYPES:
            continue
        usage = _known(_from_metadata(message, metadata))
        if usage is None or usage.response_id in seen:
            continue
        if usage.response_id is not None:
            seen.add(usage.response_id)
        total = usage if total is None else add_usage(total, usage)._replace(response_id=None)
    return total


def add_usage(first: Usage, second: Usage) -> Usage:
    """Add two usages count by count; names and reasons are those of the second, where it has any."""
    return Usage(
        input_tokens=_sum(first.input_tokens, second.input_tokens),
        output_tokens=_sum(first.output_tokens, second.output_tokens),
        cache_read_tokens=_sum(first.cache_read_tokens, second.cache_read_tokens),
        cache_write_tokens=_sum(first.cache_write_tokens, second.cache_write_tokens),
        reasoning_tokens=_sum(first.reasoning_tokens, second.reasoning_tokens),
        model=second.model or first.model,
        response_id=second.response_id or first.response_id,
        finish_reasons=second.finish_reasons or first.finish_reasons,
        provider=second.provider or first.provider,
        cost_usd=second.cost_usd if first.cost_usd is None else first.cost_usd + (second.cost_usd or 0.0),
    )
