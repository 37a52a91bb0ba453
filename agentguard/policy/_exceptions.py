"""
Exceptions: one rule, for some calls, until a day, by somebody's word.

This is the one place that says whether an exception is in force. Runtime,
command line, replay and report all come through the engine, and so through here:
an expired exception is nowhere honoured.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta

from agentguard.policy._model import PolicyException
from agentguard.policy._plan import Asked, glob
from agentguard.values import Effect, Mode

LIFTED = (Effect.DENY, Effect.REQUIRE_APPROVAL)
"""Effects of rules that an exception can lift; limits with a memory have keys and windows of their own."""


def ends(exception: PolicyException) -> datetime:
    """The moment from which an exception counts no more: the end of its last day, in UTC."""
    return datetime.combine(exception.expires + timedelta(days=1), time(), tzinfo=UTC)


def is_expired(exception: PolicyException, today: date) -> bool:
    """
    Whether the last day of an exception is past.

    Args:
        exception:
            Of a loaded bundle.
        today:
            The day in UTC.
    """
    return today > exception.expires


def lift(
    exceptions: Sequence[PolicyException], matching: Sequence[Asked], facts: Mapping[str, object]
) -> tuple[list[Asked], tuple[PolicyException, ...]]:
    """
    Take the rules that an exception lifts out of force for this call.

    A lifted rule counts as one in mode `shadow`: the call runs, and the decision
    says what would have been. Whatever is not known for certain (the time,
    the name of agent, environment or tool) leaves the rule in force.

    Args:
        exceptions:
            Of the bundle.
        matching:
            Rules that matched.
        facts:
            Of the call; read only where a matching rule has an exception.

    Returns:
        The rules as they act now, and the exceptions that were used.
    """
    lifted: list[Asked] = []
    used: list[PolicyException] = []
    for asked in matching:
        rule = asked.rule
        found = None
        if rule.mode is Mode.ENFORCE and rule.effect in LIFTED:
            found = next(
                (
                    one
                    for one in exceptions
                    if (one.policy, one.rule_id) == (rule.policy, rule.id) and _holds(one, facts)
                ),
                None,
            )
        if found is None:
            lifted.append(asked)
        else:
            lifted.append(dataclasses.replace(asked, rule=dataclasses.replace(rule, mode=Mode.SHADOW)))
            used.append(found)
    return lifted, tuple(dict.fromkeys(used))


def _holds(exception: PolicyException, facts: Mapping[str, object]) -> bool:
    """Whether an exception is in force for a call."""
    try:
        now = facts["time.now"]
        if not isinstance(now, datetime) or now.tzinfo is None or now >= ends(exception):
            return False
        return all(
            not globs or _named(facts, fact, globs)
            for fact, globs in (
                ("agent.name", exception.agents),
                ("env.name", exception.environments),
                ("tool.name", exception.tools),
                ("principal.id", exception.principals),
            )
        )
    except Exception:
        # A fact that cannot be had lifts nothing: the rule stays in force.
        return False


def _named(facts: Mapping[str, object], fact: str, globs: Sequence[str]) -> bool:
    """Whether a name is known, and one of those named."""
    name = facts[fact]
    return isinstance(name, str) and bool(name) and any(glob(pattern).fullmatch(name) for pattern in globs)
