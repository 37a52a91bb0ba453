"""`agentguard decisions`: list, show, verify, prove and anchor the decision log."""

from __future__ import annotations

import heapq
from pathlib import Path
from typing import TYPE_CHECKING

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
    report_damage,
)
from agentguard.cli._decision_text import COLORS, document_of, print_decision, row_of
from agentguard.cli._log_events import events
from agentguard.cli._proofs import anchor, prove, tiles, verify_place, verify_proof
from agentguard.cli.store import _since_option
from agentguard.errors import AuditError
from agentguard.values import DecisionRecord

if TYPE_CHECKING:
    from agentguard.audit import StoredDecision, VerifyReport

_FILE = click.Path(dir_okay=False, path_type=Path)
_OUTCOME = "outcome"
_ANSWERS = {"ok": ("ok", "green"), "noted": ("noted", "yellow"), "bad": ("BAD", "red")}


@click.group()
def decisions() -> None:
    """List, show, verify, prove and anchor the decision log."""


@decisions.command("list")
@listing_options()
@_since_option
@click.option("--effect", help="allow, deny, require_approval, kill …")
@click.option("--rule", help="Id of a rule that decided or matched.")
@click.option("--tool", help="Name of the tool.")
@click.option("--call", "call_id", help="Id of a call, or its beginning.")
@click.pass_obj
def list_decisions(
    place: Place,
    limit: int,
    output_format: str,
    since: int | None,
    effect: str | None,
    rule: str | None,
    tool: str | None,
    call_id: str | None,
) -> int:
    """
    List decisions, the latest last.

    \b
    agentguard decisions list --effect deny --since 1h
    agentguard decisions list --rule PAY-010 --format jsonl --limit 0
    """  # noqa: D301 - \b is for click: it keeps the lines

    def fits(record: DecisionRecord) -> bool:
        return (
            record.point != _OUTCOME
            and (since is None or record.time_unix_ns >= since)
            and (effect is None or record.decision.effect.value == effect)
            and (
                rule is None
                or rule == record.decision.rule_id
                or any(m.rule_id == rule for m in record.decision.matched)
            )
            and (tool is None or record.tool == tool)
            and (call_id is None or record.call_id.startswith(call_id.lower()))
        )

    damage: list[str] = []
    outcomes: dict[str, str] = {}
    stored = _stored(place, damage, outcomes)
    fitting = (entry for entry in stored if fits(entry.record))
    # Journals of several processes overlap in time; only the rows shown are held.
    latest = sorted(heapq.nlargest(limit, fitting, key=_order) if limit else fitting, key=_order)
    as_text = output_format == "text"
    emit(
        [
            row_of(entry) if as_text else document_of(entry, outcomes.get(entry.record.call_id, ""))
            for entry in latest
        ],
        columns=("time", "decision", "effect", "rule", "target", "reason"),
        output_format=output_format,
        styles={"effect": lambda value: COLORS.get(str(value).partition(" ")[0], "")},
        empty="no decisions recorded yet, or none that fit",
    )
    if as_text and limit and len(latest) == limit:
        note(f"the latest {limit}; --limit 0 shows all")
    report_damage(damage)
    return FINE


@decisions.command()
@click.argument("decision_id")
@format_option()
@click.pass_obj
def show(place: Place, decision_id: str, output_format: str) -> int:
    """Show one decision whole: the reviewer's reason, values, all matched rules, the outcome."""
    damage: list[str] = []
    outcomes: dict[str, str] = {}
    wanted = decision_id.lower()
    matching = [
        entry
        for entry in _stored(place, damage, outcomes)
        if wanted and entry.record.decision_id.startswith(wanted)
    ]
    ids = {entry.record.decision_id for entry in matching}
    report_damage(damage)
    if not ids:
        fail(AuditError(f"no decision `{decision_id}`").hint("`agentguard decisions list` shows the ids"))
    if len(ids) > 1:
        fail(
            AuditError(f"{len(ids)} decisions begin with `{decision_id}`, expected one").hint(
                "more digits: " + ", ".join(sorted(ids)[:5])
            )
        )
    entry = matching[0]
    outcome = outcomes.get(entry.record.call_id, "")
    if output_format != "text":
        emit_document(document_of(entry, outcome))
    else:
        print_decision(entry, outcome)
    return FINE


