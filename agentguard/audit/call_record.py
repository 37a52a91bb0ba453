"""
The record of one call in short: what is its own, and the digest of the form that says all else.

Nearly every record is of a call that was let run, and differs from the others in ids, times and the run alone. Those
stand here in binary; the form, a record in JSON without them, stands once in each frame. Pure: bytes in, values out.
The normative page is `docs/reference/decision-log-format.md`.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final

from agentguard.values import attributes as names

MAGIC: Final = 1
"""First byte of a short record; one that is whole begins with a brace."""
OWN: Final = struct.Struct(">B32sQ16sQQQBHH")
"""`MAGIC`, digest of the form, call id, trace id, time, evaluation, end (0: it goes on), outcome, bytes of the run's id,
bytes of the principal; these two follow, UTF-8."""
FORM_BYTES_MAX: Final = 1 << 16
"""A form that is longer is of no use: such records are written whole."""
RUN_BYTES_MAX: Final = 16_384
"""So is a record whose run's id, or principal, is longer, which is cut then."""
OUTCOMES: Final = (
    "", names.OUTCOME_OK, names.OUTCOME_ERROR, names.OUTCOME_CANCELLED, names.OUTCOME_ABANDONED,
    names.OUTCOME_DENIED,
)  # fmt: skip
"""By the number that stands for each."""
OUTCOME_NUMBERS: Final = {outcome: number for number, outcome in enumerate(OUTCOMES)}
_SHORT: Final = bytes([MAGIC])
_DIGEST: Final = slice(1, 33)
_CALL_ID: Final = slice(33, 41)


def digest_of(form: bytes) -> bytes:
    """Name a form by its SHA-256."""
    return hashlib.sha256(form).digest()


def is_short(record: bytes) -> bool:
    """Whether a record needs a form."""
    return record[:1] == _SHORT


def digests_in(records: list[bytes]) -> set[bytes]:
    """List the forms that records need."""
    return {record[_DIGEST] for record in records if record[0] == MAGIC}


def with_form(record: bytes, forms: dict[bytes, bytes]) -> bytes | None:
    """Give a record as readers have it: a short one with its form behind it; None where that is not there."""
    if not is_short(record) or len(record) < OWN.size or _end_of(record) != len(record):
        return record  # Or it is none at all, and nobody can read it.
    form = forms.get(record[_DIGEST])
    return None if form is None else record + form


def hashed_part(record: bytes) -> bytes:
    """
    Give what the leaf of a record hashes.

    Args:
        record:
            Whole, or short with its form behind it, from wherever.

    Returns:
        It itself; without the form, and with the digest of the very form that it has.
    """
    if not is_short(record) or len(record) < OWN.size:
        return record
    end = _end_of(record)
    return record[:1] + digest_of(record[end:]) + record[_DIGEST.stop : end]


def may_be_of(record: bytes, decision_id: str) -> bool:
    """Whether a record can be of a decision whose id begins so; to be seen without reading it."""
    if is_short(record):
        return record[_CALL_ID].hex().startswith(decision_id)
    return decision_id.encode() in record


def read_short(record: bytes) -> tuple[bytes, dict[str, object]]:
    """
    Read a short record.

    Args:
        record:
            With its form behind it.

    Returns:
        The form, and the fields of the call.

    Raises:
        ValueError: It is none.
    """
    if len(record) < OWN.size:
        raise ValueError("short")
    _, _, call_id, trace_id, time_unix_ns, evaluation_ns, ended_unix_ns, outcome, run_bytes, _ = (
        OWN.unpack_from(record)
    )
    end = _end_of(record)
    if outcome >= len(OUTCOMES) or end > len(record):
        raise ValueError("short")
    principal_at = OWN.size + run_bytes
    own_id = f"{call_id:016x}"
    return record[end:], {
        "decision_id": own_id,
        "call_id": own_id,
        "trace_id": trace_id.hex(),
        "time_unix_ns": time_unix_ns,
        "evaluation_ns": evaluation_ns,
        "ended_unix_ns": ended_unix_ns,
        "outcome": OUTCOMES[outcome],
        "run_id": record[OWN.size : principal_at].decode(),
        "principal": record[principal_at:end].decode(),
    }


def _end_of(record: bytes) -> int:
    """Where the form begins."""
    run_bytes, principal_bytes = struct.unpack_from(">HH", record, OWN.size - 4)
    return OWN.size + int(run_bytes) + int(principal_bytes)
