"""
A second reader of ledger files, written from docs/reference/decision-log-format.md alone.

Standard library and `cryptography` only; shares no code with the package.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

NUMBERS = {"open": 0, "closed": 0, "adopted": 2, "pruned": 5}


class Failure(Exception):
    """The ledger is not whole; the first argument is the class of the failure."""


class Stated(NamedTuple):
    """What is said last of a journal."""

    size: int
    root: bytes
    state: str
    numbers: tuple[int, ...]


def root_of(leaves: list[bytes]) -> bytes:
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + root_of(leaves[:split]) + root_of(leaves[split:])).digest()


def read(text: str, verifier_key: str, store_id: bytes) -> dict[str, Stated]:
    """Give what is stated of each journal, or raise a Failure."""
    name, key_id, key = verifier_key.split("+", 2)
    raw = base64.b64decode(key)
    assert raw[0] == 1
    public = Ed25519PublicKey.from_public_bytes(raw[1:])
    assert hashlib.sha256(name.encode() + b"\n" + raw).digest()[:4].hex() == key_id
    heads: dict[str, Stated] = {}
    sequence, previous = 0, bytes(32)
    lines = text.split("\n")
    entries: list[list[str]] = [[]]
    for line in lines:
        entries[-1].append(line)
        if line.startswith("— ") and len(entries[-1]) > 1:
            entries.append([])
    rest = [line for line in entries.pop() if line]
    for position, raw_lines in enumerate(entries):
        entry = raw_lines[1:] if position and raw_lines[0] == "" else raw_lines
        note = "\n".join(entry) + "\n"
        body, _, signatures = note.partition("\n\n")
        origin, said, extensions = check(body + "\n", signatures, name, key_id, public, store_id)
        if int(extensions["seq"]) != sequence + 1 or bytes.fromhex(extensions["prev"]) != previous:
            raise Failure("chain")
        if sequence == 0 and origin != "heads":
            raise Failure("cut")
        sequence, previous = sequence + 1, hashlib.sha256(note.encode()).digest()
        if origin == "heads" and position and heads.keys() - said.keys():
            raise Failure("left out")
        for journal, stated in said.items():
            take(heads, journal, stated)
    if rest:
        raise Failure("altered")
    return heads


def check(
    body: str, signatures: str, name: str, key_id: str, public: Ed25519PublicKey, store_id: bytes
) -> tuple[str, dict[str, Stated], dict[str, str]]:
    """Check one entry by itself."""
    try:
        signed = base64.b64decode(signatures.removeprefix(f"— {name} ").strip(), validate=True)
        if signed[:4].hex() != key_id:
            raise Failure("altered")
        public.verify(signed[4:], body.encode())
        origin, size, root, *extensions = body.rstrip("\n").split("\n")
        store, journal = origin.removeprefix("agentguard/").split("/")
        if bytes.fromhex(store) != store_id:
            raise Failure("altered")
        fields: dict[str, Any] = {}
        said: dict[str, Stated] = {}
        leaves = []
        for line in extensions:
            word, *more = line.split(" ")
            if word == "head":
                said[more[0]] = stated_of(more[1], more[2], more[3:])
                leaves.append(hashlib.sha256(b"\x00" + line.encode()).digest())
            elif word == "past":
                if (
                    journal != "heads"
                    or int(more[0]) < 1
                    or int(more[1]) < 0
                    or len(bytes.fromhex(more[2])) != 32
                ):
                    raise Failure("altered")
            else:
                fields[word] = more
        if journal == "heads":
            if int(size) != len(leaves) or base64.b64decode(root) != root_of(leaves):
                raise Failure("altered")
        else:
            said = {journal: stated_of(size, root, fields["state"])}
        return journal, said, {"seq": fields["seq"][0], "prev": fields["prev"][0]}
    except (InvalidSignature, ValueError, LookupError):
        raise Failure("altered") from None


def stated_of(size: str, root: str, state: list[str]) -> Stated:
    if NUMBERS.get(state[0]) != len(state) - 1:
        raise Failure("altered")
    return Stated(int(size), base64.b64decode(root), state[0], tuple(map(int, state[1:])))


def take(heads: dict[str, Stated], journal: str, stated: Stated) -> None:
    """Note what is said of a journal: it grows, and after its removal nothing else is said."""
    known = heads.get(journal, stated)
    if stated.size < known.size:
        raise Failure("shrinks")
    if (known.state == "pruned" and stated.state != "pruned") or (
        stated.state == "pruned" and stated.root != known.root
    ):
        raise Failure("pruned")
    heads[journal] = stated
