"""`agentguard policy explain`: one decision of the log, for a reviewer, a model, a user."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agentguard.cli._common import FINE, Place, emit_document, fail
from agentguard.cli.policy._shared import format_option, paths_argument, safe
from agentguard.errors import AuditError, PolicyDocumentError

if TYPE_CHECKING:
    from agentguard.review import Explanation
    from agentguard.values import DecisionRecord


@click.command()
@click.argument("decision_id")
@paths_argument
@click.option(
    "--voice",
    type=click.Choice(["all", "reviewer", "agent", "user"]),
    default="all",
    show_default=True,
    help="For whom.",
)
@format_option("text", "json")
@click.pass_obj
def explain(place: Place, decision_id: str, paths: tuple[Path, ...], voice: str, output_format: str) -> int:
    """
    Explain one decision: to a reviewer, to the model, to the user.

    DECISION_ID is its id, or the first digits. PATHS are the policies that decided, by default the
    configured ones: with them the reviewer reads the smallest change that would have let the call run.
    """
    from agentguard.policy import load_bundle
    from agentguard.review import explain_decision

    record = find_decision(place, decision_id)
    bundle, problem = None, ""
    if paths or place.config.policies:
        try:
            bundle = load_bundle(list(paths) or list(place.config.policies))
        except PolicyDocumentError as error:
            problem = f"the policies do not load: {error}"
    found = explain_decision(record, bundle)
    told = problem or found.note
    if output_format == "json":
        emit_document(_explanation_row(record, found, told))
        return FINE
    if voice in ("all", "reviewer"):
        click.echo(click.style("reviewer", bold=True) + f"  {safe(found.reviewer)}")
        for name, value in (record.decision.values or {}).items():
            click.echo(safe(f"  {name} = {json.dumps(value, default=str)}"))
        if found.flip or told:
            click.echo(safe(f"  {found.flip or told}"))
    if voice in ("all", "agent"):
        said = safe(found.agent) or "(the call ran: nothing was said)"
        click.echo(click.style("agent", bold=True) + f"  {said}")
    if voice in ("all", "user"):
        click.echo(click.style("user", bold=True) + f"  {safe(found.user)}")
    return FINE


def find_decision(place: Place, decision_id: str) -> DecisionRecord:
    """Read the one decision of the log whose id begins so."""
    from agentguard.audit import read_decisions

    wanted = decision_id.lower()
    if not re.fullmatch("[0-9a-f]{1,16}", wanted):
        fail(AuditError(f"`{decision_id[:40]}` is no decision id, expected up to 16 hexadecimal digits"))
    found: dict[str, DecisionRecord] = {}
    for entry in read_decisions(place.config.store, place.open_keystore()):
        record = entry.record
        if record.point != "outcome" and record.decision_id.startswith(wanted):
            found.setdefault(record.decision_id, record)
    if not found:
        fail(AuditError(f"no decision `{wanted}`").hint("`agentguard decisions list` shows the ids"))
    if len(found) > 1:
        fail(
            AuditError(f"{len(found)} decisions begin with `{wanted}`, expected one").hint(
                "more digits: " + ", ".join(sorted(found)[:5])
            )
        )
    return next(iter(found.values()))


def _explanation_row(record: DecisionRecord, found: Explanation, told: str) -> dict[str, object]:
    """An explanation for JSON."""
    return {
        "decision_id": record.decision_id,
        "decision": str(record.decision.effect),
        "rule": record.decision.rule_id,
        "reviewer": found.reviewer,
        "agent": found.agent,
        "user": found.user,
        "values": dict(record.decision.values or {}),
        "flip": found.flip or None,
        "changes": [
            {
                "policy": one.policy, "rule": one.rule_id,
                "changes": [
                    {"text": c.text, "fact": c.fact, "operator": c.operator, "value": c.value, "now": c.now}
                    for c in one.changes
                ],
            }
            for one in found.changes
        ],
        "note": told or None,
    }  # fmt: skip
