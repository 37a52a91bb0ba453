"""
The keys of the decision log, each derived from the store's root for one use.

Data keys seal records, the signing key signs checkpoints: who may read need not
be able to sign, and who checks a signature needs no key that reads.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
from collections.abc import Iterator
from functools import cached_property
from typing import Self

from agentguard.audit.checkpoint import is_signed
from agentguard.audit.format import JournalId
from agentguard.errors import KeyUnavailableError
from agentguard.seal import (
    Keystore,
    PostQuantumSigningKey,
    PostQuantumVerifyKey,
    SealKey,
    SigningKey,
    VerifyKey,
    has_post_quantum,
    open_box,
    seal_box,
)

_READ_LABEL = b"agentguard/v1/dec"
_MAC_LABEL = b"agentguard/v1/dec-mac"
_JOURNAL_LABEL = b"journal"
_SIGN_LABEL = b"agentguard/v1/dec-sign"
_POST_QUANTUM_LABEL = b"agentguard/v1/dec-sign-ml-dsa-44"
_MAC_PURPOSE = "decision-log-mac"


class AuditKeys:
    """What a writer or verifier of one store needs; never printed."""

    def __init__(self, keystore: Keystore) -> None:
        self._keystore = keystore
        self.store_id = keystore.store_id
        self.generation = keystore.generation
        """Of the root key that is written with now."""

    @cached_property
    def signing_key(self) -> SigningKey:
        """
        Signs checkpoints.

        Raises:
            KeyUnavailableError: The store was opened to be read only.
        """
        return self._signing_key(self.generation)

    def for_writing(self) -> Self:
        """
        Make sure that these keys sign.

        Raises:
            KeyUnavailableError: The store was opened to be read only.
        """
        _ = self.signing_key
        return self

    @cached_property
    def verify_keys(self) -> tuple[VerifyKey, ...]:
        """Public keys of all generations that the store still has, the newest first."""
        return tuple(self._verify_keys())

    @cached_property
    def post_quantum_key(self) -> PostQuantumSigningKey:
        """
        Signs checkpoints in a second line.

        Raises:
            SealError: The installed `cryptography` has no ML-DSA-44.
        """
        return self._post_quantum_key(self.generation)

    @cached_property
    def post_quantum_verify_keys(self) -> tuple[PostQuantumVerifyKey | None, ...]:
        """As `verify_keys`, of ML-DSA-44; None where it cannot be checked."""
        return tuple(self._post_quantum_verify_keys())

    def is_signed(self, note: bytes) -> bool:
        """Whether a note carries this store's right signature, of whatever generation."""
        pairs = zip(self.verify_keys, self.post_quantum_verify_keys, strict=True)
        return any(is_signed(note, key, self.store_id, other) for key, other in pairs)

    def journal_key(self, journal: JournalId, salt: bytes, generation: int) -> SealKey:
        """
        Derive the key of one journal; its commitment stands in the journal's header.

        Raises:
            KeyUnavailableError: The store has no such generation any more.
        """
        context = journal.store_id + journal.writer + journal.n.to_bytes(4, "big") + salt
        return SealKey(self._keystore.root_of(generation).subkey(_READ_LABEL), _JOURNAL_LABEL, context)

    def seal_mac_key(self, key: bytes, journal: JournalId) -> bytes:
        """Seal the first MAC key of a journal; nothing else keeps it."""
        root = self._keystore.root_of(self.generation).subkey(_MAC_LABEL)
        return seal_box(root, key, purpose=_MAC_PURPOSE, context=_mac_context(journal))

    def open_mac_key(self, box: bytes, journal: JournalId, generation: int) -> bytes:
        """
        Open what `seal_mac_key` sealed.

        Raises:
            TamperedError: It is altered, or belongs to another journal.
        """
        root = self._keystore.root_of(generation).subkey(_MAC_LABEL)
        return open_box(root, box, purpose=_MAC_PURPOSE, context=_mac_context(journal))

    def _signing_key(self, generation: int) -> SigningKey:
        return SigningKey(self._keystore.root_of(generation).derive(_SIGN_LABEL, self.store_id))

    def _post_quantum_key(self, generation: int) -> PostQuantumSigningKey:
        root = self._keystore.root_of(generation)
        return PostQuantumSigningKey(root.derive(_POST_QUANTUM_LABEL, self.store_id))

    def _verify_keys(self) -> Iterator[VerifyKey]:
        for generation in self._generations():
            yield self._keystore.root_of(generation).verify_key(_SIGN_LABEL, self.store_id)

    def _post_quantum_verify_keys(self) -> Iterator[PostQuantumVerifyKey | None]:
        for generation in self._generations():
            try:
                yield self._post_quantum_key(generation).verify_key if has_post_quantum() else None
            except KeyUnavailableError:
                # An auditor's slot holds the Ed25519 keys alone.
                yield None

    def _generations(self) -> Iterator[int]:
        for generation in range(self.generation, 0, -1):
            with contextlib.suppress(KeyUnavailableError):
                self._keystore.root_of(generation)
                yield generation


class MacChain:
    """
    A MAC key that only moves forward: K_{i+1} = SHA-256(K_i), and K_i is wiped.

    Who takes the process over learns the present key and cannot make MACs of
    the past. Wiping is best effort: Python may have copied the bytes.
    """

    __slots__ = ("_key", "index")

    def __init__(self, key: bytes, index: int = 0) -> None:
        self._key = bytearray(key)
        self.index = index
        """Which record the present key is for."""

    def mac(self, attested: bytes) -> bytes:
        """HMAC-SHA256 under the present key."""
        return hmac.digest(self._key, attested, "sha256")

    def advance(self, count: int = 1) -> None:
        """Go on to a later key, wiping the present one."""
        for _ in range(count):
            following = hashlib.sha256(self._key).digest()
            self._key[:] = following
            self.index += 1

    def copy(self) -> MacChain:
        """Return a chain at the same key, so that a failed write can be taken back."""
        return MacChain(bytes(self._key), self.index)

    def wipe(self) -> None:
        """Overwrite the key."""
        self._key[:] = bytes(len(self._key))

    def __repr__(self) -> str:
        return f"MacChain(index={self.index}, key hidden)"


def _mac_context(journal: JournalId) -> bytes:
    return journal.store_id + journal.writer + journal.n.to_bytes(4, "big")
