"""What a request to a model says of itself, under the names of the conventions; content stays out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from agentguard.values import AttributeValue
from agentguard.values import attributes as names

_TEXT_CHARS_MAX: Final = 256
_LIST_MAX: Final = 16


def _whole(value: object) -> AttributeValue | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(value: object) -> AttributeValue | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _text(value: object) -> AttributeValue | None:
    value = getattr(value, "value", value)
    return value[:_TEXT_CHARS_MAX] if isinstance(value, str) and value else None


def _texts(value: object) -> AttributeValue | None:
    if isinstance(value, str):
        return (value[:_TEXT_CHARS_MAX],)
    if isinstance(value, (list, tuple)) and value and all(isinstance(part, str) for part in value):
        return tuple(part[:_TEXT_CHARS_MAX] for part in value[:_LIST_MAX])
    return None


def _yes(value: object) -> AttributeValue | None:
    return True if value is True else None


def _several(value: object) -> AttributeValue | None:
    """Several choices; one is what is meant where nothing is said."""
    return None if value == 1 else _whole(value)


_OUTPUT_TYPES: Final[Mapping[str, str]] = {
    "text": "text",
    "json": "json",
    "json_object": "json",
    "json_schema": "json",
    "text/plain": "text",
    "application/json": "json",
}


def _output_type(value: object) -> AttributeValue | None:
    return _OUTPUT_TYPES.get(value) if isinstance(value, str) else None


_Reading = Callable[[object], AttributeValue | None]

_PARAMETERS: Final[tuple[tuple[tuple[str, ...], str, _Reading], ...]] = (
    (("max_tokens",), names.REQUEST_MAX_TOKENS, _whole),
    (("max_completion_tokens",), names.REQUEST_MAX_TOKENS, _whole),
    (("max_output_tokens",), names.REQUEST_MAX_TOKENS, _whole),
    (("max_tokens_to_sample",), names.REQUEST_MAX_TOKENS, _whole),
    (("temperature",), names.REQUEST_TEMPERATURE, _number),
    (("top_p",), names.REQUEST_TOP_P, _number),
    (("top_k",), names.REQUEST_TOP_K, _number),
    (("frequency_penalty",), names.REQUEST_FREQUENCY_PENALTY, _number),
    (("presence_penalty",), names.REQUEST_PRESENCE_PENALTY, _number),
    (("stop",), names.REQUEST_STOP_SEQUENCES, _texts),
    (("stop_sequences",), names.REQUEST_STOP_SEQUENCES, _texts),
    (("seed",), names.REQUEST_SEED, _whole),
    (("n",), names.REQUEST_CHOICE_COUNT, _several),
    (("candidate_count",), names.REQUEST_CHOICE_COUNT, _several),
    (("stream",), names.REQUEST_STREAM, _yes),
    (("reasoning_effort",), names.REQUEST_REASONING_LEVEL, _text),
    (("reasoning", "effort"), names.REQUEST_REASONING_LEVEL, _text),
    (("output_config", "effort"), names.REQUEST_REASONING_LEVEL, _text),
    (("thinking_config", "thinking_level"), names.REQUEST_REASONING_LEVEL, _text),
    (("response_format", "type"), names.OUTPUT_TYPE, _output_type),
    (("text", "format", "type"), names.OUTPUT_TYPE, _output_type),
    (("response_mime_type",), names.OUTPUT_TYPE, _output_type),
    (("encoding_format",), names.REQUEST_ENCODING_FORMATS, _texts),
    (("dimensions",), names.EMBEDDINGS_DIMENSION_COUNT, _whole),
    (("output_dimensionality",), names.EMBEDDINGS_DIMENSION_COUNT, _whole),
)
"""Where a parameter stands in the request, its name, and how it is read; the first that is there counts."""


def request_attributes(*sources: object) -> dict[str, AttributeValue]:
    """
    Read the parameters of a request.

    Args:
        sources:
            The body, or the objects that hold its parameters: mappings or
            objects with attributes.

    Returns:
        Names of the conventions with clean values; a parameter of another type
        than the conventions have is left out.

    Example:
        >>> request_attributes({"max_tokens": 5, "temperature": 0, "n": 1, "stream": True})
        {'gen_ai.request.max_tokens': 5, 'gen_ai.request.temperature': 0.0, 'gen_ai.request.stream': True}
    """
    found: dict[str, AttributeValue] = {}
    for path, name, read in _PARAMETERS:
        if name in found:
            continue
        for source in sources:
            try:
                clean = _read(source, path, read)
            except Exception:  # noqa: S112 - law 1: what cannot be read is left out of the span
                continue
            if clean is not None:
                found[name] = clean
                break
    return found


def _read(source: Any, path: tuple[str, ...], read: _Reading) -> AttributeValue | None:
    """Go down the path, through mappings and objects alike."""
    value = source
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else getattr(value, part, None)
        if value is None:
            return None
    return read(value)
