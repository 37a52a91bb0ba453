"""
Proofs that one record stands in the log, for whoever has the public key and nothing else.

A proof is a C2SP tlog-proof: the record's index, its audit path, a signed
checkpoint; its extra data discloses this one record with its blind, and nothing
of any other. Pure: text in, values out.

Source: C2SP tlog-proof; RFC 6962 section 2.1.1.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from agentguard.audit import format as layout
from agentguard.audit.checkpoint import Checkpoint, parse
from agentguard.audit.notes import NoteError, NoteKey, from_base64, to_base64
from agentguard.audit.records import StoredDecision, StoredEvent, decode
from agentguard.audit.tree import is_included
from agentguard.errors import AuditError

FIRST_LINE = "c2sp.org/tlog-proof@v1"
PROOF_BYTES_MAX = 4 << 20
_PATH_HASHES_MAX = 64
_EXTRA = struct.Struct(">4s16s")
"""magic, blind; then the record, behind a short one its form."""
_MAGIC = b"AGP4"


class Proof(NamedTuple):
    """What a proof text holds; nothing of it is checked by reading it."""

    leaf_index: int
    """Which record of the journal, from 0."""
    path: tuple[bytes, ...]
    note: bytes
    """The signed checkpoint, byte for byte."""
    blind: bytes
    record: bytes


class ProvenRecord(NamedTuple):
    """A record that a proof shows to be in the log."""

    entry: StoredDecision | StoredEvent
    checkpoint: Checkpoint


def write_proof(proof: Proof) -> str:
    """Write a proof as text, to be stored with the ending `.tlog-proof`."""
    extra = _EXTRA.pack(_MAGIC, proof.blind) + proof.record
    lines = [
        FIRST_LINE,
        f"extra {to_base64(extra)}",
        f"index {proof.leaf_index}",
        *map(to_base64, proof.path),
    ]
    return "\n".join(lines) + "\n\n" + proof.note.decode()


def read_proof(text: str) -> Proof:
    """
    Read the text of a proof.

    Raises:
        AuditError: It is none.
    """
    head, separator, note = text.partition("\n\n")
    lines = head.split("\n")
    try:
        if len(text) > PROOF_BYTES_MAX or lines[0] != FIRST_LINE or not separator:
            raise NoteError(f"a proof begins with `{FIRST_LINE}`")
        if not lines[1].startswith("extra ") or not lines[2].startswith("index "):
            raise NoteError("a proof of a decision has the lines `extra` and `index`")
        extra = from_base64(lines[1].removeprefix("extra "))
        magic, blind = _EXTRA.unpack_from(extra)
        if magic != _MAGIC:
            raise NoteError("its extra data discloses no record of a decision log")
        index = lines[2].removeprefix("index ")
        if not index.isascii() or not index.isdigit() or index != str(int(index)):
            raise NoteError("its index is no number")
        if len(lines) - 3 > _PATH_HASHES_MAX:
            raise NoteError("its audit path is too long")
        path = tuple(from_base64(line, 32) for line in lines[3:])
    except (NoteError, IndexError, struct.error) as error:
        raise AuditError(f"proof: it cannot be read: {error}") from error
    return Proof(int(index), path, note.encode(), blind, extra[_EXTRA.size :])


def check_proof(proof: Proof, key: NoteKey) -> ProvenRecord:
    """
    Check a proof with a public key alone.

    Args:
        proof:
            As `read_proof` reads it.
        key:
            The log's verifier key, which the auditor had before.

    Returns:
        The record, and the checkpoint that states it. That the log holds nothing
        else, or still exists, is not shown.

    Raises:
        AuditError: The proof does not show it; the message says which step failed.
    """
    try:
        if key.checks(proof.note) is not True:
            raise AuditError("proof: its checkpoint is not signed by the given key")
        checkpoint = parse(proof.note)
        journal = _journal_of(checkpoint.origin, key.name)
    except NoteError as error:
        raise AuditError(f"proof: its checkpoint cannot be read: {error}") from error
    leaf = layout.leaf_hash(proof.blind, proof.record)
    if not is_included(
        leaf=leaf, index=proof.leaf_index, size=checkpoint.size, proof=proof.path, root=checkpoint.root
    ):
        raise AuditError("proof: the record that it discloses is not in the tree of its checkpoint")
    return ProvenRecord(decode(proof.record, journal=journal.name, index=proof.leaf_index), checkpoint)


def check_against(proven: ProvenRecord, note: bytes, key: NoteKey) -> None:
    """
    Check that a proof speaks of the very tree that a checkpoint kept elsewhere states.

    Args:
        proven:
            What the proof shows.
        note:
            A checkpoint of the same journal, or of all journals, from another machine.
        key:
            The log's verifier key.

    Raises:
        AuditError: The note is not signed by the key, states another root, or states
            another number of records, with which it cannot be compared.
    """
    try:
        if key.checks(note) is not True:
            raise AuditError("checkpoint: it is not signed by the given key")
        kept = parse(note)
    except NoteError as error:
        raise AuditError(f"checkpoint: it cannot be read: {error}") from error
    own = proven.checkpoint
    roots = {(head.journal, head.size): head.root for head in kept.heads}
    if kept.origin == own.origin:
        roots[own.journal, kept.size] = kept.root
    root = roots.get((own.journal, own.size))
    if root is None:
        raise AuditError(f"checkpoint: it does not state journal {own.journal} with {own.size} records").hint(
            "`agentguard decisions prove ID --checkpoint FILE` makes a proof for it"
        )
    if root != own.root:
        raise AuditError(
            f"checkpoint: it states another root for the first {own.size} records of journal {own.journal}: "
            "the log was changed after one of them was signed"
        )


def _journal_of(origin: str, key_name: str) -> layout.JournalId:
    """Read which journal a checkpoint speaks of; it must be one of the key's store."""
    prefix, _, store = key_name.partition("/")
    try:
        store_id = bytes.fromhex(store)
    except ValueError as error:
        raise NoteError("the key is not named as those of decision logs are") from error
    begin = f"{prefix}/{store}/"
    journal = layout.parse_name(origin.removeprefix(begin), store_id) if origin.startswith(begin) else None
    if journal is None or len(store_id) != 16:
        raise NoteError("the checkpoint is not of a journal of the key's store")
    return journal
