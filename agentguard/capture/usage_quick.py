"""
The usage of the most common responses in one go, with its price.

OpenAI's chat completions, as dicts and as the SDK's objects, are read by `chat_reading`, line after line; its
responses, Anthropic's messages and Google's answers by the few functions below. `row_of` takes what they have read
only where everything in it is of its plain type, within its bounds, and known from a response before: each
test that fails says "not for me", and `usage.extract_usage` reads the response with care. So what is
read here is what is read there, in a fraction of the time.

Who has no time now takes a reading alone, which nobody can change any more, and has `usage.usage_of` look at it later.

What makes it quick:

- An object of an SDK is read as the dict that it keeps its fields in. A name that it does not have costs a
  look-up then, and no exception in the SDK; the class is looked at once, whether reading attributes means that.
- Price, and whether the name is one, come with one look-up of the model; the finish reasons with another one.
- Bounds are those of numbers that the interpreter compares at once, not those that are possible.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from operator import itemgetter, le
from types import GetSetDescriptorType, MemberDescriptorType, SimpleNamespace
from typing import Any, Final, TypeAlias, TypeGuard

from agentguard.capture.cost import NO_RATE, RATES_MAX, TOKENS_MAX, Rate
from agentguard.capture.usage_shapes import NAME_CHARS_MAX, PROVIDERS, package_of, read, text_of
from agentguard.values import Usage

UsageRow: TypeAlias = tuple[
    int, int, int | None, int | None, int | None, str, str | None, tuple[str, ...], str | None, float | None
]
"""The fields of `Usage`, in their order."""

Reading: TypeAlias = tuple[Any, Any, Any, Any, Any, Any, Any, Any, str | None]
"""
What a response says, of any type: counts of input, output, cache reads, cache writes and reasoning, the names of the
model and of the response, why it ended, and which provider its class is of.
"""

_CLASSES_MAX: Final = 64
_REASONS_MAX: Final = 256
_DEPTH_MAX: Final = 3

UNPRICED: Final[dict[str, Rate]] = {}
"""Rates for who wants no price: the names of models that were read with care."""

_REASONS: Final[dict[str | None, tuple[str, ...]]] = {None: (), "": ()}
"""The tuple of each finish reason that was read with care."""

_MODELS: Final[dict[type, str | None]] = {}
"""By class that is a model of pydantic, and whose attributes are its fields: the provider."""

_PLAIN: Final[dict[type, str | None]] = {}
"""The same for classes of which nothing but their fields can be read."""

_STRANGE: Final[set[type]] = set()
"""Classes that are neither."""

_NOTHING: Final[Mapping[str, Any]] = {}
_OPTIONAL: Final = frozenset({int, type(None)})
_ONLY_INT, _ONLY_STR, _ONLY_NONE = frozenset({int}), frozenset({str}), frozenset({type(None)})
_TEXT_OR_NONE = _ONLY_STR | _ONLY_NONE
READING_FIELDS: Final = 9
"""A row has one more: the price."""
_of_answer: Final = itemgetter("usage", "model", "id")
_of_usage: Final = itemgetter("prompt_tokens", "completion_tokens")
_NAMES: Final = frozenset(
    {
        "usage", "choices", "usage_metadata", "model", "id", "type", "status", "stop_reason", "finish_reason",
        "prompt_tokens", "completion_tokens", "prompt_tokens_details", "completion_tokens_details",
        "prompt_cache_hit_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens", "inputTokens",
        "input_tokens", "output_tokens", "input_tokens_details", "output_tokens_details", "thinking_tokens",
        "cache_read_input_tokens", "cache_creation_input_tokens", "prompt_token_count",
        "tool_use_prompt_token_count", "candidates_token_count", "thoughts_token_count",
        "cached_content_token_count", "model_version", "response_id", "candidates", "input_token_details",
        "output_token_details", "cache_read", "cache_creation", "reasoning", "response_metadata", "model_name",
        "model_provider",
    }
)  # fmt: skip
"""What is read of objects."""

_READS: Final = vars(SimpleNamespace).get("__getattribute__")
"""That of `object`, which this class has once more up to Python 3.12; of any other way of reading attributes nothing is known."""

_OF_MODELS: Final = frozenset({"__getattr__", "__pydantic_extra__"})
"""How a model of pydantic gives what is none of its fields."""

_mro_of: Final = type.__dict__["__mro__"].__get__
_names_of: Final = type.__dict__["__dict__"].__get__
"""The bases and attributes of a class, whatever its own class says they are."""


def usage_row(value: Any, rates: Mapping[str, Rate]) -> UsageRow | None:
    """
    Read what a model call used, and what that costs.

    Args:
        value:
            What the call returned; anything.
        rates:
            `PriceTable.rates`, or `UNPRICED`.

    Returns:
        What `extract_usage` reads, as a plain tuple, and as its price what `price_usd` says of it: such a
        response never says its price itself. None says nothing: it is to be read with care, after which
        others of its kind are known here.
    """
    reading = chat_reading(value)
    return other_row(value, rates) if reading is None else row_of(reading, rates)


def chat_reading(value: Any) -> Reading | None:
    """
    Take out of a chat completion what it says of its usage, and look at none of it: `row_of` does, at any time later.

    Args:
        value:
            What the call returned; anything.

    Returns:
        None where it is none, or is to be read with care.
    """
    try:
        fields, provider = value, None
        if type(value) is not dict:
            if type(value) in _MODELS and not value.__pydantic_extra__:
                provider = _MODELS[type(value)]
            elif type(value) in _PLAIN:
                provider = _PLAIN[type(value)]
            else:
                return None
            fields = value.__dict__
        choices = fields.get("choices")
        if type(choices) is not list:
            return None
        usage, model, response_id = _of_answer(fields)
        if type(usage) is not dict:
            usage = _fields(usage)
        inputs, outputs = _of_usage(usage)
        reads, writes = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
        if type(reads) is not dict:
            reads = _fields(reads)
        if type(writes) is not dict:
            writes = _fields(writes)
        reason = None
        if choices:
            [choice] = choices
            if type(choice) is not dict:
                choice = _fields(choice)
            reason = choice["finish_reason"]
        cached = reads.get("cached_tokens")
        if "prompt_cache_hit_tokens" in usage:  # DeepSeek
            if cached is not None:
                return None
            cached = usage["prompt_cache_hit_tokens"]
        if inputs is None:
            return None
        return (
            inputs, outputs, cached, reads.get("cache_write_tokens"), writes.get("reasoning_tokens"), model, response_id,
            reason, provider,
        )  # fmt: skip
    except Exception:
        # Law 1. Something is missing, new, or of another type: that is for who reads with care.
        return None


def is_reading(usage: Usage | UsageRow | Reading) -> TypeGuard[Reading]:
    """Whether it is not yet known what is in it."""
    return len(usage) == READING_FIELDS


def _fields(value: Any) -> Mapping[str, Any]:
    """
    Give what can be read of a value.

    Raises:
        LookupError: That is not known.
    """
    kind = type(value)
    if (kind in _MODELS and not value.__pydantic_extra__) or kind in _PLAIN:
        return value.__dict__  # type: ignore[no-any-return]
    if kind is dict or value is None:
        return value or _NOTHING
    raise LookupError


def row_of(reading: Reading, rates: Mapping[str, Rate]) -> UsageRow | None:
    """
    Look at what a response says of its usage, and price it.

    Args:
        reading:
            Values of any type.
        rates:
            As for `usage_row`.

    Returns:
        None where something is not what it should be, or not known: that is to be looked at with care.
    """
    try:
        inputs, outputs, cached, written, reasoning, model, response_id, reason, provider = reading
        # Each is plain, or is missing where it may: in a row of tests that takes less than one look at all types.
        if not (
            type(inputs) is int
            and type(outputs) is int
            and type(model) is str
            and (cached is None or type(cached) is int)
            and (written is None or type(written) is int)
            and (reasoning is None or type(reasoning) is int)
            and (response_id is None or type(response_id) is str)
            and (reason is None or type(reason) is str)
            and (provider is None or type(provider) is str)
        ):
            return None
        most, for_input, for_cached, for_written, for_output = rates[model]
        known, new = cached or 0, written or 0
        if not (
            0 <= known <= known + new <= inputs <= most
            and 0 <= outputs <= TOKENS_MAX
            and (reasoning is None or 0 <= reasoning <= TOKENS_MAX)
            and (response_id is None or 0 < len(response_id) <= NAME_CHARS_MAX)
        ):
            return None
        cost_usd = None
        if for_input is not None:
            input_usd = (inputs - known - new) * for_input + known * for_cached + new * for_written
            cost_usd = (input_usd + outputs * for_output) / 1e6
        return (
            inputs, outputs, cached, written, reasoning, model, response_id, _REASONS[reason], provider, cost_usd
        )  # fmt: skip
    except LookupError:
        return None  # The model, or the reason, was never read with care.


def rows_of(readings: Sequence[Reading], rates: Mapping[str, Rate]) -> list[UsageRow] | None:
    """
    As `row_of` of each, column by column: in a fraction of the time for each.

    Args:
        readings:
            Any number of them.
        rates:
            As for `usage_row`.

    Returns:
        None where one is not as the others, or not usual: then each is to be looked at by itself.
    """
    if not readings:
        return []
    inputs, outputs, cached, written, reasoning, models, ids, reasons, providers = zip(*readings, strict=True)
    try:
        model = models[0]
        if not (
            set(map(type, inputs + outputs + cached + reasoning)) == _ONLY_INT
            and set(map(type, models + ids)) == _ONLY_STR
            and set(map(type, reasons)) <= _TEXT_OR_NONE
            and set(map(type, written)) == _ONLY_NONE
            and models.count(model) == len(readings)
        ):
            return None
        most, for_input, for_cached, _, for_output = rates[model]
        if (
            for_input is None
            or min(cached) < 0
            or not all(map(le, cached, inputs))
            or max(inputs) > most
            or min(outputs) < 0
            or max(outputs) > TOKENS_MAX
            or min(reasoning) < 0
            or max(reasoning) > TOKENS_MAX
            or not all(ids)
            or max(map(len, ids)) > NAME_CHARS_MAX
        ):
            return None
        usds = [
            ((inputs_ - cached_) * for_input + cached_ * for_cached + outputs_ * for_output) / 1e6
            for inputs_, cached_, outputs_ in zip(inputs, cached, outputs, strict=True)
        ]
        ends = [_REASONS[reason] for reason in reasons]
    except (LookupError, TypeError):
        return None  # The model, or a reason, was never read with care, or can be no name at all.
    return list(
        zip(inputs, outputs, cached, written, reasoning, models, ids, ends, providers, usds, strict=True)
    )


def other_row(value: Any, rates: Mapping[str, Rate]) -> UsageRow | None:
    """As `usage_row`, of what is no chat completion: a message of Anthropic, a response of OpenAI, an answer of Google."""
    try:
        fields, provider, kind = value, None, type(value)
        if kind is not dict:
            if not ((kind in _MODELS and not value.__pydantic_extra__) or kind in _PLAIN):
                return None
            fields, provider = value.__dict__, (_MODELS if kind in _MODELS else _PLAIN)[kind]
        if type(fields.get("choices")) is list:
            return None
        return _other_row(fields, provider, rates)
    except Exception:
        # Law 1, as above.
        return None


def _other_row(fields: Mapping[str, Any], provider: str | None, rates: Mapping[str, Rate]) -> UsageRow | None:
    """Read it as one of those."""
    usage = fields.get("usage")
    if usage is None:
        metadata = fields.get("usage_metadata")
        return None if metadata is None else _row_of_metadata(fields, _fields(metadata), provider, rates)
    usage = _fields(usage)
    if usage.get("prompt_tokens") is not None or usage.get("inputTokens") is not None:
        return None
    inputs, outputs = usage.get("input_tokens"), usage.get("output_tokens")
    writes = _fields(usage.get("output_tokens_details"))
    model, response_id = fields.get("model"), fields.get("id")
    cached, written = usage.get("cache_read_input_tokens"), usage.get("cache_creation_input_tokens")
    if cached is not None or written is not None or fields.get("type") == "message":
        if type(inputs) is not int or type(cached) not in _OPTIONAL or type(written) not in _OPTIONAL:
            return None
        # Anthropic leaves the cached tokens out.
        inputs += (cached or 0) + (written or 0)
        return row_of(
            (inputs, outputs, cached, written, writes.get("thinking_tokens"), model, response_id,
             fields.get("stop_reason"), provider),
            rates,
        )  # fmt: skip
    reads = usage.get("input_tokens_details")
    if reads is None:
        return None
    reads = _fields(reads)
    return row_of(
        (inputs, outputs, reads.get("cached_tokens"), reads.get("cache_write_tokens"),
         writes.get("reasoning_tokens"), model, response_id, fields.get("status"), provider),
        rates,
    )  # fmt: skip


def _row_of_metadata(
    fields: Mapping[str, Any], counts: Mapping[str, Any], provider: str | None, rates: Mapping[str, Rate]
) -> UsageRow | None:
    """Read an answer of Google's models, or a message of LangChain."""
    inputs = counts.get("prompt_token_count")
    if inputs is None:
        reads = _fields(counts.get("input_token_details"))
        writes = _fields(counts.get("output_token_details"))
        about = _fields(fields.get("response_metadata"))
        return row_of(
            (counts.get("input_tokens"), counts.get("output_tokens"), reads.get("cache_read"),
             reads.get("cache_creation"), writes.get("reasoning"),
             text_of(about.get("model_name")) or text_of(about.get("model")), fields.get("id"),
             text_of(about.get("finish_reason") or about.get("stop_reason")),
             text_of(about.get("model_provider"))),
            rates,
        )  # fmt: skip
    tools = counts.get("tool_use_prompt_token_count")
    outputs, thoughts = counts.get("candidates_token_count"), counts.get("thoughts_token_count")
    candidates = fields.get("candidates")
    if (
        type(inputs) is not int
        or type(outputs) is not int
        or type(tools) not in _OPTIONAL
        or type(thoughts) not in _OPTIONAL
        or inputs < 0
        or outputs < 0
        or (tools or 0) < 0
        or type(candidates) is not list
        or len(candidates) != 1
    ):
        return None
    return row_of(
        (inputs + (tools or 0), outputs + (thoughts or 0), counts.get("cached_content_token_count"), None, thoughts,
         fields.get("model_version"), fields.get("response_id"), text_of(read(candidates[0], "finish_reason")),
         provider),
        rates,
    )  # fmt: skip


