"""The JSON Schema of policy files, for editors. The loader knows more than it can say."""

from __future__ import annotations

from collections.abc import Mapping

from agentguard.policy._budget_reader import UNITS
from agentguard.policy._effects import CALLS_MAX, INSTEAD_OF_MAX, KEY_FACTS_MAX, PROBES_MAX, USES_MAX
from agentguard.policy._history import HISTORY_GIVEN
from agentguard.policy._model import API_VERSION, BEFORE_POINTS
from agentguard.policy._other_readers import REPEAT_MAX
from agentguard.redaction import EXTRA_KINDS, KINDS
from agentguard.values import FACTS, Mode, Point, RecordMode

SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"

_TEXT = {"type": "string", "minLength": 1}
_TEXTS = {"type": "array", "items": _TEXT, "minItems": 1, "uniqueItems": True}
_ANSWER = {"enum": ["allow", "deny", "require_approval", "throttle", "circuit_break", "kill"]}
_KEY = {"oneOf": [_TEXT, {"type": "array", "items": _TEXT, "maxItems": KEY_FACTS_MAX, "uniqueItems": True}]}
_DURATION = {"type": "string", "pattern": "^[0-9]{1,9}(s|m|h|d)$"}


def json_schema() -> dict[str, object]:
    """
    Describe all kinds of documents.

    Returns:
        A JSON Schema. What it accepts may still not load: conditions are
        checked by the loader alone.
    """
    documents = {
        "Policy": _policy(),
        "PolicyTest": _test(),
        "Approvers": _approvers(),
        "ToolSchema": _tools(),
        "Exception": _exception(),
    }
    return {
        "$schema": SCHEMA_DIALECT,
        "title": f"{API_VERSION} policy documents",
        "type": "object",
        "required": ["apiVersion", "kind", "metadata"],
        "oneOf": [
            _object(
                {"apiVersion": {"const": API_VERSION}, "kind": {"const": kind}, **properties},
                required=["apiVersion", "kind", *required],
            )
            for kind, (properties, required) in documents.items()
        ],
    }


def _exception() -> tuple[dict[str, object], list[str]]:
    """Properties of a document of kind Exception."""
    required = ["policy", "rule", "owner", "ticket", "reason", "approver"]
    scope = _object(dict.fromkeys(("agents", "environments", "tools", "principals"), _TEXTS), required=[])
    return (
        {"metadata": _metadata(), **dict.fromkeys(required, _TEXT),
         "expires": {"type": "string", "format": "date"}, "scope": scope},
        ["metadata", *required, "expires"],
    )  # fmt: skip


def _object(properties: dict[str, object], *, required: list[str]) -> dict[str, object]:
    """An object without other keys."""
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _metadata(**more: object) -> dict[str, object]:
    """The head of a document."""
    return _object({"name": _TEXT, **more}, required=["name"])


def _policy() -> tuple[dict[str, object], list[str]]:
    """A document of kind Policy."""
    word = {"enum": ["allow", "deny"]}
    unmatched = {
        "oneOf": [
            word,
            _object({"agent": word, "model": word, "tool": word}, required=["agent", "model", "tool"]),
        ]
    }
    mode = {"enum": [str(mode) for mode in Mode]}
    head = _metadata(
        version=_TEXT,
        title=_TEXT,
        owner=_TEXT,
        reviewers=_TEXTS,
        recertify_by={"type": "string", "format": "date"},
    )
    defaults = _object(
        {"unmatched": unmatched, "mode": mode, "timezone": _TEXT}, required=["unmatched", "mode", "timezone"]
    )
    return (
        {
            "metadata": head,
            "scope": _object({"agents": _TEXTS, "environments": _TEXTS}, required=[]),
            "defaults": defaults,
            "vars": {"type": "object"},
            "rules": {"type": "array", "items": _rule(mode), "minItems": 1},
            "budgets": {"type": "array", "items": _budget(mode), "minItems": 1},
        },
        ["metadata", "defaults", "rules"],
    )


