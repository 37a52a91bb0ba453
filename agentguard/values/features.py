"""
The catalogue of features: the numbers of a span that drift and stats read.

`store` writes them as columns beside the spans, `drift` reads only these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeAlias

FeatureType: TypeAlias = Literal["continuous", "count", "share", "category"]


class FeatureSpec(NamedTuple):
    """One column of the feature block."""

    name: str
    dtype: Literal["int64", "float64", "dict"]
    """`dict`: an index into a dictionary of strings."""
    type: FeatureType
    """What kind of quantity it is: it decides the test."""
    unit: str
    description: str
    since: int = 1
    """Version of the feature block that brought the column."""


_SPECS: tuple[FeatureSpec, ...] = (
    FeatureSpec("start_unix_ns", "int64", "continuous", "ns", "Wall-clock start."),
    FeatureSpec("duration_ns", "int64", "continuous", "ns", "Monotonic duration."),
    FeatureSpec(
        "time_to_first_chunk_ns", "int64", "continuous", "ns", "Streams only; -1 where not a stream."
    ),
    FeatureSpec("input_tokens", "int64", "continuous", "tokens", "-1 where unknown."),
    FeatureSpec("output_tokens", "int64", "continuous", "tokens", "-1 where unknown."),
    FeatureSpec("cost_usd", "float64", "continuous", "USD", "NaN where unknown."),
    FeatureSpec("retries", "int64", "count", "retries", "Attempts beyond the first."),
    FeatureSpec("is_error", "int64", "share", "share", "1 where the call raised or said error."),
    FeatureSpec("is_usage_missing", "int64", "share", "share", "1 for a model call without token usage."),
    FeatureSpec("kind", "dict", "category", "", "agent, model, tool …"),
    FeatureSpec("agent", "dict", "category", "", "Name of the agent."),
    FeatureSpec("tool", "dict", "category", "", "Name of the tool."),
    FeatureSpec("model", "dict", "category", "", "Model that answered, else the one requested."),
    FeatureSpec("prompt_version", "dict", "category", "", "gen_ai.prompt.version."),
    FeatureSpec("tenant", "dict", "category", "", "Label `tenant` of the run: agentguard.label.tenant."),
    FeatureSpec("finish_reason", "dict", "category", "", "First finish reason."),
    FeatureSpec("error_type", "dict", "category", "", "error.type."),
    FeatureSpec(
        "schema",
        "dict",
        "category",
        "",
        "Fingerprint of the set of attribute names and types, without those that may name a person.",
    ),
)

FEATURES: Mapping[str, FeatureSpec] = {spec.name: spec for spec in _SPECS}
"""All features by name, in the order of the columns."""

FEATURE_BLOCK_VERSION = 1

EVERYDAY_FEATURES: tuple[str, ...] = (
    "response_latency_ms",
    "token_count",
    "retry_count",
    "error_rate",
)
"""Columns of the table that `export features` writes and that the everyday recipe compares."""