# What was read with care ------------------------------------------------------


def learn(value: object, usage: Usage) -> None:
    """
    Remember of what kind a response was that was read with care, so that the next one is read here.

    Args:
        value:
            The response.
        usage:
            What was read.
    """
    learn_names(usage)
    if type(value) is not dict:
        with suppress(Exception):  # A class that cannot be looked at stays one that is read with care.
            _learn_classes(value, _DEPTH_MAX)


def learn_names(usage: Usage) -> None:
    """Remember the names in a usage that was read with care."""
    if usage.model is not None:
        if len(UNPRICED) >= RATES_MAX:
            # Names come from providers; they must not fill the memory.
            UNPRICED.clear()
        UNPRICED[usage.model] = NO_RATE
    for reason in usage.finish_reasons:
        if len(_REASONS) < _REASONS_MAX:
            _REASONS[reason] = (reason,)


def _learn_classes(value: Any, depth: int) -> None:
    """Look at the classes of a response and of what is read inside it."""
    kind = type(value)
    if kind is list and value:
        value = value[0]
        kind = type(value)
    if kind not in _MODELS and kind not in _PLAIN and not _learn_class(value, kind):
        return
    if depth:
        for name, inner in list(value.__dict__.items()):
            if name in _NAMES and inner is not None:
                _learn_classes(inner, depth - 1)


