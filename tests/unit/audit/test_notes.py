"""Signed notes and their keys, with published vectors and the ones of the store."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import mldsa

from agentguard.audit.checkpoint import (
    Checkpoint,
    Head,
    body_text,
    is_signed,
    parse,
    post_quantum_key_text,
    sign,
)
from agentguard.audit.ledger_files import is_torn
from agentguard.audit.notes import NoteError, NoteKey, split_note
from agentguard.errors import AuditError
from agentguard.seal import PostQuantumSigningKey, SigningKey, has_post_quantum

# The example of the signed-note documentation of Go's checksum database.
KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
).encode()
STORE = bytes(range(16))
OWN = Checkpoint(
    f"agentguard/{STORE.hex()}/00112233445566aa-0", 7, hashlib.sha256(b"r").digest(), 3, bytes(32), 10**18
)


def test_published_note() -> None:
    """A note that another program signed, under the key as text."""
    key = NoteKey.parse(KEY)
    assert key.text == KEY
    assert key.checks(NOTE) is True
    assert key.checks(NOTE.replace(b"answer", b"cause")) is False


def test_lines_of_others_are_passed_over() -> None:
    """An unknown key, also one of the same name, neither helps nor harms."""
    key = NoteKey.parse(KEY)
    other = b"\xe2\x80\x94 somebody AAAAAAAAAAAA\n"
    assert key.checks(NOTE + other) is True
    assert NoteKey("somebody", 1, SigningKey(bytes(32)).verify_key).checks(NOTE) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a+b",
        "name+00000000+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "n+00000000+AA==",
        "n+0+AQ==",
        "+x+AQ==",
    ],
)
def test_no_keys(text: str) -> None:
    """What is no verifier key, or contradicts its id, is refused as such."""
    with pytest.raises(AuditError, match="verifier key"):
        NoteKey.parse(text)


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"text\n",
        b"text\n\n",
        b"text\n\n- a AAAAAAAA\n",
        b"text\n\n\xe2\x80\x94 a !\n",
        b"t\n\n" + b"\xe2\x80\x94 a AAAAAAAA\n" * 17,
    ],
)
def test_no_notes(note: bytes) -> None:
    """What is no signed note is refused by its own error."""
    with pytest.raises(NoteError):
        split_note(note)


@pytest.mark.skipif(not has_post_quantum(), reason="cryptography without ML-DSA")
def test_second_signature() -> None:
    """The ML-DSA-44 line is what C2SP tlog-cosignature says, checked here from its text alone."""
    key, other = SigningKey(bytes(32)), PostQuantumSigningKey(bytes(range(32)))
    note = sign(OWN, key, STORE, other)
    assert parse(note) == OWN
    assert is_signed(note, key.verify_key, STORE, other.verify_key)
    _, lines = split_note(note)
    assert [len(line.signature) for line in lines] == [64, 8 + 2420]
    name = f"agentguard/{STORE.hex()}".encode()
    assert lines[1].key_id == hashlib.sha256(name + b"\n\x06" + other.verify_key.raw).digest()[:4]
    message = (
        b"subtree/v1\n\x00"
        + bytes([len(name)])
        + name
        + lines[1].signature[:8]
        + bytes([len(OWN.origin)])
        + OWN.origin.encode()
        + (0).to_bytes(8, "big")
        + (7).to_bytes(8, "big")
        + OWN.root
    )
    mldsa.MLDSA44PublicKey.from_public_bytes(other.verify_key.raw).verify(lines[1].signature[8:], message)
    assert int.from_bytes(lines[1].signature[:8], "big") == 10**9
    assert NoteKey.parse(post_quantum_key_text(STORE, other.verify_key)).checks(note) is True
    # Where the second line is there it must be right, even under a right first one.
    forged = sign(OWN, key, STORE, PostQuantumSigningKey(bytes(32))).split(b"\n")[-2]
    mine = note.split(b"\n")[-2]
    mixed = note.replace(mine, mine[:60] + forged[60:])
    assert not is_signed(mixed, key.verify_key, STORE, other.verify_key)
    assert is_signed(mixed, key.verify_key, STORE)


@pytest.mark.skipif(not has_post_quantum(), reason="cryptography without ML-DSA")
def test_torn_entries() -> None:
    """A cut anywhere in an entry is what a crash leaves; a change that keeps the length is none."""
    for other in (None, PostQuantumSigningKey(bytes(32))):
        entry = sign(OWN, SigningKey(bytes(32)), STORE, other) + b"\n"
        assert all(is_torn(entry[:cut], STORE) for cut in range(0, len(entry), 7))
        assert is_torn(entry[:-1], STORE)
        for bit in range(8):
            changed = entry[:-1] + bytes([entry[-1] ^ (1 << bit)])
            assert not is_torn(changed, STORE), (other, bit)


def test_a_summary_is_a_checkpoint() -> None:
    """The heads are extension lines, so any reader of checkpoints reads a summary."""
    summary = OWN._replace(heads=(Head("00112233445566aa-0", 7, OWN.root, "open"),))
    origin, size, root = body_text(summary).split("\n")[:3]
    assert (origin, size) == (OWN.origin, "7")
    assert len(root) == 44