@decisions.command()
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Output.",
)
@click.option(
    "--anchor",
    "anchors",
    multiple=True,
    type=_FILE,
    help="File with checkpoints that were kept elsewhere; what they state must be there. Those files that "
    "`decisions_anchors` names are read too.",
)
@click.option("--roots", type=_FILE, help="PEM certificates that time stamps must lead to.")
@click.pass_obj
def verify(place: Place, output_format: str, anchors: tuple[Path, ...], roots: Path | None) -> int:
    """
    Check that the decision log is what was written: nothing altered, removed, moved or put in.

    Exit status: 1 where any verdict is bad, else 0. The verdict is exact up to the
    last checkpoint; what stands after it is reported as unanchored. Only an anchor
    tells that the whole store was set back to an earlier state.
    """
    report = verify_place(place, anchors, roots)
    if output_format == "json":
        emit_document(_report_document(report))
    else:
        _print_report(report)
    return FINE if report.is_good else FINDINGS


decisions.add_command(events)
decisions.add_command(prove)
decisions.add_command(verify_proof)
decisions.add_command(anchor)
decisions.add_command(tiles)


def _stored(place: Place, damage: list[str], outcomes: dict[str, str]) -> list[StoredDecision]:
    """Read all decisions; outcomes go to a map by call."""
    from agentguard.audit import read_decisions

    found = []
    for entry in read_decisions(place.config.store, place.open_keystore(), on_damage=damage.append):
        if entry.record.point == _OUTCOME:
            outcomes[entry.record.call_id] = entry.record.outcome
        else:
            found.append(entry)
    return found


def _order(entry: StoredDecision) -> tuple[int, str, int]:
    return (entry.record.time_unix_ns, entry.journal, entry.index)


def _print_report(report: VerifyReport) -> None:
    """Print the verdicts in words."""
    for line in report.verdicts:
        word, color = _ANSWERS[line.answer.value]
        name = line.question.value.replace("_", " ")
        click.echo(
            f"{click.style(f'{word:<6}', fg=color, bold=True)} {name:<15}  {escape.terminal(line.sentence)}"
        )
        for finding in line.findings:
            if finding.is_bad and finding.sentence not in line.sentence:
                click.echo(f"{'':<24}{escape.terminal(finding.sentence)}")
    first = report.first_bad
    if first is not None:
        named = f", decision {first.decision_id}" if first.decision_id else ""
        where = f"record {first.index}" if first.index >= 0 else "no record"
        click.echo(
            f"first bad: {escape.terminal(first.journal)}, {where}{escape.terminal(named)} ({first.kind})"
        )
    note(
        f"{_count(report.decisions, 'decision')} in {_count(report.journals, 'journal')}, "
        f"{_count(report.checkpoints, 'checkpoint')}; key {report.verifier_key}"
    )


def _report_document(report: VerifyReport) -> dict[str, object]:
    first = report.first_bad
    return {
        "good": report.is_good,
        "verdicts": {
            line.question.value: {
                "answer": line.answer.value,
                "sentence": line.sentence,
                "findings": [_finding_document(finding) for finding in line.findings],
            }
            for line in report.verdicts
        },
        "first_bad": _finding_document(first) if first is not None else None,
        "journals": report.journals,
        "records": report.records,
        "decisions": report.decisions,
        "checkpoints": report.checkpoints,
        "tail_records": report.tail_records,
        "tail_s": report.tail_s,
        "verifier_key": report.verifier_key,
    }


def _finding_document(finding: object) -> dict[str, object]:
    return {
        name: getattr(finding, name)
        for name in ("kind", "journal", "index", "decision_id", "sentence", "is_bad")
    }


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")
