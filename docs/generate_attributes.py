"""
Write the reference page of attributes, spans and metrics from the tables in the code.

Run `python docs/generate_attributes.py`; with `--check` nothing is written, and
the exit status says whether the page differs from the code.
"""

from __future__ import annotations

import sys
from pathlib import Path

from agentguard.values.attribute_table import ATTRIBUTES, AttributeSpec
from agentguard.values.attributes import OPERATIONS, SEMCONV_VERSION
from agentguard.values.metric_names import METRICS

PAGE = Path(__file__).parent / "reference" / "attributes.md"

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

## Metrics

| metric | instrument | unit | profiles |
|---|---|---|---|
{metrics}
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
        metrics="\n".join(
            f"| `{metric.name}` | {metric.instrument} | {metric.unit} | "
            + ("all" if len(metric.profiles) == len(SEMCONV_VERSION) else ", ".join(metric.profiles))
            + " |"
            for metric in METRICS
        ),
    )


def main(arguments: list[str]) -> int:
    """Write the page, or check it."""
    if "--check" in arguments:
        return 0 if PAGE.read_text(encoding="utf-8") == page() else 1
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
