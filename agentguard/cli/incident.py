"""`agentguard incident`: keep what a time range and an agent touched, and tell what happened in order."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING

import click

from agentguard import escape
from agentguard.cli._common import FINDINGS, FINE, Place, emit, emit_document, format_option, note
from agentguard.cli._machine import record_event
from agentguard.cli._times import SINCE
from agentguard.cli.holds import described, row_of
from agentguard.errors import StoreError
from agentguard.runtime import user_name
from agentguard.values import DecisionRecord, SpanRecord
from agentguard.values import attributes as names

if TYPE_CHECKING:
    from agentguard.store import Hold, Store

_ENTRIES_MAX = 100_000
_NOT_OF_THE_STORY = frozenset({"journal.open", "journal.close"})

Entry = dict[str, object]


@click.group()
def incident() -> None:
    """Keep what an incident touched, and see its timeline."""


@incident.command("open")
@click.option("--reason", required=True, help="What is looked into; shown to whoever looks.")
@click.option("--since", type=SINCE, required=True, help="When it began: 15m, 1h, 7d ago, or a date (UTC).")
@click.option("--until", type=SINCE, help="When it ended.  [default: now]")
@click.option("--agent", help="Only what this agent did.")
@format_option()
@click.pass_obj
def open_incident(
    place: Place, reason: str, since: int, until: int | None, agent: str | None, output_format: str
) -> int:
    """
    Freeze what was touched, and print the timeline.

    \b
    agentguard incident open --since 2h --agent billing --reason "refunds to one card"

    Nothing that it keeps is removed by age or size until `incident close`. Exit status 1: a part could not be read.
    """  # noqa: D301 - \b is for click: it keeps the lines
    store = place.open_store()
    from agentguard.store import INCIDENT

    now = store.clock.unix_ns()
    made = store.holds.add(
        reason=reason, by=user_name(), now_unix_ns=now, since_unix_ns=since,
        until_unix_ns=now if until is None else until, agent=agent, kind=INCIDENT,
    )  # fmt: skip
    # First frozen, then read: nothing can be removed in between.
    entries, damage, is_cut = _timeline(place, store, made)
    held = _held_segments(store, made)
    digest = hashlib.sha256("\n".join(map(_line_of, entries)).encode()).hexdigest()
    record_event(
        place,
        "incident.opened",
        {
            "incident": made.hold_id, "by": made.by, "reason": made.reason, "agent": made.agent or "",
            "since_unix_ns": made.since_unix_ns, "until_unix_ns": made.until_unix_ns,
            "entries": len(entries), "segments": held, "timeline_sha256": digest,
        },
    )  # fmt: skip
    _print(made, entries, digest, output_format, is_cut=is_cut)
    note(f"incident {made.hold_id}: {held} segments with {described(made)} are kept until it is closed")
    return _damage_status(damage)


@incident.command()
@click.argument("incident_id", metavar="ID")
@format_option()
@click.pass_obj
def show(place: Place, incident_id: str, output_format: str) -> int:
    """Print the timeline of an open incident again. ID may be the beginning of its id."""
    store = place.open_store()
    found = _incident(store, incident_id)
    entries, damage, is_cut = _timeline(place, store, found)
    digest = hashlib.sha256("\n".join(map(_line_of, entries)).encode()).hexdigest()
    _print(found, entries, digest, output_format, is_cut=is_cut)
    return _damage_status(damage)


@incident.command("list")
@format_option()
@click.pass_obj
def list_incidents(place: Place, output_format: str) -> int:
    """List the open incidents."""
    from agentguard.store import INCIDENT

    emit(
        [row_of(one) for one in place.open_store().holds.list() if one.kind == INCIDENT],
        columns=("hold", "since", "until", "agent", "reason", "by", "created"),
        output_format=output_format,
        empty="no incident is open",
    )
    return FINE


@incident.command()
@click.argument("incident_id", metavar="ID")
@click.option("--reason", required=True, help="What came of it.")
@click.pass_obj
def close(place: Place, incident_id: str, reason: str) -> int:
    """Close an incident: what it kept may be removed by age and size again."""
    store = place.open_store()
    found = _incident(store, incident_id)
    store.holds.remove(found.hold_id)
    details = {"action": "lifted", "incident": found.hold_id, "by": user_name(), "reason": reason}
    record_event(place, "store.hold", details)
    note(f"incident {found.hold_id} is closed")
    return FINE


def _incident(store: Store, incident_id: str) -> Hold:
    """
    Find an incident among the holds.

    Raises:
        StoreError: The id names a plain hold, or not one.
    """
    from agentguard.store import INCIDENT

    found = store.holds.get(incident_id)
    if found.kind != INCIDENT:
        raise StoreError(f"incident: got `{found.hold_id}`, which is a plain hold, expected an incident")
    return found


def _timeline(place: Place, store: Store, found: Hold) -> tuple[list[Entry], list[str], bool]:
    """Calls, decisions and events in the order of time; what could not be read; whether the latest were cut."""
    damage: list[str] = []
    query = store.query()
    calls = _calls(
        query.spans(since_unix_ns=found.since_unix_ns, until_unix_ns=found.until_unix_ns, agent=found.agent)
    )
    # One more than are shown says whether there are more; so memory is bounded.
    entries = heapq.nsmallest(_ENTRIES_MAX + 1, chain(calls, _log(place, found, damage)), key=_time_of)
    if query.damage:
        damage.append(f"spans: {query.damage}")
    return entries[:_ENTRIES_MAX], damage, len(entries) > _ENTRIES_MAX


def _calls(found: Iterator[SpanRecord]) -> Iterator[Entry]:
    """One entry for each recorded call."""
    for span in found:
        error = span.attributes.get(names.ERROR_TYPE)
        yield {
            "time_unix_ns": span.start_unix_ns,
            "what": "call",
            "name": span.name,
            "agent": str(span.attributes.get(names.AGENT_NAME, "")),
            "result": f"{span.status}: {error}" if error else span.status,
            "id": span.span_id,
            "trace_id": span.trace_id,
        }


def _log(place: Place, found: Hold, damage: list[str]) -> Iterator[Entry]:
    """One entry for each decision of the agent, and for each other event of the machine."""
    from agentguard.audit import StoredDecision, read_entries

    for entry in read_entries(place.config.store, place.open_keystore(), on_damage=damage.append):
        if isinstance(entry, StoredDecision):
            record = entry.record
            moment, is_wanted = record.time_unix_ns, found.agent is None or record.agent == found.agent
            made = _decision(record)
        else:
            moment, is_wanted = entry.time_unix_ns, entry.kind not in _NOT_OF_THE_STORY
            made = {
                "time_unix_ns": moment, "what": "event", "name": entry.kind, "agent": "",
                "result": _brief(entry.details), "id": f"{entry.journal}:{entry.index}", "trace_id": "",
            }  # fmt: skip
        if is_wanted and found.overlaps(moment, moment):
            yield made


def _decision(record: DecisionRecord) -> Entry:
    """A decision, or the outcome of the call that it let go."""
    decision = record.decision
    rule = f" by {decision.rule_id}" if decision.rule_id else ""
    is_outcome = record.point == "outcome"
    return {
        "time_unix_ns": record.time_unix_ns,
        "what": "outcome" if is_outcome else "decision",
        "name": record.tool or record.model or record.point,
        "agent": record.agent,
        "result": record.outcome if is_outcome else f"{decision.effect}{rule}",
        "id": record.decision_id,
        "trace_id": record.trace_id,
    }


def _brief(details: Mapping[str, object]) -> str:
    """The short ones among the details of an event."""
    shown = [
        f"{key}={value}" for key, value in details.items()
        if isinstance(value, (str, int, float)) and value not in {"", 0} and len(str(value)) <= 80
    ]  # fmt: skip
    return " ".join(shown[:6])


def _held_segments(store: Store, found: Hold) -> int:
    """How many segments the incident keeps now."""
    return sum(store.holds.holder_of(segment, (found,)) is not None for segment in store.query().segments())


def _print(found: Hold, entries: list[Entry], digest: str, output_format: str, *, is_cut: bool) -> None:
    """Print the timeline, as a table or as documents."""
    if is_cut:
        note(f"only the first {_ENTRIES_MAX} entries; a narrower range shows the rest")
    if output_format == "jsonl":
        emit(entries, columns=(), output_format="jsonl")
    elif output_format == "json":
        counts = Counter(str(entry["what"]) for entry in entries)
        emit_document(
            {"incident": row_of(found), "counts": counts, "timeline_sha256": digest, "timeline": entries}
        )
    else:
        emit(
            [{**entry, "time": _time(entry)} for entry in entries],
            columns=("time", "what", "name", "agent", "result", "id"),
            styles={"what": lambda what: "bold" if what == "decision" else "dim" if what == "event" else ""},
            empty="nothing was recorded in that time",
        )


def _line_of(entry: Entry) -> str:
    """One entry as the digest takes it."""
    return json.dumps(entry, sort_keys=True, separators=(",", ":"), default=str)


def _time_of(entry: Entry) -> tuple[int, str]:
    return int(str(entry["time_unix_ns"])), str(entry["id"])


def _time(entry: Entry) -> str:
    """The moment of an entry in UTC, to the millisecond."""
    moment = datetime.fromtimestamp(int(str(entry["time_unix_ns"])) / 1e9, UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%S.") + f"{moment.microsecond // 1000:03d}"


def _damage_status(damage: list[str]) -> int:
    """Say on standard error what could not be read."""
    for line in damage[:20]:
        note(f"could not be read: {escape.terminal(line)}")
    return FINDINGS if damage else FINE
