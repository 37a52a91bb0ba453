"""From the decision log to questions that can be asked again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from agentguard.policy import Bundle
from agentguard.review._replay import RecordedCall
from agentguard.values import DecisionRecord, Effect, Point

_ARGUMENT = "args."


def recorded_calls(records: Iterable[DecisionRecord], bundle: Bundle) -> Iterator[RecordedCall]:
    """
    Turn decisions into calls for `replay`.

    The log keeps names, the time, and what acting rules read as numbers, booleans and plain text.
    Everything else is unknown: arguments are given only where all that the candidate's rules read of
    them for this call was kept.

    Args:
        records:
            Of the decision log.
        bundle:
            The candidate.

    Yields:
        The questions that were put before calls; outcomes, and orders to stop, are left out.
    """
    for record in records:
        if not record.point.endswith(".before") or record.decision.effect is Effect.KILL:
            continue
        named = {
            "tool.name": record.tool, "model.name": record.model, "agent.name": record.agent,
            "principal.id": record.principal, "run.id": record.run_id,
        }  # fmt: skip
        facts: dict[str, object] = {name: value for name, value in named.items() if value}
        facts["agent.name"] = record.agent
        facts["time.now"] = datetime.fromtimestamp(record.time_unix_ns / 1e9, tz=UTC)
        args: dict[str, object] = {}
        for name, value in (record.decision.values or {}).items():
            if name.startswith(_ARGUMENT):
                args[name.removeprefix(_ARGUMENT)] = value
            else:
                facts[name] = value
        needed = _arguments_read(bundle, Point(record.point), record.tool)
        if needed is not None and needed <= args.keys():
            facts["args"] = args
        yield RecordedCall(record.point, facts, record.decision, record.call_id)


def _arguments_read(bundle: Bundle, point: Point, tool: str) -> set[str] | None:
    """Arguments that rules about a tool name; None where one reads them all, or none reads any."""
    keys: set[str] = set()
    for rule in bundle.rules:
        condition = rule.conditions.get(point)
        if condition is None or (rule.tools and tool not in rule.tools):
            continue
        pinned = condition.conjuncts.get("tool.name")
        if (pinned is not None and tool not in pinned) or "args" not in condition.reads:
            continue
        if not condition.arg_keys or any(name in condition.source for name in ("detects", "args)", "args[")):
            return None
        keys |= condition.arg_keys
    return keys or None
