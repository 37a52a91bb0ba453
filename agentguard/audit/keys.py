"""
The keys of the decision log, each derived from the store's root for one use.

Data keys seal records, the signing key signs checkpoints: who may read need not
be able to sign, and who checks a signature needs no key that reads.
"""

from __future__ import annotations

import hashlib
import hmac

from agentguard.audit.format import JournalId
from agentguard.seal import Keystore, SealKey, SigningKey, VerifyKey, open_box, seal_box

_SEAL_LABEL = b"agentguard/v1/dec"
_SIGN_LABEL = b"agentguard/v1/dec-sign"
_MAC_PURPOSE = "decision-log-mac"


class AuditKeys:
    """What a writer or verifier of one store needs; never printed."""

    __slots__ = ("_root", "signing_key", "store_id", "verify_key")

    def __init__(self, keystore: Keystore) -> None:
        self._root = keystore.root
        self.store_id = keystore.store_id
        self.signing_key = SigningKey(self._root.derive(_SIGN_LABEL, self.store_id))
        self.verify_key: VerifyKey = self.signing_key.verify_key

    def journal_key(self, journal: JournalId, salt: bytes) -> SealKey:
        """Derive the key of one journal; its commitment stands in the journal's header."""
        context = journal.store_id + journal.writer + journal.n.to_bytes(4, "big") + salt
        return SealKey(self._root, _SEAL_LABEL, context)

    def seal_mac_key(self, key: bytes, journal: JournalId) -> bytes:
        """Seal the first MAC key of a journal; nothing else keeps it."""
        return seal_box(self._root, key, purpose=_MAC_PURPOSE, context=_mac_context(journal))

    def open_mac_key(self, box: bytes, journal: JournalId) -> bytes:
        """
        Open what `seal_mac_key` sealed.

        Raises:
            TamperedError: It is altered, or belongs to another journal.
        """
        return open_box(self._root, box, purpose=_MAC_PURPOSE, context=_mac_context(journal))


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
