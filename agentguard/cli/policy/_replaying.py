"""`agentguard policy replay`: other policies tried on the past, limits and windows included."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agentguard.cli._common import FINDINGS, FINE, UNUSABLE, Place, emit_document
from agentguard.cli.policy._measuring import Since
from agentguard.cli.policy._shared import format_option, load_or_print, safe

if TYPE_CHECKING:
    from agentguard.review import Replayed, ReplayReport
    from agentguard.values import DecisionRecord

_FAIL_ON = re.compile(r"(newly_blocked|newly_allowed|blocked|held|unknown)>([0-9]+(?:\.[0-9]+)?)(%?)")


@click.command()
@click.option(
    "--candidate",
    "paths",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Policies to try; without it those that are configured.",
)
@click.option("--since", type=Since(), default="30d", show_default=True, help="30d, 12h, or a moment.")
@click.option("--fail-on", metavar="COUNT>N[%]", help="Exit status 1 beyond it, such as newly_blocked>0.5%.")
@format_option("text", "json", "junit")
@click.pass_obj
def replay(
    place: Place, paths: tuple[Path, ...], since: datetime, fail_on: str | None, output_format: str
) -> int:
    """
    Ask other policies what they would have done with the calls in the decision log.

    Budgets, throttles, breakers, histories, sums and approvals go on in the time of the calls. What the log
    and the spans did not keep is unknown, and a call that depends on it is counted as unknown. Where the
    policies stop a call that ran, or let one run that did not, the rest of its run is counterfactual.
    """
    from agentguard.review import Replay, read_past, warm_up_s

    wanted = _FAIL_ON.fullmatch(fail_on.replace(" ", "")) if fail_on else None
    if fail_on and wanted is None:
        raise click.UsageError("--fail-on: expected such as newly_blocked>0.5% or held>10")
    bundle = load_or_print(place, paths, output_format)
    if bundle is None:
        return UNUSABLE
    since_ns = int(since.timestamp() * 1e9)
    from_ns = since_ns - int(warm_up_s(bundle) * 1e9)
    spans = place.open_store().query().spans(since_unix_ns=from_ns)
    report = Replay(
        bundle,
        read_past(_records(place, from_ns), spans),
        judged_from_ns=since_ns,
        unpriced_usd_per_million=place.config.unpriced_usd_per_million,
        fixed={"env.name": place.config.environment, "env.service": place.config.service},
    ).play()
    reached = _reached(report, wanted)
    if output_format == "json":
        emit_document(_document(report))
    elif output_format == "junit":
        click.echo(_junit(report, fail_on if reached else None))
    else:
        click.echo(safe(str(report)))
        for rule, calls in report.by_rule.most_common():
            newly = report.newly_by_rule[rule]
            click.echo(safe(f"  {rule}: {calls}" + (f", {newly} newly" if newly else "")))
        for one in report.examples:
            click.echo(safe(f"  {_sentence(one)}"))
    return FINDINGS if reached else FINE


def _reached(report: ReplayReport, wanted: re.Match[str] | None) -> bool:
    """Whether a count is beyond what was said."""
    if wanted is None:
        return False
    number = float(getattr(report, wanted[1]))
    return (100 * number / max(report.calls, 1) if wanted[3] else number) > float(wanted[2])


def _sentence(one: Replayed) -> str:
    """Say what became of one call."""
    then = one.call.decision.effect if one.call.decision else "ran"
    what = one.call.facts.get("tool.name", "") or one.call.facts.get("model.name", "")
    return f"call {one.call.call_id} {what}: {then} then, {one.decision.effect} now: {one.decision.reason}"


def _document(report: ReplayReport) -> dict[str, object]:
    """Give the report for JSON."""
    return {
        "bundle": report.bundle, "calls": report.calls, "judged": report.calls - report.unknown,
        "blocked": report.blocked, "held": report.held, "newly_blocked": report.newly_blocked,
        "newly_allowed": report.newly_allowed, "unknown": report.unknown, "missing": dict(report.missing),
        "counterfactual": report.counterfactual, "runs": report.runs, "runs_diverged": report.runs_diverged,
        "by_rule": dict(report.by_rule), "newly_by_rule": dict(report.newly_by_rule),
        "examples": [
            {"call_id": one.call.call_id, "point": one.call.point, "tool": one.call.facts.get("tool.name", ""),
             "then": str(one.call.decision.effect) if one.call.decision else "", "now": str(one.decision.effect),
             "rule": one.decision.rule_id, "reason": one.decision.reason}
            for one in report.examples
        ],
    }  # fmt: skip


def _junit(report: ReplayReport, failed: str | None) -> str:
    """One test for each rule that stops something, failed where it stops what had run; one for `--fail-on`."""
    from agentguard.review import Case, junit

    cases = [Case("replay", "fail-on", f"{failed}: {report}" if failed else "")]
    for rule in sorted(report.by_rule):
        newly = report.newly_by_rule[rule]
        said = [
            _sentence(one)
            for one in report.examples
            if rule == f"{one.decision.policy or 'policies'}/{one.decision.rule_id or 'default'}"
        ]
        failure = "\n".join([f"stops {newly} calls that had run", *said]) if newly else ""
        cases.append(Case("replay", rule, failure))
    return junit(cases, suite="agentguard policy replay")


def _records(place: Place, since_ns: int) -> Iterator[DecisionRecord]:
    """The decisions of the log from a moment on."""
    from agentguard.audit import read_decisions

    for entry in read_decisions(place.config.store, place.open_keystore()):
        if entry.record.time_unix_ns >= since_ns:
            yield entry.record
