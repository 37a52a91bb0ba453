"""
Model calls that an official OpenTelemetry instrumentation sees inside one of ours.

They are the same call seen twice. Whoever is outside says so in the context; the
instrumentation then makes no span and no measurement, and writes what it knows into
the object that it finds there. Takes that object, adds what it says to our span.

Source: opentelemetry-util-genai 1.3b0, `_inference_invocation.py` and
`_embedding_invocation.py`: context keys, `InferenceData`, `EmbeddingData`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.context import Context

from agentguard.capture.span import Span
from agentguard.capture.usage_shapes import token_count
from agentguard.values import Usage
from agentguard.values import attributes as names

GENAI_UTIL: Final = "opentelemetry.util.genai.invocation"
"""The module that official instrumentations load; without it there is nothing to do here."""

_KEYS: Final[Mapping[str, tuple[str, str]]] = {
    "model": ("CLIENT_INFERENCE_CONTEXT_KEY", "InferenceData"),
    "embeddings": ("CLIENT_EMBEDDING_CONTEXT_KEY", "EmbeddingData"),
}
"""By kind of our span: where that module names the context key, and the class of the object."""

_ATTRIBUTES: Final[Mapping[str, str]] = {
    "output_type": names.OUTPUT_TYPE,
    "prompt_name": names.PROMPT_NAME,
    "prompt_version": names.PROMPT_VERSION,
    "provider_name": names.PROVIDER_NAME,
    "request_choice_count": names.REQUEST_CHOICE_COUNT,
    "request_encoding_formats": names.REQUEST_ENCODING_FORMATS,
    "request_frequency_penalty": names.REQUEST_FREQUENCY_PENALTY,
    "request_max_tokens": names.REQUEST_MAX_TOKENS,
    "request_model": names.REQUEST_MODEL,
    "request_presence_penalty": names.REQUEST_PRESENCE_PENALTY,
    "request_reasoning_level": names.REQUEST_REASONING_LEVEL,
    "request_seed": names.REQUEST_SEED,
    "request_stop_sequences": names.REQUEST_STOP_SEQUENCES,
    "request_stream": names.REQUEST_STREAM,
    "request_temperature": names.REQUEST_TEMPERATURE,
    "request_top_k": names.REQUEST_TOP_K,
    "request_top_p": names.REQUEST_TOP_P,
    "server_address": names.SERVER_ADDRESS,
    "server_port": names.SERVER_PORT,
}
"""By field of the object: parameters of the request that our span may not know."""


def announce_outer_call(kind: str, context: Context) -> dict[str, object]:
    """
    Say to official instrumentations that the call is seen already.

    Args:
        kind:
            Kind of our span.
        context:
            What the call begins under.

    Returns:
        Values for the context of the call: a fresh object for a model call; for
        another kind the end of what a model call around it had announced. Empty
        where no official instrumentation is loaded.

    """
    module: Any = sys.modules.get(GENAI_UTIL)
    if module is None:
        return {}
    found: dict[str, object] = {}
    for ours, (key_name, class_name) in _KEYS.items():
        key, make = getattr(module, key_name, None), getattr(module, class_name, None)
        if not isinstance(key, str) or make is None:
            continue
        if ours == kind:
            # Their hook for completions is still to be called: we upload nothing for the application.
            found[key] = make(capture_content=False, upload_completion=True)
        elif context.get(key) is not None:
            found[key] = None
    return found


def take_inner_call(span: Span, context: Context) -> None:
    """
    Add to a model call of ours what an instrumentation inside it has seen.

    What our span knows already stands; content is never taken.

    Args:
        span:
            Of the call, not yet ended.
        context:
            The one that the call ran in.

    """
    module: Any = sys.modules.get(GENAI_UTIL)
    row = _KEYS.get(span.kind)
    if module is None or row is None:
        return
    data = context.get(getattr(module, row[0], ""))
    if data is None or getattr(data, "provider_name", None) is None:
        # Nobody inside has written anything.
        return
    known = span.attributes
    for field, name in _ATTRIBUTES.items():
        value = getattr(data, field, None)
        if value is not None and name not in known:
            span.set_attribute(name, value)
    if span.usage is None:
        span.record_usage(_usage(data))


def _usage(data: Any) -> Usage:
    """Read what was used."""
    reasons = getattr(data, "response_finish_reasons", None)
    model, response_id = getattr(data, "response_model", None), getattr(data, "response_id", None)
    return Usage(
        input_tokens=token_count(getattr(data, "usage_input_tokens", None)),
        output_tokens=token_count(getattr(data, "usage_output_tokens", None)),
        cache_read_tokens=token_count(getattr(data, "usage_cache_read_input_tokens", None)),
        cache_write_tokens=token_count(getattr(data, "usage_cache_write_input_tokens", None)),
        reasoning_tokens=token_count(getattr(data, "usage_reasoning_output_tokens", None)),
        model=model if isinstance(model, str) else None,
        response_id=response_id if isinstance(response_id, str) else None,
        finish_reasons=tuple(r for r in reasons if isinstance(r, str)) if isinstance(reasons, list) else (),
        provider=getattr(data, "provider_name", None),
    )
