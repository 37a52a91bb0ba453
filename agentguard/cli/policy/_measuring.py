"""`agentguard policy bench` and `history`: rules measured, and looked up in the past."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from agentguard.cli._common import FINE, UNUSABLE, Place, emit, note
from agentguard.cli.policy._shared import format_option, load_or_print, paths_argument

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@click.command()
@paths_argument
@click.option(
    "--limit", type=click.IntRange(min=0), default=10, show_default=True, help="Most rules; 0: all."
)
@format_option("text", "json", "jsonl")
@click.pass_obj
def bench(place: Place, paths: tuple[Path, ...], limit: int, output_format: str) -> int:
    """Measure what every rule costs, on the facts of its test cases; the dearest first."""
    from statistics import median

    from agentguard.review import bench as measure

    bundle = load_or_print(place, paths, output_format)
    if bundle is None:
        return UNUSABLE
    costs = measure(bundle, timer_ns=time.perf_counter_ns)
    rows = [
        {
            "rule": f"{one.rule.policy}/{one.rule.id}",
            "point": str(one.point),
            "us": round(one.us, 3),
            "cases": one.cases,
        }
        for one in costs
    ]
    emit(rows, columns=("rule", "point", "us", "cases"), output_format=output_format, limit=limit)
    if output_format == "text" and costs:
        worst = costs[0]
        note(
            f"{len(costs)} conditions: {median(one.us for one in costs):.2f} us a rule, "
            f"worst {worst.rule.policy}/{worst.rule.id} with {worst.us:.2f} us"
        )
    return FINE


_ParamType: Any = click.ParamType
"""Generic for type checkers in newer versions of click only."""


class Since(_ParamType):  # type: ignore[misc]
    """A time in the past: `30d`, or a moment in ISO 8601."""

    name = "since"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Read it; times without a zone are UTC."""
        if isinstance(value, datetime):
            return value
        text = str(value)
        found = re.fullmatch(r"([0-9]{1,6})([smhd])", text)
        if found:
            return datetime.fromtimestamp(time.time() - int(found[1]) * _UNITS_S[found[2]], tz=UTC)
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            self.fail(f"{text[:40]!r}: expected such as 30d, 12h or 2026-11-22T08:30", param, ctx)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@click.command()
@click.option("--at", "at", type=Since(), help="Only what was in force at this moment, for each service.")
@format_option("text", "json", "jsonl")
@click.pass_obj
def history(place: Place, at: datetime | None, output_format: str) -> int:
    """
    Say which policies came into force when, from the chained events of the decision log.

    Failed reloads are listed too: the policies before them stayed in force.
    """
    from agentguard.audit import StoredEvent, read_entries

    found = [
        entry
        for entry in read_entries(place.config.store, place.open_keystore())
        if isinstance(entry, StoredEvent) and entry.kind.startswith("policies.")
    ]
    found.sort(key=lambda one: one.time_unix_ns)
    if at is not None:
        at_ns = int(at.timestamp() * 1e9)
        last = {
            str(one.details.get("service", "")): one
            for one in found
            if one.time_unix_ns <= at_ns and one.kind in ("policies.loaded", "policies.none")
        }
        found = list(last.values())
    rows = [
        {
            "time": datetime.fromtimestamp(one.time_unix_ns / 1e9, tz=UTC).isoformat(timespec="seconds"),
            "event": one.kind.removeprefix("policies."), "service": one.details.get("service", ""),
            "revision": str(one.details.get("revision", ""))[:12],
            "policies": ", ".join(map(str, _listed(one.details.get("policies")))) or one.details.get("problem", ""),
            "journal": one.journal,
        }
        for one in found
    ]  # fmt: skip
    emit(
        rows, columns=("time", "event", "service", "revision", "policies"), output_format=output_format,
        styles={"event": lambda value: "red" if value != "loaded" else ""}, empty="no policies were in force",
    )  # fmt: skip
    return FINE


def _listed(value: object) -> list[object]:
    """A list, or nothing."""
    return list(value) if isinstance(value, (list, tuple)) else []
