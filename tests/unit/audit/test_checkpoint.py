"""Checkpoints as C2SP signed notes."""

from __future__ import annotations

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from agentguard.audit.checkpoint import (
    Checkpoint,
    Head,
    NoteError,
    is_signed,
    origin_of,
    parse,
    sign,
    verifier_key_text,
)
from agentguard.seal import SigningKey, VerifyKey

STORE = bytes(range(16))
KEY = SigningKey(bytes(32))
CHECKPOINT = Checkpoint(
    origin=origin_of(STORE, "00112233445566aa-0"),
    size=7,
    root=hashlib.sha256(b"root").digest(),
    sequence=3,
    previous=hashlib.sha256(b"previous").digest(),
    time_unix_ns=1_767_225_600_000_000_000,
)


def test_it_reads_back() -> None:
    """What is written is read, heads included."""
    summary = CHECKPOINT._replace(heads=(Head("aa-0", 2, bytes(32), "closed"),))
    for checkpoint in (CHECKPOINT, summary):
        assert parse(sign(checkpoint, KEY, STORE)) == checkpoint


def test_another_reader_accepts_it() -> None:
    """A reader written from C2SP signed-note alone, with the verifier key as text, agrees."""
    name, key_id, encoded = verifier_key_text(STORE, KEY.verify_key).split("+", 2)
    key = base64.b64decode(encoded)
    assert key[:1] == b"\x01"
    assert hashlib.sha256(name.encode() + b"\n" + key).hexdigest()[:8] == key_id
    text, signatures = sign(CHECKPOINT, KEY, STORE).decode().split("\n\n")
    dash, its_name, signature = signatures.rstrip("\n").split(" ")
    assert (dash, its_name) == ("\u2014", name)
    raw = base64.b64decode(signature)
    assert raw[:4].hex() == key_id
    Ed25519PublicKey.from_public_bytes(key[1:]).verify(raw[4:], text.encode() + b"\n")
    origin, size, root = text.split("\n")[:3]
    assert (origin, size, base64.b64decode(root)) == (CHECKPOINT.origin, "7", CHECKPOINT.root)


def test_a_witness_may_add_a_line() -> None:
    """Signature lines of others are passed over."""
    note = sign(CHECKPOINT, KEY, STORE)
    body, signature = note.split(b"\n\n")
    other = "\u2014 witness.example AAAAAAAA\n".encode()
    assert is_signed(body + b"\n\n" + other + signature, KEY.verify_key, STORE)


def test_every_flip_is_noticed() -> None:
    """No byte of a note can change: it no longer parses, or its signature is wrong."""
    note = sign(CHECKPOINT, KEY, STORE)
    for position in range(len(note) - 1):
        changed = bytearray(note)
        changed[position] ^= 1
        try:
            parse(bytes(changed))
        except NoteError:
            continue
        assert not is_signed(bytes(changed), KEY.verify_key, STORE), position


def test_other_keys_and_stores_do_not_count() -> None:
    """A signature by another key, or in the name of another store, is none."""
    note = sign(CHECKPOINT, KEY, STORE)
    assert is_signed(note, KEY.verify_key, STORE)
    assert not is_signed(note, SigningKey(bytes([1]) * 32).verify_key, STORE)
    assert not is_signed(note, KEY.verify_key, bytes(16))
    assert not is_signed(b"no note", VerifyKey(KEY.verify_key.raw), STORE)


@pytest.mark.parametrize("note", [b"", b"\xff", b"a\nb\nc\n\n", b"a\n01\nAAAA\n\n"])
def test_what_is_no_note(note: bytes) -> None:
    """Other text is refused with one kind of error."""
    with pytest.raises(NoteError):
        parse(note)
