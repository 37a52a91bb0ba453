"""`agentguard policy exceptions`."""

from __future__ import annotations

import datetime
from pathlib import Path

import click

from agentguard.cli._common import FINDINGS, FINE, UNUSABLE, Place, emit
from agentguard.cli.policy._shared import format_option, load_or_print, paths_argument


@click.command()
@paths_argument
@format_option("text", "json", "jsonl")
@click.pass_obj
def exceptions(place: Place, paths: tuple[Path, ...], output_format: str) -> int:
    """List exceptions; exit status 1 where one has expired."""
    from agentguard.policy import is_expired, scope_in_words

    bundle = load_or_print(place, paths, output_format)
    if bundle is None:
        return UNUSABLE
    today = datetime.datetime.now(tz=datetime.UTC).date()
    rows = [
        {
            "exception": one.name, "rule": f"{one.policy}/{one.rule_id}", "for": scope_in_words(one),
            "expires": one.expires.isoformat(), "state": "expired" if is_expired(one, today) else "in force",
            "owner": one.owner, "approver": one.approver, "ticket": one.ticket, "reason": one.reason,
            "path": one.place.path, "line": one.place.line,
        }
        for one in sorted(bundle.exceptions, key=lambda one: (one.expires, one.name))
    ]  # fmt: skip
    emit(
        rows,
        columns=("exception", "rule", "for", "expires", "state", "owner", "approver", "ticket", "reason"),
        output_format=output_format,
        styles={"state": lambda value: "red" if value == "expired" else "yellow"},
        empty="no exceptions",
    )
    return FINDINGS if any(row["state"] == "expired" for row in rows) else FINE
