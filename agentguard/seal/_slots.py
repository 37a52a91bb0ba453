"""Key slots: wrapping the master key for a provider, and finding the slot that one opens."""

from __future__ import annotations

import hmac
import os
import struct
from pathlib import Path

from agentguard.errors import KeyUnavailableError, SealError, TamperedError
from agentguard.seal._auditor import AuditorKey, AuditorPublicKey, open_bundle
from agentguard.seal._providers import PassphraseKey, WrappingKey
from agentguard.seal._root import KEY_BYTES, NONCE_BYTES, TAG_BYTES, RandomBytes, RootKey, SealKey
from agentguard.seal._store_file import KIND_AUDITOR, KIND_PROVIDER, KIND_WRAPPED, Contents, Slot
from agentguard.values import KeyProvider

_SLOT_LABEL = b"agentguard/v1/slot"
_DEVICE = "pkcs11"
"""A token makes another key of each salt, and each try is a login: only its own slots are tried."""


def make_slot(
    slot_id: int,
    provider: KeyProvider,
    master: RootKey,
    store_id: bytes,
    *,
    random_bytes: RandomBytes = os.urandom,
) -> Slot:
    """
    Wrap the master key for one provider.

    Raises:
        KeyUnavailableError: The provider gives no key, or only reads.
        SealError: Its name does not fit into a slot.
    """
    name = provider.name
    if not name.isascii() or not 1 <= len(name) <= 24:
        raise SealError(f"key provider: got the name {name!r}, expected 1 to 24 ASCII characters")
    salt = random_bytes(16)
    kind, attachment = KIND_PROVIDER, b""
    if isinstance(provider, WrappingKey):
        key = random_bytes(KEY_BYTES)
        kind, attachment = KIND_WRAPPED, provider.wrap(key, store_id)
    else:
        key = provider.key(salt)
    cost = provider.cost if isinstance(provider, PassphraseKey) else None
    wrap = SealKey(RootKey(key), _SLOT_LABEL, store_id + salt, random_bytes=random_bytes)
    wrapped = wrap.seal(master._key, _slot_aad(store_id, slot_id))  # noqa: SLF001 - keys leave only to be wrapped
    return Slot(slot_id, name, salt, cost, wrap.commitment, wrapped, kind, attachment)


def make_auditor_slot(
    slot_id: int, public: AuditorPublicKey, *, random_bytes: RandomBytes = os.urandom
) -> Slot:
    """Make the slot of an auditor, still without what is sealed for it."""
    nothing = bytes(NONCE_BYTES + KEY_BYTES + TAG_BYTES)
    return Slot(slot_id, AuditorKey.name, random_bytes(16), None, public.raw, nothing, KIND_AUDITOR)


def open_slots(contents: Contents, provider: KeyProvider, path: Path) -> tuple[RootKey, int]:
    """
    Find the slot that the provider's key opens.

    Returns:
        The master key, and the id of the slot.

    Raises:
        KeyUnavailableError: The provider gives no key, or another one than the store's.
        TamperedError: The slot was altered.
    """
    for slot in contents.slots:
        key = _key_for(slot, provider, contents.store_id, path)
        if key is None:
            continue
        wrap = SealKey(RootKey(key), _SLOT_LABEL, contents.store_id + slot.salt)
        if hmac.compare_digest(wrap.commitment, slot.commitment):
            master = RootKey(wrap.open(slot.wrapped, _slot_aad(contents.store_id, slot.slot_id)))
            return master, slot.slot_id
    raise KeyUnavailableError(
        f"{path}: got a key from `{provider.name}` that opens none of the {len(contents.slots)} key slots, "
        "expected the key of this store"
    ).hint("name the key that the store was made with (`--key file:PATH`, AGENTGUARD_KEY_FILE)")


def open_auditor_slot(contents: Contents, provider: AuditorKey, path: Path) -> dict[int, RootKey]:
    """
    Open the slot that was made for an auditor.

    Returns:
        For each generation what an auditor has of its root.

    Raises:
        KeyUnavailableError: There is no slot for this key, or no key.
        TamperedError: The slot was altered.
    """
    public = provider.public_key()
    for slot in contents.slots:
        if slot.is_auditor and slot.commitment == public.raw:
            return open_bundle(provider, slot.attachment, store_id=contents.store_id, slot_id=slot.slot_id)
    raise KeyUnavailableError(f"{path}: got no slot for the auditor {public.key_id}, expected one").hint(
        f"whoever keeps the store adds it: agentguard store key add --auditor {public.to_text()}"
    )


def _key_for(slot: Slot, provider: KeyProvider, store_id: bytes, path: Path) -> bytes | None:
    """Ask the provider for the key of a slot; `None` where the slot is of another kind."""
    if isinstance(provider, WrappingKey):
        if slot.kind != KIND_WRAPPED or slot.provider != provider.name:
            return None
        return provider.unwrap(slot.attachment, store_id)
    if slot.kind != KIND_PROVIDER or (slot.provider == _DEVICE) != (provider.name == _DEVICE):
        return None
    if (slot.cost is not None) != isinstance(provider, PassphraseKey):
        return None
    if isinstance(provider, PassphraseKey) and slot.cost is not None:
        try:
            return provider.key_at_cost(slot.salt, slot.cost)
        except KeyUnavailableError:
            raise
        except SealError as error:
            raise TamperedError(f"{path}: {error}") from error
    return provider.key(slot.salt)


def _slot_aad(store_id: bytes, slot_id: int) -> bytes:
    return b"slot" + store_id + struct.pack("<I", slot_id)
