"""
C2SP signed notes: a text, an empty line, signature lines; and the keys that check them.

Pure: text in, values out. Two kinds of signature are known: Ed25519, and the
ML-DSA-44 cosignature, which states origin, size and root of a checkpoint.

Source: C2SP signed-note (types 0x01) and tlog-cosignature (type 0x06).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from typing import NamedTuple, Protocol

from agentguard.errors import AuditError, SealError
from agentguard.seal import PostQuantumSigningKey, PostQuantumVerifyKey, SigningKey, VerifyKey

ED25519 = 0x01
ML_DSA_44 = 0x06
SIGNATURES_MAX = 16
_KEY_ID_BYTES = 4
_TIME = struct.Struct(">Q")
_LABEL = b"subtree/v1\n\x00"


class NoteError(ValueError):
    """The text is no signed note, or no key of one; the message says why."""


class _Checker(Protocol):
    raw: bytes

    def verify(self, signature: bytes, message: bytes) -> bool: ...


class NoteKey:
    """A public key with the name under which it signs: C2SP's verifier key."""

    def __init__(self, name: str, kind: int, key: _Checker) -> None:
        self.name = name
        self.kind = kind
        self._key = key
        encoded = bytes([kind]) + key.raw
        self.key_id = hashlib.sha256(name.encode() + b"\n" + encoded).digest()[:_KEY_ID_BYTES]
        self.text = f"{name}+{self.key_id.hex()}+{to_base64(encoded)}"
        """One line without line feed, to be handed to an auditor."""

    @classmethod
    def parse(cls, text: str) -> NoteKey:
        """
        Read `<name>+<key id>+<base64 of kind and key>`.

        Raises:
            AuditError: It is no such key, or of a kind that this program does not know.
        """
        parts = text.strip().split("+", 2)
        if len(parts) != 3 or not parts[0]:
            raise AuditError("verifier key: expected `<name>+<key id>+<base64>`")
        try:
            encoded = from_base64(parts[2])
            key = cls(parts[0], encoded[0], _checker(encoded[0], encoded[1:]))
        except (NoteError, SealError, IndexError) as error:
            raise AuditError(f"verifier key: {error}") from error
        if key.key_id.hex() != parts[1]:
            raise AuditError(f"verifier key: it has key id {key.key_id.hex()}, and names {parts[1]}")
        return key

    def checks(self, note: bytes) -> bool | None:
        """
        Whether a note carries a right signature of this key.

        Args:
            note:
                The whole note. Lines of other keys are passed over.

        Returns:
            None where no line is of this key; else whether its signature is right.
        """
        body, lines = split_note(note)
        for line in lines:
            if line.name == self.name and line.key_id == self.key_id:
                return self._is_right(line.signature, body)
        return None

    def _is_right(self, signature: bytes, body: bytes) -> bool:
        if self.kind == ED25519:
            return len(signature) == 64 and self._key.verify(signature, body)
        if len(signature) < _TIME.size:
            return False
        try:
            message = cosigned(self.name, _TIME.unpack_from(signature)[0], body)
        except NoteError:
            return False
        return self._key.verify(signature[_TIME.size :], message)


class SignatureLine(NamedTuple):
    """One signature line of a note."""

    name: str
    key_id: bytes
    signature: bytes


def sign_ed25519(name: str, body: bytes, key: SigningKey) -> bytes:
    """Write a signature line over a note's text."""
    key_id = NoteKey(name, ED25519, key.verify_key).key_id
    return signature_line(name, key_id + key.sign(body))


def sign_ml_dsa(name: str, body: bytes, key: PostQuantumSigningKey, *, time_unix_s: int) -> bytes:
    """Write the cosignature line over origin, size and root of a checkpoint."""
    key_id = NoteKey(name, ML_DSA_44, key.verify_key).key_id
    signature = key.sign(cosigned(name, time_unix_s, body))
    return signature_line(name, key_id + _TIME.pack(time_unix_s) + signature)


def signature_line(name: str, data: bytes) -> bytes:
    """Write one signature line."""
    return f"— {name} {to_base64(data)}\n".encode()


def cosigned(name: str, time_unix_s: int, body: bytes) -> bytes:
    """
    Write what an ML-DSA-44 cosignature signs of a checkpoint.

    Raises:
        NoteError: The text is no checkpoint.
    """
    try:
        origin, size, root = body.decode().split("\n")[:3]
        who, log = name.encode(), origin.encode()
        return b"".join(
            (
                _LABEL,
                bytes([len(who)]) + who,
                _TIME.pack(time_unix_s),
                bytes([len(log)]) + log,
                _TIME.pack(0),
                _TIME.pack(int(size)),
                from_base64(root, 32),
            )
        )
    except (ValueError, struct.error) as error:
        raise NoteError("it is no checkpoint") from error


def split_note(note: bytes) -> tuple[bytes, list[SignatureLine]]:
    """
    Cut a note into its text and its signature lines.

    Raises:
        NoteError: It is not written as notes are.
    """
    body, separator, signatures = note.rpartition(b"\n\n")
    if not separator or not signatures.endswith(b"\n"):
        raise NoteError("it has no signature lines")
    lines = []
    for line in signatures[:-1].split(b"\n"):
        try:
            dash, name, encoded = line.decode().split(" ")
        except ValueError as error:
            raise NoteError("a signature line is not written as such") from error
        data = from_base64(encoded)
        if dash != "—" or not name or len(data) <= _KEY_ID_BYTES:
            raise NoteError("a signature line is not written as such")
        lines.append(SignatureLine(name, data[:_KEY_ID_BYTES], data[_KEY_ID_BYTES:]))
    if len(lines) > SIGNATURES_MAX:
        raise NoteError(f"it has {len(lines)} signature lines, expected at most {SIGNATURES_MAX}")
    return body + b"\n", lines


def to_base64(data: bytes) -> str:
    """Write base64 as RFC 4648 section 4 has it."""
    return base64.b64encode(data).decode("ascii")


def from_base64(text: str, length: int | None = None) -> bytes:
    """
    Read base64 in its one canonical form.

    Raises:
        NoteError: It is none, or of another length than expected.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NoteError("it is no base64") from error
    if (length is not None and len(data) != length) or to_base64(data) != text:
        raise NoteError("it is no base64 of the right length")
    return data


def _checker(kind: int, raw: bytes) -> _Checker:
    if kind == ED25519:
        return VerifyKey(raw)
    if kind == ML_DSA_44:
        return PostQuantumVerifyKey(raw)
    raise NoteError(f"signature type {kind:#04x}, this program knows 0x01 and 0x06")
