"""Read what a rule does: `then`, an effect with its terms."""

from __future__ import annotations

import re
from typing import NamedTuple, TypeAlias

from agentguard.policy._model import Action
from agentguard.policy._nodes import Fields, Items, Node, Scalar
from agentguard.policy._problems import did_you_mean, quoted
from agentguard.policy._reader import Reader
from agentguard.redaction import EXTRA_KINDS, KINDS, why_not
from agentguard.values import (
    ApprovalTerms,
    BreakerTerms,
    DenialKind,
    Effect,
    Fallback,
    GrantScopes,
    ThrottleTerms,
)

CALLS_MAX = 1_000_000
"""Calls that a throttle may let through in a window."""
PROBES_MAX = 100
KEY_FACTS_MAX = 4
"""Facts of one key."""
INSTEAD_OF_MAX = 16
"""Limits that one fallback stands in for."""
USES_MAX = 10_000
"""Calls that one approval may be granted for."""

_APPROVER = re.compile(r"(group:)?[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")
_KINDS = ("forbidden", "fix_input", "wait")
_SCOPES = ("all", "agent", "tool", "model")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}")
_FUNCTION = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
_EFFECTS = (
    "allow", "deny", "warn", "redact", "fallback", "require_approval", "throttle", "circuit_break", "kill",
)  # fmt: skip
_PLAIN = (Effect.ALLOW, Effect.DENY, Effect.WARN)

SHORT = {
    "redact": "`redact` needs to know what: write `then: { redact: [card, secret] }`",
    "require_approval": "`require_approval` needs to know whom: write "
    "`then: { require_approval: { from: [group:owners], expires: 15m } }`",
    "throttle": "`throttle` needs to know how many: write "
    "`then: { throttle: { key: tool.name, limit: 10, window: 1m } }`",
    "circuit_break": "`circuit_break` needs to know for how long: write "
    "`then: { circuit_break: { key: tool.name, open_for: 2m } }`",
    "fallback": "`fallback` needs to know where to: write `then: { fallback: { model: NAME } }` "
    "or `then: { fallback: { function: NAME } }`",
    "kill": "`kill` needs to know what: write `then: { kill: { scope: agent } }`",
}

Named: TypeAlias = tuple[tuple[str, Node], ...]
"""Names, and where each stands."""


class Then(NamedTuple):
    """What a rule does, and names in it that are checked when all documents are read."""

    action: Action | None
    """None after a problem."""
    approvers: Named = ()
    keys: Named = ()


_NOTHING = Then(None)


def read_then(reader: Reader, node: Node | None) -> Then:
    """
    Read the effect: a word, or a mapping of one effect to its terms.

    Args:
        reader:
            Of its document.
        node:
            The value of `then`.

    Returns:
        The effect; after a problem there is none.
    """
    if node is None:
        return _NOTHING
    if isinstance(node, Fields):
        if len(node.entries) != 1:
            reader.problem(
                node, f"then: got {len(node.entries)} effects, expected one", code="wrong-type",
                hint="write one rule for each effect",
            )  # fmt: skip
            return _NOTHING
        ((name, (key, terms)),) = node.entries.items()
        if name in _READERS:
            return _READERS[name](reader, terms)
        if name in _EFFECTS:
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
        return _NOTHING
    text = reader.text(node, "then")
    if text is None:
        return _NOTHING
    if text in SHORT:
        reader.problem(node, SHORT[text], code="missing-field")
    elif text in _PLAIN:
        effect = Effect(text)
        return Then(Action(effect, DenialKind.FORBIDDEN if effect is Effect.DENY else DenialKind.NONE))
    else:
        reader.problem(
            node, f"unknown effect {quoted(text)}", code="unknown-effect", hint=did_you_mean(text, _EFFECTS)
        )
    return _NOTHING


