"""
The catalogue of facts: all that a policy condition may read.

Policy types, the reference page, JSON Schema and replay come from this one
table. A fact that is not in it (and not registered) does not load in a policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeAlias

Scope: TypeAlias = Literal["call", "run", "process", "machine"]


class FactSpec(NamedTuple):
    """One fact: its type, where it comes from, and what its absence means."""

    name: str
    type: str
    """In the notation of `Condition.compile`: int, double, string, bool, timestamp, list<T>, map<K,V>, dyn."""
    description: str
    scope: Scope = "call"
    unit: str = ""
    is_trusted: bool = True
    """False where a model wrote it: a rule that such a fact relaxes gets a warning."""
    is_plain: bool = False
    """Whether a string value may stand in the decision log as it is; else a keyed hash does."""
    stale_s_max: float = 0.0
    """How old the value may be when a rule reads it; 0: computed for the call."""
    points: tuple[str, ...] = ()
    """Intervention points that have the fact; empty: all."""
    missing: str = "evaluation error: the call is denied"
    """What a rule gets where the fact has no value."""
    words: tuple[str, ...] = ()
    """Every text that it can be, or of a map each value, where they are few: comparing it with another one does not load."""
    keys: tuple[str, ...] = ()
    """Of a map: how every key begins, where that is known. What stands behind a blank is free; asking for another
    key does not load."""


_STREAMS: tuple[str, ...] = (
    *(
        f"{kind}.{measure}"
        for kind in ("agent", "model", "tool", "workflow", "retriever", "other")
        for measure in (
            "response_latency_ms", "token_count", "retry_count", "error_rate", "time_to_first_chunk_ms",
            "usage_missing", "new_shape", "new_name", "out_of_range", "output_on_error", "cost_mismatch",
            "duplicate", "clock_skew",
        )
    ),
    "silence", "call_volume", "accuracy",
)  # fmt: skip
"""What the drift checker watches; a part of the traffic stands behind it: `tool.error_rate [tool=search]`."""

_BEFORE_AND_AFTER_TOOL = ("tool.before", "tool.after")
_BEFORE_AND_AFTER_MODEL = ("model.before", "model.after")
_AFTER = ("agent.after", "model.after", "tool.after")

_SPECS: tuple[FactSpec, ...] = (
    FactSpec("tool.name", "string", "Name of the tool.", is_plain=True, points=_BEFORE_AND_AFTER_TOOL),
    FactSpec(
        "tool.effect",
        "string",
        "none, read or write, as the developer declared it.",
        is_plain=True,
        points=_BEFORE_AND_AFTER_TOOL,
        missing="write",
        words=("none", "read", "write"),
    ),
    FactSpec(
        "tool.calls_5m",
        "int",
        "Calls of this tool in the last five minutes.",
        scope="machine",
        unit="calls",
        stale_s_max=1.0,
        points=_BEFORE_AND_AFTER_TOOL,
        missing="0",
    ),
    FactSpec(
        "tool.error_rate_5m",
        "double",
        "Share of those calls that raised.",
        scope="machine",
        unit="share",
        stale_s_max=1.0,
        points=_BEFORE_AND_AFTER_TOOL,
        missing="0.0",
    ),
    FactSpec(
        "args",
        "map<string, dyn>",
        "Arguments of the call by parameter name, as the model wrote them.",
        is_trusted=False,
    ),
    FactSpec(
        "recipients",
        "list<map<string, string>>",
        "Mail addresses found in the arguments to, cc, bcc and recipients: maps with address and domain.",
        is_trusted=False,
        points=_BEFORE_AND_AFTER_TOOL,
        missing="an empty list",
    ),
    FactSpec(
        "agent.name",
        "string",
        "Name of the innermost guarded agent.",
        is_plain=True,
        missing="the empty string",
    ),
    FactSpec("agent.version", "string", "Its declared version.", is_plain=True, missing="the empty string"),
    FactSpec(
        "model.name",
        "string",
        "Requested model.",
        is_plain=True,
        points=_BEFORE_AND_AFTER_MODEL,
        missing="the empty string",
    ),
    FactSpec(
        "model.provider",
        "string",
        "Provider, such as openai.",
        is_plain=True,
        points=_BEFORE_AND_AFTER_MODEL,
        missing="the empty string",
    ),
    FactSpec(
        "principal.id", "string", "On whose behalf the run acts.", scope="run", missing="the empty string"
    ),
    FactSpec(
        "principal.roles",
        "list<string>",
        "Roles of the principal, as the application gave them.",
        scope="run",
        is_plain=True,
        missing="an empty list",
    ),
    FactSpec("run.id", "string", "Id of the run.", scope="run", is_plain=True),
    FactSpec(
        "run.labels",
        "map<string, string>",
        "Labels that the application gave the run.",
        scope="run",
        missing="an empty map",
    ),
    FactSpec(
        "run.calls",
        "int",
        "Guarded calls begun in this run, this one not counted.",
        scope="run",
        unit="calls",
    ),
    FactSpec(
        "run.tool_calls",
        "int",
        "Tool calls begun in this run, this one not counted.",
        scope="run",
        unit="calls",
    ),
    FactSpec(
        "run.model_calls",
        "int",
        "Model calls begun in this run, this one not counted.",
        scope="run",
        unit="calls",
    ),
    FactSpec(
        "run.repeats",
        "int",
        "How often this tool was called in this run with these very arguments, this call not counted.",
        scope="run",
        unit="calls",
        points=_BEFORE_AND_AFTER_TOOL,
    ),
    FactSpec("run.errors", "int", "Guarded calls of this run that raised.", scope="run", unit="calls"),
    FactSpec("run.retries", "int", "Retries recorded in this run.", scope="run"),
    FactSpec("run.tokens", "int", "Input and output tokens used in this run.", scope="run", unit="tokens"),
    FactSpec(
        "run.cost_usd", "double", "Cost of the run's model calls with a known price.", scope="run", unit="USD"
    ),
    FactSpec("run.duration_s", "double", "Seconds since the run began.", scope="run", unit="s"),
    FactSpec("conversation.id", "string", "Id of the conversation.", scope="run", missing="the empty string"),
    FactSpec(
        "cost.usd_today",
        "double",
        "Cost of all model calls of this machine since midnight UTC.",
        scope="machine",
        unit="USD",
        stale_s_max=1.0,
        missing="0.0",
    ),
    FactSpec(
        "tokens.today",
        "int",
        "Tokens of all model calls of this machine since midnight UTC.",
        scope="machine",
        unit="tokens",
        stale_s_max=1.0,
        missing="0",
    ),
    FactSpec(
        "env.name",
        "string",
        "Deployment environment, such as prod.",
        scope="process",
        is_plain=True,
        missing="the empty string",
    ),
    FactSpec("env.service", "string", "Service name.", scope="process", is_plain=True),
    FactSpec("time.now", "timestamp", "Wall-clock time of the decision."),
    FactSpec(
        "drift.status",
        "string",
        "unknown, stable, warning or drift.",
        scope="machine",
        is_plain=True,
        stale_s_max=60.0,
        missing="unknown",
        words=("unknown", "stable", "warning", "drift"),
    ),
    FactSpec(
        "drift.kind",
        "string",
        "Empty, incident, drift, quality, known-change or accuracy.",
        scope="machine",
        is_plain=True,
        stale_s_max=60.0,
        missing="the empty string",
        words=("", "incident", "drift", "quality", "known-change", "accuracy"),
    ),
    FactSpec(
        "drift.features",
        "list<string>",
        "Features that drifted.",
        scope="machine",
        is_plain=True,
        stale_s_max=60.0,
        missing="an empty list",
    ),
    FactSpec(
        "drift.alarmed",
        "map<string, string>",
        "Streams with an active alarm, such as model.error_rate, and its kind: incident, drift, quality, "
        "known-change or accuracy.",
        scope="machine",
        is_plain=True,
        stale_s_max=60.0,
        missing="an empty map",
        words=("incident", "drift", "quality", "known-change", "accuracy"),
        keys=_STREAMS,
    ),
    FactSpec(
        "drift.age_s",
        "double",
        "Seconds since the last drift check; infinite where none ran.",
        scope="machine",
        unit="s",
        missing="a very large number",
    ),
    FactSpec(
        "policy.reload_failed",
        "bool",
        "Whether the policies on disk do not load, so that the last good ones are in force.",
        scope="process",
        stale_s_max=5.0,
        missing="false",
    ),
    FactSpec(
        "quality.features",
        "list<string>",
        "Streams that drifted and speak of the data itself: missing usage, unknown shapes, duplicates, silence.",
        scope="machine",
        is_plain=True,
        stale_s_max=60.0,
        missing="an empty list",
    ),
    FactSpec(
        "accuracy.lower",
        "double",
        "Lower end of the interval of accuracy on the labels since the reference, valid at all times.",
        scope="machine",
        unit="share",
        stale_s_max=60.0,
        missing="0.0",
    ),
    FactSpec(
        "deps.vulnerable",
        "int",
        "Installed distributions with a known vulnerability, from the last check.",
        scope="process",
        missing="0",
    ),
    FactSpec(
        "deps.age_days_max",
        "int",
        "Age in days of the oldest installed distribution, from the last check.",
        scope="process",
        unit="days",
        missing="0",
    ),
    FactSpec("result", "dyn", "What the call returned, as plain data.", is_trusted=False, points=_AFTER),
    FactSpec("call.duration_ms", "double", "How long the call took.", unit="ms", points=_AFTER),
    FactSpec(
        "call.error",
        "string",
        "Class of the exception, or empty.",
        is_plain=True,
        points=_AFTER,
        missing="the empty string",
    ),
    FactSpec(
        "usage.input_tokens",
        "int",
        "Input tokens of the call.",
        unit="tokens",
        points=("model.after", "agent.after"),
    ),
    FactSpec(
        "usage.output_tokens",
        "int",
        "Output tokens of the call.",
        unit="tokens",
        points=("model.after", "agent.after"),
    ),
)

FACTS: Mapping[str, FactSpec] = {spec.name: spec for spec in _SPECS}
"""All facts by name."""

FACT_SCHEMA_VERSION = "1"
"""Raised when a fact changes its meaning or type; written into each decision log."""
