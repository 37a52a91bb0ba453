"""Bad data: token counts go missing, and a field changes its meaning."""

from __future__ import annotations

from agentguard.cli.demo.brain import NO_USAGE, TESTED
from agentguard.cli.demo.findings import Finding
from agentguard.cli.demo.stage import Stage

_COUNTED = "select coalesce(sum(output_tokens), 0) from spans where kind = 'model' and output_tokens > 0"
_ABOUT_DATA = ("model.token_count (missing)", "model.schema")
_MISSING = "select coalesce(sum(is_usage_missing), 0) from spans where kind = 'model'"


def play(stage: Stage) -> Finding:
    """Put a gateway before the model that strips usage and renames a finish reason; look at the data."""
    counted_before, missing_before = stage.number(_COUNTED), stage.number(_MISSING)
    billed_before = stage.server.output_tokens
    since = stage.now()
    stage.server.behaviour = NO_USAGE
    stage.serve(stage.size.window)
    stage.server.behaviour = TESTED
    verdict = stage.check_drift(since)
    stage.restart_watch()
    billed = stage.server.output_tokens - billed_before
    counted = stage.number(_COUNTED) - counted_before
    missing = int(stage.number(_MISSING) - missing_before)
    found = [f for f in verdict.features if f.is_drift and f.feature in _ABOUT_DATA]
    names = {f.feature for f in found}
    return Finding(
        title="Bad data",
        story="A gateway before the model drops token counts and renames a finish reason.",
        without=f"adding up what the answers say gives {counted:,.0f} output tokens while {billed:,.0f} were "
        "billed; a dashboard reads that as a saving",
        with_guard=(
            f"{missing} model calls are marked as without usage: unknown, not zero",
            *(f"quality: {f.sentence}" for f in found),
        ),
        command="agentguard drift check",
        caught=missing > 0 and names == set(_ABOUT_DATA),
        short=f"{missing} calls without counts, {len(found)} findings",
        figures={
            "billed_tokens": billed,
            "counted_tokens": counted,
            "missing": missing,
            "findings": sorted(names),
        },
    )
