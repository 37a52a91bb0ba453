"""Proofs of single records: made with the store's keys, checked with the public key alone."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest

from agentguard.audit import (
    NoteKey,
    StoredDecision,
    check_against,
    check_proof,
    export_tiles,
    prove,
    prove_consistency,
    read_proof,
    verify,
    write_proof,
)
from agentguard.audit.checkpoint import parse, sign
from agentguard.audit.disk import Disk
from agentguard.audit.keys import AuditKeys
from agentguard.audit.ledger import Ledger
from agentguard.audit.ledger_files import split
from agentguard.audit.tiles import hash_tiles, tile_path
from agentguard.audit.tree import inclusion_proof, is_consistent, node_hash, root_hash
from agentguard.errors import AuditError
from agentguard.seal import Keystore
from agentguard.values import Effect, RecordMode
from tests.support.clock import FrozenClock
from tests.support.decisions import SLOW, decision, open_journal, write_log

Log = tuple[Path, Keystore]


@pytest.fixture
def written(log: Log) -> Log:
    """Two journals: one of single frames, one where a frame holds many records."""
    write_log(*log, range(0x100, 0x10B))
    journal = open_journal(*log, limits=SLOW._replace(window_s=60.0))
    for number in range(0x200, 0x300):
        journal.append(decision(number, mode=RecordMode.ASYNC))
    assert journal.close(5.0)
    return log


def key_of(log: Log) -> NoteKey:
    """The public key, as the auditor has it."""
    return NoteKey.parse(verify(*log).verifier_key)


@pytest.mark.parametrize("number", [0x100, 0x105, 0x10A, 0x200, 0x233, 0x2FF])
def test_proofs_hold(written: Log, number: int) -> None:
    """The text of a proof and the public key are enough; no store is needed."""
    text = write_proof(prove(*written, f"{number:016x}"))
    proven = check_proof(read_proof(text), key_of(written))
    assert isinstance(proven.entry, StoredDecision)
    assert proven.entry.record.decision_id == f"{number:016x}"
    assert proven.entry.record.decision.reason == f"amount {number} > 50"


def test_a_proof_discloses_one_record(written: Log) -> None:
    """Nothing of any other record stands in it, in any encoding."""
    text = write_proof(prove(*written, f"{0x233:016x}"))
    extra = base64.b64decode(text.split("\n")[1].removeprefix("extra "))
    assert b"amount 563" in extra
    for number in (0x232, 0x234, 0x105):
        assert f"{number:016x}".encode() not in extra
        assert f"amount {number} ".encode() not in extra


def test_an_outsider_checks_it(written: Log) -> None:
    """From the format pages alone: leaf, path, signature, with hashlib and nothing of ours."""
    text = write_proof(prove(*written, f"{0x233:016x}"))
    head, _, note = text.partition("\n\n")
    first, extra_line, index_line, *path = head.split("\n")
    assert first == "c2sp.org/tlog-proof@v1"
    extra = base64.b64decode(extra_line.split(" ")[1])
    assert extra[:4] == b"AGP4"
    blind, record = extra[4:20], extra[20:]
    _, size, root = note.split("\n")[:3]
    index = int(index_line.split(" ")[1])
    node = hashlib.sha256(b"\x00" + blind + record).digest()
    last = int(size) - 1
    for line in path:
        sibling = base64.b64decode(line)
        if index & 1 or index == last:
            node = node_hash(sibling, node)
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            node = node_hash(node, sibling)
        index, last = index >> 1, last >> 1
    assert base64.b64encode(node).decode() == root


def test_every_flip_of_a_proof(written: Log) -> None:
    """No byte of a proof can be changed: it then proves nothing."""
    text = write_proof(prove(*written, f"{0x105:016x}"))
    key = key_of(written)
    data = text.encode()
    for position in range(len(data)):
        changed = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        with pytest.raises(AuditError):
            check_proof(read_proof(changed.decode("utf-8", "replace")), key)


def test_another_key_proves_nothing(written: Log, tmp_path: Path) -> None:
    """The auditor's key decides, not the one that the proof names."""
    from tests.support.decisions import make_keystore

    other = tmp_path / "other"
    other.mkdir()
    theirs = make_keystore(other)
    write_log(*theirs, range(2))
    with pytest.raises(AuditError, match="not signed by the given key"):
        check_proof(prove(*written, f"{0x105:016x}"), key_of(theirs))


def test_unknown_and_ambiguous_ids(written: Log) -> None:
    """An id that is not there, or that several begin with, says so."""
    with pytest.raises(AuditError, match="no decision"):
        prove(*written, "ffff")
    with pytest.raises(AuditError, match="267 decisions begin"):
        prove(*written, "0000")


