"""
Records of the decision log as canonical bytes, and back.

The bytes that `encode_decision` and `encode_event` return are what is hashed,
sealed and kept; nothing is ever serialised a second time. Readers of this
version read every older one, ignore fields that they do not know, and refuse
newer versions.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import msgspec

from agentguard.audit import call_record
from agentguard.audit.decision_fields import TEXT_CHARACTERS_MAX, decision_of, fields_of, plain, text
from agentguard.errors import AuditError
from agentguard.values import FACT_SCHEMA_VERSION, Decision, DecisionRecord, Effect

RECORD_VERSION = 1
DECISION = "decision"
"""Kind of a record that holds a decision or an outcome; every other kind is an event."""
OUTCOME = "outcome"
"""The `point` of a record that only says how a call ended."""
OPEN, CLOSE, GAP = "journal.open", "journal.close", "journal.gap"
"""Kinds that the journal itself writes."""

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
    "ended_unix_ns",
)
_TEXTS = tuple(
    name for name in _PLAIN_FIELDS if name not in {"time_unix_ns", "evaluation_ns", "ended_unix_ns"}
)
_COOPERATIVE: str = DecisionRecord._field_defaults["enforcement"]


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
    enforcement: str = _COOPERATIVE
    requested: str = ""
    fallback: str = ""
    ended_unix_ns: int = 0
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
        decision_id, time_unix_ns, point, decision, bundle, call_id, trace_id, run_id, agent, tool, model, principal,
        evaluation_ns, approval_id, outcome, enforcement, requested, fallback, ended_unix_ns,
    ) = record  # fmt: skip
    known = _fragments.get(id(decision))
    fragment = known[1] if known is not None and known[0] is decision else _fragment(decision)
    try:
        data = _encode(
            # By place: names would take as long as all the rest.
            _Row(
                RECORD_VERSION, DECISION, FACT_SCHEMA_VERSION, decision_id, time_unix_ns, point, bundle, call_id,
                trace_id, run_id, agent, tool, model, principal, evaluation_ns, approval_id, outcome, enforcement,
                requested, fallback, ended_unix_ns, fragment,
            )
        )  # fmt: skip
    except (TypeError, ValueError, msgspec.MsgspecError) as error:
        cut = _cut(record) if isinstance(error, UnicodeEncodeError) else record
        if cut != record:
            return encode_decision(cut)
        raise _unwritable(error) from error
    if len(data) > TEXT_CHARACTERS_MAX and (cut := _cut(record)) != record:
        return encode_decision(cut)
    return data


class CallRecord(NamedTuple):
    """The short record of one call, and the form that it needs."""

    record: bytes
    form: CallForm

    @property
    def whole(self) -> bytes:
        """Both, as readers have it."""
        return self.record + self.form.text


class CallForm:
    """
    What the records of calls have in common that differ in no more than what is a call's own.

    It is written once; a short record names it by its digest.
    """

    __slots__ = ("digest", "is_usable", "pack", "shared", "text")

    def __init__(self, shared: DecisionRecord) -> None:
        """
        Args:
            shared:
                What is a call's own must be left empty in it.

        Raises:
            AuditError: It cannot be written.
        """  # noqa: D205 - the arguments say it all
        self.shared = shared
        self.text = encode_decision(shared)
        self.digest = call_record.digest_of(self.text)
        self.pack = partial(call_record.OWN.pack, call_record.MAGIC, self.digest)
        """Writes a short record, as far as its texts; takes the numbers of `call_record.OWN` behind the digest."""
        self.is_usable = len(self.text) <= call_record.FORM_BYTES_MAX
        """Whether it can stand in a frame; else each record is written whole."""

    def fill(
        self,
        call_id: int,
        trace_id: int,
        time_unix_ns: int,
        evaluation_ns: int,
        ended_unix_ns: int,
        outcome: str,
        run_id: str,
        principal: str,
    ) -> CallRecord | bytes:
        """
        Write the record of one call; its decision has the id of the call.

        Args:
            call_id: As in `DecisionRecord`, as is all that follows.
            trace_id: As there.
            time_unix_ns: As there.
            evaluation_ns: As there.
            ended_unix_ns: As there.
            outcome: Empty where the call goes on.
            run_id: Any text; it is cut as those of other records are.
            principal: As `run_id`.

        Returns:
            A short record; a whole one where something is not as it nearly always is.
        """
        if self.is_usable:
            try:
                run, who = run_id.encode(), principal.encode()
                own = self.pack(
                    call_id, trace_id.to_bytes(16, "big"), time_unix_ns, evaluation_ns, ended_unix_ns,
                    call_record.OUTCOME_NUMBERS[outcome], len(run), len(who),
                )  # fmt: skip
                if max(len(run), len(who)) <= call_record.RUN_BYTES_MAX:
                    return CallRecord(own + run + who, self)
            except (UnicodeEncodeError, LookupError, OverflowError, struct.error):
                pass  # Then it is written whole, which says what is wrong with it, if anything is.
        own_id = call_id.to_bytes(8, "big").hex()
        return encode_decision(
            self.shared._replace(
                decision_id=own_id,
                time_unix_ns=time_unix_ns,
                call_id=own_id,
                trace_id=trace_id.to_bytes(16, "big").hex(),
                run_id=run_id,
                principal=principal,
                evaluation_ns=evaluation_ns,
                outcome=outcome,
                ended_unix_ns=ended_unix_ns,
            )
        )


def _cut(record: DecisionRecord) -> DecisionRecord:
    """Cut texts that are too long, and replace what UTF-8 does not have; hardly any record needs it."""
    texts = {name: text(getattr(record, name)) for name in _TEXTS}
    return record._replace(**texts)  # type: ignore[arg-type] # the names of texts


def _fragment(decision: Decision) -> msgspec.Raw:
    """Write a decision, and keep what is written for the next record of it."""
    fragment = msgspec.Raw(_bytes(fields_of(decision)))
    if decision.values is None:  # Else it is of a single call.
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


def told(entry: StoredDecision) -> Iterator[StoredDecision]:
    """
    Give what a record says: a decision, an outcome, or both one after the other.

    Where a call had ended when its admission was written, one record says both; its readers
    see the outcome as if it stood alone.
    """
    record = entry.record
    if not record.ended_unix_ns:
        yield entry
        return
    yield replace(entry, record=record._replace(outcome="", ended_unix_ns=0))
    outcome = DecisionRecord(
        decision_id=record.decision_id,
        time_unix_ns=record.ended_unix_ns,
        point=OUTCOME,
        decision=Decision(effect=Effect.ALLOW),
        bundle=record.bundle,
        call_id=record.call_id,
        trace_id=record.trace_id,
        run_id=record.run_id,
        outcome=record.outcome,
        enforcement=record.enforcement,
    )
    yield replace(entry, record=outcome)


def decode(data: bytes, *, journal: str, index: int) -> StoredDecision | StoredEvent:
    """
    Read a record back.

    Args:
        data:
            The bytes that were sealed; behind a short record its form.
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
        form, own = call_record.read_short(data) if call_record.is_short(data) else (data, {})
        fields = {**msgspec.json.decode(form), **own}
        version = fields["v"]
        if type(version) is not int or not 1 <= version <= RECORD_VERSION:
            raise AuditError(f"{where}: record version {version!r}, this program reads 1 to {RECORD_VERSION}")
        if fields["kind"] != DECISION:
            return StoredEvent(
                str(fields["kind"]), int(fields["time_unix_ns"]), dict(fields["details"]), journal, index
            )
        values = {name: fields[name] for name in _PLAIN_FIELDS if name in fields}
        values.setdefault("bundle", "")
        record = DecisionRecord(decision=decision_of(fields["decision"]), **values)
        return StoredDecision(record, journal, index, str(fields.get("facts", "")))
    except (msgspec.DecodeError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise AuditError(f"{where}: authentic, but it does not decode ({type(error).__name__})") from error


def _bytes(fields: Mapping[str, object] | _Row) -> bytes:
    try:
        return _encode(fields)
    except (TypeError, ValueError, msgspec.MsgspecError) as error:
        raise _unwritable(error) from error


def _unwritable(error: Exception) -> AuditError:
    return AuditError(f"decision log: a record cannot be written ({type(error).__name__})")
