"""How the drift commands read times and options, and how they print verdicts."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

import click

from agentguard import escape
from agentguard.cli._common import FINDINGS, FINE, emit, emit_document, fail
from agentguard.errors import DriftInputError
from agentguard.runtime import SystemClock
from agentguard.values import DriftStatus, FeatureType, Verdict

if TYPE_CHECKING:
    from agentguard.drift import Comparison, Series

_STYLES = {"drift": "red", "warning": "yellow", "stable": "green", "unknown": "bright_black"}
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_BARS = "▁▂▃▄▅▆▇█"


class Moment(click.ParamType[int]):
    """A moment: some time ago (15m, 1h, 28d, 4w), `now`, or a date; as nanoseconds since 1970."""

    name = "moment"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read the text, or refuse it with what was expected."""
        if isinstance(value, int):
            return value
        now = SystemClock().unix_ns()
        if value == "now":
            return now
        ago = re.fullmatch(r"(\d{1,9})([smhdw])", value)
        if ago:
            return now - int(ago[1]) * _UNITS_S[ago[2]] * 10**9
        try:
            when = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"got `{value}`, expected 15m, 1h, 28d ago, now, or a date (UTC)", param, ctx)
        return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1e9)


class Span(click.ParamType[tuple[int, int]]):
    """Two moments with two dots between: 2d..1d, 2026-01-01..2026-01-08; without an end: up to now."""

    name = "from..to"

    def convert(
        self, value: str | tuple[int, int], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Read both moments."""
        if isinstance(value, tuple):
            return value
        begin, _, end = value.partition("..")
        moment = Moment()
        return moment.convert(begin, param, ctx), moment.convert(end or "now", param, ctx)


def features_of(text: str | None) -> dict[str, FeatureType | None] | None:
    """Read `a,b:count`; a wrong type is refused by `compare`."""
    if text is None:
        return None
    pairs = (part.strip().partition(":") for part in text.split(",") if part.strip())
    return {name: type_ or None for name, _, type_ in pairs}  # type: ignore[misc]


def names_of(text: str | None) -> tuple[str, ...]:
    """Read `a,b`."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def labels_of(text: str | None) -> tuple[str, str] | Literal["auto"]:
    """Read `predicted,true`."""
    if text is None:
        return "auto"
    names = [part.strip() for part in text.split(",")]
    if len(names) != 2:
        raise click.BadParameter(f"got {len(names)} names, expected predicted,true", param_hint="--labels")
    return (names[0], names[1])


def print_comparison(result: Comparison, output_format: str) -> int:
    """Print a comparison and return the exit status."""
    if output_format == "text":
        click.echo(str(result))
    elif output_format == "json":
        emit_document(result.to_dict())
    else:
        emit((row.to_dict() for row in result.features), columns=(), output_format="jsonl")
    if result.status is DriftStatus.UNKNOWN:
        fail(DriftInputError("nothing could be compared"))
    return FINDINGS if result.is_drift else FINE


def print_verdict(verdict: Verdict) -> None:
    """Print the verdict in one line, and one line for each feature that drifted."""
    word = click.style(verdict.status.value, fg=_STYLES[verdict.status.value], bold=True)
    kind = f" ({verdict.kind})" if verdict.kind else ""
    age = ""
    if verdict.time_unix_ns:
        age = f", {_ago((SystemClock().unix_ns() - verdict.time_unix_ns) / 1e9)}"
    click.echo(f"{word}{kind}{age}: {escape.terminal(verdict.sentence)}")
    for feature in verdict.features:
        if feature.is_drift:
            click.echo(f"  {escape.terminal(feature.sentence)}")


def verdict_row(verdict: Verdict) -> dict[str, object]:
    """Return a verdict as plain data."""
    return {
        "status": verdict.status.value,
        "kind": verdict.kind,
        "time": utc(verdict.time_unix_ns) if verdict.time_unix_ns else None,
        "agent": verdict.agent,
        "sentence": verdict.sentence,
        "late_calls": verdict.late_calls,
        "features": [
            {
                "feature": one.feature,
                "is_drift": one.is_drift,
                "effect": one.effect,
                "effect_unit": one.effect_unit,
                "p_value": one.p_value,
                "test": one.test,
                "n_reference": one.n_reference,
                "n_current": one.n_current,
                "sentence": one.sentence,
            }
            for one in verdict.features
        ],
    }


def emit_one(document: dict[str, object], output_format: str) -> None:
    """Print one document as JSON, or as one line of it."""
    if output_format == "jsonl":
        emit([document], columns=(), output_format="jsonl")
    else:
        emit_document(document)


def spark_line(series: Series) -> str:
    """Return one series as a line: name, bars, last value."""
    known = [value for value in series.values if not math.isnan(value)]
    last = known[-1] if known else math.nan
    text = f"{100 * last:.1f} %" if series.unit == "share" else f"{last:,.4g} {series.unit}"
    return f"{series.name:<32} {sparkline(series.values)}  {text}, {sum(series.calls):,} calls"


def sparkline(values: Sequence[float]) -> str:
    """
    Draw numbers as bars, from 0 to their largest; a dot stands for no number.

    Example:
        >>> sparkline([0.0, 1.0, math.nan, 4.0])
        '▁▂·█'
    """
    top = max((value for value in values if not math.isnan(value)), default=0.0)
    if top <= 0:
        return "".join("·" if math.isnan(value) else _BARS[0] for value in values)
    return "".join(
        "·"
        if math.isnan(value)
        else _BARS[min(len(_BARS) - 1, int(max(value, 0.0) / top * (len(_BARS) - 1)))]
        for value in values
    )


def plain_number(value: float) -> float | None:
    """Return None for NaN: JSON has none."""
    return None if math.isnan(value) else value


def utc(unix_ns: int) -> str:
    """Return a moment as text."""
    return datetime.fromtimestamp(unix_ns / 1e9, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _ago(seconds: float) -> str:
    """Return how long ago as people say it."""
    for size, word in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            n = int(seconds // size)
            return f"{n} {word}{'s' * (n > 1)} ago"
    return "just now"
