"""
The metrics of the GenAI conventions by profile: names, units, bucket boundaries.

Source: open-telemetry/semantic-conventions-genai, docs/gen-ai/gen-ai-metrics.md and
gen-ai-token-metrics.md; the compat names are those of opentelemetry-util-genai 1.3b0.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

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


_COMPAT: tuple[Profile, ...] = ("compat", "both")
_LATEST: tuple[Profile, ...] = ("latest", "both")
_ALL: tuple[Profile, ...] = ("compat", "latest", "both")

METRICS: Final[tuple[MetricSpec, ...]] = (
    MetricSpec("gen_ai.client.operation.duration", "histogram", "s", DURATION_BUCKETS_S, _COMPAT),
    MetricSpec("gen_ai.client.token.usage", "histogram", "{token}", TOKEN_BUCKETS, _COMPAT),
    MetricSpec("gen_ai.client.operation.time_to_first_chunk", "histogram", "s", DURATION_BUCKETS_S, _COMPAT),
    MetricSpec(
        "gen_ai.client.operation.time_per_output_chunk", "histogram", "s", DURATION_BUCKETS_S, _COMPAT
    ),
    MetricSpec("gen_ai.client.inference.duration", "histogram", "s", DURATION_BUCKETS_S, _LATEST),
    MetricSpec("gen_ai.client.inference.time_to_first_chunk", "histogram", "s", DURATION_BUCKETS_S, _LATEST),
    MetricSpec(
        "gen_ai.client.inference.time_per_output_chunk", "histogram", "s", DURATION_BUCKETS_S, _LATEST
    ),
    MetricSpec("gen_ai.client.inference.usage.input_tokens", "counter", "{token}", (), _LATEST),
    MetricSpec("gen_ai.client.inference.usage.output_tokens", "counter", "{token}", (), _LATEST),
    MetricSpec("gen_ai.client.inference.usage.cache_read.input_tokens", "counter", "{token}", (), _LATEST),
    MetricSpec("gen_ai.client.inference.usage.cache_write.input_tokens", "counter", "{token}", (), _LATEST),
    MetricSpec("gen_ai.client.inference.usage.reasoning.output_tokens", "counter", "{token}", (), _LATEST),
    MetricSpec(
        "gen_ai.client.inference.operation.input_tokens", "histogram", "{token}", TOKEN_BUCKETS, _LATEST
    ),
    MetricSpec(
        "gen_ai.client.inference.operation.output_tokens", "histogram", "{token}", TOKEN_BUCKETS, _LATEST
    ),
    MetricSpec("gen_ai.invoke_agent.duration", "histogram", "s", AGENT_DURATION_BUCKETS_S, _ALL),
    MetricSpec(
        "gen_ai.invoke_agent.inference_calls", "histogram", "{inference_call}", CALL_COUNT_BUCKETS, _ALL
    ),
    MetricSpec("gen_ai.invoke_agent.tool_calls", "histogram", "{tool_call}", CALL_COUNT_BUCKETS, _ALL),
    MetricSpec("gen_ai.invoke_workflow.duration", "histogram", "s", WORKFLOW_DURATION_BUCKETS_S, _ALL),
    MetricSpec("gen_ai.execute_tool.duration", "histogram", "s", DURATION_BUCKETS_S, _ALL),
    MetricSpec("mcp.client.operation.duration", "histogram", "s", MCP_DURATION_BUCKETS_S, _ALL),
    MetricSpec("mcp.server.operation.duration", "histogram", "s", MCP_DURATION_BUCKETS_S, _ALL),
    MetricSpec("mcp.client.session.duration", "histogram", "s", MCP_DURATION_BUCKETS_S, _ALL),
    MetricSpec("mcp.server.session.duration", "histogram", "s", MCP_DURATION_BUCKETS_S, _ALL),
)
"""All instruments, in the order of the reference page."""
