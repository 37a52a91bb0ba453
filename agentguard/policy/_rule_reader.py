"""Read one rule: every field but its condition, which needs the types of all documents."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from agentguard.policy._effects import read_then
from agentguard.policy._model import Action, Place
from agentguard.policy._nodes import Items, Node, Scalar
from agentguard.policy._reader import Reader
from agentguard.values import Effect, Mode, Point, RecordMode

ID = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
ID_FORM = "a letter, then letters, digits, `.`, `_`, `-`; at most 64"
CONDITION_CHARACTERS_MAX = 4000
_BEFORE_ONLY = (Effect.REQUIRE_APPROVAL, Effect.ALLOW, Effect.THROTTLE, Effect.CIRCUIT_BREAK, Effect.FALLBACK)
_SEVERITIES = ("low", "medium", "high", "critical")
_LATER = {
    "promote": "automatic promotion is not offered by this version; remove it and change `mode` by hand",
    "cannot_evaluate": "a rule that cannot be evaluated denies; this version offers no exception",
}


@dataclass(frozen=True, slots=True, eq=False)
class RuleDraft:
    """A rule whose condition is not compiled yet."""

    id: str
    title: str
    points: tuple[Point, ...]
    when: Scalar
    action: Action
    mode: Mode | None
    tools: tuple[str, ...]
    tools_node: Node | None
    record: RecordMode | None
    agent_message: str
    controls: tuple[str, ...]
    severity: str
    place: Place
    approver_nodes: tuple[tuple[str, Node], ...]
    key_nodes: tuple[tuple[str, Node], ...]


def read_rule(reader: Reader, node: Node) -> RuleDraft | None:
    """
    Read one entry of `rules`.

    Args:
        reader:
            Of its document.
        node:
            The entry.

    Returns:
        The rule, or None where nothing of it can be asked.
    """
    found = reader.fields(
        node, "a rule",
        required=("id", "title", "at", "when", "then"),
        optional=("mode", "severity", "tools", "record", "message", "controls"),
        later=_LATER,
    )  # fmt: skip
    if found is None:
        return None
    rule_id = reader.name(found.get("id"), "rule id", ID, ID_FORM)
    title = reader.text(found.get("title"), "title", characters_max=200)
    points = read_points(reader, found.get("at"))
    when = read_when(reader, found.get("when"))
    then = read_then(reader, found.get("then"))
    action = then.action
    mode = reader.word(found.get("mode"), "mode", tuple(Mode))
    severity = reader.word(found.get("severity"), "severity", _SEVERITIES)
    record = reader.word(found.get("record"), "record mode", tuple(RecordMode))
    tools = reader.texts(found.get("tools"), "tools") if "tools" in found else ()
    controls = reader.texts(found.get("controls"), "controls") if "controls" in found else ()
    message = read_message(reader, found.get("message"))
    if tools and points and any(not point.startswith("tool.") for point in points):
        reader.problem(
            found["tools"],
            "`tools` in a rule that is not at `tool.before` or `tool.after`",
            code="wrong-point",
        )
    if action and points:
        _fits(reader, found["at"], action.effect, points)
        if action.fallback and action.fallback.model and any(p is not Point.MODEL_BEFORE for p in points):
            reader.problem(
                found["at"], "a fallback to a model is for calls of models", code="wrong-point",
                hint="use model.before, or `fallback: { function: NAME }`",
            )  # fmt: skip
    if not (points and when):
        return None
    # After a problem the load fails anyway; the rest of the rule is made up, so that its condition is still checked.
    return RuleDraft(
        id=rule_id or "", title=title or "", points=points, when=when, action=action or Action(Effect.DENY), mode=mode, tools=tools or (),
        tools_node=found.get("tools"), record=record, agent_message=message or "", controls=controls or (),
        severity=severity or "", place=reader.place(node), approver_nodes=then.approvers, key_nodes=then.keys,
    )  # fmt: skip


def _fits(reader: Reader, node: Node, effect: Effect, points: tuple[Point, ...]) -> None:
    """Refuse an effect that could not act at one of the points."""
    if Point.DRIFT_ALARM in points:
        reader.problem(
            node, "`drift.alarm`: rules are not asked there by this version", code="not-supported",
            hint="read `drift.status` in a rule at tool.before",
        )  # fmt: skip
    elif effect in _BEFORE_ONLY and not all(p.endswith(".before") for p in points):
        reader.problem(
            node, f"`{effect}` after a call: what has run can neither be let run nor be held back", code="wrong-point",
            hint="use tool.before, model.before or agent.before",
        )  # fmt: skip


_ALONE: Final = {point: (point,) for point in Point}
"""One tuple for all rules of a point: the garbage collector looks at each object."""


def read_points(reader: Reader, node: Node | None) -> tuple[Point, ...] | None:
    """Read `at`: one point, or a list."""
    if isinstance(node, Items):
        entries = reader.items(node, "at") or []
        found = [reader.word(entry, "intervention point", tuple(Point)) for entry in entries]
        known = [point for point in found if point is not None]
        if len(set(known)) < len(known):
            reader.problem(node, "a point stands twice in `at`", code="duplicate-entry")
        return tuple(known) if known and len(known) == len(found) else None
    one = reader.word(node, "intervention point", tuple(Point))
    return _ALONE[one] if one is not None else None


def read_when(reader: Reader, node: Node | None) -> Scalar | None:
    """Read the text of a condition."""
    if isinstance(node, Scalar) and isinstance(node.value, bool):
        reader.problem(
            node, f"when: got {node.says}, expected a condition", code="wrong-type",
            hint=f'write `when: "{node.text.lower()}"` where it is meant for every call',
        )  # fmt: skip
        return None
    if reader.text(node, "when", characters_max=CONDITION_CHARACTERS_MAX) is None:
        return None
    assert isinstance(node, Scalar)
    return node


def read_message(reader: Reader, node: Node | None) -> str | None:
    """Read `message: {agent: ...}`: plain words, nothing is filled in."""
    if node is None:
        return None
    found = reader.fields(node, "message", required=("agent",))
    if not found or "agent" not in found:
        return None
    text = reader.text(found["agent"], "message.agent", characters_max=500)
    return " ".join(text.split()) if text else None
