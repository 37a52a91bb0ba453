"""Ed25519 signatures. The signing key is apart from the keys that seal data."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from agentguard.errors import SealError

SEED_BYTES = 32
_PREFIX = "ed25519:"


class VerifyKey:
    """
    The public half: checks signatures, and may be given to anyone.

    Source:
        RFC 8032.
    """

    __slots__ = ("_key", "raw")

    def __init__(self, raw: bytes) -> None:
        if len(raw) != SEED_BYTES:
            raise SealError(f"verification key: got {len(raw)} bytes, expected {SEED_BYTES}")
        self._key = Ed25519PublicKey.from_public_bytes(raw)
        self.raw = raw

    @classmethod
    def from_text(cls, text: str) -> VerifyKey:
        """
        Read the form that `to_text` writes.

        Raises:
            SealError: It is not `ed25519:` and the base64 of 32 bytes.
        """
        body = text.strip()
        if not body.startswith(_PREFIX):
            raise SealError(f"verification key: got no `{_PREFIX}` in front, expected it")
        try:
            raw = base64.b64decode(body.removeprefix(_PREFIX), validate=True)
        except (binascii.Error, ValueError):
            raise SealError("verification key: got no base64, expected the base64 of 32 bytes") from None
        return cls(raw)

    def to_text(self) -> str:
        """One line of text: `ed25519:` and base64."""
        return _PREFIX + base64.b64encode(self.raw).decode()

    @property
    def key_id(self) -> str:
        """16 hexadecimal digits of the SHA-256 of the key: a name, not a secret."""
        return hashlib.sha256(self.raw).hexdigest()[:16]

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Whether *signature* is this key's over *message*."""
        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VerifyKey) and other.raw == self.raw

    def __hash__(self) -> int:
        return hash(self.raw)

    def __repr__(self) -> str:
        return f"VerifyKey({self.key_id})"


class SigningKey:
    """The private half: signs."""

    __slots__ = ("_key", "verify_key")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise SealError(f"signing key: got {len(seed)} bytes, expected {SEED_BYTES}")
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.verify_key = VerifyKey(self._key.public_key().public_bytes_raw())

    @classmethod
    def generate(cls) -> SigningKey:
        """Draw a new key."""
        return cls(Ed25519PrivateKey.generate().private_bytes_raw())

    @property
    def seed(self) -> bytes:
        """The 32 secret bytes, to be sealed and kept."""
        return self._key.private_bytes_raw()

    @property
    def key_id(self) -> str:
        """The name of the key, the same as its public half's."""
        return self.verify_key.key_id

    def sign(self, message: bytes) -> bytes:
        """Sign; 64 bytes."""
        return self._key.sign(message)

    def __repr__(self) -> str:
        return f"SigningKey({self.key_id}, hidden)"

    def __reduce__(self) -> NoReturn:
        raise SealError("key: got a request to pickle it, expected never")
