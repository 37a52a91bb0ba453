"""
ML-DSA-44 signatures, where the installed `cryptography` has them.

They stand beside Ed25519, never in its place: whoever checks may want one, the other or both.
"""

from __future__ import annotations

from types import ModuleType
from typing import NoReturn

from agentguard.errors import SealError

POST_QUANTUM_SEED_BYTES = 32
POST_QUANTUM_KEY_BYTES = 1312
POST_QUANTUM_SIGNATURE_BYTES = 2420


def has_post_quantum() -> bool:
    """Whether the installed `cryptography` signs with ML-DSA-44."""
    return _module() is not None


class PostQuantumVerifyKey:
    """
    The public half: checks signatures, and may be given to anyone.

    Source:
        FIPS 204, parameter set ML-DSA-44.
    """

    __slots__ = ("_key", "raw")

    def __init__(self, raw: bytes) -> None:
        if len(raw) != POST_QUANTUM_KEY_BYTES:
            raise SealError(f"verification key: got {len(raw)} bytes, expected {POST_QUANTUM_KEY_BYTES}")
        self._key = _required().MLDSA44PublicKey.from_public_bytes(raw)
        self.raw = raw

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Whether *signature* is this key's over *message*."""
        from cryptography.exceptions import InvalidSignature

        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def __repr__(self) -> str:
        return "PostQuantumVerifyKey()"


class PostQuantumSigningKey:
    """The private half: signs, in about a millisecond."""

    __slots__ = ("_key", "verify_key")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != POST_QUANTUM_SEED_BYTES:
            raise SealError(f"signing key: got {len(seed)} bytes, expected {POST_QUANTUM_SEED_BYTES}")
        self._key = _required().MLDSA44PrivateKey.from_seed_bytes(seed)
        self.verify_key = PostQuantumVerifyKey(self._key.public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        """Sign; 2,420 bytes."""
        return bytes(self._key.sign(message))

    def __repr__(self) -> str:
        return "PostQuantumSigningKey(hidden)"

    def __reduce__(self) -> NoReturn:
        raise SealError("key: got a request to pickle it, expected never")


def _module() -> ModuleType | None:
    """Load the part of `cryptography` that older versions do not have."""
    try:
        from cryptography.hazmat.primitives.asymmetric import mldsa
    except ImportError:
        return None
    return mldsa


def _required() -> ModuleType:
    module = _module()
    if module is None:
        raise SealError("ML-DSA-44: got a `cryptography` without it, expected version 47 or later")
    return module
