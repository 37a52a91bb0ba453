"""The commands below `agentguard drift`: is it still the agent that was tested."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

import click

from agentguard import escape
from agentguard.cli._common import (
    FINDINGS,
    FINE,
    Place,
    emit,
    emit_document,
    fail,
    format_option,
    listing_options,
    note,
)
from agentguard.errors import DriftError, DriftInputError
from agentguard.runtime import SystemClock
from agentguard.values import DriftStatus, FeatureType, Verdict

if TYPE_CHECKING:
    from agentguard.drift import Comparison, Series

_STYLES = {"drift": "red", "warning": "yellow", "stable": "green", "unknown": "bright_black"}
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_BARS = "▁▂▃▄▅▆▇█"


class _Moment(click.ParamType[int]):
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


class _Span(click.ParamType[tuple[int, int]]):
    """Two moments with two dots between: 2d..1d, 2026-01-01..2026-01-08; without an end: up to now."""

    name = "from..to"

    def convert(
        self, value: str | tuple[int, int], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Read both moments."""
        if isinstance(value, tuple):
            return value
        begin, _, end = value.partition("..")
        moment = _Moment()
        return moment.convert(begin, param, ctx), moment.convert(end or "now", param, ctx)


_agent_option = click.option("--agent", default="", help="Only calls of this agent.")


@click.group()
def drift() -> None:
    """Say whether it is still the agent that was tested."""


@drift.command()
@format_option()
@click.option(
    "--points", type=click.IntRange(2, 200), default=24, show_default=True, help="Points of a sparkline."
)
@click.option(
    "--over", type=_Moment(), default="24h", show_default=True, help="How far back sparklines reach."
)
@click.pass_obj
def status(place: Place, output_format: str, points: int, over: int) -> int:
    """
    Say what the watch thinks, and show the last hours.

    Exit status: 1 where the last verdict is drift, else 0.
    """
    from agentguard.drift import alarm_history, last_verdict, load_reference, timeline

    store = place.open_store()
    verdict, reference, history = last_verdict(store), load_reference(store), alarm_history(store)
    series = timeline(store, since_unix_ns=over, until_unix_ns=SystemClock().unix_ns(), points=points)
    if output_format != "text":
        document = {
            **_verdict_row(verdict),
            "reference": None
            if reference is None
            else {
                "reference_id": reference.reference_id,
                "since": _utc(reference.since_unix_ns),
                "until": _utc(reference.until_unix_ns),
                "calls": reference.profile.n_calls,
                "sentence": reference.sentence,
            },
            "alarms": history,
            "series": [
                {"name": one.name, "unit": one.unit, "values": [_plain(v) for v in one.values]}
                for one in series
            ],
        }
        _emit_one(document, output_format)
    else:
        _print_verdict(verdict)
        if reference is None:
            note("no reference: `agentguard drift fit` learns what is normal from the calls so far")
        else:
            click.echo(f"reference {reference.reference_id}: {reference.sentence}")
        for one in series:
            click.echo(_spark_line(one))
        for alarm in history[-5:]:
            streams = escape.terminal(", ".join(alarm["streams"]))
            click.echo(
                f"{alarm['kind']} {_utc(alarm['time_unix_ns'])}, since {_utc(alarm['change_unix_ns'])}: {streams}"
            )
    return FINDINGS if verdict.status is DriftStatus.DRIFT else FINE


@drift.command()
@click.option("--since", type=_Moment(), help="Beginning of the reference; by default the first call.")
@click.option("--until", type=_Moment(), help="Its end; by default the last call.")
@click.option("--promise", type=float, default=1.0, show_default=True, help="False alarms tolerated a year.")
@_agent_option
@format_option()
@click.pass_obj
def fit(
    place: Place, since: int | None, until: int | None, promise: float, agent: str, output_format: str
) -> int:
    """
    Learn what is normal from a good time, and keep it in the store.

    The reference stays as it is until it is fitted again.
    """
    from agentguard.drift import fit_reference, save_reference

    store = place.open_store()
    try:
        reference = fit_reference(
            store, since_unix_ns=since, until_unix_ns=until, agent=agent, promise_per_year=promise
        )
    except DriftError as error:
        fail(error)
    save_reference(store, reference)
    if output_format == "text":
        click.echo(f"reference {reference.reference_id}: {reference.sentence}")
    else:
        _emit_one(
            {
                "reference_id": reference.reference_id,
                "since": _utc(reference.since_unix_ns),
                "until": _utc(reference.until_unix_ns),
                "calls": reference.profile.n_calls,
                "is_incident_armed": reference.incident is not None,
                "is_drift_armed": reference.drift is not None,
                "sentence": reference.sentence,
            },
            output_format,
        )
    return FINE


