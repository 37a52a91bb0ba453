"""`agentguard exceptions`: who may do what until when, on whose word, and how often it was used."""

from __future__ import annotations

import datetime
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agentguard.cli._common import FINDINGS, FINE, UNUSABLE, Place, emit, note
from agentguard.cli.policy._shared import format_option, import_module, load_or_print, paths_argument

if TYPE_CHECKING:
    from agentguard.policy import PolicyException

_STYLES = {"expired": "red", "ends soon": "yellow", "in force": "green"}
_within = click.option(
    "--within", "soon_days", type=click.IntRange(0, 3650), default=14, show_default=True, metavar="DAYS",
    help="What ends within so many days is said to end soon.",
)  # fmt: skip


@click.group()
@click.option(
    "--app", metavar="MODULE", help="Import MODULE first: facts that it registers are known to rules."
)
def exceptions(app: str | None) -> None:
    """Rules that are lifted for a time, on somebody's word."""
    if app is not None:
        import_module(app)


@exceptions.command("list")
@paths_argument
@_within
@click.option("--uses", is_flag=True, help="Count uses too: reads the whole decision log.")
@format_option("text", "json", "jsonl")
@click.pass_obj
def list_exceptions(
    place: Place, paths: tuple[Path, ...], soon_days: int, uses: bool, output_format: str
) -> int:
    """List exceptions: in force, about to end, expired; without PATH those of the configured policies."""
    found = _states(place, paths, output_format, soon_days)
    if found is None:
        return UNUSABLE
    counted = _uses(place) if uses else Counter[str]()
    rows = [{**_row(one, state), **({"uses": counted[one.name]} if uses else {})} for one, state in found]
    _emit(rows, output_format, is_counted=uses)
    return FINE


@exceptions.command()
@paths_argument
@_within
@format_option("text", "json", "jsonl")
@click.pass_obj
def check(place: Place, paths: tuple[Path, ...], soon_days: int, output_format: str) -> int:
    """Say which exceptions have expired or end soon; exit status 1 where there are such."""
    found = _states(place, paths, output_format, soon_days)
    if found is None:
        return UNUSABLE
    rows = [_row(one, state) for one, state in found if state != "in force"]
    if rows or output_format != "text":
        _emit(rows, output_format, is_counted=False)
    if not rows:
        note(f"{len(found)} in force, none ends within {soon_days} days" if found else "no exceptions")
    return FINDINGS if rows else FINE


def _states(
    place: Place, paths: tuple[Path, ...], output_format: str, soon_days: int
) -> list[tuple[PolicyException, str]] | None:
    """Load the documents, and say of each exception where it stands; None where they do not load."""
    from agentguard.policy import is_expired

    bundle = load_or_print(place, paths, output_format)
    if bundle is None:
        return None
    today = datetime.datetime.now(tz=datetime.UTC).date()
    soon = today + datetime.timedelta(days=soon_days)
    return [
        (
            one,
            "expired"
            if is_expired(one, today)
            else "ends soon"
            if soon_days and one.expires < soon
            else "in force",
        )
        for one in sorted(bundle.exceptions, key=lambda one: (one.expires, one.name))
    ]


def _uses(place: Place) -> Counter[str]:
    """Count by name how often the decision log says that an exception was used."""
    from agentguard.audit import read_decisions

    prefix = "exception:"
    return Counter(
        warning.removeprefix(prefix)
        for entry in read_decisions(place.config.store, place.open_keystore(), on_damage=note)
        for warning in entry.record.decision.warnings
        if warning.startswith(prefix)
    )


def _row(one: PolicyException, state: str) -> dict[str, object]:
    from agentguard.policy import scope_in_words

    return {
        "exception": one.name, "rule": f"{one.policy}/{one.rule_id}", "for": scope_in_words(one),
        "expires": one.expires.isoformat(), "state": state, "owner": one.owner, "approver": one.approver,
        "ticket": one.ticket, "reason": one.reason, "path": one.place.path, "line": one.place.line,
    }  # fmt: skip


def _emit(rows: list[dict[str, object]], output_format: str, *, is_counted: bool) -> None:
    columns = ("exception", "rule", "for", "expires", "state", "owner", "approver", "ticket", "reason")
    emit(
        rows,
        columns=(*columns[:5], "uses", *columns[5:]) if is_counted else columns,
        output_format=output_format,
        styles={"state": lambda value: _STYLES.get(str(value), "")},
        empty="no exceptions",
    )
