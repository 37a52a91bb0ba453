"""Commands below `agentguard drift` about alarms: what would have been, what can be found, what was."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from agentguard import escape
from agentguard.cli._common import (
    FINDINGS,
    FINE,
    Place,
    emit,
    fail,
    format_option,
    listing_options,
    note,
)
from agentguard.cli._drift_text import (
    Moment,
    emit_one,
    features_of,
    names_of,
    plain_number,
    print_verdict,
    utc,
    verdict_row,
)
from agentguard.errors import AgentGuardError, DriftError, DriftInputError, SealError, StoreError
from agentguard.runtime import SystemClock

if TYPE_CHECKING:
    from agentguard.drift import Detectable, Rehearsal


@click.command()
@click.argument("table", type=click.Path())
@click.option(
    "--time",
    "time_column",
    default="start_time",
    show_default=True,
    help="Column with the time of each call.",
)
@click.option("--features", help="Columns to watch, such as latency_ms,retries:count,ok:share.")
@click.option("--segments", help="Columns whose values are parts of the traffic, such as tool,model.")
@click.option(
    "--reference",
    default="28d",
    show_default=True,
    help="How much of the beginning is the reference: 28d, 4w.",
)
@click.option("--promise", type=float, default=1.0, show_default=True, help="False alarms tolerated a year.")
@listing_options(default_limit=0)
def backtest(
    table: str,
    time_column: str,
    features: str | None,
    segments: str | None,
    reference: str,
    promise: float,
    output_format: str,
    limit: int,
) -> int:
    """
    Run the watch over the history in a table, as if it were live.

    TABLE is a Parquet or CSV file with a column of times; without --features the columns of `agentguard
    export features` are watched, or all columns of numbers.
    Exit status: 1 where it would have alarmed, 2 where the table cannot be used, else 0.
    """
    from agentguard.drift import backtest as replay

    try:
        result = replay(
            table,
            time=time_column,
            features=features_of(features),
            segments=names_of(segments),
            reference=reference,
            promise=promise,
        )
    except DriftError as error:
        fail(error)
    rows = [
        {
            "kind": alarm.kind,
            "stream": alarm.stream,
            "time": utc(alarm.time_unix_ns),
            "change": utc(alarm.change_unix_ns),
            "effect": plain_number(alarm.effect),
            "effect_low": plain_number(alarm.effect_low),
            "effect_high": plain_number(alarm.effect_high),
            "effect_name": alarm.effect_name,
            "unit": alarm.unit,
            "segment": alarm.segment,
            "streams": list(alarm.streams),
            "mix": dict(alarm.mix),
            "within": dict(alarm.within),
            "sentence": alarm.sentence,
        }
        for alarm in result.alarms
    ]
    if output_format == "text":
        note(f"reference: {result.reference.sentence}")
    for text in result.notes:
        note(text)
    emit(
        rows,
        columns=("kind", "time", "change", "sentence"),
        output_format=output_format,
        limit=limit,
        empty=f"no alarm up to {utc(result.until_unix_ns)}",
    )
    return FINDINGS if rows else FINE


@click.command("known-change")
@click.argument("table", type=click.Path())
@click.option("--version", "column", required=True, help="Column of versions.")
@click.option("--old", required=True, help="The version that is known to be good.")
@click.option("--new", required=True, help="The version in question.")
@click.option("--time", "time_column", default="start_time", show_default=True, help="Column of times.")
@click.option("--features", help="Columns to compare, such as latency_ms,retries:count,ok:share.")
@click.option("--alpha", type=float, default=0.01, show_default=True, help="Chance of a false alarm, ever.")
@listing_options(default_limit=0)
def known_change(
    table: str,
    column: str,
    old: str,
    new: str,
    time_column: str,
    features: str | None,
    alpha: float,
    output_format: str,
    limit: int,
) -> int:
    """
    Compare two versions that ran at the same time, hour by hour: a canary and the rest.

    Exit status: 1 where a feature changed, 2 where the table cannot be used, else 0.
    """
    from agentguard.drift import known_change as judge

    try:
        found = judge(
            table,
            version=column,
            old=old,
            new=new,
            time=time_column,
            features=features_of(features),
            alpha=alpha,
        )
    except DriftError as error:
        fail(error)
    rows = [
        {
            "kind": "known-change",
            "feature": one.feature,
            "is_change": one.is_change,
            "since": utc(one.since_unix_ns) if one.since_unix_ns else None,
            "effect": plain_number(one.effect.value),
            "effect_low": plain_number(one.effect.low),
            "effect_high": plain_number(one.effect.high),
            "effect_name": one.effect_name,
            "unit": one.unit,
            "hours": one.hours,
            "sentence": one.sentence,
        }
        for one in found
    ]
    emit(rows, columns=("feature", "is_change", "sentence"), output_format=output_format, limit=limit)
    return FINDINGS if any(one.is_change for one in found) else FINE


@click.command()
@click.option("--years", type=float, default=2.0, show_default=True, help="How long; a few seconds a year.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same days.")
@click.option("--quiet-days", is_flag=True, help="Thirty simulated days instead, beside the common recipe.")
@format_option()
@click.pass_obj
def simulate(place: Place, years: float, seed: int, quiet_days: bool, output_format: str) -> int:
    """
    Measure the promise on your own data, and the smallest change that would be found.

    Days of the stored reference are drawn at random and run through the watch: every alarm is a false one.
    Then changes of many sizes are added to such days. Where nothing is stored that could be measured, thirty
    quiet days are simulated, with the false alarms of the common recipe and of this watch.

    Exit status: 1 where there are more false alarms than promised, 2 where nothing can be measured, else 0.
    """
    from agentguard.drift import load_reference, rehearse, simulate_quiet_days, smallest_effects

    why = ""
    if not quiet_days:
        try:
            store = place.open_store()
            reference = load_reference(store)
            if reference is not None and reference.incident is not None:
                result = rehearse(store, reference, years=years, seed=seed)
                smallest = smallest_effects(store, reference, seed=seed)
                return _print_simulation(result, smallest, output_format)
            why = "no reference is stored" if reference is None else reference.sentence
        except (StoreError, SealError) as error:
            why = str(error)
        except DriftError as error:
            fail(error)
    quiet = simulate_quiet_days(seed)
    if output_format != "text":
        emit_one(quiet._asdict(), output_format)
        return FINE
    if why:
        note(f"nothing of your own to measure ({why}); these are simulated days")
    click.echo(str(quiet))
    return FINE


def _print_simulation(result: Rehearsal, smallest: tuple[Detectable, ...], output_format: str) -> int:
    """Print what was measured on one's own data."""
    if output_format == "text":
        click.echo(str(result))
        click.echo("smallest change found within a week, in at least 8 of 10 runs:")
        for one in smallest:
            click.echo(f"  {escape.terminal(str(one))}")
    else:
        rows = [
            {k: plain_number(v) if isinstance(v, float) else v for k, v in one._asdict().items()}
            for one in smallest
        ]
        emit_one({**result._asdict(), "smallest_effects": rows}, output_format)
    return FINE if result.is_kept else FINDINGS


