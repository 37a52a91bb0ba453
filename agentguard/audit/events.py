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
        ("service", "version", "revision", "policies"),
    ),
    EventKind("policies.none", "A process begins without policies.", ("service", "version", "revision")),
    EventKind("policies.refused", "Policies did not load; the ones before stay in force.", ("problems",)),
    EventKind(
        "policies.reloaded", "Other policies are in force from here on.", ("revision", "before", "policies")
    ),
    EventKind(
        "policies.mode",
        "A rule or document changed between enforce, warn and shadow.",
        ("rule", "mode", "before"),
    ),
    EventKind(
        "exception.granted", "Somebody was let past a rule for a time.", ("rule", "by", "until", "reason")
    ),
    EventKind("exception.ended", "An exception was taken back or ran out.", ("rule", "by", "reason")),
    EventKind("kill.set", "Calls of a scope are stopped.", ("scope", "by", "reason")),
    EventKind("kill.cleared", "Calls of a scope may run again.", ("scope", "by", "reason")),
    EventKind("approval.granted", "A person approved an action.", ("approval", "by")),
    EventKind("approval.denied", "A person refused an action.", ("approval", "by")),
    EventKind("key.added", "A key slot was added.", ("slot", "provider")),
    EventKind("key.removed", "A key slot was removed.", ("slot", "provider")),
    EventKind("key.rotated", "New data is sealed under a new root key.", ("generation",)),
    EventKind(
        "key.used",
        "The store was opened by a key other than the process's own.",
        ("slot", "provider", "purpose"),
    ),
    EventKind("content.read", "Captured content was shown to somebody.", ("command", "by", "filter")),
    EventKind("export.configured", "Spans leave the store to an address.", ("endpoint", "by")),
    EventKind("export.made", "Spans left the store.", ("format", "by")),
    EventKind(
        "log.anchored", "A checkpoint of all journals was given to somebody else to keep.", ("to", "seq")
    ),
    EventKind(ERASED, "Content was made unreadable on request.", ("subject_mac", "sessions", "generation")),
    EventKind("store.hold", "A legal hold was set or lifted.", ("action", "by", "reason")),
    EventKind(
        "incident.opened", "What an incident touched is kept from deletion.", ("incident", "by", "reason")
    ),
)
"""What agentguard writes, sorted by what it is about."""
