"""
What a finished call measures: values for the metrics of the conventions.

Takes records, gives measurements. Pure: who records them, and where, is said elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, TypeAlias

from agentguard.values import AttributeValue, SpanRecord
from agentguard.values import attributes as names
from agentguard.values import metric_names as metrics
from agentguard.values.attributes import Profile

Dimensions: TypeAlias = dict[str, AttributeValue]

_TOKENS: Final = (
    (names.INPUT_TOKENS, "input_tokens"),
    (names.OUTPUT_TOKENS, "output_tokens"),
)
_TOKEN_PARTS: Final = (
    ((names.CACHE_READ_TOKENS,), "cache_read.input_tokens"),
    ((names.CACHE_WRITE_TOKENS, names.CACHE_CREATION_TOKENS), "cache_write.input_tokens"),
    ((names.REASONING_TOKENS,), "reasoning.output_tokens"),
)


class Measurement(NamedTuple):
    """One value for one instrument."""

    metric: str
    value: float
    attributes: Dimensions


class CallsMade(NamedTuple):
    """What an agent did itself."""

    inference: int
    tools: int


def measurements(
    record: SpanRecord, *, profile: Profile, gaps_s: Sequence[float] = (), calls: CallsMade | None = None
) -> Iterator[Measurement]:
    """
    Measure one finished call.

    Args:
        record:
            A span of ours.
        profile:
            Which generation of metrics.
        gaps_s:
            Seconds between output chunks.
        calls:
            What the call made, if it is an agent's.

    Returns:
        The measurements. No attribute names a run, a conversation, a person, or
        holds text.

    """
    duration_s = record.duration_ns / 1e9
    if record.kind == "model":
        yield from _inference(record, duration_s, profile, gaps_s)
    elif record.kind == "embeddings":
        yield from _embeddings(record, duration_s, profile)
    elif record.kind == "agent":
        found = _pick(record, metrics.AGENT_ATTRIBUTES)
        yield Measurement(metrics.AGENT_DURATION, duration_s, found)
        if calls is not None:
            yield Measurement(metrics.AGENT_INFERENCE_CALLS, calls.inference, found)
            yield Measurement(metrics.AGENT_TOOL_CALLS, calls.tools, found)
    elif record.kind == "workflow":
        yield Measurement(metrics.WORKFLOW_DURATION, duration_s, _pick(record, metrics.WORKFLOW_ATTRIBUTES))
    elif record.kind == "tool":
        yield Measurement(metrics.TOOL_DURATION, duration_s, _pick(record, metrics.TOOL_ATTRIBUTES))
    if names.MCP_METHOD_NAME in record.attributes:
        is_server = record.otel_kind == "server"
        name = metrics.MCP_SERVER_DURATION if is_server else metrics.MCP_CLIENT_DURATION
        yield Measurement(name, duration_s, _pick(record, metrics.MCP_ATTRIBUTES))


def _pick(record: SpanRecord, allowed: Sequence[str]) -> Dimensions:
    """Take the attributes that a metric may have."""
    attributes = record.attributes
    return {name: attributes[name] for name in allowed if name in attributes}


def _inference(
    record: SpanRecord, duration_s: float, profile: Profile, gaps_s: Sequence[float]
) -> Iterator[Measurement]:
    """Measure a model call."""
    found = _pick(record, metrics.MODEL_ATTRIBUTES)
    first_chunk_s = record.attributes.get(names.TIME_TO_FIRST_CHUNK_S)
    if profile != "latest":
        yield from _operation(record, duration_s, found)
        if isinstance(first_chunk_s, float):
            yield Measurement(metrics.OPERATION_FIRST_CHUNK, first_chunk_s, found)
        for gap_s in gaps_s:
            yield Measurement(metrics.OPERATION_PER_CHUNK, gap_s, found)
    if profile == "compat":
        return
    yield Measurement(metrics.INFERENCE_DURATION, duration_s, found)
    if isinstance(first_chunk_s, float):
        yield Measurement(metrics.INFERENCE_FIRST_CHUNK, first_chunk_s, found)
    for gap_s in gaps_s:
        yield Measurement(metrics.INFERENCE_PER_CHUNK, gap_s, found)
    modal = {**found, names.TOKEN_MODALITY: "unknown"}
    for name, metric in _TOKENS:
        tokens = _count(record, name)
        if tokens is not None:
            per_call = (
                metrics.INFERENCE_INPUT_TOKENS
                if name == names.INPUT_TOKENS
                else metrics.INFERENCE_OUTPUT_TOKENS
            )
            yield Measurement(per_call, tokens, found)
        elif record.status == "error":
            tokens = 0
        if tokens is not None:
            yield Measurement(metrics.INFERENCE_USAGE_PREFIX + metric, tokens, modal)
    for attributes, metric in _TOKEN_PARTS:
        parts = [count for count in (_count(record, name) for name in attributes) if count]
        if parts:
            yield Measurement(metrics.INFERENCE_USAGE_PREFIX + metric, parts[0], modal)


def _embeddings(record: SpanRecord, duration_s: float, profile: Profile) -> Iterator[Measurement]:
    """Measure embeddings."""
    found = _pick(record, metrics.MODEL_ATTRIBUTES)
    if profile != "latest":
        yield from _operation(record, duration_s, found)
    if profile != "compat":
        yield Measurement(metrics.EMBEDDINGS_DURATION, duration_s, found)
        tokens = _count(record, names.INPUT_TOKENS)
        if tokens is not None:
            yield Measurement(metrics.EMBEDDINGS_INPUT_TOKENS, tokens, found)


def _operation(record: SpanRecord, duration_s: float, found: Dimensions) -> Iterator[Measurement]:
    """Measure what the released generation has for both."""
    yield Measurement(metrics.OPERATION_DURATION, duration_s, found)
    for name, token_type in ((names.INPUT_TOKENS, "input"), (names.OUTPUT_TOKENS, "output")):
        tokens = _count(record, name)
        if tokens is not None:
            yield Measurement(metrics.TOKEN_USAGE, tokens, {**found, names.TOKEN_TYPE: token_type})


def _count(record: SpanRecord, name: str) -> int | None:
    """Read a count off the record."""
    found = record.attributes.get(name)
    return found if isinstance(found, int) else None
