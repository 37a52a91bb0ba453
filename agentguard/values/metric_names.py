"""
The metrics by profile, those of the GenAI conventions and our own: names, units, bucket boundaries.

Source: open-telemetry/semantic-conventions-genai, docs/gen-ai/gen-ai-metrics.md and
gen-ai-token-metrics.md and client-embeddings.md; the compat names are those of opentelemetry-util-genai 1.3b0.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from agentguard.values import attributes as names
from agentguard.values.attributes import Profile

DURATION_BUCKETS_S: Final = (
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
)  # fmt: skip
TOKEN_BUCKETS: Final = tuple(float(4**power) for power in range(14))
AGENT_DURATION_BUCKETS_S: Final = tuple(round(0.1 * 2**power, 1) for power in range(13))
WORKFLOW_DURATION_BUCKETS_S: Final = (1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0)
CALL_COUNT_BUCKETS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
MCP_DURATION_BUCKETS_S: Final = (
    0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0,
)  # fmt: skip


class MetricSpec(NamedTuple):
    """One instrument: what it is called, counts and in which buckets."""

    name: str
    instrument: Literal["histogram", "counter"]
    unit: str
    buckets: tuple[float, ...]
    profiles: tuple[Profile, ...]
    """Profiles that emit it; `both` emits all."""
    description: str
    attributes: tuple[str, ...]
    """All that may stand on a measurement: nothing that names a person, a run or a conversation."""
    is_emitted: bool = True
    """False for what the conventions define, and nothing here measures."""


_COMPAT: tuple[Profile, ...] = ("compat", "both")
_LATEST: tuple[Profile, ...] = ("latest", "both")
_ALL: tuple[Profile, ...] = ("compat", "latest", "both")

MODEL_ATTRIBUTES: Final = (
    names.OPERATION_NAME,
    names.PROVIDER_NAME,
    names.REQUEST_MODEL,
    names.RESPONSE_MODEL,
    names.SERVER_ADDRESS,
    names.SERVER_PORT,
    names.ERROR_TYPE,
)
AGENT_ATTRIBUTES: Final = (names.AGENT_NAME, names.REQUEST_MODEL, names.ERROR_TYPE)
WORKFLOW_ATTRIBUTES: Final = (names.WORKFLOW_NAME, names.ERROR_TYPE)
TOOL_ATTRIBUTES: Final = (names.TOOL_NAME, names.TOOL_TYPE, names.AGENT_NAME, names.ERROR_TYPE)
MCP_ATTRIBUTES: Final = (names.MCP_METHOD_NAME, names.TOOL_NAME, names.ERROR_TYPE)

OPERATION_DURATION: Final = "gen_ai.client.operation.duration"
TOKEN_USAGE: Final = "gen_ai.client.token.usage"  # noqa: S105 - a name, no secret
OPERATION_FIRST_CHUNK: Final = "gen_ai.client.operation.time_to_first_chunk"
OPERATION_PER_CHUNK: Final = "gen_ai.client.operation.time_per_output_chunk"
INFERENCE_DURATION: Final = "gen_ai.client.inference.duration"
INFERENCE_FIRST_CHUNK: Final = "gen_ai.client.inference.time_to_first_chunk"
INFERENCE_PER_CHUNK: Final = "gen_ai.client.inference.time_per_output_chunk"
INFERENCE_USAGE_PREFIX: Final = "gen_ai.client.inference.usage."
INFERENCE_INPUT_TOKENS: Final = "gen_ai.client.inference.operation.input_tokens"
INFERENCE_OUTPUT_TOKENS: Final = "gen_ai.client.inference.operation.output_tokens"
EMBEDDINGS_DURATION: Final = "gen_ai.client.embeddings.duration"
EMBEDDINGS_INPUT_TOKENS: Final = "gen_ai.client.embeddings.operation.input_tokens"
AGENT_DURATION: Final = "gen_ai.invoke_agent.duration"
AGENT_INFERENCE_CALLS: Final = "gen_ai.invoke_agent.inference_calls"
AGENT_TOOL_CALLS: Final = "gen_ai.invoke_agent.tool_calls"
WORKFLOW_DURATION: Final = "gen_ai.invoke_workflow.duration"
TOOL_DURATION: Final = "gen_ai.execute_tool.duration"
MCP_CLIENT_DURATION: Final = "mcp.client.operation.duration"
MCP_SERVER_DURATION: Final = "mcp.server.operation.duration"
DRIFT_LATE_CALLS: Final = "agentguard.drift.late_calls"


def _seconds(
    name: str,
    profiles: tuple[Profile, ...],
    description: str,
    attributes: tuple[str, ...],
    buckets: tuple[float, ...] = DURATION_BUCKETS_S,
    *,
    is_emitted: bool = True,
) -> MetricSpec:
    """Make the row of a histogram of seconds."""
    return MetricSpec(name, "histogram", "s", buckets, profiles, description, attributes, is_emitted)


def _spent(what: str, description: str) -> MetricSpec:
    """Make the row of a counter of tokens."""
    attributes = (*MODEL_ATTRIBUTES, names.TOKEN_MODALITY)
    return MetricSpec(
        INFERENCE_USAGE_PREFIX + what, "counter", "{token}", (), _LATEST, description, attributes
    )


def _tokens(
    name: str, profiles: tuple[Profile, ...], description: str, attributes: tuple[str, ...]
) -> MetricSpec:
    """Make the row of a histogram of tokens a call."""
    return MetricSpec(name, "histogram", "{token}", TOKEN_BUCKETS, profiles, description, attributes)


METRICS: Final[tuple[MetricSpec, ...]] = (
    _seconds(OPERATION_DURATION, _COMPAT, "Duration of a model call or of embeddings.", MODEL_ATTRIBUTES),
    _tokens(TOKEN_USAGE, _COMPAT, "Tokens of a call, by type.", (*MODEL_ATTRIBUTES, names.TOKEN_TYPE)),
    _seconds(OPERATION_FIRST_CHUNK, _COMPAT, "From the request to the first chunk with content.", MODEL_ATTRIBUTES),
    _seconds(OPERATION_PER_CHUNK, _COMPAT, "Between two chunks with content, one measurement a chunk.", MODEL_ATTRIBUTES),
    _seconds(INFERENCE_DURATION, _LATEST, "Duration of a model call.", MODEL_ATTRIBUTES),
    _seconds(INFERENCE_FIRST_CHUNK, _LATEST, "From the request to the first chunk with content.", MODEL_ATTRIBUTES),
    _seconds(INFERENCE_PER_CHUNK, _LATEST, "Between two chunks with content, one measurement a chunk.", MODEL_ATTRIBUTES),
    _spent("input_tokens", "Input tokens, cached ones included; 0 for a call that failed."),
    _spent("output_tokens", "Output tokens, reasoning included; 0 for a call that failed."),
    _spent("cache_read.input_tokens", "Input tokens read from a cache."),
    _spent("cache_write.input_tokens", "Input tokens written to a cache."),
    _spent("reasoning.output_tokens", "Output tokens used for reasoning."),
    _tokens(INFERENCE_INPUT_TOKENS, _LATEST, "Input tokens of a call.", MODEL_ATTRIBUTES),
    _tokens(INFERENCE_OUTPUT_TOKENS, _LATEST, "Output tokens of a call.", MODEL_ATTRIBUTES),
    _seconds(EMBEDDINGS_DURATION, _LATEST, "Duration of making embeddings.", MODEL_ATTRIBUTES),
    _tokens(EMBEDDINGS_INPUT_TOKENS, _LATEST, "Input tokens of embeddings.", MODEL_ATTRIBUTES),
    _seconds(AGENT_DURATION, _ALL, "Duration of an agent in this process.", AGENT_ATTRIBUTES, AGENT_DURATION_BUCKETS_S),
    MetricSpec(AGENT_INFERENCE_CALLS, "histogram", "{inference_call}", CALL_COUNT_BUCKETS, _ALL,
               "Model calls that an agent made itself, those of agents inside it not counted.", AGENT_ATTRIBUTES),
    MetricSpec(AGENT_TOOL_CALLS, "histogram", "{tool_call}", CALL_COUNT_BUCKETS, _ALL,
               "Tool calls that an agent made itself.", AGENT_ATTRIBUTES),
    _seconds(WORKFLOW_DURATION, _ALL, "Duration of a workflow.", WORKFLOW_ATTRIBUTES, WORKFLOW_DURATION_BUCKETS_S),
    _seconds(TOOL_DURATION, _ALL, "Duration of a tool call.", TOOL_ATTRIBUTES),
    _seconds(MCP_CLIENT_DURATION, _ALL, "Duration of a request of the Model Context Protocol, as its sender sees it.", MCP_ATTRIBUTES, MCP_DURATION_BUCKETS_S),
    _seconds(MCP_SERVER_DURATION, _ALL, "The same, as its receiver sees it.", MCP_ATTRIBUTES, MCP_DURATION_BUCKETS_S),
    _seconds("mcp.client.session.duration", _ALL, "Duration of a session, on the side of the client.", MCP_ATTRIBUTES, MCP_DURATION_BUCKETS_S, is_emitted=False),
    _seconds("mcp.server.session.duration", _ALL, "Duration of a session, on the side of the server.", MCP_ATTRIBUTES, MCP_DURATION_BUCKETS_S, is_emitted=False),
    MetricSpec(DRIFT_LATE_CALLS, "counter", "{call}", (), _ALL,
               "Calls that were written after the drift checker had judged their hour: counted, never judged.", ()),
)  # fmt: skip
"""All instruments, in the order of the reference page."""
