"""
The auditor's slot: a public key for which the keys that read are sealed.

An auditor gets, for each generation, the keys that open segments and the decision
log, and the public keys that check its signatures. Not the master, not the roots,
not the signing key: what an auditor writes is signed by nobody.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from agentguard.errors import KeyUnavailableError, SealError, TamperedError
from agentguard.seal._box import open_box, seal_box
from agentguard.seal._providers import read_secret, write_secret
from agentguard.seal._root import KEY_BYTES, RandomBytes, RootKey
from agentguard.seal._signing import SigningKey, VerifyKey
from agentguard.seal._wrap_key import WRAP_LABEL

READ_LABELS = (b"agentguard/v1/seg", b"agentguard/v1/dec", b"agentguard/v1/dec-mac", WRAP_LABEL)
"""What is derived from a root under these labels reads; the order is part of the format."""
SIGN_LABEL = b"agentguard/v1/dec-sign"
_PUBLIC_PREFIX = "x25519:"
_SECRET_PREFIX = "x25519-secret:"  # noqa: S105 - what a secret begins with, no secret
_STORE_PREFIX = "store:"
_PURPOSE = "auditor"
_SIGNED = b"agentguard/v1/auditor"
_ENTRY = struct.Struct("<I" + "32s" * (len(READ_LABELS) + 1))
_SIGNATURE_BYTES = 64


class ReadRoot(RootKey):
    """What an auditor has of a root: the keys of the rooms that may be read, and no other."""

    __slots__ = ("_known", "_verify_key")

    def __init__(self, known: Mapping[bytes, bytes], verify_key: VerifyKey) -> None:
        super().__init__(bytes(KEY_BYTES))
        self._known = dict(known)
        self._verify_key = verify_key

    def derive(self, label: bytes, context: bytes = b"", length: int = KEY_BYTES) -> bytes:
        """
        Return one of the known keys.

        Raises:
            KeyUnavailableError: It is not one that reads.
        """
        key = self._known.get(label)
        if key is None or context or length != KEY_BYTES:
            raise KeyUnavailableError(
                "key: got an auditor's, which opens segments and the decision log only, expected a key of the store"
            )
        return key

    def verify_key(self, label: bytes, context: bytes = b"") -> VerifyKey:
        """
        Return the public key that checks the decision log.

        Raises:
            KeyUnavailableError: Another one is asked for.
        """
        del context  # It is the store's id, as when the bundle was made.
        if label != SIGN_LABEL:
            return super().verify_key(label)
        return self._verify_key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ReadRoot) and other._known == self._known

    __hash__ = None


class AuditorPublicKey(NamedTuple):
    """The public half: may be given to anyone, and is what a slot is made for."""

    raw: bytes

    @classmethod
    def from_text(cls, text: str) -> AuditorPublicKey:
        """
        Read the form that `to_text` writes.

        Raises:
            SealError: It is not `x25519:` and the base64 of 32 bytes.
        """
        return cls(_decode(text.strip(), _PUBLIC_PREFIX, "auditor's public key"))

    def to_text(self) -> str:
        """One line of text: `x25519:` and base64."""
        return _PUBLIC_PREFIX + base64.b64encode(self.raw).decode()

    @property
    def key_id(self) -> str:
        """16 hexadecimal digits of the SHA-256 of the key."""
        return hashlib.sha256(self.raw).hexdigest()[:16]


class AuditorKey:
    """
    A file with an auditor's private key; a store that is opened with it can only be read.

    The line `x25519-secret:` and base64; a second line `store: ed25519:…` names the
    store's signing key, and then a slot that somebody else made is refused.
    """

    name = "auditor"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def key(self, salt: bytes) -> bytes:
        """
        Refuse, since an auditor's key opens no ordinary slot.

        Raises:
            KeyUnavailableError: Always.
        """
        del salt
        raise KeyUnavailableError(
            "key: got an auditor's, which only reads, expected one that opens the store"
        ).hint("the setting `key` of a program that records names `file:PATH` or another provider")

    def secret(self) -> tuple[bytes, VerifyKey | None]:
        """
        Read the private key, and the signing key that the store must have.

        Raises:
            KeyUnavailableError: The file is missing, open to others, or holds no such key.
        """
        where = f"auditor's key file {self.path}"
        lines = read_secret(self.path, where).decode("utf-8", "replace").split("\n")
        pinned = next((line for line in lines[1:] if line.startswith(_STORE_PREFIX)), "")
        try:
            secret = _decode(lines[0].strip(), _SECRET_PREFIX, where)
            return secret, VerifyKey.from_text(pinned.removeprefix(_STORE_PREFIX)) if pinned else None
        except SealError as error:
            raise KeyUnavailableError(str(error)) from None

    def public_key(self) -> AuditorPublicKey:
        """
        Return the public half.

        Raises:
            KeyUnavailableError: As `secret`.
        """
        secret, _ = self.secret()
        return AuditorPublicKey(X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw())

    def __repr__(self) -> str:
        return f"AuditorKey({str(self.path)!r})"


def create_auditor_file(
    path: str | os.PathLike[str], *, random_bytes: RandomBytes = os.urandom
) -> AuditorKey:
    """
    Write a new auditor's private key to *path*, mode 0400.

    Raises:
        KeyUnavailableError: Something has that name already, or it cannot be written.
    """
    text = _SECRET_PREFIX + base64.b64encode(random_bytes(KEY_BYTES)).decode() + "\n"
    write_secret(Path(path), text.encode())
    return AuditorKey(path)


def seal_bundle(
    public: AuditorPublicKey,
    roots: Mapping[int, RootKey],
    *,
    store_id: bytes,
    slot_id: int,
    random_bytes: RandomBytes = os.urandom,
) -> bytes:
    """
    Seal the keys that read, of all generations, for one auditor, and sign them.

    Raises:
        SealError: The public key is none.
    """
    plain = b"".join(
        _ENTRY.pack(
            number,
            *(root.derive(label) for label in READ_LABELS),
            root.verify_key(SIGN_LABEL, store_id).raw,
        )
        for number, root in sorted(roots.items())
    )
    ephemeral = X25519PrivateKey.from_private_bytes(random_bytes(KEY_BYTES))
    sender = ephemeral.public_key().public_bytes_raw()
    try:
        shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(public.raw))
    except ValueError:
        raise SealError("auditor's public key: got one of low order, expected a usable one") from None
    key = _agreed(shared, sender, public)
    context = store_id + struct.pack("<I", slot_id)
    body = sender + seal_box(key, plain, purpose=_PURPOSE, context=context, random_bytes=random_bytes)
    # The first generation signs: its key stays the same whatever is rotated, so it can be pinned.
    signer = SigningKey(roots[min(roots)].derive(SIGN_LABEL, store_id))
    return signer.sign(_SIGNED + context + public.raw + body) + body


def open_bundle(key: AuditorKey, bundle: bytes, *, store_id: bytes, slot_id: int) -> dict[int, RootKey]:
    """
    Open what `seal_bundle` sealed for this auditor.

    Returns:
        For each generation what an auditor has of its root.

    Raises:
        KeyUnavailableError: The file holds no key.
        TamperedError: The bundle was altered, or is not of the store that the
            auditor's file names.
    """
    secret, pinned = key.secret()
    private = X25519PrivateKey.from_private_bytes(secret)
    public = AuditorPublicKey(private.public_key().public_bytes_raw())
    signature, body = bundle[:_SIGNATURE_BYTES], bundle[_SIGNATURE_BYTES:]
    context = store_id + struct.pack("<I", slot_id)
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(body[:KEY_BYTES]))
    except ValueError:
        raise TamperedError("auditor's slot: got no sealed keys, expected them") from None
    agreed = _agreed(shared, body[:KEY_BYTES], public)
    plain = open_box(agreed, body[KEY_BYTES:], purpose=_PURPOSE, context=context)
    if not plain or len(plain) % _ENTRY.size:
        raise TamperedError(f"auditor's slot: got {len(plain)} bytes, expected entries of {_ENTRY.size}")
    roots: dict[int, RootKey] = {}
    signers = []
    for number, *keys, verify_raw in _ENTRY.iter_unpack(plain):
        signers.append(VerifyKey(verify_raw))
        roots[number] = ReadRoot(dict(zip(READ_LABELS, keys, strict=True)), signers[-1])
    if not (pinned or signers[0]).verify(signature, _SIGNED + context + public.raw + body):
        raise TamperedError("auditor's slot: got another signature than the store's, expected it unaltered")
    return roots


def _agreed(shared: bytes, sender: bytes, public: AuditorPublicKey) -> RootKey:
    """Make a key of what both sides know: HKDF-Extract, since a shared point is not uniform (RFC 5869, 3.1)."""
    return RootKey(hmac.digest(sender + public.raw, shared, "sha256"))


def _decode(text: str, prefix: str, where: str) -> bytes:
    """Decode one line of a key, without ever repeating it."""
    if not text.startswith(prefix):
        raise SealError(f"{where}: got no `{prefix}` in front, expected it")
    try:
        raw = base64.b64decode(text.removeprefix(prefix), validate=True)
    except (binascii.Error, ValueError):
        raise SealError(f"{where}: got no base64, expected the base64 of {KEY_BYTES} bytes") from None
    if len(raw) != KEY_BYTES:
        raise SealError(f"{where}: got {len(raw)} bytes in base64, expected {KEY_BYTES}")
    return raw
