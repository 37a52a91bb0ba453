"""
Records of the decision log as canonical bytes, and back.

The bytes that `encode_decision` and `encode_event` return are what is hashed,
sealed and kept; nothing is ever serialised a second time. Readers of this
version read every older one, ignore fields that they do not know, and refuse
newer versions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import Enum

import msgspec

from agentguard.errors import AuditError
from agentguard.values import (
    FACT_SCHEMA_VERSION,
    ApprovalTerms,
    Decision,
    DecisionRecord,
    DenialKind,
    Effect,
    GrantScopes,
    MatchedRule,
    Mode,
    RecordMode,
)

RECORD_VERSION = 1
DECISION = "decision"
"""Kind of a record that holds a decision or an outcome; every other kind is an event."""
OPEN, CLOSE, GAP = "journal.open", "journal.close", "journal.gap"
"""Kinds that the journal itself writes."""

_DEPTH_MAX = 16
_TEXT_CHARACTERS_MAX = 16_384
_encode = msgspec.json.Encoder().encode
_PLAIN_FIELDS = (
    "decision_id",
    "time_unix_ns",
    "point",
    "bundle",
    "call_id",
    "trace_id",
    "run_id",
    "agent",
    "tool",
    "model",
    "principal",
    "evaluation_ns",
    "approval_id",
    "outcome",
    "enforcement",
    "requested",
    "fallback",
)


_FRAGMENTS_MAX = 1024
"""Decisions whose written form is kept; most calls share one of few."""


class _Row(msgspec.Struct, omit_defaults=True, gc=False):
    """The fields of a decision record in the order in which they are written."""

    v: int
    kind: str
    facts: str
    decision_id: str = ""
    time_unix_ns: int = 0
    point: str = ""
    bundle: str = ""
    call_id: str = ""
    trace_id: str = ""
    run_id: str = ""
    agent: str = ""
    tool: str = ""
    model: str = ""
    principal: str = ""
    evaluation_ns: int = 0
    approval_id: str = ""
    outcome: str = ""
    enforcement: str = ""
    requested: str = ""
    fallback: str = ""
    decision: msgspec.Raw = msgspec.Raw(b"")


_fragments: dict[int, tuple[Decision, msgspec.Raw]] = {}
"""Written decisions by identity. The decision is held too, so its identity stays its own."""


@dataclass(frozen=True, slots=True)
class StoredDecision:
    """A decision as it was read back, and where it stands."""

    record: DecisionRecord
    journal: str
    """`<writer>-<n>`."""
    index: int
    """Which record of the journal, from 0."""
    facts: str = FACT_SCHEMA_VERSION
    """Version of the fact catalogue that it was decided with."""


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """Something else that is chained: a policy load, a refusal, a mode change, a counted gap."""

    kind: str
    time_unix_ns: int
    details: Mapping[str, object]
    journal: str
    index: int


def encode_decision(record: DecisionRecord) -> bytes:
    """
    Write a decision record.

    Args:
        record:
            Text is cut at 16,384 characters; values that are no plain data are
            named by their class.

    Returns:
        JSON, UTF-8, fields with their default left out.
    """
    (
        decision_id,
        time_unix_ns,
        point,
        decision,
        bundle,
        call_id,
        trace_id,
        run_id,
        agent,
        tool,
        model,
        principal,
        evaluation_ns,
        approval_id,
        outcome,
        enforcement,
        requested,
        fallback,
    ) = record
    joined = f"{run_id}{agent}{tool}{model}{principal}{trace_id}{approval_id}{outcome}{enforcement}{bundle}{requested}{fallback}"
    if not joined.isascii() or len(joined) > _TEXT_CHARACTERS_MAX:
        run_id, agent, tool, model, principal = map(_text, (run_id, agent, tool, model, principal))
        trace_id, approval_id, outcome, enforcement, bundle, requested, fallback = map(
            _text, (trace_id, approval_id, outcome, enforcement, bundle, requested, fallback)
        )
    return _bytes(
        _Row(
            RECORD_VERSION,
            DECISION,
            FACT_SCHEMA_VERSION,
            decision_id,
            time_unix_ns,
            point,
            bundle,
            call_id,
            trace_id,
            run_id,
            agent,
            tool,
            model,
            principal,
            evaluation_ns,
            approval_id,
            outcome,
            enforcement,
            requested,
            fallback,
            _fragment(decision),
        )
    )


def _fragment(decision: Decision) -> msgspec.Raw:
    """Write a decision, or give what was written of it before."""
    if decision.values is not None:
        # Such a one is of a single call.
        return msgspec.Raw(_bytes(_decision_fields(decision)))
    known = _fragments.get(id(decision))
    if known is not None and known[0] is decision:
        return known[1]
    fragment = msgspec.Raw(_bytes(_decision_fields(decision)))
    if len(_fragments) >= _FRAGMENTS_MAX:
        _fragments.clear()
    _fragments[id(decision)] = (decision, fragment)
    return fragment


def encode_event(kind: str, time_unix_ns: int, details: Mapping[str, object]) -> bytes:
    """
    Write an event.

    Args:
        kind:
            Dotted name, such as `policy.loaded`.
        time_unix_ns:
            When it happened.
        details:
            Plain data without secrets.

    Returns:
        JSON, UTF-8.
    """
    return _bytes(
        {"v": RECORD_VERSION, "kind": kind, "time_unix_ns": time_unix_ns, "details": plain(details)}
    )


def decode(data: bytes, *, journal: str, index: int) -> StoredDecision | StoredEvent:
    """
    Read a record back.

    Args:
        data:
            The bytes that were sealed.
        journal:
            Where they stood.
        index:
            Which record of that journal.

    Returns:
        The decision or event.

    Raises:
        AuditError: The bytes are no record of a version that this program reads.
    """
    where = f"journal {journal}, record {index}"
    try:
        fields = msgspec.json.decode(data)
        version = fields["v"]
        if type(version) is not int or not 1 <= version <= RECORD_VERSION:
            raise AuditError(f"{where}: record version {version!r}, this program reads 1 to {RECORD_VERSION}")
        if fields["kind"] != DECISION:
            return StoredEvent(
                str(fields["kind"]), int(fields["time_unix_ns"]), dict(fields["details"]), journal, index
            )
        values = {name: fields[name] for name in _PLAIN_FIELDS if name in fields}
        values.setdefault("bundle", "")
        record = DecisionRecord(decision=_decision(fields["decision"]), **values)
        return StoredDecision(record, journal, index, str(fields.get("facts", "")))
    except (msgspec.DecodeError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise AuditError(f"{where}: authentic, but it does not decode ({type(error).__name__})") from error


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
        return _text(value)
    if depth >= _DEPTH_MAX:
        return "too deep"
    if isinstance(value, Mapping):
        return {_text(str(key)): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}s"
    if isinstance(value, Sequence | set | frozenset) and not isinstance(
        value, bytes | bytearray | memoryview
    ):
        return [plain(item, depth + 1) for item in value]
    return f"({type(value).__name__})"


def _text(value: str) -> str:
    """Cut a text to its longest length; lone surrogates become question marks, as UTF-8 has none."""
    text = str.__str__(value)[:_TEXT_CHARACTERS_MAX]
    return text.encode("utf-8", "replace").decode("utf-8") if not text.isascii() else text


def _bytes(fields: Mapping[str, object] | _Row) -> bytes:
    try:
        return _encode(fields)
    except (TypeError, ValueError, msgspec.MsgspecError) as error:
        raise AuditError(f"decision log: a record cannot be written ({type(error).__name__})") from error


def _decision_fields(decision: Decision) -> dict[str, object]:
    """List the fields of a decision that differ from their default."""
    fields: dict[str, object] = {"effect": decision.effect.value}
    for name in ("rule_id", "policy", "kind", "reason", "agent_message"):
        if value := getattr(decision, name):
            fields[name] = _text(value)
    if decision.matched:
        fields["matched"] = [
            {
                "policy": _text(m.policy),
                "rule_id": _text(m.rule_id),
                "title": _text(m.title),
                "effect": m.effect.value,
                "mode": m.mode.value,
            }
            for m in decision.matched
        ]
    for name in ("errors", "redact", "warnings"):
        if texts := getattr(decision, name):
            fields[name] = [_text(item) for item in texts]
    if decision.values is not None:
        fields["values"] = plain(decision.values)
    if decision.record is not RecordMode.ASYNC:
        fields["record"] = decision.record.value
    if decision.approval is not None:
        terms = decision.approval
        fields["approval"] = {
            "approvers": [_text(item) for item in terms.approvers],
            "approvals": terms.approvals,
            "expires_s": plain(terms.expires_s),
            **({} if terms.scopes is None else {"scopes": plain(terms.scopes._asdict())}),
        }
    if decision.retry_after_s is not None:
        fields["retry_after_s"] = plain(decision.retry_after_s)
    if decision.would_be is not None:
        fields["would_be"] = decision.would_be.value
    return fields


def _decision(fields: Mapping[str, object]) -> Decision:
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