def _deny(reader: Reader, terms: Node) -> Then:
    """Read `deny: {kind: ..., retry_after: ...}`."""
    found = reader.fields(terms, "deny", required=("kind",), optional=("retry_after",))
    if found is None:
        return _NOTHING
    kind = reader.word(found.get("kind"), "kind of denial", _KINDS)
    wait = reader.duration_s(found.get("retry_after"), "retry_after")
    if kind is None:
        return _NOTHING
    if (kind == "wait") != ("retry_after" in found):
        reader.problem(
            terms, "`retry_after` goes with `kind: wait`, and with no other", code="missing-field",
            hint="write `deny: { kind: wait, retry_after: 5m }`",
        )  # fmt: skip
        return _NOTHING
    return Then(Action(Effect.DENY, DenialKind(kind), retry_after_s=wait))


def _redact(reader: Reader, terms: Node) -> Then:
    """Read `redact: [kind, ...]`."""
    kinds = reader.texts(terms, "redact")
    if kinds is None:
        return _NOTHING
    assert isinstance(terms, Items)
    for node in terms.items:
        if not isinstance(node, Scalar) or not isinstance(node.value, str) or node.text in KINDS:
            continue
        if node.text in EXTRA_KINDS:
            if missing := why_not(node.text):
                reader.problem(node, missing, code="missing-detector")
            continue
        reader.problem(
            node, f"unknown detector {quoted(node.text)}", code="unknown-detector",
            hint=did_you_mean(node.text, sorted((*KINDS, *EXTRA_KINDS))),
        )  # fmt: skip
    return Then(Action(Effect.REDACT, redact=kinds))


def _approval(reader: Reader, terms: Node) -> Then:
    """Read `require_approval: {from: [...], approvals: n, expires: 15m, on_timeout: deny}`."""
    found = reader.fields(
        terms, "require_approval", required=("from", "expires"),
        optional=("approvals", "on_timeout", "wait", "scopes"),
    )  # fmt: skip
    if found is None:
        return _NOTHING
    who = reader.texts(found.get("from"), "from")
    expires_s = reader.duration_s(found.get("expires"), "expires")
    approvals = reader.whole_number(found.get("approvals"), "approvals", least=1, most=10)
    wait_s = reader.duration_s(found.get("wait"), "wait")
    if wait_s is not None and expires_s is not None and wait_s > expires_s:
        reader.problem(found["wait"], "wait is longer than expires", code="out-of-range")
    reader.word(found.get("on_timeout"), "on_timeout", ("deny",))
    scopes = _scopes(reader, found.get("scopes"))
    entries = found.get("from")
    nodes = [
        (node.text, node)
        for node in (entries.items if isinstance(entries, Items) else ())
        if isinstance(node, Scalar) and reader.name(node, "approver", _APPROVER, "an id or `group:NAME`")
    ]
    if not who or expires_s is None:
        return _NOTHING
    count = approvals if approvals is not None else 1
    action = Action(
        Effect.REQUIRE_APPROVAL, DenialKind.NEEDS_APPROVAL,
        approval=ApprovalTerms(who, count, expires_s, scopes), wait_s=wait_s or 0.0,
    )  # fmt: skip
    return Then(action, tuple(nodes))


def _scopes(reader: Reader, node: Node | None) -> GrantScopes | None:
    """Read `scopes: {uses: 20, for: 1h, runs: any, arguments: pattern}`: how wide people may grant."""
    if node is None:
        return None
    found = reader.fields(node, "scopes", required=("uses", "for"), optional=("runs", "arguments"))
    if found is None:
        return None
    uses = reader.whole_number(found.get("uses"), "uses", least=1, most=USES_MAX)
    lasts_s = reader.duration_s(found.get("for"), "for")
    runs = reader.word(found.get("runs"), "value of runs", ("same", "any")) if "runs" in found else "same"
    arguments = (
        reader.word(found.get("arguments"), "value of arguments", ("same", "pattern"))
        if "arguments" in found
        else "same"
    )
    if uses is None or lasts_s is None or runs is None or arguments is None:
        return None
    return GrantScopes(uses, lasts_s, runs == "any", arguments == "pattern")