@click.command()
@click.argument("number", type=click.IntRange(min=1), default=1)
@format_option()
@click.pass_obj
def explain(place: Place, number: int, output_format: str) -> int:
    """
    Explain an alarm: what changed, since when, where.

    NUMBER is 1 for the newest alarm, 2 for the one before it.
    """
    from agentguard.drift import explain as look_again

    try:
        found = look_again(place.open_store(), number=number)
    except DriftError as error:
        fail(error)
    parts = found.attribution
    if output_format != "text":
        document = {
            **verdict_row(found.verdict),
            "change": utc(found.verdict.change_unix_ns),
            "segment": found.verdict.segment,
            "acknowledged": found.entry.get("acknowledged", ""),
            "segments": [] if parts is None else [one._asdict() for one in parts.segments],
            "splits": [] if parts is None else [one._asdict() for one in parts.splits],
        }
        emit_one(document, output_format)
        return FINE
    print_verdict(found.verdict)
    for segment in () if parts is None else parts.segments:
        click.echo(
            f"  in {escape.terminal(segment.name)}: score {segment.before:.3f} -> {segment.after:.3f}, "
            f"n = {segment.n_reference:,} and {segment.n_current:,}"
        )
    for split in () if parts is None else parts.splits:
        click.echo(
            f"  by {escape.terminal(split.dimension)}: another mix {split.mix:+.4f}, within its parts {split.within:+.4f}"
        )
    if found.entry.get("acknowledged"):
        click.echo(f"  known: {escape.terminal(found.entry['acknowledged'])}")
    return FINE


@click.command()
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--title", default="", help="Head of the page.")
@click.option(
    "--years",
    type=click.FloatRange(min=0),
    default=2.0,
    show_default=True,
    help="How long the promise is rehearsed; 0 for not.",
)
@click.pass_obj
def report(place: Place, path: Path, title: str, years: float) -> int:
    """
    Write one self-contained HTML page: charts, season, alarms, evidence, promised and measured rates.

    An existing file at PATH is replaced.
    """
    from agentguard.drift import load_reference, rehearse
    from agentguard.drift import report as draw

    try:
        store = place.open_store()
        reference, measured = load_reference(store), ""
        if reference is not None and reference.incident is not None and years:
            measured = str(rehearse(store, reference, years=years))
        page = draw(store, now_unix_ns=SystemClock().unix_ns(), title=title, measured=measured)
    except DriftError as error:
        fail(error)
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        fail(AgentGuardError(f"drift report: {path}: {error.strerror}"))
    note(f"wrote {path}")
    return FINE


@click.command()
@click.argument("why")
@click.pass_obj
def ack(place: Place, why: str) -> int:
    """
    Acknowledge the active alarms: the verdict is a warning until they are over.

    WHY is kept with the alarm. Exit status: 1 where no alarm is active, else 0.
    """
    from agentguard.drift import acknowledge

    try:
        n = acknowledge(place.open_store(), note=why)
    except DriftError as error:
        fail(error)
    note(f"acknowledged {n} alarm{'s' * (n != 1)}")
    return FINE if n else FINDINGS


@click.command()
@click.option("--since", type=Moment(), help="Take what came since then as the new normal.")
@click.option("--promise", type=float, default=1.0, show_default=True, help="As for `drift fit`.")
@click.pass_obj
def reset(place: Place, since: int | None, promise: float) -> int:
    r"""
    Forget evidence and active alarms, after a change that was meant.

    \b
    agentguard drift reset              watch on from now with the same reference
    agentguard drift reset --since 2d   learn a new one from the last two days

    Alarms stay in the list.
    """
    from agentguard.drift import arm, fit_reference, load_reference, save_reference
    from agentguard.drift import reset as forget

    store = place.open_store()
    try:
        if since is None:
            forget(store, now_unix_ns=SystemClock().unix_ns())
            note("watching on from now")
            return FINE
        old = load_reference(store)
        if old is None:
            raise DriftInputError("drift reset: no reference is stored, expected one").hint(
                "learn one: agentguard drift fit"
            )
        reference = arm(
            store, fit_reference(store, since_unix_ns=since, agent=old.agent, promise_per_year=promise)
        )
    except DriftError as error:
        fail(error)
    save_reference(store, reference)
    click.echo(f"reference {reference.reference_id}: {reference.sentence}")
    return FINE
