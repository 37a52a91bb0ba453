"""
Making proofs and tiles from the log of a store.

Reads journals and the ledger, and writes nothing; where a proof needs a checkpoint of
one journal and only a summary of all is left, it is signed anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from agentguard.audit import format as layout
from agentguard.audit.call_record import may_be_of
from agentguard.audit.checkpoint import Checkpoint, origin_of, parse, sign
from agentguard.audit.keys import AuditKeys
from agentguard.audit.ledger_reader import Stated, read_ledger
from agentguard.audit.notes import NoteError
from agentguard.audit.proof import Proof
from agentguard.audit.reader import JournalBytes, journal_paths, load_journal
from agentguard.audit.records import OUTCOME, StoredDecision, decode
from agentguard.audit.tiles import hash_tiles
from agentguard.audit.tree import consistency_proof, inclusion_proof, root_hash
from agentguard.errors import AuditError, SealError, TamperedError
from agentguard.seal import Keystore


class JournalTree(NamedTuple):
    """The leaves of one journal, from its clear parts alone."""

    journal: JournalBytes
    leaves: tuple[bytes, ...]


def prove(
    folder: Path,
    keystore: Keystore,
    decision_id: str,
    *,
    checkpoint: bytes | None = None,
    is_outcome: bool = False,
) -> Proof:
    """
    Prove that a decision stands in the log.

    Args:
        folder:
            The store's folder.
        keystore:
            Its keys; they open the one record that is disclosed.
        decision_id:
            Whole id, or a prefix that only one decision has.
        checkpoint:
            A signed checkpoint kept elsewhere, for whose tree the proof is made.
        is_outcome:
            Prove the record of the call's outcome, whose id is another where it has one of its own.

    Returns:
        The proof. It discloses this record, and of no other more than hashes.

    Raises:
        AuditError: No such decision, several, or no checkpoint states it yet.
    """
    keys = AuditKeys(keystore)
    path, frame, position, entry = _find(folder, keys, decision_id, is_outcome=is_outcome)
    tree = tree_of(load_journal(path, keys))
    stated, note = _note_for(folder, keys, tree, entry.index, checkpoint)
    if root_hash(tree.leaves[: stated.size]) != stated.root:
        raise AuditError(f"journal {path.stem}: its records are not those that the checkpoint states").hint(
            "`agentguard decisions verify` says what is wrong"
        )
    blind, record = tree.journal.open(frame)[position]
    return Proof(
        entry.index,
        tuple(inclusion_proof(tree.leaves[: stated.size], entry.index)),
        note,
        blind,
        record,
    )


def prove_consistency(folder: Path, keystore: Keystore, old: bytes, new: bytes) -> tuple[bytes, ...]:
    """
    Prove that a journal's tree of one checkpoint begins with all leaves of an older one.

    Args:
        folder:
            The store's folder.
        keystore:
            Its keys.
        old:
            A signed checkpoint of one journal.
        new:
            A later one of the same.

    Returns:
        Hashes as RFC 6962 section 2.1.2 orders them; `is_consistent` checks them.

    Raises:
        AuditError: The notes are not two such checkpoints, or the journal is not there.
    """
    keys = AuditKeys(keystore)
    try:
        first, second = parse(old), parse(new)
    except NoteError as error:
        raise AuditError(f"checkpoint: it cannot be read: {error}") from error
    if first.origin != second.origin or not 0 < first.size <= second.size:
        raise AuditError("checkpoints: they are not an older and a later one of one journal")
    for path in journal_paths(folder):
        if path.stem == first.journal:
            leaves = tree_of(load_journal(path, keys)).leaves
            if len(leaves) < second.size:
                raise AuditError(
                    f"journal {path.stem}: {len(leaves)} records, the checkpoint states {second.size}"
                )
            return tuple(consistency_proof(leaves[: second.size], first.size))
    raise AuditError(f"journal {first.journal} is not in this store")


def export_tiles(folder: Path, keystore: Keystore) -> Iterator[tuple[str, bytes]]:
    """
    Write every journal as a C2SP tiled log: hashes and checkpoints, no content.

    Args:
        folder:
            The store's folder.
        keystore:
            Its keys; nothing that is sealed is opened.

    Yields:
        Relative path and bytes of each file, below a folder for each journal.

    Raises:
        AuditError: A journal is damaged before its last checkpoint.
    """
    keys = AuditKeys(keystore)
    ledger = read_ledger(folder, keys)
    for path in journal_paths(folder):
        stated = ledger.stated.get(path.stem)
        if stated is None or not stated.note:
            continue
        size = parse(stated.note).size
        tree = tree_of(load_journal(path, keys))
        if root_hash(tree.leaves[:size]) != parse(stated.note).root:
            raise AuditError(f"journal {path.stem}: its records are not those that the checkpoint states")
        yield f"{path.stem}/checkpoint", stated.note
        for name, data in hash_tiles(tree.leaves[:size]):
            yield f"{path.stem}/{name}", data


def tree_of(journal: JournalBytes) -> JournalTree:
    """Work out the leaves of a journal as far as its records follow one another."""
    leaves: list[bytes] = []
    previous = layout.ZERO_LINK
    for part in layout.scan(journal.data):
        if not isinstance(part, layout.Frame) or part.number != len(leaves) or part.previous != previous:
            break
        leaves += part.leaves
        previous = layout.link_of(part.attested)
    return JournalTree(journal, tuple(leaves))


def _find(
    folder: Path, keys: AuditKeys, decision_id: str, *, is_outcome: bool
) -> tuple[Path, layout.Frame, int, StoredDecision]:
    """Find the one record with that id."""
    wanted = decision_id.lower()
    found: dict[str, tuple[Path, layout.Frame, int, StoredDecision]] = {}
    for path in journal_paths(folder):
        try:
            journal = load_journal(path, keys)
        except (AuditError, SealError):
            continue  # What cannot be read proves nothing; `verify` names it.
        for part in layout.scan(journal.data):
            if not isinstance(part, layout.Frame):
                continue
            try:
                records = journal.open(part)
            except TamperedError:
                continue
            for position, (_, record) in enumerate(records):
                if not may_be_of(record, wanted):
                    continue
                entry = decode(record, journal=path.stem, index=part.number + position)
                if (
                    isinstance(entry, StoredDecision)
                    and entry.record.decision_id.startswith(wanted)
                    and (bool(entry.record.outcome) if is_outcome else entry.record.point != OUTCOME)
                ):
                    # A record that was written anew, because a disk failed, counts where it stands last.
                    found[entry.record.decision_id] = (path, part, position, entry)
    if not wanted or not found:
        raise AuditError(f"no decision `{decision_id}`").hint("`agentguard decisions list` shows the ids")
    if len(found) > 1:
        raise AuditError(f"{len(found)} decisions begin with `{decision_id}`, expected one").hint(
            "more digits: " + ", ".join(sorted(found)[:5])
        )
    return next(iter(found.values()))


def _note_for(
    folder: Path, keys: AuditKeys, tree: JournalTree, index: int, given: bytes | None
) -> tuple[Checkpoint, bytes]:
    """Find a signed checkpoint of the journal that states the record, or state one anew."""
    name = tree.journal.journal.name
    stated = read_ledger(folder, keys).stated.get(name, Stated.nothing(name))
    if given is not None:
        return _given(keys, tree, given, index)
    if stated.last.size <= index:
        raise AuditError(f"journal {name}: no checkpoint states record {index} yet").hint(
            "a running writer states it within a second; what a crashed one left behind its last cannot be proven"
        )
    if stated.note and parse(stated.note).size == stated.last.size:
        return parse(stated.note), stated.note
    return _restate(keys, tree, stated.last)


def _given(keys: AuditKeys, tree: JournalTree, note: bytes, index: int) -> tuple[Checkpoint, bytes]:
    """Use a checkpoint that was kept elsewhere: of this journal, or of all."""
    name = tree.journal.journal.name
    try:
        kept = parse(note)
    except NoteError as error:
        raise AuditError(f"checkpoint: it cannot be read: {error}") from error
    if not keys.is_signed(note):
        raise AuditError("checkpoint: it is not signed by this store")
    if kept.journal == name:
        if kept.size <= index:
            raise AuditError(f"checkpoint: it states {kept.size} records, the decision is record {index}")
        return kept, note
    for head in kept.heads:
        if head.journal == name and head.size > index:
            return _restate(keys, tree, kept._replace(size=head.size, root=head.root, state=head.state))
    raise AuditError(f"checkpoint: it does not state record {index} of journal {name}")


def _restate(keys: AuditKeys, tree: JournalTree, stated: Checkpoint) -> tuple[Checkpoint, bytes]:
    """
    Sign anew, for one journal, what a summary states of it.

    It becomes no entry of the ledger, so it has the sequence 0.
    """
    name = tree.journal.journal.name
    if root_hash(tree.leaves[: stated.size]) != stated.root:
        raise AuditError(f"journal {name}: its records are not those that the checkpoint states")
    again = stated._replace(origin=origin_of(keys.store_id, name), sequence=0, previous=bytes(32), heads=())
    return again, sign(again, keys.signing_key, keys.store_id)