@drift.command()
@click.option(
    "--years", type=float, default=2.0, show_default=True, help="How long; about two seconds a year."
)
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed draws the same days.")
@format_option()
@click.pass_obj
def rehearse(place: Place, years: float, seed: int, output_format: str) -> int:
    """
    Measure the promise on your own data.

    Days of the stored reference are drawn at random and run through the watch: every alarm is a
    false one. Exit status: 1 where there are more than promised, 2 where nothing can be measured, else 0.
    """
    from agentguard.drift import load_reference
    from agentguard.drift import rehearse as measure

    store = place.open_store()
    try:
        reference = load_reference(store)
        if reference is None:
            raise DriftInputError("drift rehearse: no reference is stored").hint(
                "learn one: agentguard drift fit"
            )
        result = measure(store, reference, years=years, seed=seed)
    except DriftError as error:
        fail(error)
    if output_format == "text":
        click.echo(str(result))
    else:
        _emit_one(result._asdict(), output_format)
    return FINDINGS if max(result.incidents, result.drifts) > result.promise_per_year * result.years else FINE


@drift.command()
@click.option("--reference", type=_Span(), help="A good time, as FROM..TO; by default the stored reference.")
@click.option("--window", type=_Span(), help="The time in question, as FROM..TO; by default the last hour.")
@click.option(
    "--alpha",
    type=float,
    default=0.05,
    show_default=True,
    help="Chance of a false alarm, all features together.",
)
@_agent_option
@format_option()
@click.pass_obj
def check(
    place: Place,
    reference: tuple[int, int] | None,
    window: tuple[int, int] | None,
    alpha: float,
    agent: str,
    output_format: str,
) -> int:
    r"""
    Compare a window with a good time, once.

    \b
    agentguard drift check                              the last hour against the stored reference
    agentguard drift check --reference 2h..1h           the last hour against the one before
    agentguard drift check --reference 8d..7d --window 1d

    Exit status: 1 where something drifted, 2 where nothing can be compared, else 0.
    """
    from agentguard.drift import check as check_windows
    from agentguard.drift import load_reference

    store = place.open_store()
    now = SystemClock().unix_ns()
    try:
        kept = reference if reference is not None else load_reference(store)
        if kept is None:
            raise DriftInputError("drift check: no reference is stored and none was given").hint(
                "name one: --reference 2h..1h, or learn one: agentguard drift fit"
            )
        result = check_windows(
            store, reference=kept, window=window or (now - 3600 * 10**9, now), agent=agent, alpha=alpha
        )
    except DriftError as error:
        fail(error)
    return _print_comparison(result, output_format)


@drift.command()
@click.argument("reference", type=click.Path())
@click.argument("current", type=click.Path())
@click.option("--features", help="Columns to compare, such as latency_ms,retries:count,ok:share.")
@click.option("--labels", help="Columns of predicted and true labels, such as predicted,true.")
@click.option("--positive", help="The class that precision and recall speak of.")
@click.option(
    "--alpha",
    type=float,
    default=0.05,
    show_default=True,
    help="Chance of a false alarm, all features together.",
)
@click.option(
    "--correction",
    type=click.Choice(["holm", "bh"]),
    default="holm",
    show_default=True,
    help="How p-values are corrected.",
)
@format_option()
def compare(
    reference: str,
    current: str,
    features: str | None,
    labels: str | None,
    positive: str | None,
    alpha: float,
    correction: str,
    output_format: str,
) -> int:
    """
    Compare two tables, Parquet or CSV, feature by feature.

    Exit status: 1 where something drifted, 2 where the tables cannot be used, else 0.
    """
    from agentguard.drift import compare as compare_tables

    try:
        result = compare_tables(
            reference,
            current,
            features=_features(features),
            labels=_labels(labels),
            positive=positive,
            alpha=alpha,
            correction="bh" if correction == "bh" else "holm",
        )
    except DriftError as error:
        fail(error)
    return _print_comparison(result, output_format)


