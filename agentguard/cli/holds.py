"""`agentguard store hold`: keep what a time range and an agent touched from being removed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from agentguard import escape
from agentguard.cli._common import FINE, Place, emit, format_option, note
from agentguard.cli._machine import record_event
from agentguard.cli._times import SINCE
from agentguard.runtime import user_name

if TYPE_CHECKING:
    from agentguard.store import Hold


@click.group()
def hold() -> None:
    """Legal holds: what must not be removed, whatever its age and however full the disk is."""


@hold.command()
@click.option("--reason", required=True, help="Why; shown to whoever looks.")
@click.option(
    "--since", type=SINCE, help="What began since: 15m, 1h, 7d ago, or a date (UTC).  [default: all]"
)
@click.option("--until", type=SINCE, help="What began before.  [default: also all that is to come]")
@click.option("--agent", help="Only what this agent did.")
@click.pass_obj
def add(place: Place, reason: str, since: int | None, until: int | None, agent: str | None) -> int:
    """Keep what a time range and an agent touched."""
    store = place.open_store()
    made = store.holds.add(
        reason=reason, by=user_name(), now_unix_ns=store.clock.unix_ns(),
        since_unix_ns=since, until_unix_ns=until, agent=agent,
    )  # fmt: skip
    record_event(place, "store.hold", {"action": "set", **event_details(made)})
    note(
        f"hold {made.hold_id}: {described(made)} is kept until `agentguard store hold remove {made.hold_id}`"
    )
    return FINE


@hold.command()
@click.argument("hold_id", metavar="ID")
@click.option("--reason", required=True, help="Why it is lifted.")
@click.pass_obj
def remove(place: Place, hold_id: str, reason: str) -> int:
    """Lift a hold. ID may be the beginning of its id."""
    lifted = place.open_store().holds.remove(hold_id)
    details = {**event_details(lifted), "by": user_name(), "reason": reason}
    record_event(place, "store.hold", {"action": "lifted", **details})
    note(f"hold {lifted.hold_id} is lifted: {described(lifted)} may be removed by age and size again")
    return FINE


@hold.command("list")
@format_option()
@click.pass_obj
def list_holds(place: Place, output_format: str) -> int:
    """List the holds, those of incidents too."""
    emit(
        [row_of(one) for one in place.open_store().holds.list()],
        columns=("hold", "kind", "since", "until", "agent", "reason", "by", "created"),
        output_format=output_format,
        empty="nothing is held",
    )
    return FINE


def row_of(one: Hold) -> Mapping[str, object]:
    """One line of a list."""
    return {
        "hold": one.hold_id,
        "kind": one.kind,
        "since": _time(one.since_unix_ns),
        "until": _time(one.until_unix_ns),
        "agent": one.agent or "",
        "reason": one.reason,
        "by": one.by,
        "created": _time(one.created_unix_ns),
    }


def event_details(one: Hold) -> Mapping[str, object]:
    """What the decision log says of a hold."""
    return {
        "hold": one.hold_id,
        "by": one.by,
        "reason": one.reason,
        "since_unix_ns": one.since_unix_ns or 0,
        "until_unix_ns": one.until_unix_ns or 0,
        "agent": one.agent or "",
    }


def described(one: Hold) -> str:
    """What a hold keeps, in words."""
    parts = [f"agent {escape.terminal(one.agent)}" if one.agent else "everything"]
    if one.since_unix_ns is not None:
        parts.append(f"since {_time(one.since_unix_ns)}")
    if one.until_unix_ns is not None:
        parts.append(f"before {_time(one.until_unix_ns)}")
    return " ".join(parts)


def _time(unix_ns: int | None) -> str:
    """A moment in UTC, to the second."""
    if unix_ns is None:
        return ""
    return datetime.fromtimestamp(unix_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S")
