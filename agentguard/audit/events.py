"""
The kinds of events that the decision log holds beside decisions.

`append_event` takes any kind; what agentguard itself writes is named here, so that
whoever reads the log knows what to expect, and a test can hold the documentation to it.
"""

from __future__ import annotations

from typing import NamedTuple


class EventKind(NamedTuple):
    """One kind of event."""

    kind: str
    """Dotted name."""
    meaning: str
    """When it is written, in one sentence."""
    fields: tuple[str, ...]
    """Names of the details that it has; others may be added."""


ERASED = "store.erased"
"""Content was made unreadable on request. The record itself holds none."""
RESERVE_USED = "journal.reserve"

_OPENING = ("service", "version", "pid", "ledger", "mac_key", "continues")

EVENTS: tuple[EventKind, ...] = (
    EventKind("journal.open", "A journal begins; always its record 0.", _OPENING),
    EventKind("journal.close", "A journal ends in order; nothing may follow.", ("reason", "records")),
    EventKind(
        "journal.gap",
        "Records were lost, and counted.",
        ("reason", "count", "first_unix_ns", "last_unix_ns"),
    ),
    EventKind(RESERVE_USED, "The disk is full; decisions go on in the room kept for them.", ("left_bytes",)),
    EventKind(
        "policies.loaded",
        "A process begins with these policies.",
        ("service", "version", "revision", "policies", "not_enforced"),
    ),
    EventKind(
        "policies.refused",
        "A process did not come up: its policies do not load, or are not signed as they should be.",
        ("error", "problem"),
    ),
    EventKind("policies.none", "A process begins without policies.", ("service", "version", "revision")),
    EventKind(
        "policies.reload_failed",
        "Changed policies do not load; the ones before stay in force.",
        ("revision", "error", "problem"),
    ),
    EventKind(
        "policies.reloaded",
        "Other policies are in force from here on.",
        ("service", "version", "revision", "before", "policies", "not_enforced"),
    ),
    EventKind(
        "policies.mode",
        "A rule changed between enforce, warn and shadow.",
        ("rule", "mode", "before", "revision"),
    ),
    EventKind(
        "exception.granted",
        "Some calls are let past a rule for a time, from a process's start or a reload on.",
        ("exception", "rule", "owner", "by", "ticket", "until", "reason"),
    ),
    EventKind(
        "exception.ended",
        "An exception was taken back, or ran out.",
        ("exception", "rule", "owner", "ticket", "reason"),
    ),
    EventKind("kill.set", "Calls of a scope are stopped.", ("scope", "reason", "by", "decision_id")),
    EventKind("kill.cleared", "Calls of a scope may run again.", ("scope", "by")),
    EventKind("state.reset", "Counts of calls and spending were allowed to begin anew.", ("by",)),
    EventKind(
        "approval.vote",
        "A person signed a vote on an action.",
        ("token", "approver", "verdict", "action_sha256", "state", "signature", "scope"),
    ),
    EventKind("approval.revoked", "A grant was taken back.", ("token", "by", "action_sha256")),
    EventKind("approval.denied", "A person refused an action.", ("token", "by", "action_sha256")),
    EventKind("key.added", "A way to open the store was added.", ("slot", "provider", "by")),
    EventKind("key.removed", "A way to open the store was taken away.", ("slot", "provider", "by")),
    EventKind("key.rotated", "A slot or the root key was replaced.", ("slot", "generation", "by")),
    EventKind(
        "key.used",
        "A process opened the store to write to it; once a process.",
        ("key_slot", "key_provider", "command", "by"),
    ),
    EventKind("content.read", "Somebody begins to read captured content.", ("command", "by", "filter")),
    EventKind(
        "export.otlp", "Spans are sent to an address from here on.", ("destination", "content", "keep")
    ),
    EventKind("export.stopped", "They no longer are.", ("destination", "sent", "lost", "left_out")),
    EventKind("export.features", "Numbers of spans were written to a file.", ("file", "kind", "agent")),
    EventKind("export.jsonl", "Spans were written in clear.", ("file", "content")),
    EventKind("export.parquet", "Spans were written in clear, as a table.", ("file", "content")),
    EventKind(
        "log.anchored", "A checkpoint of all journals was given to somebody else to keep.", ("to", "seq")
    ),
    EventKind(
        "log.adopted",
        "What a crashed writer left was found whole and stated on its behalf.",
        ("journal", "records", "own_records", "root"),
    ),
    EventKind(
        "log.pruned",
        "A journal was removed by age or size.",
        ("journal", "records", "size_bytes", "root", "first_unix_ns", "last_unix_ns", "reason"),
    ),
    EventKind("store.verified", "Everything in the store was read.", ("verdict", "spans", "damage", "by")),
    EventKind(
        "store.repaired",
        "Segments were sealed or written anew.",
        ("sealed", "rebuilt", "put_aside", "left", "by"),
    ),
    EventKind("store.backup", "The store was copied.", ("target", "files", "size_bytes", "by")),
    EventKind(
        "store.restored",
        "The store was made of a backup; what came after the backup is not in it.",
        ("source", "files", "size_bytes", "created_unix_ns", "by"),
    ),
    EventKind(
        ERASED,
        "Content was made unreadable on request; none of it is named.",
        ("subject_mac", "kind", "generation", "keys", "spans", "by", "reason"),
    ),
    EventKind("store.hold", "A legal hold was set or lifted.", ("action", "by", "reason")),
    EventKind(
        "store.retention",
        "Segments were removed by age or size.",
        ("segments", "spans", "size_bytes", "unexported_spans", "held_segments", "doubted_segments"),
    ),
    EventKind(
        "incident.opened",
        "What an incident touched is kept, and its timeline built.",
        ("incident", "by", "reason"),
    ),
)
"""What agentguard writes, sorted by what it is about."""


def table() -> str:
    """Write the catalogue as a Markdown table, for the documentation."""
    rows = (
        f"| `{event.kind}` | {event.meaning} | {', '.join(f'`{name}`' for name in event.fields)} |"
        for event in EVENTS
    )
    return "\n".join(("| kind | written when | details |", "|---|---|---|", *rows))