def _fallback(reader: Reader, terms: Node) -> Then:
    """Read `fallback: {model: NAME, instead_of: [BUD-001]}`, or `function: NAME`."""
    found = reader.fields(terms, "fallback", required=(), optional=("model", "function", "instead_of"))
    if found is None:
        return _NOTHING
    if ("model" in found) == ("function" in found):
        reader.problem(
            terms, "fallback: expected one of `model` and `function`", code="missing-field",
            hint="write `fallback: { model: NAME }` or `fallback: { function: NAME }`",
        )  # fmt: skip
        return _NOTHING
    model = reader.name(found.get("model"), "model", _MODEL, "a model's name")
    function = reader.name(found.get("function"), "function", _FUNCTION, "the name of a registered function")
    limits = reader.texts(found.get("instead_of"), "instead_of") if "instead_of" in found else ()
    if limits is not None and len(limits) > INSTEAD_OF_MAX:
        reader.problem(
            found["instead_of"], f"instead_of has {len(limits)} ids, at most {INSTEAD_OF_MAX} are allowed",
            code="too-long",
        )  # fmt: skip
        return _NOTHING
    if limits is None or not (model or function):
        return _NOTHING
    fallback = Fallback("", "", model or "", function or "", limits)
    return Then(Action(Effect.FALLBACK, fallback=fallback))


def read_key(reader: Reader, node: Node | None) -> Named | None:
    """
    Read `key`: a fact, or a list of facts, whose values are counted apart.

    Args:
        reader:
            Of its document.
        node:
            The value; an empty list counts all calls together.

    Returns:
        The names and where they stand; None after a problem.
    """
    if isinstance(node, Items):
        names = reader.texts(node, "key") if node.items else ()
        if names is None:
            return None
        if len(names) > KEY_FACTS_MAX:
            reader.problem(
                node, f"key has {len(names)} facts, at most {KEY_FACTS_MAX} are allowed", code="too-long"
            )
            return None
        return tuple((item.text, item) for item in node.items if isinstance(item, Scalar))
    name = reader.text(node, "key")
    return None if name is None or node is None else ((name, node),)


def _throttle(reader: Reader, terms: Node) -> Then:
    """Read `throttle: {key: tool.name, limit: 10, window: 1m}`."""
    found = reader.fields(terms, "throttle", required=("key", "limit", "window"))
    if found is None:
        return _NOTHING
    keys = read_key(reader, found.get("key"))
    limit = reader.whole_number(found.get("limit"), "limit", least=1, most=CALLS_MAX)
    window_s = reader.duration_s(found.get("window"), "window")
    if keys is None or limit is None or window_s is None:
        return _NOTHING
    names = tuple(name for name, _ in keys)
    return Then(
        Action(Effect.THROTTLE, DenialKind.WAIT, limit=ThrottleTerms(limit, window_s), key=names), keys=keys
    )


def _circuit_break(reader: Reader, terms: Node) -> Then:
    """Read `circuit_break: {key: tool.name, open_for: 2m, probe: 1}`."""
    found = reader.fields(terms, "circuit_break", required=("key", "open_for"), optional=("probe",))
    if found is None:
        return _NOTHING
    keys = read_key(reader, found.get("key"))
    open_for_s = reader.duration_s(found.get("open_for"), "open_for")
    probe = reader.whole_number(found.get("probe"), "probe", least=1, most=PROBES_MAX)
    if keys is None or open_for_s is None or ("probe" in found and probe is None):
        return _NOTHING
    names = tuple(name for name, _ in keys)
    limit = BreakerTerms(open_for_s, probe or 1)
    return Then(Action(Effect.CIRCUIT_BREAK, DenialKind.WAIT, limit=limit, key=names), keys=keys)


def _kill(reader: Reader, terms: Node) -> Then:
    """Read `kill: {scope: agent}`."""
    found = reader.fields(terms, "kill", required=("scope",))
    scope = reader.word(found.get("scope"), "scope of kill", _SCOPES) if found else None
    if scope is None:
        return _NOTHING
    return Then(Action(Effect.KILL, DenialKind.FORBIDDEN, kill_scope=scope))


_READERS = {
    "deny": _deny,
    "redact": _redact,
    "require_approval": _approval,
    "throttle": _throttle,
    "circuit_break": _circuit_break,
    "fallback": _fallback,
    "kill": _kill,
}
