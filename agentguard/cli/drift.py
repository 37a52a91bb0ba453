"""The commands below `agentguard drift`: is it still the agent that was tested."""

from __future__ import annotations

import time

import click

from agentguard import escape
from agentguard.cli._common import (
    FINDINGS,
    FINE,
    Place,
    fail,
    format_option,
    note,
)
from agentguard.cli._drift_alarms import ack, backtest, explain, known_change, report, reset, simulate
from agentguard.cli._drift_labels import labels
from agentguard.cli._drift_text import (
    Moment,
    Span,
    emit_one,
    features_of,
    labels_of,
    plain_number,
    print_comparison,
    print_verdict,
    spark_line,
    utc,
    verdict_row,
)
from agentguard.errors import DriftError, DriftInputError
from agentguard.runtime import SystemClock
from agentguard.values import DriftStatus, Verdict

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
    "--over", type=Moment(), default="24h", show_default=True, help="How far back sparklines reach."
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
            **verdict_row(verdict),
            "reference": None
            if reference is None
            else {
                "reference_id": reference.reference_id,
                "since": utc(reference.since_unix_ns),
                "until": utc(reference.until_unix_ns),
                "calls": reference.profile.n_calls,
                "sentence": reference.sentence,
            },
            "alarms": history,
            "series": [
                {"name": one.name, "unit": one.unit, "values": [plain_number(v) for v in one.values]}
                for one in series
            ],
        }
        emit_one(document, output_format)
    else:
        print_verdict(verdict)
        if reference is None:
            note("no reference: `agentguard drift fit` learns what is normal from the calls so far")
        else:
            click.echo(f"reference {reference.reference_id}: {reference.sentence}")
        if verdict.late_calls:
            n = verdict.late_calls
            click.echo(
                f"late: {n:,} call{'s' * (n != 1)} since then came after {'its' if n == 1 else 'their'} hour was judged; not judged"
            )
        for one in series:
            click.echo(spark_line(one))
        for alarm in history[-5:]:
            streams = escape.terminal(", ".join(alarm["streams"]))
            is_past = reference is not None and alarm.get("reference_id") != reference.reference_id
            click.echo(
                f"{alarm['kind']} {utc(alarm['time_unix_ns'])}, since {utc(alarm['change_unix_ns'])}: {streams}"
                f"{' (against an earlier reference)' * is_past}"
            )
        if verdict.status is DriftStatus.DRIFT and verdict.kind != "accuracy":
            note(
                "next: `agentguard drift explain` says where; `drift ack WHY` if it is known; `drift reset --since 2d` if it was meant"
            )
    return FINDINGS if verdict.status is DriftStatus.DRIFT else FINE


@drift.command()
@click.option("--since", type=Moment(), help="Beginning of the reference; by default the first call.")
@click.option("--until", type=Moment(), help="Its end; by default the last call.")
@click.option("--promise", type=float, default=1.0, show_default=True, help="False alarms tolerated a year.")
@_agent_option
@format_option()
@click.pass_obj
def fit(
    place: Place, since: int | None, until: int | None, promise: float, agent: str, output_format: str
) -> int:
    """
    Learn what is normal from a good time, and keep it in the store.

    Thresholds are raised until the promise holds on days drawn from that time; where none does, nothing is
    kept, and the reason is said. The reference stays as it is until it is fitted again.
    """
    from agentguard.drift import arm, fit_reference, save_reference

    store = place.open_store()
    try:
        reference = fit_reference(
            store, since_unix_ns=since, until_unix_ns=until, agent=agent, promise_per_year=promise
        )
        reference = arm(store, reference)
    except DriftError as error:
        fail(error)
    save_reference(store, reference)
    if output_format == "text":
        click.echo(f"reference {reference.reference_id}: {reference.sentence}")
    else:
        emit_one(
            {
                "reference_id": reference.reference_id,
                "since": utc(reference.since_unix_ns),
                "until": utc(reference.until_unix_ns),
                "calls": reference.profile.n_calls,
                "is_incident_armed": reference.incident is not None,
                "is_drift_armed": reference.drift is not None,
                "sentence": reference.sentence,
            },
            output_format,
        )
    return FINE


@drift.command()
@click.option("--reference", type=Span(), help="A good time, as FROM..TO; by default the stored reference.")
@click.option("--window", type=Span(), help="The time in question, as FROM..TO; by default the last hour.")
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
    return print_comparison(result, output_format)


@drift.command()
@click.option(
    "--interval",
    type=click.FloatRange(min=1.0),
    default=300.0,
    show_default=True,
    help="Seconds between passes.",
)
@click.option("--once", is_flag=True, help="One pass, then end: for cron and CI.")
@_agent_option
@click.pass_obj
def run(place: Place, interval: float, once: bool, agent: str) -> int:
    """
    Watch the store from a process of its own, until it is stopped.

    A line is printed whenever the verdict changes. With --once the exit status is 1 for drift, else 0.
    """
    from agentguard.drift import Checker, CheckerConfig

    printed: list[tuple[str, str]] = []

    def publish(verdict: Verdict) -> None:
        key = (verdict.status.value, verdict.kind)
        if printed[-1:] != [key]:
            printed[:] = [key]
            print_verdict(verdict)

    checker = Checker(
        place.open_store(), clock=SystemClock(), publish=publish, config=CheckerConfig(agent=agent)
    )
    while True:
        try:
            verdict = checker.check_once()
        except DriftError as error:
            fail(error)
        if once:
            return FINDINGS if verdict.status is DriftStatus.DRIFT else FINE
        time.sleep(interval)


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
            features=features_of(features),
            labels=labels_of(labels),
            positive=positive,
            alpha=alpha,
            correction="bh" if correction == "bh" else "holm",
        )
    except DriftError as error:
        fail(error)
    return print_comparison(result, output_format)


for _command in (backtest, simulate, explain, report, ack, reset, known_change, labels):
    drift.add_command(_command)
