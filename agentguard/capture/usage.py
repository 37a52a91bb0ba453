"""
Tokens, model and finish reasons from what a model call returned.

Knows the objects of OpenAI (chat and responses, and all that speak this
dialect), Anthropic, Google, LangChain, LangGraph, pydantic-ai, OpenAI Agents and
Bedrock by their shape; imports none of them. Reads attributes and keys only,
never deeper than three levels, and never raises.

Here the shapes are told apart; `usage_shapes` reads each with care, `usage_quick` reads the common
ones of them in one go.

Source: verified on objects of openai 3.54, anthropic 2.12, google-genai 3.4,
langchain-core 1.7 and pydantic-ai 2.68. Input includes cached tokens and output
includes reasoning, as the GenAI conventions want it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MethodType
from typing import Final

from agentguard.capture.cost import Rate
from agentguard.capture.usage_quick import (
    UNPRICED,
    Reading,
    UsageRow,
    is_reading,
    learn,
    learn_names,
    row_of,
    rows_of,
    usage_row,
)
from agentguard.capture.usage_shapes import (
    anthropic,
    bedrock,
    chat_usage,
    generic,
    google,
    langchain,
    new_tuple,
    one_reason,
    openai_chat,
    openai_responses,
    package_of,
    pydantic_ai,
    read,
    reader,
    sum_known,
)
from agentguard.values import Usage

_PLAIN_TYPES: Final = frozenset(
    {type(None), str, bytes, bytearray, bool, int, float, complex, list, tuple, set, frozenset}
)
_MESSAGES_MAX: Final = 1_000


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
    if kind is dict and not ("usage" in value or "usage_metadata" in value or "messages" in value):  # type: ignore[operator]
        return None
    row = usage_row(value, UNPRICED)
    if row is not None:
        return new_tuple(Usage, row)
    try:
        usage = _probe(value, seen_ids)
    except Exception:
        # Law 1: an object whose attributes raise has no usage that we could read.
        return None
    if usage is not None:
        learn(value, usage)
    return usage


def usage_of(said: Usage | UsageRow | Reading, rates: Mapping[str, Rate]) -> Usage | UsageRow | None:
    """
    Say what a call used of which a reading may have been taken.

    Args:
        said:
            As `chat_reading` gives it; what is no reading is given back.
        rates:
            As for `usage_row`.

    Returns:
        What `extract_usage` would have read; where that is usual, a row with its price.
    """
    if not is_reading(said):
        return said  # type: ignore[return-value] # by the line above
    row = row_of(said, rates)
    if row is not None:
        return row
    try:
        usage = _known(chat_usage(*said[:7], one_reason(said[7]), said[8], None))
    except Exception:
        return None  # Law 1, as above.
    if usage is not None:
        learn_names(usage)
    return usage


def usages_of(readings: Sequence[Reading], rates: Mapping[str, Rate]) -> Iterator[Usage | UsageRow | None]:
    """As `usage_of` of each, at less cost where they are alike."""
    rows = rows_of(readings, rates)
    return iter([usage_of(reading, rates) for reading in readings] if rows is None else rows)


def _probe(value: object, seen_ids: set[str] | None) -> Usage | None:
    """Try the shapes, the most common first."""
    usage = read(value, "usage")
    if isinstance(usage, MethodType):
        # pydantic-ai 1.x has a method here. No other method is ever called.
        usage = usage() if package_of(value) == "pydantic_ai" else None
    if usage is not None and type(usage) not in _PLAIN_TYPES:
        return _known(_from_usage(value, usage))
    metadata = read(value, "usage_metadata")
    if metadata is not None and type(metadata) not in _PLAIN_TYPES:
        return _known(_from_metadata(value, metadata))
    wrapper = read(value, "context_wrapper")
    if wrapper is not None:
        usage = read(wrapper, "usage")
        return None if usage is None else _known(generic(value, usage))
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
        shape = openai_chat
    elif count("inputTokens", None) is not None:
        shape = bedrock
    elif (
        count("cache_read_input_tokens", None) is not None
        or count("cache_creation_input_tokens", None) is not None
        or read(value, "type") == "message"
    ):
        shape = anthropic
    elif count("input_tokens_details", None) is not None:
        shape = openai_responses
    elif count("cache_read_tokens", None) is not None:
        shape = pydantic_ai
    else:
        shape = generic
    return shape(value, usage)


def _from_metadata(value: object, metadata: object) -> Usage:
    """Tell Google from LangChain."""
    if read(metadata, "prompt_token_count") is not None:
        return google(value, metadata)
    return langchain(value, metadata)


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
        input_tokens=sum_known(first.input_tokens, second.input_tokens),
        output_tokens=sum_known(first.output_tokens, second.output_tokens),
        cache_read_tokens=sum_known(first.cache_read_tokens, second.cache_read_tokens),
        cache_write_tokens=sum_known(first.cache_write_tokens, second.cache_write_tokens),
        reasoning_tokens=sum_known(first.reasoning_tokens, second.reasoning_tokens),
        model=second.model or first.model,
        response_id=second.response_id or first.response_id,
        finish_reasons=second.finish_reasons or first.finish_reasons,
        provider=second.provider or first.provider,
        cost_usd=second.cost_usd if first.cost_usd is None else first.cost_usd + (second.cost_usd or 0.0),
    )