def test_outcomes_have_proofs_of_their_own(log: Log) -> None:
    """The record that closes a call is found by its own id."""
    journal = open_journal(*log)
    journal.append(decision(1, effect=Effect.ALLOW))
    journal.append(decision(2, point="outcome", outcome="ok"))
    assert journal.close(5.0)
    proven = check_proof(prove(*log, f"{2:016x}", is_outcome=True), key_of(log))
    assert isinstance(proven.entry, StoredDecision)
    assert proven.entry.record.outcome == "ok"


def test_what_no_checkpoint_states_has_no_proof(log: Log) -> None:
    """Before its checkpoint a record cannot be proven, and the error says when it can."""
    journal = write_log(*log, range(3), close=False)
    with pytest.raises(AuditError, match="no checkpoint states record"):
        prove(*log, f"{1:016x}")
    assert journal.close(5.0)
    check_proof(prove(*log, f"{1:016x}"), key_of(log))


def test_only_a_summary_is_left(written: Log) -> None:
    """Long after, when the ledger keeps only the heads, a checkpoint is signed anew for the proof."""
    keys = AuditKeys(written[1])
    ledger = Ledger(written[0], keys, FrozenClock(), disk=Disk(), bytes_max=1)
    root = hashlib.sha256(b"").digest()
    for _ in range(40):
        ledger.append(journal="0123456789abcdef-0", size=0, root=root, state="open")
    assert not any(
        parse(note).journal.endswith("-0") and parse(note).size > 2
        for path in (written[0] / "log").glob("*.agl")
        for note in split(path.read_bytes())
    )
    proven = check_proof(prove(*written, f"{0x105:016x}"), key_of(written))
    assert proven.checkpoint.sequence == 0


def test_against_a_checkpoint_kept_elsewhere(written: Log) -> None:
    """A proof for the very tree of a note on another machine; another root in it is told."""
    keys, key = AuditKeys(written[1]), key_of(written)
    notes = list(split((written[0] / "log" / "ledger-00000001.agl").read_bytes()))
    kept = next(note for note in notes if parse(note).size == 13)
    proof = prove(*written, f"{0x105:016x}", checkpoint=kept)
    assert proof.note == kept
    check_against(check_proof(proof, key), kept, key)
    lie = sign(parse(kept)._replace(root=bytes(32)), keys.signing_key, keys.store_id)
    with pytest.raises(AuditError, match="another root"):
        check_against(check_proof(proof, key), lie, key)
    with pytest.raises(AuditError, match="does not state journal"):
        check_against(check_proof(proof, key), notes[1], key)
    with pytest.raises(AuditError, match="not signed"):
        check_against(check_proof(proof, key), kept.replace(b"seq", b"sEq"), key)


def test_consistency(written: Log) -> None:
    """An older and a newer checkpoint of one journal are shown to be one log."""
    notes = [parse(note) for note in split((written[0] / "log" / "ledger-00000001.agl").read_bytes())]
    name = next(note.journal for note in notes if note.size == 258)
    raw = {
        parse(note).size: note
        for note in split((written[0] / "log" / "ledger-00000001.agl").read_bytes())
        if parse(note).journal == name
    }
    proof = prove_consistency(*written, raw[1], raw[258])
    old, new = parse(raw[1]), parse(raw[258])
    assert is_consistent(old_size=1, old_root=old.root, new_size=258, new_root=new.root, proof=proof)
    with pytest.raises(AuditError, match="older and a later"):
        prove_consistency(*written, raw[258], raw[1])


def test_tiles_are_a_log_of_their_own(written: Log) -> None:
    """From the tiles alone every checkpoint's root can be computed; no content is in them."""
    files = dict(export_tiles(*written))
    assert "refund" not in repr(files)
    checked = 0
    for path, note in files.items():
        if not path.endswith("/checkpoint"):
            continue
        journal, size = path.partition("/")[0], parse(note).size
        leaves: list[bytes] = []
        for index in range(-(-size // 256)):
            width = min(256, size - 256 * index)
            tile = files[f"{journal}/{tile_path(0, index, width)}"]
            leaves += [tile[at : at + 32] for at in range(0, len(tile), 32)]
        assert root_hash(leaves) == parse(note).root
        checked += size
    assert checked == 13 + 258


def test_levels_of_tiles() -> None:
    """Upper levels hold the roots of full tiles only, and a partial tile names its width."""
    leaves = [hashlib.sha256(n.to_bytes(4, "big")).digest() for n in range(70_000)]
    found = dict(hash_tiles(leaves))
    assert {path.split("/")[1] for path in found} == {"0", "1", "2"}
    assert (
        len(found["tile/0/x000/273"] if "tile/0/x000/273" in found else found["tile/0/273.p/112"]) == 112 * 32
    )
    assert found["tile/1/000"][:32] == root_hash(leaves[:256])
    assert found["tile/2/000.p/1"] == root_hash(leaves[:65536])
    assert found["tile/1/001.p/17"][-32:] == root_hash(leaves[272 * 256 : 273 * 256])
    assert tile_path(3, 1234067) == "tile/3/x001/x234/067"
    assert len(inclusion_proof(leaves[:1000], 5)) == 10