@drift.command()
@click.argument("table", type=click.Path())
@click.option(
    "--time",
    "time_column",
    default="start_time",
    show_default=True,
    help="Column with the time of each call.",
)
@click.option(
    "--reference-days",
    type=float,
    default=28.0,
    show_default=True,
    help="How much of the beginning is the reference.",
)
@click.option("--promise", type=float, default=1.0, show_default=True, help="False alarms tolerated a year.")
@listing_options(default_limit=0)
def backtest(
    table: str, time_column: str, reference_days: float, promise: float, output_format: str, limit: int
) -> int:
    """
    Run the watch over the history in a table, as if it were live.

    TABLE is a Parquet or CSV file with a time and the columns of `agentguard export features`.
    Exit status: 1 where it would have alarmed, 2 where the table cannot be used, else 0.
    """
    from agentguard.drift import backtest as replay

    try:
        result = replay(table, time=time_column, reference_days=reference_days, promise_per_year=promise)
    except DriftError as error:
        fail(error)
    rows = [
        {
            "kind": alarm.kind,
            "time": _utc(alarm.time_unix_ns),
            "change": _utc(alarm.change_unix_ns),
            "streams": ", ".join(alarm.streams),
            "effects": [round(effect, 4) for effect in alarm.effects],
        }
        for alarm in result.alarms
    ]
    if output_format == "text":
        note(f"reference: {result.reference.sentence}")
    emit(
        rows,
        columns=("kind", "time", "change", "streams"),
        output_format=output_format,
        limit=limit,
        empty=f"no alarm up to {_utc(result.until_unix_ns)}",
    )
    return FINDINGS if rows else FINE


@drift.command()
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same days.")
@format_option()
def simulate(seed: int, output_format: str) -> int:
    """Simulate thirty quiet days, and count the false alarms of the common recipe and of this watch."""
    from agentguard.drift import simulate_quiet_days

    quiet = simulate_quiet_days(seed)
    if output_format == "text":
        click.echo(str(quiet))
    else:
        _emit_one(quiet._asdict(), output_format)
    return FINE


def _features(text: str | None) -> dict[str, FeatureType | None] | None:
    """Read `a,b:count`; a wrong type is refused by `compare`."""
    if text is None:
        return None
    pairs = (part.strip().partition(":") for part in text.split(",") if part.strip())
    return {name: type_ or None for name, _, type_ in pairs}  # type: ignore[misc]


def _labels(text: str | None) -> tuple[str, str] | Literal["auto"]:
    """Read `predicted,true`."""
    if text is None:
        return "auto"
    names = [part.strip() for part in text.split(",")]
    if len(names) != 2:
        raise click.BadParameter(f"got {len(names)} names, expected predicted,true", param_hint="--labels")
    return (names[0], names[1])


def _print_comparison(result: Comparison, output_format: str) -> int:
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


def _print_verdict(verdict: Verdict) -> None:
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


def _verdict_row(verdict: Verdict) -> dict[str, object]:
    """Return a verdict as plain data."""
    return {
        "status": verdict.status.value,
        "kind": verdict.kind,
        "time": _utc(verdict.time_unix_ns) if verdict.time_unix_ns else None,
        "agent": verdict.agent,
        "sentence": verdict.sentence,
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


def _emit_one(document: dict[str, object], output_format: str) -> None:
    """Print one document as JSON, or as one line of it."""
    if output_format == "jsonl":
        emit([document], columns=(), output_format="jsonl")
    else:
        emit_document(document)


def _spark_line(series: Series) -> str:
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


def _plain(value: float) -> float | None:
    """Return None for NaN: JSON has none."""
    return None if math.isnan(value) else value


def _utc(unix_ns: int) -> str:
    """Return a moment as text."""
    return datetime.fromtimestamp(unix_ns / 1e9, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _ago(seconds: float) -> str:
    """Return how long ago as people say it."""
    for size, word in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            n = int(seconds // size)
            return f"{n} {word}{'s' * (n > 1)} ago"
    return "just now"
