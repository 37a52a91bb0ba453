"""
What model calls return, shape by shape: where the counts and the names are.

One function for each shape of response. It reads with all the care that objects of unknown classes need:
attributes and keys only, no count that is none, no text that is none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any, Final

from agentguard.values import Usage

NAME_CHARS_MAX: Final = 256
_INT64_MAX: Final = 2**63 - 1
_CHOICES_MAX: Final = 16
_MODULES_MAX: Final = 256
"""Modules of responses whose package is remembered."""

PROVIDERS: Final[Mapping[str, str]] = {
    "openai": "openai",
    "anthropic": "anthropic",
    "google": "gcp.gen_ai",
    "groq": "groq",
    "mistralai": "mistral_ai",
    "cohere": "cohere",
}
"""By top-level package of the response's class: the conventions' name of the provider."""

new_tuple: Final = tuple.__new__
"""Makes a usage of its fields in their order: by name it would take four times as long."""


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


def text_of(value: object) -> str | None:
    """Take a short text, also from an enumeration of strings."""
    if isinstance(value, str):
        text = value if type(value) is str else str.__str__(value)
        return text if 0 < len(text) <= NAME_CHARS_MAX else None
    return None


def sum_known(*values: int | None) -> int | None:
    """Add what is known; None where nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def reasons_of(items: object, name: str) -> tuple[str, ...]:
    """Collect the finish reasons of choices or candidates."""
    if not isinstance(items, (list, tuple)):
        return ()
    if len(items) == 1:
        return one_reason(read(items[0], name))
    found = [text_of(read(item, name)) for item in items[:_CHOICES_MAX]]
    return tuple([reason for reason in found if reason])


def one_reason(value: object) -> tuple[str, ...]:
    """Take one finish reason."""
    reason = text_of(value)
    return (reason,) if reason else ()


def package_of(value: object) -> str:
    """Name the top-level package of the class."""
    module = type(value).__module__
    return _top_level(module) if isinstance(module, str) else ""


@lru_cache(maxsize=_MODULES_MAX)
def _top_level(module: str) -> str:
    return module.partition(".")[0]


def openai_chat(value: object, usage: object) -> Usage:
    """Read a chat completion of OpenAI, or of what speaks its dialect."""
    count, of, package = reader(usage), reader(value), package_of(value)
    read_detail = reader(count("prompt_tokens_details", None))
    found = chat_usage(
        count("prompt_tokens", None),
        count("completion_tokens", None),
        read_detail("cached_tokens", None),
        read_detail("cache_write_tokens", None),
        read(count("completion_tokens_details", None), "reasoning_tokens"),
        of("model", None),
        of("id", None),
        reasons_of(of("choices", None), "finish_reason"),
        PROVIDERS.get(package),
        _litellm_cost(value) if package == "litellm" else None,
    )
    if found.cache_read_tokens is None:
        cached = token_count(count("prompt_cache_hit_tokens", None))  # DeepSeek
        if cached is not None:
            found = found._replace(cache_read_tokens=cached)
    return found


def chat_usage(
    inputs: object,
    outputs: object,
    cache_read: object,
    cache_write: object,
    reasoning: object,
    model: object,
    response_id: object,
    reasons: tuple[str, ...],
    provider: str | None,
    cost_usd: float | None,
) -> Usage:
    """Make a usage of what a chat completion says, whatever that is."""
    counts = _token_counts(inputs, outputs, cache_read, cache_write, reasoning)
    return new_tuple(Usage, (*counts, text_of(model), text_of(response_id), reasons, provider, cost_usd))


def _litellm_cost(value: object) -> float | None:
    """Read the price that LiteLLM puts beside its responses."""
    cost = read(read(value, "_hidden_params"), "response_cost")
    return float(cost) if isinstance(cost, (int, float)) and 0 <= cost < float("inf") else None


def openai_responses(value: object, usage: object) -> Usage:
    """Read a response of OpenAI's Responses API."""
    details = read(usage, "input_tokens_details")
    return Usage(
        input_tokens=token_count(read(usage, "input_tokens")),
        output_tokens=token_count(read(usage, "output_tokens")),
        cache_read_tokens=token_count(read(details, "cached_tokens")),
        cache_write_tokens=token_count(read(details, "cache_write_tokens")),
        reasoning_tokens=token_count(read(read(usage, "output_tokens_details"), "reasoning_tokens")),
        model=text_of(read(value, "model")),
        response_id=text_of(read(value, "id")),
        finish_reasons=one_reason(read(value, "status")),
        provider=PROVIDERS.get(package_of(value)),
    )