def keeps_fields(value: object) -> bool:
    """Whether attributes of objects of this one's class are their fields; as far as they are read here."""
    kind = type(value)
    return kind in _MODELS or kind in _PLAIN or _learn_class(value, kind)


def _learn_class(value: object, kind: type) -> bool:
    """Find out whether attributes of objects of a class are their fields, and nothing else."""
    if kind in _STRANGE:
        return False
    for known in (_MODELS, _PLAIN, _STRANGE):
        if len(known) >= _CLASSES_MAX:
            # Classes may be made anew for each call.
            known.clear()
    found: dict[str, Any] = {}
    for base in reversed(_mro_of(kind)[:-1]):
        found.update(_names_of(base))
    # Of pydantic 2, where it is loaded; who uses it has loaded it.
    base_model = getattr(sys.modules.get("pydantic.main"), "BaseModel", None)
    package = package_of(value)
    is_model = base_model is not None and issubclass(kind, base_model)
    names = _NAMES if is_model else _NAMES | _OF_MODELS
    if (
        issubclass(kind, dict)
        or not names.isdisjoint(found)
        or found.get("__getattribute__", _READS) is not _READS
        or type(found.get("__dict__")) not in (GetSetDescriptorType, MemberDescriptorType)
        or (is_model and any(found.get(name) is not vars(base_model).get(name) for name in _OF_MODELS))
        or package == "litellm"  # It puts a price beside the response.
    ):
        _STRANGE.add(kind)
        return False
    (_MODELS if is_model else _PLAIN)[kind] = PROVIDERS.get(package)
    return True
