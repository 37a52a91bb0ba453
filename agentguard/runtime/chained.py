"""
What the decision log is told of the policies in force: which, in what mode, with what exceptions.

Pure: bundles in, events out. No event quotes a condition or a value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, TypeAlias

from agentguard.values import Clock

if TYPE_CHECKING:
    # Only the types: without policies neither YAML nor pydantic is loaded.
    from agentguard.policy import Bundle

EVENTS_MAX = 200
"""Rules and exceptions that are named one by one; more are counted in the last event of their kind."""

Event: TypeAlias = tuple[str, Mapping[str, object]]


def utc_day(clock: Clock) -> date:
    """Say which day it is in UTC."""
    return datetime.fromtimestamp(clock.unix_ns() / 1e9, UTC).date()


def what_is_in_force(bundle: Bundle, before: Bundle | None, today: date) -> Iterator[Event]:
    """
    Say what came into force.

    Args:
        bundle:
            What is in force now.
        before:
            What was, in this process; None at its start.
        today:
            The day in UTC.

    Yields:
        Kind and details of each event.
    """
    not_enforced = [rule.id for rule in bundle.rules if str(rule.mode) != "enforce"]
    details: dict[str, object] = {
        "revision": bundle.revision,
        "policies": [policy.name for policy in bundle.policies],
        "not_enforced": not_enforced[:EVENTS_MAX],
    }
    if before is None:
        yield "policies.loaded", details
    else:
        yield "policies.reloaded", {**details, "before": before.revision}
        yield from _bounded(_modes(bundle, before))
    yield from _bounded(_exceptions(bundle, before, today))


def ran_out(bundle: Bundle, since: date, today: date) -> Iterator[Event]:
    """Say which exceptions counted on one day, and no longer count on a later one."""
    from agentguard.policy import is_expired

    yield from _bounded(
        ("exception.ended", _named(one, {"reason": "ran out"}))
        for one in bundle.exceptions
        if is_expired(one, today) and not is_expired(one, since)
    )


def _modes(bundle: Bundle, before: Bundle) -> Iterator[Event]:
    """Rules that are in another mode than before, and those that are gone or new while not enforced."""
    modes = {(policy.name, rule.id): str(rule.mode) for policy in before.policies for rule in policy.rules}
    for policy in bundle.policies:
        for rule in policy.rules:
            was = modes.get((policy.name, rule.id))
            if was is not None and was != str(rule.mode):
                yield (
                    "policies.mode",
                    {
                        "rule": f"{policy.name}/{rule.id}",
                        "mode": str(rule.mode),
                        "before": was,
                        "revision": bundle.revision,
                    },
                )


def _exceptions(bundle: Bundle, before: Bundle | None, today: date) -> Iterator[Event]:
    """Exceptions that count from now on, and those that were taken back."""
    from agentguard.policy import is_expired

    own = {one.name: one for one in bundle.exceptions if not is_expired(one, today)}
    earlier = {one.name: one for one in before.exceptions if not is_expired(one, today)} if before else {}
    for name, one in own.items():
        if name not in earlier or earlier[name].content != one.content:
            yield (
                "exception.granted",
                _named(one, {"by": one.approver, "until": one.expires.isoformat(), "reason": one.reason}),
            )
    for name, one in earlier.items():
        if name not in own:
            yield "exception.ended", _named(one, {"reason": "taken back"})


def _named(exception: object, more: Mapping[str, object]) -> dict[str, object]:
    """Name an exception and the rule that it lifts."""
    name, policy, rule = (getattr(exception, part) for part in ("name", "policy", "rule_id"))
    owner, ticket = (getattr(exception, part) for part in ("owner", "ticket"))
    return {
        "exception": name, "rule": f"{policy}/{rule}", "owner": owner, "ticket": ticket, **more,
    }  # fmt: skip


def _bounded(events: Iterator[Event]) -> Iterator[Event]:
    """Let so many through, and count the rest in the last one."""
    listed = list(events)
    yield from listed[: EVENTS_MAX - 1]
    if len(listed) >= EVENTS_MAX:
        kind, details = listed[EVENTS_MAX - 1]
        yield kind, {**details, "more": len(listed) - EVENTS_MAX}
