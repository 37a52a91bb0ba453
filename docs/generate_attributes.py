"""
Write the reference pages of attributes, spans and metrics from the tables in the code.

Run `python docs/generate_attributes.py`; with `--check` nothing is written, and
the exit status says whether the page differs from the code.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from agentguard.values.attribute_table import ATTRIBUTES, AttributeSpec
from agentguard.values.attributes import OPERATIONS, SEMCONV_VERSION
from agentguard.values.metric_names import METRICS, MetricSpec

PAGE = Path(__file__).parent / "reference" / "attributes.md"
METRICS_PAGE = PAGE.with_name("metrics.md")

TEXT = """\
# Attributes

What stands on the spans that agentguard keeps and exports. Names that begin with `gen_ai.`, `mcp.`, `error.`,
`http.` and `server.` are those of the OpenTelemetry conventions; all `gen_ai.*` names are still in development there.
Names that begin with `agentguard.` are ours and stay. A profile says which generation of the conventions is written:

| profile | conventions |
|---|---|
{profiles}

Attributes marked **content** hold what people or models wrote. They are written only with the setting `capture` at
`redacted` or `full`. The table has every name that agentguard knows; a name stands on a span where its value is known.

## Spans

| operation | kind | kind in OpenTelemetry | name |
|---|---|---|---|
{spans}

## Attributes

| attribute | type | on | meaning | profiles |
|---|---|---|---|---|
{attributes}

Labels of a run stand as `agentguard.label.<name>`.

Metrics and events that are no spans have [a page of their own](metrics.md).
"""

METRICS_TEXT = """\
# Metrics and events

agentguard measures every guarded call with the metrics of the GenAI conventions, and gives the measurements to the
global `MeterProvider` of the application; where the application has set none, nothing is measured. It never sets a
provider, and does not load OpenTelemetry's SDK. Measuring happens when a span is written to the store, off the thread
that made the call: a span that was dropped, or whose capture is `none`, is not measured. With the setting `otel` at
`isolated` or `off` nothing is given to providers of the application.

The setting `semconv` says which generation of names is measured. The conventions of these metrics are still in
development; the names of the profile `compat` are those that released instrumentations write.

No measurement has an attribute that names a run, a conversation, a session or a person, or that holds text. Each is
recorded in the context of its span, so that a backend with exemplars can go from a bucket to the call.

## Metrics

| metric | instrument | unit | meaning | attributes | profiles |
|---|---|---|---|---|---|
{metrics}

A denied call is measured like one that failed: its `error.type` is `denied`. Where a stream has more than 4,096
chunks, the time of the later ones is not measured. {not_emitted} are defined by the conventions and not measured.
`agentguard.drift.late_calls` is counted by the one process whose pass over the store found the calls, outside any trace.

## Bucket boundaries

| metrics | boundaries |
|---|---|
{buckets}

## Events

Events are log records, given to the global `LoggerProvider` of the application where there is one.

| event | severity | when | attributes |
|---|---|---|---|
| `gen_ai.client.operation.exception` | WARN (13) | a model call, embeddings or a retrieval raised | `exception.type`; `exception.message` only with capture `full` |
| `gen_ai.evaluation.result` | INFO (9) | `agentguard.record_outcome(score=...)` | `gen_ai.evaluation.name` (from the attributes of the outcome, else `agentguard.outcome`), `gen_ai.evaluation.score.value`, `gen_ai.evaluation.score.label` (`correct` or `incorrect`, where both labels are known), `agentguard.call.id` where the call is no longer running |

Both stand in the trace of the call as far as it is known. Labels of outcomes are never sent.
"""


def _attribute(spec: AttributeSpec) -> str:
    """One row."""
    profiles = "all" if len(spec.profiles) == len(SEMCONV_VERSION) else ", ".join(spec.profiles)
    meaning = f"**content** {spec.description}" if spec.is_content else spec.description
    return f"| `{spec.name}` | {spec.type} | {spec.where} | {meaning} | {profiles} |"


def page() -> str:
    """Make the page."""
    return TEXT.format(
        profiles="\n".join(f"| `{name}` | {version} |" for name, version in SEMCONV_VERSION.items()),
        spans="\n".join(
            f"| `{spec.operation}` | {spec.kind} | {spec.otel_kind} | "
            + (f"`{spec.operation} {{{spec.subject}}}`" if spec.subject else f"`{spec.operation}`")
            + " |"
            for spec in OPERATIONS.values()
        ),
        attributes="\n".join(_attribute(spec) for spec in ATTRIBUTES.values()),
    )


def _metric(spec: MetricSpec) -> str:
    """One row."""
    profiles = "all" if len(spec.profiles) == len(SEMCONV_VERSION) else ", ".join(spec.profiles)
    attributes = ", ".join(f"`{name}`" for name in spec.attributes)
    return f"| `{spec.name}` | {spec.instrument} | {spec.unit} | {spec.description} | {attributes} | {profiles} |"


def metrics_page() -> str:
    """Make the page of metrics."""
    by_buckets: dict[tuple[float, ...], list[str]] = {}
    for spec in METRICS:
        if spec.buckets and spec.is_emitted:
            by_buckets.setdefault(spec.buckets, []).append(f"`{spec.name}`")
    return METRICS_TEXT.format(
        metrics="\n".join(_metric(spec) for spec in METRICS if spec.is_emitted),
        buckets="\n".join(
            f"| {', '.join(found)} | {' '.join(f'{edge:.12g}' for edge in edges)} |"
            for edges, found in by_buckets.items()
        ),
        not_emitted=" and ".join(f"`{spec.name}`" for spec in METRICS if not spec.is_emitted),
    )


PAGES: Mapping[Path, Callable[[], str]] = {PAGE: page, METRICS_PAGE: metrics_page}


def main(arguments: list[str]) -> int:
    """Write the page, or check it."""
    if "--check" in arguments:
        return 0 if all(path.read_text(encoding="utf-8") == make() for path, make in PAGES.items()) else 1
    for path, make in PAGES.items():
        path.write_text(make(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
