"""
Decisions as plain data, and back: every field that differs from its default.

What a record says of a decision is written and read here alone; a field of `Decision`
that is not here would be lost, which a test watches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from enum import Enum

from agentguard.values import (
    ApprovalTerms,
    BreakerTerms,
    BudgetTerms,
    Decision,
    DenialKind,
    Effect,
    Fallback,
    GrantScopes,
    MatchedRule,
    Mode,
    RecordMode,
    StateGate,
    ThrottleTerms,
)

TEXT_CHARACTERS_MAX = 16_384
_DEPTH_MAX = 16
_TERMS = {ThrottleTerms: "throttle", BreakerTerms: "breaker", BudgetTerms: "budget"}


def plain(value: object, depth: int = 0) -> object:
    """
    Return a value as data that JSON can hold, without losing which value it was.

    Args:
        value:
            Anything. Infinite and not-a-number doubles become the texts
            `infinity`, `-infinity` and `nan`, times become ISO 8601, other
            objects the name of their class.
        depth:
            How deep the value stands; below 16 levels comes the text `too deep`.

    Returns:
        None, bool, int, float, str, list or dict.
    """
    if isinstance(value, Enum):
        return plain(value.value, depth)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**63 else str(int(value))
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        return "nan" if math.isnan(value) else "infinity" if value > 0 else "-infinity"
    if isinstance(value, str):
        return text(value)
    if depth >= _DEPTH_MAX:
        return "too deep"
    if isinstance(value, Mapping):
        return {text(str(key)): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}s"
    if isinstance(value, Sequence | set | frozenset) and not isinstance(
        value, bytes | bytearray | memoryview
    ):
        return [plain(item, depth + 1) for item in value]
    return f"({type(value).__name__})"


def text(value: str) -> str:
    """Cut a text to its longest length; lone surrogates become question marks, as UTF-8 has none."""
    text = str.__str__(value)[:TEXT_CHARACTERS_MAX]
    return text.encode("utf-8", "replace").decode("utf-8") if not text.isascii() else text


def fields_of(decision: Decision) -> dict[str, object]:
    """List the fields of a decision that differ from their default."""
    fields: dict[str, object] = {"effect": decision.effect.value}
    for name in ("rule_id", "policy", "kind", "reason", "agent_message"):
        if value := getattr(decision, name):
            fields[name] = text(value)
    if decision.matched:
        fields["matched"] = [
            {
                "policy": text(m.policy),
                "rule_id": text(m.rule_id),
                "title": text(m.title),
                "effect": m.effect.value,
                "mode": m.mode.value,
            }
            for m in decision.matched
        ]
    for name in ("errors", "redact", "warnings"):
        if texts := getattr(decision, name):
            fields[name] = [text(item) for item in texts]
    if decision.values is not None:
        fields["values"] = plain(decision.values)
    if decision.record is not RecordMode.ASYNC:
        fields["record"] = decision.record.value
    if decision.approval is not None:
        terms = decision.approval
        fields["approval"] = {
            "approvers": [text(item) for item in terms.approvers],
            "approvals": terms.approvals,
            "expires_s": plain(terms.expires_s),
            **({} if terms.scopes is None else {"scopes": plain(terms.scopes._asdict())}),
        }
    if decision.retry_after_s is not None:
        fields["retry_after_s"] = plain(decision.retry_after_s)
    if decision.would_be is not None:
        fields["would_be"] = decision.would_be.value
    if decision.gates:
        fields["gates"] = [_gate_fields(gate) for gate in decision.gates]
    if decision.wait_s:
        fields["wait_s"] = plain(decision.wait_s)
    if decision.kill_scope:
        fields["kill_scope"] = text(decision.kill_scope)
    if decision.fallbacks:
        fields["fallbacks"] = [
            {name: plain(value) for name, value in fallback._asdict().items() if value}
            for fallback in decision.fallbacks
        ]
    return fields


def _gate_fields(gate: StateGate) -> dict[str, object]:
    """Write a gate that only the past can answer."""
    fields: dict[str, object] = {
        "effect": gate.effect.value,
        "policy": text(gate.policy),
        "rule_id": text(gate.rule_id),
        "title": text(gate.title),
        "mode": gate.mode.value,
        "terms": {
            "kind": _TERMS[type(gate.terms)],
            **{name: plain(value) for name, value in gate.terms._asdict().items()},
        },
    }
    if gate.key:
        fields["key"] = [text(name) for name in gate.key]
    if gate.is_tripped:
        fields["is_tripped"] = True
    if gate.agent_message:
        fields["agent_message"] = text(gate.agent_message)
    return fields


def decision_of(fields: Mapping[str, object]) -> Decision:
    """Build a decision of its fields; raises ValueError or TypeError where they are wrong."""
    get = fields.get
    terms = _mapping(get("approval"))
    would_be = get("would_be")
    values = get("values")
    return Decision(
        effect=Effect(str(fields["effect"])),
        rule_id=str(get("rule_id", "")),
        policy=str(get("policy", "")),
        kind=DenialKind(str(get("kind", ""))),
        reason=str(get("reason", "")),
        agent_message=str(get("agent_message", "")),
        matched=tuple(
            MatchedRule(
                str(m["policy"]),
                str(m["rule_id"]),
                str(m["title"]),
                Effect(str(m["effect"])),
                Mode(str(m["mode"])),
            )
            for m in map(_required_mapping, _items(get("matched")))
        ),
        errors=tuple(map(str, _items(get("errors")))),
        values=None if values is None else dict(_required_mapping(values)),
        redact=tuple(map(str, _items(get("redact")))),
        warnings=tuple(map(str, _items(get("warnings")))),
        record=RecordMode(str(get("record", RecordMode.ASYNC.value))),
        approval=None
        if terms is None
        else ApprovalTerms(
            tuple(map(str, _items(terms["approvers"]))),
            int(str(terms["approvals"])),
            float(str(terms["expires_s"])),
            _scopes(_mapping(terms.get("scopes"))),
        ),
        retry_after_s=None if get("retry_after_s") is None else float(str(get("retry_after_s"))),
        would_be=None if would_be is None else Effect(str(would_be)),
        gates=tuple(map(_gate, map(_required_mapping, _items(get("gates"))))),
        wait_s=float(str(get("wait_s", 0.0))),
        kill_scope=str(get("kill_scope", "")),
        fallbacks=tuple(
            Fallback(
                policy=str(f["policy"]),
                rule_id=str(f["rule_id"]),
                model=str(f.get("model", "")),
                function=str(f.get("function", "")),
                instead_of=tuple(map(str, _items(f.get("instead_of")))),
            )
            for f in map(_required_mapping, _items(get("fallbacks")))
        ),
    )


def _gate(fields: dict[str, object]) -> StateGate:
    return StateGate(
        effect=Effect(str(fields["effect"])),
        policy=str(fields["policy"]),
        rule_id=str(fields["rule_id"]),
        title=str(fields["title"]),
        mode=Mode(str(fields["mode"])),
        key=tuple(map(str, _items(fields.get("key")))),
        terms=_terms(_required_mapping(fields["terms"])),
        is_tripped=fields.get("is_tripped") is True,
        agent_message=str(fields.get("agent_message", "")),
    )


def _terms(fields: Mapping[str, object]) -> ThrottleTerms | BreakerTerms | BudgetTerms:
    get = fields.get
    if fields["kind"] == "throttle":
        return ThrottleTerms(int(str(fields["limit"])), float(str(fields["window_s"])))
    if fields["kind"] == "breaker":
        return BreakerTerms(float(str(fields["open_for_s"])), int(str(get("probe", 1))))
    return BudgetTerms(
        measure=str(fields["measure"]),
        limit=int(str(fields["limit"])),
        window_s=float(str(fields["window_s"])),
        reserve=str(get("reserve", "estimate")),
        call_max=int(str(get("call_max", 0))),
        soft=float(str(get("soft", 1.0))),
    )


def _scopes(fields: Mapping[str, object] | None) -> GrantScopes | None:
    if fields is None:
        return None
    return GrantScopes(
        int(str(fields["uses"])),
        float(str(fields["lasts_s"])),
        fields.get("any_run") is True,
        fields.get("any_arguments") is True,
    )


def _items(value: object) -> list[object]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise TypeError("expected a list")
    return value


def _mapping(value: object) -> dict[str, object] | None:
    return None if value is None else _required_mapping(value)


def _required_mapping(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise TypeError("expected an object")
    return value
