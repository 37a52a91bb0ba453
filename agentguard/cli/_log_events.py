"""`agentguard decisions events`: what the decision log holds beside decisions."""

from __future__ import annotations

import heapq
import re
from collections.abc import Mapping

import click

from agentguard.cli._common import FINE, Place, emit, listing_options, note, report_damage
from agentguard.cli._times import SINCE, moment

_NOT_SHOWN = frozenset({"mac_key", "ledger"})
"""Details that only a program reads; documents have them."""
_OF_THE_JOURNAL = "journal."
_HASH = re.compile(r"(?:[0-9a-f]{64}){1,2}")


@click.command()
@listing_options()
@click.option("--since", type=SINCE, help="Only what happened since: 15m, 1h, 7d ago, or a date (UTC).")
@click.option("--kind", default="", help="Only kinds that begin so: policies, content.read, kill …")
@click.option("--all", "is_all", is_flag=True, help="Beginnings and ends of journals too.")
@click.pass_obj
def events(place: Place, limit: int, output_format: str, since: int | None, kind: str, is_all: bool) -> int:
    """
    List events, the latest last: policy loads and refusals, kills, keys, content that was read, erasures.

    \b
    agentguard decisions events --since 7d
    agentguard decisions events --kind content.read --format jsonl --limit 0
    """  # noqa: D301 - \b is for click: it keeps the lines
    from agentguard.audit import StoredEvent, read_entries

    damage: list[str] = []
    found = (
        entry
        for entry in read_entries(place.config.store, place.open_keystore(), on_damage=damage.append)
        if isinstance(entry, StoredEvent)
        and entry.kind.startswith(kind)
        and (since is None or entry.time_unix_ns >= since)
        and (is_all or kind.startswith(_OF_THE_JOURNAL) or not entry.kind.startswith(_OF_THE_JOURNAL))
    )

    def order(entry: StoredEvent) -> tuple[int, str, int]:
        return (entry.time_unix_ns, entry.journal, entry.index)

    latest = sorted(heapq.nlargest(limit, found, key=order) if limit else found, key=order)
    as_text = output_format == "text"
    emit(
        [
            {
                "time": moment(entry.time_unix_ns),
                "kind": entry.kind,
                "details": _in_words(entry.details),
            }
            if as_text
            else {
                "kind": entry.kind,
                "time_unix_ns": entry.time_unix_ns,
                "details": dict(entry.details),
                "journal": entry.journal,
                "index": entry.index,
            }
            for entry in latest
        ],
        columns=("time", "kind", "details"),
        output_format=output_format,
        empty="no events recorded yet, or none that fit",
    )
    if as_text and limit and len(latest) == limit:
        note(f"the latest {limit}; --limit 0 shows all")
    report_damage(damage)
    return FINE


def _in_words(details: Mapping[str, object]) -> str:
    """Write details in one line; hashes are shortened, empty ones left out."""
    return "; ".join(
        f"{name.removesuffix('_unix_ns')} {_word(name, value)}"
        for name, value in details.items()
        if name not in _NOT_SHOWN and value not in ("", [], {}, None)
    )


def _word(name: str, value: object) -> str:
    """Write one detail."""
    if isinstance(value, int) and name.endswith("_unix_ns"):
        return moment(value)
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text[:12] if _HASH.fullmatch(text) else text
