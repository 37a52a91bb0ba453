"""
The bytes of the STORE file: slots, generations, attachments. No key is used here.

Layout (integers are little-endian; the last four bytes are a checksum in every
version):

    8   magic 89 41 47 53 54 4F 0D 0A
    2   version: 1, or 2 where there are attachments
    2   number of slots
    2   number of generations
    2   number of attachments
    16  id of the store
    156 for each slot: id (4), kind (1: 0 key, 1 auditor, 2 wrapped key), length of the
        provider's name (1), reserved (2), name (24, zero padded), salt (16), Argon2id cost:
        memory in KiB, iterations, lanes (4 each, 0 where none), commitment (32),
        nonce (12), wrapped master key (48), reserved (4)
    64  for each generation: number (4), nonce (12), wrapped root key (48)
    ... for each attachment: id of its slot (4), length (4), bytes
    32  HMAC-SHA256 over all that is before it, under a key derived from the master
    4   CRC-32 over all that is before it
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from agentguard.errors import SealError, TamperedError
from agentguard.seal._providers import PassphraseCost
from agentguard.seal._root import NONCE_BYTES, RootKey

STORE_VERSION = 2
SLOTS_MAX = 64
GENERATIONS_MAX = 512
STORE_BYTES_MAX = 8 * 1024 * 1024
KIND_PROVIDER, KIND_AUDITOR, KIND_WRAPPED = 0, 1, 2
_ATTACHMENT_BYTES_MAX = 128 * 1024
_MAGIC = b"\x89AGSTO\r\n"
_HEAD = struct.Struct("<8sHHHH16s")
_SLOT = struct.Struct("<IBBH24s16sIII32s12s48sI")
_GENERATION = struct.Struct("<I12s48s")
_ATTACHMENT = struct.Struct("<II")
_MAC_BYTES = 32
_CRC = struct.Struct("<I")
MAC_LABEL = b"agentguard/v1/store-mac"


class Slot(NamedTuple):
    """One way to open the store, without its secrets."""

    slot_id: int
    provider: str
    """Name of the provider that it was made for."""
    salt: bytes
    cost: PassphraseCost | None
    """What a guess costs; `None` where the provider holds a key."""
    commitment: bytes
    """To the key; of an auditor's slot the public key."""
    wrapped: bytes
    """Nonce and wrapped master key; zeros in an auditor's slot."""
    kind: int = KIND_PROVIDER
    attachment: bytes = b""
    """What the slot needs beside: a key that a service wrapped, or an auditor's sealed keys."""

    @property
    def is_auditor(self) -> bool:
        """Whether it only reads."""
        return self.kind == KIND_AUDITOR


class Contents(NamedTuple):
    """The STORE file, taken apart."""

    store_id: bytes
    slots: tuple[Slot, ...]
    generations: tuple[tuple[int, bytes], ...]
    body: bytes
    """What the MAC is over."""
    mac: bytes


def pack_store(
    store_id: bytes, slots: tuple[Slot, ...], generations: tuple[tuple[int, bytes], ...], master: RootKey
) -> bytes:
    """Put the STORE file together."""
    attached = [slot for slot in slots if slot.attachment]
    version = STORE_VERSION if attached else 1
    parts = [_HEAD.pack(_MAGIC, version, len(slots), len(generations), len(attached), store_id)]
    for slot in slots:
        cost = slot.cost or (0, 0, 0)
        name = slot.provider.encode("ascii")
        parts.append(
            _SLOT.pack(
                slot.slot_id, slot.kind, len(name), 0, name, slot.salt, *cost, slot.commitment,
                slot.wrapped[:NONCE_BYTES], slot.wrapped[NONCE_BYTES:], 0,
            )
        )  # fmt: skip
    parts += [
        _GENERATION.pack(number, wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:])
        for number, wrapped in generations
    ]
    for slot in attached:
        parts += [_ATTACHMENT.pack(slot.slot_id, len(slot.attachment)), slot.attachment]
    body = b"".join(parts)
    authenticated = body + master.mac(MAC_LABEL, body)
    return authenticated + _CRC.pack(zlib.crc32(authenticated))


def unpack_store(data: bytes, path: Path) -> Contents:
    """
    Take the STORE file apart.

    Raises:
        TamperedError: It is not a whole STORE file.
        SealError: A newer version wrote it.
    """
    if len(data) < _HEAD.size + _MAC_BYTES + _CRC.size:
        raise TamperedError(f"{path}: got {len(data)} bytes, expected a whole STORE file")
    authenticated = data[: -_CRC.size]
    if zlib.crc32(authenticated) != _CRC.unpack(data[-_CRC.size :])[0]:
        raise TamperedError(f"{path}: got a wrong checksum, expected an undamaged STORE file").hint(
            "restore STORE from a backup: without it nothing in the store can be read"
        )
    magic, version, n_slots, n_generations, n_attachments, store_id = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        raise TamperedError(f"{path}: got another kind of file, expected a STORE file")
    if not 1 <= version <= STORE_VERSION:
        raise SealError(f"{path}: got format version {version}, expected at most {STORE_VERSION}").hint(
            "where a newer agentguard made this store, upgrade to read it"
        )
    body = authenticated[:-_MAC_BYTES]
    first = _HEAD.size + n_slots * _SLOT.size
    end = first + n_generations * _GENERATION.size
    attached = _unpack_attachments(body, end, n_attachments if version > 1 else 0)
    if attached is None or not 1 <= n_slots <= SLOTS_MAX or not 1 <= n_generations <= GENERATIONS_MAX:
        raise TamperedError(
            f"{path}: got {len(body)} bytes, expected at least {end} and no more than is named"
        )
    slots = tuple(_unpack_slot(body, _HEAD.size + i * _SLOT.size, attached) for i in range(n_slots))
    generations = tuple(
        (number, nonce + wrapped) for number, nonce, wrapped in _GENERATION.iter_unpack(body[first:end])
    )
    return Contents(store_id, slots, generations, body, authenticated[-_MAC_BYTES:])


def _unpack_attachments(body: bytes, offset: int, count: int) -> Mapping[int, bytes] | None:
    """Take the attachments apart; `None` where they are not what fills the rest."""
    found: dict[int, bytes] = {}
    for _ in range(count):
        if offset + _ATTACHMENT.size > len(body):
            return None
        slot_id, length = _ATTACHMENT.unpack_from(body, offset)
        offset += _ATTACHMENT.size
        if length > _ATTACHMENT_BYTES_MAX or offset + length > len(body):
            return None
        found[slot_id] = body[offset : offset + length]
        offset += length
    return found if offset == len(body) else None


def _unpack_slot(body: bytes, offset: int, attached: Mapping[int, bytes]) -> Slot:
    """Take one slot apart; what is wrong in it, the MAC finds."""
    (slot_id, kind, name_length, _, name, salt, memory, iterations, lanes, commitment, nonce, wrapped, _) = (
        _SLOT.unpack_from(body, offset)
    )
    cost = PassphraseCost(memory, iterations, lanes) if memory else None
    provider = name[:name_length].decode("ascii", "replace")
    attachment = attached.get(slot_id, b"")
    return Slot(slot_id, provider, salt, cost, commitment, nonce + wrapped, kind, attachment)