def anthropic(value: object, usage: object) -> Usage:
    """Read a message of Anthropic, whose input tokens leave out the cached ones."""
    cache_read = token_count(read(usage, "cache_read_input_tokens"))
    cache_write = token_count(read(usage, "cache_creation_input_tokens"))
    plain = token_count(read(usage, "input_tokens"))
    return Usage(
        input_tokens=None if plain is None else sum_known(plain, cache_read, cache_write),
        output_tokens=token_count(read(usage, "output_tokens")),
        cache_read_tokens=cache_read,
        cache_write_tokens=cache_write,
        reasoning_tokens=token_count(read(read(usage, "output_tokens_details"), "thinking_tokens")),
        model=text_of(read(value, "model")),
        response_id=text_of(read(value, "id")),
        finish_reasons=one_reason(read(value, "stop_reason")),
        provider=PROVIDERS.get(package_of(value)),
    )


def bedrock(value: object, usage: object) -> Usage:
    """Read the answer of Bedrock's converse operation."""
    cache_read = token_count(read(usage, "cacheReadInputTokens"))
    cache_write = token_count(read(usage, "cacheWriteInputTokens"))
    plain = token_count(read(usage, "inputTokens"))
    return Usage(
        input_tokens=None if plain is None else sum_known(plain, cache_read, cache_write),
        output_tokens=token_count(read(usage, "outputTokens")),
        cache_read_tokens=cache_read,
        cache_write_tokens=cache_write,
        response_id=text_of(read(read(value, "ResponseMetadata"), "RequestId")),
        finish_reasons=one_reason(read(value, "stopReason")),
        provider="aws.bedrock",
    )


def pydantic_ai(value: object, usage: object) -> Usage:
    """Read a run or a response of pydantic-ai."""
    response = value if read(value, "model_name") is not None else read(value, "response")
    return Usage(
        input_tokens=token_count(read(usage, "input_tokens")),
        output_tokens=token_count(read(usage, "output_tokens")),
        cache_read_tokens=token_count(read(usage, "cache_read_tokens")),
        cache_write_tokens=token_count(read(usage, "cache_write_tokens")),
        reasoning_tokens=token_count(read(read(usage, "details"), "reasoning_tokens")),
        model=text_of(read(response, "model_name")),
        response_id=text_of(read(response, "provider_response_id")),
        finish_reasons=one_reason(read(response, "finish_reason")),
        provider=text_of(read(response, "provider_name")),
    )


def generic(value: object, usage: object) -> Usage:
    """Read what calls its counts input_tokens and output_tokens."""
    return Usage(
        input_tokens=token_count(read(usage, "input_tokens")),
        output_tokens=token_count(read(usage, "output_tokens")),
        model=text_of(read(value, "model")),
        response_id=text_of(read(value, "id")),
        provider=PROVIDERS.get(package_of(value)),
    )


def google(value: object, metadata: object) -> Usage:
    """Read a response of Google's models, which count thoughts beside the candidates."""
    thoughts = token_count(read(metadata, "thoughts_token_count"))
    return Usage(
        input_tokens=sum_known(
            token_count(read(metadata, "prompt_token_count")),
            token_count(read(metadata, "tool_use_prompt_token_count")),
        ),
        output_tokens=sum_known(token_count(read(metadata, "candidates_token_count")), thoughts),
        cache_read_tokens=token_count(read(metadata, "cached_content_token_count")),
        reasoning_tokens=thoughts,
        model=text_of(read(value, "model_version")),
        response_id=text_of(read(value, "response_id")),
        finish_reasons=reasons_of(read(value, "candidates"), "finish_reason"),
        provider=PROVIDERS.get(package_of(value)),
    )


def langchain(value: object, metadata: object) -> Usage:
    """Read a message of LangChain."""
    details = read(metadata, "input_token_details")
    about = read(value, "response_metadata")
    return Usage(
        input_tokens=token_count(read(metadata, "input_tokens")),
        output_tokens=token_count(read(metadata, "output_tokens")),
        cache_read_tokens=token_count(read(details, "cache_read")),
        cache_write_tokens=token_count(read(details, "cache_creation")),
        reasoning_tokens=token_count(read(read(metadata, "output_token_details"), "reasoning")),
        model=text_of(read(about, "model_name")) or text_of(read(about, "model")),
        response_id=text_of(read(value, "id")),
        finish_reasons=one_reason(read(about, "finish_reason") or read(about, "stop_reason")),
        provider=text_of(read(about, "model_provider")),
    )
