"""
The root key, and the keys that are derived from it.

Keys never print, never pickle, and are compared in constant time.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from typing import NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from agentguard.errors import SealError, TamperedError
from agentguard.seal._signing import SigningKey, VerifyKey

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
COMMITMENT_BYTES = 32
SALT_BYTES = 24

RandomBytes = Callable[[int], bytes]


class RootKey:
    """
    32 secret bytes from which other keys are derived.

    It is also used for the keys one level down: a room's own key is
    `RootKey(root.derive(label))`.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise SealError(f"key: got {len(key)} bytes, expected {KEY_BYTES}")
        self._key = bytes(key)

    @classmethod
    def generate(cls, random_bytes: RandomBytes = os.urandom) -> RootKey:
        """Draw a new key."""
        return cls(random_bytes(KEY_BYTES))

    def derive(self, label: bytes, context: bytes = b"", length: int = KEY_BYTES) -> bytes:
        """
        Derive *length* bytes: HKDF-Expand with SHA-256 over label and context.

        The info is the length of the label as one byte, the label, the context,
        so that two pairs never give the same info.

        Args:
            label:
                What the key is for, at most 255 bytes, such as `agentguard/v1/seg`.

            context:
                What else the key is bound to.

            length:
                Bytes wanted, at most 8,160.

        Source:
            RFC 5869, section 2.3. The root is uniform, so extraction is left out
            as section 3.3 allows.
        """
        info = bytes([len(label)]) + label + context
        return HKDFExpand(algorithm=SHA256(), length=length, info=info).derive(self._key)

    def subkey(self, label: bytes, context: bytes = b"") -> RootKey:
        """Derive a key of which others are derived."""
        return RootKey(self.derive(label, context))

    def joined(self, other: RootKey) -> RootKey:
        """
        Make a key for which both are needed: HMAC-SHA256 of the other one under this one.

        Source:
            RFC 5869, section 2.2 (HKDF-Extract).
        """
        return RootKey(hmac.digest(self._key, other._key, "sha256"))

    def mac(self, label: bytes, message: bytes) -> bytes:
        """Authenticate *message*: HMAC-SHA256 under the key derived for *label*, 32 bytes."""
        return hmac.digest(self.derive(label), message, "sha256")

    def verify_key(self, label: bytes, context: bytes = b"") -> VerifyKey:
        """Return the public half of the signing key that is derived from this root."""
        return SigningKey(self.derive(label, context)).verify_key

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RootKey):
            return NotImplemented
        return hmac.compare_digest(self._key, other._key)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "RootKey(hidden)"

    def __reduce__(self) -> NoReturn:
        raise SealError("key: got a request to pickle it, expected never")


class SealKey:
    """
    AES-256-GCM under a derived key, with a commitment to that key.

    The commitment is stored beside the sealed bytes and checked before anything
    is opened: AES-GCM alone lets one ciphertext open under two keys. Nonces are
    random, since a counter would repeat after a fork or a restored snapshot.

    Source:
        NIST SP 800-38D; J. Len, P. Grubbs, T. Ristenpart, Partitioning Oracle
        Attacks, USENIX Security 2021, for the commitment.
    """

    __slots__ = ("_aead", "_random_bytes", "commitment")

    def __init__(
        self, parent: RootKey, label: bytes, context: bytes, *, random_bytes: RandomBytes = os.urandom
    ) -> None:
        material = parent.derive(label, context, KEY_BYTES + COMMITMENT_BYTES)
        self._aead = AESGCM(material[:KEY_BYTES])
        self.commitment = material[KEY_BYTES:]
        """32 bytes that may stand in clear beside what is sealed."""
        self._random_bytes = random_bytes

    def check(self, commitment: bytes) -> None:
        """
        Refuse a commitment that is not this key's.

        Raises:
            TamperedError: It is another one.
        """
        if not hmac.compare_digest(self.commitment, commitment):
            raise TamperedError("key commitment: got another one than the key's, expected the key's")

    def seal(self, plaintext: bytes, aad: bytes) -> bytes:
        """Encrypt and authenticate; returns nonce, ciphertext and tag, 28 bytes longer."""
        nonce = self._random_bytes(NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, plaintext, aad)

    def seal_at(self, nonce: bytes, plaintext: bytes | memoryview, aad: bytes) -> bytes:
        """
        Do what `seal` does under a nonce that is stored elsewhere; returns ciphertext and tag.

        Args:
            nonce:
                12 random bytes. Several keys may share them; one key must never meet them twice.

            plaintext:
                What to seal.

            aad:
                What it is bound to.
        """
        return self._aead.encrypt(nonce, plaintext, aad)

    def open(self, sealed: bytes | memoryview, aad: bytes) -> bytes:
        """
        Check and decrypt what `seal` returned.

        Raises:
            TamperedError: The bytes, or what they are bound to, are not what was sealed.
        """
        if len(sealed) < NONCE_BYTES + TAG_BYTES:
            raise TamperedError(
                f"sealed bytes: got {len(sealed)}, expected at least {NONCE_BYTES + TAG_BYTES}"
            )
        return self.open_at(bytes(sealed[:NONCE_BYTES]), sealed[NONCE_BYTES:], aad)

    def open_at(self, nonce: bytes, sealed: bytes | memoryview, aad: bytes) -> bytes:
        """
        Check and decrypt what `seal_at` returned.

        Raises:
            TamperedError: The bytes, or what they are bound to, are not what was sealed.
        """
        try:
            return self._aead.decrypt(nonce, sealed, aad)
        except (InvalidTag, ValueError):  # A nonce of another length is nobody's.
            # One text for every cause: a finer one would be an oracle.
            raise TamperedError(
                "sealed bytes: got something else than what was sealed, expected it unaltered"
            ) from None

    def __repr__(self) -> str:
        return "SealKey(hidden)"

    def __reduce__(self) -> NoReturn:
        raise SealError("key: got a request to pickle it, expected never")
