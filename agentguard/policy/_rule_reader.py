"""Read one rule: every field but its condition, which needs the types of all documents."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from agentguard.policy._model import Action, Place
from agentguard.policy._problems import did_you_mean, quoted
from agentguard.policy._reader import Reader
from agentguard.policy._yaml import Fields, Items, Node, Scalar
from agentguard.redaction import KINDS
from agentguard.values import ApprovalTerms, DenialKind, Effect, Mode, Point, RecordMode

ID = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
ID_FORM = "a letter, then letters, digits, `.`, `_`, `-`; at most 64"
CONDITION_CHARACTERS_MAX = 4000
_APPROVER = re.compile(r"(group:)?[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")
_SEVERITIES = ("low", "medium", "high", "critical")
_KINDS = ("forbidden", "fix_input", "wait")
_EFFECTS = ("allow", "deny", "warn", "redact", "require_approval")

NOT_YET: Mapping[str, str] = {
    "throttle": "rates with state are not enforced by this version; a deny on `tool.calls_5m` comes close",
    "circuit_break": "breakers with state are not enforced by this version; a deny on `tool.error_rate_5m` comes close",
    "kill": "as an effect of a rule it is not enforced by this version; use `deny`, and `agentguard kill` by hand",
    "fallback": "another model or function in place of a call is not offered by this version",
}
"""Effects that are known and refused: an effect that is loaded is an effect that acts."""

_LATER = {
    "promote": "automatic promotion is not offered by this version; remove it and change `mode` by hand",
    "cannot_evaluate": "a rule that cannot be evaluated denies; this version offers no exception",
}

SHORT = {
    "redact": "`redact` needs to know what: write `then: { redact: [card, secret] }`",
    "require_approval": "`require_approval` needs to know whom: write "
    "`then: { require_approval: { from: [group:owners], expires: 15m } }`",
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
    points = _points(reader, found.get("at"))
    when = _when(reader, found.get("when"))
    action, approver_nodes = _then(reader, found.get("then"))
    mode = reader.word(found.get("mode"), "mode", tuple(Mode))
    severity = reader.word(found.get("severity"), "severity", _SEVERITIES)
    record = reader.word(found.get("record"), "record mode", tuple(RecordMode))
    tools = reader.texts(found.get("tools"), "tools") if "tools" in found else ()
    controls = reader.texts(found.get("controls"), "controls") if "controls" in found else ()
    message = _message(reader, found.get("message"))
    if tools and points and any(not point.startswith("tool.") for point in points):
        reader.problem(
            found["tools"],
            "`tools` in a rule that is not at `tool.before` or `tool.after`",
            code="wrong-point",
        )
    if action and points:
        _fits(reader, found["at"], action.effect, points)
    if not (points and when):
        return None
    # After a problem the load fails anyway; the rest of the rule is made up, so that its condition is still checked.
    return RuleDraft(
        id=rule_id or "", title=title or "", points=points, when=when, action=action or Action(Effect.DENY), mode=mode, tools=tools or (),
        tools_node=found.get("tools"), record=record, agent_message=message or "", controls=controls or (),
        severity=severity or "", place=reader.place(node), approver_nodes=approver_nodes,
    )  # fmt: skip


def _fits(reader: Reader, node: Node, effect: Effect, points: tuple[Point, ...]) -> None:
    """Refuse an effect that could not act at one of the points."""
    if Point.DRIFT_ALARM in points:
        reader.problem(
            node, "`drift.alarm`: rules are not asked there by this version", code="not-supported",
            hint="read `drift.status` in a rule at tool.before",
        )  # fmt: skip
    elif effect in (Effect.REQUIRE_APPROVAL, Effect.ALLOW) and not all(p.endswith(".before") for p in points):
        reader.problem(
            node, f"`{effect}` after a call: what has run needs no permission", code="wrong-point",
            hint="use tool.before, model.before or agent.before",
        )  # fmt: skip


def _points(reader: Reader, node: Node | None) -> tuple[Point, ...] | None:
    """Read `at`: one point, or a list."""
    if isinstance(node, Items):
        entries = reader.items(node, "at") or []
        found = [reader.word(entry, "intervention point", tuple(Point)) for entry in entries]
        known = [point for point in found if point is not None]
        if len(set(known)) < len(known):
            reader.problem(node, "a point stands twice in `at`", code="duplicate-entry")
        return tuple(known) if known and len(known) == len(found) else None
    one = reader.word(node, "intervention point", tuple(Point))
    return (one,) if one is not None else None


def _when(reader: Reader, node: Node | None) -> Scalar | None:
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


def _message(reader: Reader, node: Node | None) -> str | None:
    """Read `message: {agent: ...}`: plain words, nothing is filled in."""
    if node is None:
        return None
    found = reader.fields(node, "message", required=("agent",))
    if not found or "agent" not in found:
        return None
    text = reader.text(found["agent"], "message.agent", characters_max=500)
    return " ".join(text.split()) if text else None


def _then(reader: Reader, node: Node | None) -> tuple[Action | None, tuple[tuple[str, Node], ...]]:
    """Read the effect: a word, or a mapping of one effect to its terms."""
    nothing: tuple[tuple[str, Node], ...] = ()
    if node is None:
        return None, nothing
    if isinstance(node, Fields):
        if len(node.entries) != 1:
            reader.problem(
                node, f"then: got {len(node.entries)} effects, expected one", code="wrong-type",
                hint="write one rule for each effect",
            )  # fmt: skip
            return None, nothing
        ((name, (key, terms)),) = node.entries.items()
        if name in NOT_YET:
            reader.problem(key, f"effect `{name}`: {NOT_YET[name]}", code="not-supported")
        elif name == "deny":
            return _deny(reader, terms), nothing
        elif name == "redact":
            return _redact(reader, terms), nothing
        elif name == "require_approval":
            return _approval(reader, terms)
        elif name in _EFFECTS:
            reader.problem(
                key, f"effect `{name}` takes no terms", code="wrong-type", hint=f"write `then: {name}`"
            )
        else:
            reader.problem(
                key,
                f"unknown effect {quoted(name)}",
                code="unknown-effect",
                hint=did_you_mean(name, _EFFECTS),
            )
        return None, nothing
    text = reader.text(node, "then")
    if text is None:
        return None, nothing
    if text in NOT_YET:
        reader.problem(node, f"effect `{text}`: {NOT_YET[text]}", code="not-supported")
    elif text in SHORT:
        reader.problem(node, SHORT[text], code="missing-field")
    elif text in _EFFECTS:
        effect = Effect(text)
        return Action(effect, DenialKind.FORBIDDEN if effect is Effect.DENY else DenialKind.NONE), nothing
    else:
        reader.problem(
            node, f"unknown effect {quoted(text)}", code="unknown-effect", hint=did_you_mean(text, _EFFECTS)
        )
    return None, nothing


def _deny(reader: Reader, terms: Node) -> Action | None:
    """Read `deny: {kind: ..., retry_after: ...}`."""
    found = reader.fields(terms, "deny", required=("kind",), optional=("retry_after",))
    if found is None:
        return None
    kind = reader.word(found.get("kind"), "kind of denial", _KINDS)
    wait = reader.duration_s(found.get("retry_after"), "retry_after")
    if kind is None:
        return None
    if (kind == "wait") != ("retry_after" in found):
        reader.problem(
            terms, "`retry_after` goes with `kind: wait`, and with no other", code="missing-field",
            hint="write `deny: { kind: wait, retry_after: 5m }`",
        )  # fmt: skip
        return None
    return Action(Effect.DENY, DenialKind(kind), retry_after_s=wait)


def _redact(reader: Reader, terms: Node) -> Action | None:
    """Read `redact: [kind, ...]`."""
    kinds = reader.texts(terms, "redact")
    if kinds is None:
        return None
    assert isinstance(terms, Items)
    for node in terms.items:
        if isinstance(node, Scalar) and isinstance(node.value, str) and node.text not in KINDS:
            reader.problem(
                node, f"unknown detector {quoted(node.text)}", code="unknown-detector",
                hint=did_you_mean(node.text, sorted(KINDS)),
            )  # fmt: skip
    return Action(Effect.REDACT, redact=kinds)


def _approval(reader: Reader, terms: Node) -> tuple[Action | None, tuple[tuple[str, Node], ...]]:
    """Read `require_approval: {from: [...], approvals: n, expires: 15m, on_timeout: deny}`."""
    found = reader.fields(
        terms, "require_approval", required=("from", "expires"), optional=("approvals", "on_timeout")
    )
    if found is None:
        return None, ()
    who = reader.texts(found.get("from"), "from")
    expires_s = reader.duration_s(found.get("expires"), "expires")
    approvals = reader.whole_number(found.get("approvals"), "approvals", least=1, most=10)
    reader.word(found.get("on_timeout"), "on_timeout", ("deny",))
    entries = found.get("from")
    nodes = [
        (node.text, node)
        for node in (entries.items if isinstance(entries, Items) else ())
        if isinstance(node, Scalar) and reader.name(node, "approver", _APPROVER, "an id or `group:NAME`")
    ]
    if not who or expires_s is None:
        return None, ()
    count = approvals if approvals is not None else 1
    return (
        Action(
            Effect.REQUIRE_APPROVAL, DenialKind.NEEDS_APPROVAL, approval=ApprovalTerms(who, count, expires_s)
        ),
        tuple(nodes),
    )
