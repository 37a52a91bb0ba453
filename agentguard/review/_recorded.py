"""What a candidate asks of recorded calls."""

from __future__ import annotations

from agentguard.policy import Bundle
from agentguard.values import Point


def arguments_read(bundle: Bundle, point: Point, tool: str) -> set[str] | None:
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