def _effects() -> list[object]:
    """What may stand behind `then`."""
    deny = _object(
        {"kind": {"enum": ["forbidden", "fix_input", "wait"]}, "retry_after": _DURATION}, required=["kind"]
    )
    approval = _object(
        {
            "from": _TEXTS,
            "approvals": {"type": "integer", "minimum": 1, "maximum": 10},
            "expires": _DURATION,
            "on_timeout": {"const": "deny"},
            "wait": _DURATION,
            "scopes": _object(
                {
                    "uses": {"type": "integer", "minimum": 1, "maximum": USES_MAX},
                    "for": _DURATION,
                    "runs": {"enum": ["same", "any"]},
                    "arguments": {"enum": ["same", "pattern"]},
                },
                required=["uses", "for"],
            ),
        },
        required=["from", "expires"],
    )
    redact = {
        "type": "array",
        "items": {"enum": sorted((*KINDS, *EXTRA_KINDS))},
        "minItems": 1,
        "uniqueItems": True,
    }
    throttle = _object(
        {
            "key": _KEY,
            "limit": {"type": "integer", "minimum": 1, "maximum": CALLS_MAX},
            "window": _DURATION,
        },
        required=["key", "limit", "window"],
    )
    breaker = _object(
        {
            "key": _KEY,
            "open_for": _DURATION,
            "probe": {"type": "integer", "minimum": 1, "maximum": PROBES_MAX},
        },
        required=["key", "open_for"],
    )
    instead_of = {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": INSTEAD_OF_MAX}
    fallback = {
        "oneOf": [
            _object({name: _TEXT, "instead_of": instead_of}, required=[name])
            for name in ("model", "function")
        ]
    }
    kill = _object({"scope": {"enum": ["all", "agent", "tool", "model"]}}, required=["scope"])
    return [
        {"enum": ["allow", "deny", "warn"]},
        _object({"deny": deny}, required=["deny"]),
        _object({"redact": redact}, required=["redact"]),
        _object({"require_approval": approval}, required=["require_approval"]),
        _object({"throttle": throttle}, required=["throttle"]),
        _object({"circuit_break": breaker}, required=["circuit_break"]),
        _object({"fallback": fallback}, required=["fallback"]),
        _object({"kill": kill}, required=["kill"]),
    ]


def _rule(mode: Mapping[str, object]) -> dict[str, object]:
    """One rule."""
    points = {"enum": [str(point) for point in Point if point is not Point.DRIFT_ALARM]}
    return _object(
        {
            "id": _TEXT,
            "title": _TEXT,
            "at": {"oneOf": [points, {"type": "array", "items": points, "minItems": 1, "uniqueItems": True}]},
            "when": {
                "type": "string",
                "minLength": 1,
                "description": "A condition, in a typed subset of CEL.",
            },
            "then": {"oneOf": _effects()},
            "mode": mode,
            "severity": {"enum": ["low", "medium", "high", "critical"]},
            "tools": _TEXTS,
            "record": {"enum": [str(mode) for mode in RecordMode]},
            "message": _object({"agent": _TEXT}, required=["agent"]),
            "controls": _TEXTS,
        },
        required=["id", "title", "at", "when", "then"],
    )


def _budget(mode: Mapping[str, object]) -> dict[str, object]:
    """One budget."""
    points = {"enum": [str(point) for point in BEFORE_POINTS]}
    amount = {"type": "number", "exclusiveMinimum": 0}
    return _object(
        {
            "id": _TEXT,
            "title": _TEXT,
            "at": {"oneOf": [points, {"type": "array", "items": points, "minItems": 1, "uniqueItems": True}]},
            "when": _TEXT,
            "key": _KEY,
            "measure": {"enum": list(UNITS)},
            "limit": amount,
            "window": _DURATION,
            "reserve": {"enum": ["estimate", "max", "none"]},
            "call_max": amount,
            "soft": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
            "then": {"const": "deny"},
            "mode": mode,
            "message": _object({"agent": _TEXT}, required=["agent"]),
            "controls": _TEXTS,
        },
        required=["id", "title", "key", "measure", "limit", "window", "reserve", "then"],
    )


def _test() -> tuple[dict[str, object], list[str]]:
    """A document of kind PolicyTest."""
    given = _object(
        {name: {"description": spec.description} for name, spec in {**FACTS, **HISTORY_GIVEN}.items()},
        required=[],
    )
    expect = _object(
        {
            "decision": _ANSWER,
            "rule": _TEXT,
            "matched": {"type": "array", "items": _TEXT},
            "redact": {"type": "array", "items": _TEXT},
            "fallback": _TEXT,
            "would_be": _ANSWER,
            "kind": {"enum": ["forbidden", "fix_input", "needs_approval", "wait"]},
            "error": _TEXT,
        },
        required=["decision"],
    )
    case = _object(
        {
            "name": _TEXT,
            "at": {"enum": [str(point) for point in Point]},
            "given": given,
            "repeat": {"type": "integer", "minimum": 1, "maximum": REPEAT_MAX},
            "expect": {"oneOf": [_ANSWER, expect]},
        },
        required=["name", "at", "given", "expect"],
    )
    return (
        {
            "metadata": _metadata(),
            "policies": {"oneOf": [{"const": "all"}, _TEXTS]},
            "given": given,
            "cases": {"type": "array", "items": case, "minItems": 1},
        },
        ["metadata", "policies", "cases"],
    )


def _approvers() -> tuple[dict[str, object], list[str]]:
    """A document of kind Approvers."""
    person = _object({"id": _TEXT, "public_key": _TEXT}, required=["id", "public_key"])
    groups = {"type": "object", "additionalProperties": {"type": "array", "items": person, "minItems": 1}}
    return {"metadata": _metadata(), "groups": groups}, ["metadata", "groups"]


def _tools() -> tuple[dict[str, object], list[str]]:
    """A document of kind ToolSchema."""
    tool = _object({"args": {"type": "object", "additionalProperties": _TEXT}}, required=["args"])
    return {"metadata": _metadata(), "tools": {"type": "object", "additionalProperties": tool}}, [
        "metadata",
        "tools",
    ]
