"""
Checkpoints: signed statements of how many records a journal has, and their root.

The text is a C2SP checkpoint (origin, size, root, extension lines) in a C2SP
signed note, so that other tools can check it without any key of ours but the
public one. Pure: text in, values out.

Source: C2SP tlog-checkpoint and signed-note.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import NamedTuple

from agentguard.seal import SigningKey, VerifyKey

_SIGNATURES = re.compile(r"(— [^\n]{1,1000}\n){1,16}")
_ED25519 = b"\x01"
"""Signature type of C2SP signed-note."""


class Checkpoint(NamedTuple):
    """One entry of the ledger."""

    origin: str
    """`agentguard/<store id>/<writer>-<n>` for a journal, `agentguard/<store id>/heads` for a summary."""
    size: int
    """Records of the journal; of a summary, its journals."""
    root: bytes
    """RFC 6962 root over the leaves of the journal; of a summary, over its head lines."""
    sequence: int
    """Counts the entries of the ledger of a store, from 1."""
    previous: bytes
    """SHA-256 of the whole entry before, signature included; zeros for the first."""
    time_unix_ns: int
    """By the writer's clock; nothing is concluded from it."""
    state: str = "open"
    """`open`, or `closed` where the writer ended in order: nothing may follow."""
    heads: tuple[Head, ...] = ()
    """Of a summary: the last checkpoint of every journal."""

    @property
    def journal(self) -> str:
        """`<writer>-<n>`, or `heads`."""
        return self.origin.rpartition("/")[2]


class Head(NamedTuple):
    """The last checkpoint of one journal, as a summary repeats it."""

    journal: str
    size: int
    root: bytes
    state: str

    def line(self) -> str:
        """The line of the summary."""
        return f"head {self.journal} {self.size} {_base64(self.root)} {self.state}"


class NoteError(ValueError):
    """The text is no signed checkpoint; the message says why."""


def origin_of(store_id: bytes, journal: str) -> str:
    """Name the log that a checkpoint speaks of."""
    return f"agentguard/{store_id.hex()}/{journal}"


def key_name(store_id: bytes) -> str:
    """Name of the store's signing key in notes."""
    return f"agentguard/{store_id.hex()}"


def verifier_key_text(store_id: bytes, key: VerifyKey) -> str:
    """
    Write the public key as C2SP verifier keys are: `<name>+<key id>+<base64>`.

    Args:
        store_id:
            Whose key it is.
        key:
            The public key.

    Returns:
        One line without line feed, to be handed to an auditor.
    """
    name = key_name(store_id)
    return f"{name}+{_key_id(name, key).hex()}+{_base64(_ED25519 + key.raw)}"


def body_text(checkpoint: Checkpoint) -> str:
    """Write what is signed."""
    lines = [
        checkpoint.origin,
        str(checkpoint.size),
        _base64(checkpoint.root),
        f"seq {checkpoint.sequence}",
        f"prev {checkpoint.previous.hex()}",
        f"time {checkpoint.time_unix_ns}",
        f"state {checkpoint.state}",
        *(head.line() for head in checkpoint.heads),
    ]
    return "\n".join(lines) + "\n"


def sign(checkpoint: Checkpoint, key: SigningKey, store_id: bytes) -> bytes:
    """
    Write a signed note.

    Args:
        checkpoint:
            What is stated.
        key:
            The store's signing key.
        store_id:
            Gives the key its name.

    Returns:
        UTF-8 text that ends with the line feed of the signature line.
    """
    name, body = key_name(store_id), body_text(checkpoint)
    signature = _key_id(name, key.verify_key) + key.sign(body.encode())
    return f"{body}\n— {name} {_base64(signature)}\n".encode()


def parse(note: bytes) -> Checkpoint:
    """
    Read a checkpoint without checking its signature.

    Args:
        note:
            What `sign` wrote.

    Returns:
        What is stated, by whomever.

    Raises:
        NoteError: It is not such a note, byte for byte.
    """
    try:
        text = note.decode()
        body, _, signatures = text.partition("\n\n")
        origin, size, root, *extensions = body.split("\n")
        fields = [line.split(" ") for line in extensions]
        values = dict(field for field in fields if len(field) == 2)
        checkpoint = Checkpoint(
            origin=origin,
            size=_number(size),
            root=_decode(root, 32),
            sequence=_number(values["seq"]),
            previous=bytes.fromhex(values["prev"]),
            time_unix_ns=_number(values["time"]),
            state=values["state"],
            heads=tuple(
                Head(field[1], _number(field[2]), _decode(field[3], 32), field[4])
                for field in fields
                if field[0] == "head"
            ),
        )
    except (ValueError, LookupError, TypeError) as error:
        raise NoteError("it is not a signed checkpoint") from error
    # Nothing but signature lines may follow: what stands there is signed by nobody.
    if not _SIGNATURES.fullmatch(signatures) or body_text(checkpoint) != f"{body}\n":
        raise NoteError("it is not written as checkpoints are")
    return checkpoint


def is_signed(note: bytes, key: VerifyKey, store_id: bytes) -> bool:
    """
    Whether a note carries the store's right signature.

    Args:
        note:
            What `sign` wrote. Signature lines of other keys are passed over, as
            witnesses add theirs.
        key:
            The store's public key.
        store_id:
            Gives the key its name.

    Returns:
        True where one line has the key's name and id, and its signature is right.
    """
    body, separator, signatures = note.partition(b"\n\n")
    name = key_name(store_id)
    prefix = f"— {name} ".encode()
    if not separator:
        return False
    for line in signatures.split(b"\n")[:16]:
        if not line.startswith(prefix):
            continue
        try:
            decoded = _decode(line.removeprefix(prefix).decode("ascii"), 68)
        except ValueError:
            return False
        # One name may stand over several keys, one for each generation of the store's root.
        if decoded[:4] == _key_id(name, key):
            return key.verify(decoded[4:], body + b"\n")
    return False


def entry_hash(note: bytes) -> bytes:
    """SHA-256 of a whole entry: what the next one names as `prev`."""
    return hashlib.sha256(note).digest()


def _key_id(name: str, key: VerifyKey) -> bytes:
    """First four bytes of SHA-256(name || 0x0A || type || key), as C2SP signed-note has it."""
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + key.raw).digest()[:4]


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decode(text: str, length: int) -> bytes:
    """Read base64 of exactly so many bytes, in its one canonical form."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NoteError("it is no base64") from error
    if len(data) != length or _base64(data) != text:
        raise NoteError("it is no base64 of the right length")
    return data


def _number(text: str) -> int:
    """Read a decimal number without sign or leading zeros."""
    if not text.isascii() or not text.isdigit() or (text != "0" and text.startswith("0")) or len(text) > 20:
        raise NoteError("it is no number")
    return int(text)
