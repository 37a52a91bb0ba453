"""
The STORE file: who may open a store, and with which keys it is sealed.

A random master key is wrapped once for every slot (one slot a key provider), and
wraps in turn one root key for every generation. Changing a provider rewrites one
slot; a new generation adds one root; nothing that was sealed is ever rewritten.

Layout (integers are little-endian; the last four bytes are a checksum in every
version):

    8   magic 89 41 47 53 54 4F 0D 0A
    2   version, 1
    2   number of slots
    2   number of generations
    2   reserved, 0
    16  id of the store
    156 for each slot: id (4), kind (1: 0 key provider), length of the provider's
        name (1), reserved (2), name (24, zero padded), salt (16), Argon2id cost:
        memory in KiB, iterations, lanes (4 each, 0 where none), commitment (32),
        nonce (12), wrapped master key (48), reserved (4)
    64  for each generation: number (4), nonce (12), wrapped root key (48)
    32  HMAC-SHA256 over all that is before it, under a key derived from the master
    4   CRC-32 over all that is before it
"""

from __future__ import annotations

import hmac
import os
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

from agentguard.errors import KeyUnavailableError, SealError, StoreError, TamperedError
from agentguard.seal._files import (
    check_private_folder,
    ensure_private_folder,
    read_file,
    write_file_atomic,
    write_new_file,
)
from agentguard.seal._providers import PassphraseCost, PassphraseKey
from agentguard.seal._root import NONCE_BYTES, RandomBytes, RootKey, SealKey
from agentguard.values import KeyProvider

STORE_FILE = "STORE"
STORE_VERSION = 1
_MAGIC = b"\x89AGSTO\r\n"
_HEAD = struct.Struct("<8sHHHH16s")
_SLOT = struct.Struct("<IBBH24s16sIII32s12s48sI")
_GENERATION = struct.Struct("<I12s48s")
_MAC_BYTES = 32
_CRC = struct.Struct("<I")
_FILE_BYTES_MAX = 64 * 1024
SLOTS_MAX = 64
GENERATIONS_MAX = 512
_SLOT_LABEL = b"agentguard/v1/slot"
_GENERATION_LABEL = b"agentguard/v1/generation"
_MAC_LABEL = b"agentguard/v1/store-mac"
_KIND_PROVIDER = 0


class Slot(NamedTuple):
    """One way to open the store, without its secrets."""

    slot_id: int
    provider: str
    """Name of the provider that it was made for."""
    salt: bytes
    cost: PassphraseCost | None
    """What a guess costs; `None` where the provider holds a key."""
    commitment: bytes
    wrapped: bytes
    """Nonce and wrapped master key."""
    kind: int = _KIND_PROVIDER


class _Contents(NamedTuple):
    """The STORE file, taken apart."""

    store_id: bytes
    slots: tuple[Slot, ...]
    generations: tuple[tuple[int, bytes], ...]
    body: bytes
    """What the MAC is over."""
    mac: bytes


class Keystore:
    """
    The opened keys of one store.

    `root` seals what is written now; `root_of` opens what older generations wrote.
    """

    def __init__(self, folder: Path, contents: _Contents, master: RootKey) -> None:
        self.folder = folder
        self.store_id = contents.store_id
        """16 random bytes that name the store."""
        self.slots = contents.slots
        self._master = master
        self._generations = contents.generations
        self._roots: dict[int, RootKey] = {}
        self.generation = contents.generations[-1][0]
        """Number of the generation that is written now, from 1."""

    @property
    def root(self) -> RootKey:
        """Root key of the newest generation."""
        return self.root_of(self.generation)

    def root_of(self, generation: int) -> RootKey:
        """
        Return the root key of *generation*.

        Raises:
            KeyUnavailableError: The store has no such generation (any more).
            TamperedError: Its wrapped key was altered.
        """
        root = self._roots.get(generation)
        if root is None:
            wrapped = dict(self._generations).get(generation)
            if wrapped is None:
                raise KeyUnavailableError(
                    f"key generation: got {generation}, expected one of "
                    f"{[number for number, _ in self._generations]}"
                )
            key = SealKey(self._master, _GENERATION_LABEL, self.store_id)
            root = RootKey(key.open(wrapped, _generation_aad(self.store_id, generation)))
            self._roots[generation] = root
        return root

    def add_slot(self, provider: KeyProvider, *, random_bytes: RandomBytes = os.urandom) -> Slot:
        """
        Let another provider open the store too.

        Raises:
            KeyUnavailableError: The provider gives no key.
            SealError: There are `SLOTS_MAX` slots already.
            OSError: The STORE file cannot be written.
        """
        if len(self.slots) >= SLOTS_MAX:
            raise SealError(f"key slots: got {len(self.slots) + 1}, expected at most {SLOTS_MAX}")
        slot_id = 1 + max((slot.slot_id for slot in self.slots), default=0)
        slot = _make_slot(slot_id, provider, self._master, self.store_id, random_bytes)
        self._replace((*self.slots, slot), self._generations)
        return slot

    def remove_slot(self, slot_id: int) -> None:
        """
        Take one way to open the store away.

        An older copy of the STORE file still opens with that provider's key.

        Raises:
            SealError: There is no such slot, or it is the last one.
            OSError: The STORE file cannot be written.
        """
        left = tuple(slot for slot in self.slots if slot.slot_id != slot_id)
        if len(left) == len(self.slots):
            raise SealError(
                f"key slot: got {slot_id}, expected one of {[slot.slot_id for slot in self.slots]}"
            )
        if not left:
            raise SealError(f"key slot {slot_id}: got the last one, expected another to be left").hint(
                "add a slot first, or nothing in the store can be read any more"
            )
        self._replace(left, self._generations)

    def add_generation(self, *, random_bytes: RandomBytes = os.urandom) -> int:
        """
        Seal what is written from now on under a new root; returns its number.

        Raises:
            SealError: There are `GENERATIONS_MAX` generations already.
            OSError: The STORE file cannot be written.
        """
        if len(self._generations) >= GENERATIONS_MAX:
            raise SealError(f"key generations: got more than {GENERATIONS_MAX}, expected at most that")
        number = self.generation + 1
        wrapped = _wrap_root(
            self._master, self.store_id, number, RootKey.generate(random_bytes), random_bytes
        )
        self._replace(self.slots, (*self._generations, (number, wrapped)))
        self.generation = number
        return number

    def _replace(self, slots: tuple[Slot, ...], generations: tuple[tuple[int, bytes], ...]) -> None:
        """Write the STORE file anew."""
        write_file_atomic(self.folder / STORE_FILE, _pack(self.store_id, slots, generations, self._master))
        self.slots, self._generations = slots, generations

    def __repr__(self) -> str:
        return f"Keystore({self.store_id.hex()}, generation={self.generation}, hidden)"


def create_keystore(
    folder: Path, provider: KeyProvider, *, random_bytes: RandomBytes = os.urandom
) -> Keystore:
    """
    Make a new store in *folder*: a STORE file with one slot and one generation.

    Raises:
        StoreError: The folder cannot be used, or holds a store already.
        KeyUnavailableError: The provider gives no key.
    """
    ensure_private_folder(folder)
    store_id = random_bytes(16)
    master = RootKey.generate(random_bytes)
    slot = _make_slot(1, provider, master, store_id, random_bytes)
    wrapped = _wrap_root(master, store_id, 1, RootKey.generate(random_bytes), random_bytes)
    data = _pack(store_id, (slot,), ((1, wrapped),), master)
    path = folder / STORE_FILE
    try:
        write_new_file(path, data)
    except FileExistsError as error:
        raise StoreError(f"{folder}: got a store, expected none").hint("open it instead") from error
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror or error}") from error
    return Keystore(folder, _unpack(data, path), master)


def open_keystore(folder: Path, provider: KeyProvider) -> Keystore:
    """
    Open the store in *folder* with the key of *provider*.

    Raises:
        StoreError: The folder holds no store, or others may write into it.
        KeyUnavailableError: The provider gives no key, or another one than the store's.
        TamperedError: The STORE file is damaged or altered.
    """
    check_private_folder(folder)
    path = folder / STORE_FILE
    try:
        data = read_file(path, bytes_max=_FILE_BYTES_MAX)
    except FileNotFoundError as error:
        raise StoreError(f"{folder}: got a folder without a STORE file, expected a store").hint(
            "`agentguard init` makes a store"
        ) from error
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror or error}") from error
    except SealError as error:
        raise TamperedError(str(error)) from error
    contents = _unpack(data, path)
    master = _open_slots(contents, provider, path)
    if not hmac.compare_digest(master.mac(_MAC_LABEL, contents.body), contents.mac):
        raise TamperedError(f"{path}: got another content than was authenticated, expected it unaltered")
    keystore = Keystore(folder, contents, master)
    keystore.root_of(keystore.generation)
    return keystore


def _open_slots(contents: _Contents, provider: KeyProvider, path: Path) -> RootKey:
    """Find the slot that the provider's key opens."""
    for slot in contents.slots:
        if slot.kind != _KIND_PROVIDER or (slot.cost is not None) != isinstance(provider, PassphraseKey):
            continue
        if isinstance(provider, PassphraseKey) and slot.cost is not None:
            try:
                key = provider.key_at_cost(slot.salt, slot.cost)
            except KeyUnavailableError:
                raise
            except SealError as error:
                raise TamperedError(f"{path}: {error}") from error
        else:
            key = provider.key(slot.salt)
        wrap = SealKey(RootKey(key), _SLOT_LABEL, contents.store_id + slot.salt)
        if hmac.compare_digest(wrap.commitment, slot.commitment):
            return RootKey(wrap.open(slot.wrapped, _slot_aad(contents.store_id, slot.slot_id)))
    raise KeyUnavailableError(
        f"{path}: got a key from `{provider.name}` that opens none of the {len(contents.slots)} key slots, "
        "expected the key of this store"
    ).hint("name the key that the store was made with (`--key file:PATH`, AGENTGUARD_KEY_FILE)")


def _make_slot(
    slot_id: int, provider: KeyProvider, master: RootKey, store_id: bytes, random_bytes: RandomBytes
) -> Slot:
    """Wrap the master key for one provider."""
    salt = random_bytes(16)
    name = provider.name
    if not name.isascii() or not 1 <= len(name) <= 24:
        raise SealError(f"key provider: got the name {name!r}, expected 1 to 24 ASCII characters")
    cost = provider.cost if isinstance(provider, PassphraseKey) else None
    wrap = SealKey(RootKey(provider.key(salt)), _SLOT_LABEL, store_id + salt, random_bytes=random_bytes)
    wrapped = wrap.seal(master._key, _slot_aad(store_id, slot_id))  # noqa: SLF001 - keys leave only to be wrapped
    return Slot(slot_id, name, salt, cost, wrap.commitment, wrapped)


def _wrap_root(
    master: RootKey, store_id: bytes, number: int, root: RootKey, random_bytes: RandomBytes
) -> bytes:
    """Wrap the root key of one generation under the master."""
    key = SealKey(master, _GENERATION_LABEL, store_id, random_bytes=random_bytes)
    return key.seal(root._key, _generation_aad(store_id, number))  # noqa: SLF001 - the same


def _slot_aad(store_id: bytes, slot_id: int) -> bytes:
    return b"slot" + store_id + struct.pack("<I", slot_id)


def _generation_aad(store_id: bytes, number: int) -> bytes:
    return b"generation" + store_id + struct.pack("<I", number)


def _pack(
    store_id: bytes, slots: tuple[Slot, ...], generations: tuple[tuple[int, bytes], ...], master: RootKey
) -> bytes:
    """Put the STORE file together."""
    parts = [_HEAD.pack(_MAGIC, STORE_VERSION, len(slots), len(generations), 0, store_id)]
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
    body = b"".join(parts)
    authenticated = body + master.mac(_MAC_LABEL, body)
    return authenticated + _CRC.pack(zlib.crc32(authenticated))


def _unpack(data: bytes, path: Path) -> _Contents:
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
    magic, version, n_slots, n_generations, _, store_id = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        raise TamperedError(f"{path}: got another kind of file, expected a STORE file")
    if version > STORE_VERSION:
        raise SealError(f"{path}: got format version {version}, expected at most {STORE_VERSION}").hint(
            "a newer agentguard made this store; upgrade to read it"
        )
    body = authenticated[:-_MAC_BYTES]
    expected = _HEAD.size + n_slots * _SLOT.size + n_generations * _GENERATION.size
    if len(body) != expected or not 1 <= n_slots <= SLOTS_MAX or not 1 <= n_generations <= GENERATIONS_MAX:
        raise TamperedError(f"{path}: got {len(body)} bytes, expected {expected}")
    slots = tuple(_unpack_slot(body, _HEAD.size + i * _SLOT.size) for i in range(n_slots))
    first = _HEAD.size + n_slots * _SLOT.size
    generations = tuple(
        (number, nonce + wrapped) for number, nonce, wrapped in _GENERATION.iter_unpack(body[first:])
    )
    return _Contents(store_id, slots, generations, body, authenticated[-_MAC_BYTES:])


def _unpack_slot(body: bytes, offset: int) -> Slot:
    """Take one slot apart; what is wrong in it, the MAC finds."""
    (slot_id, kind, name_length, _, name, salt, memory, iterations, lanes, commitment, nonce, wrapped, _) = (
        _SLOT.unpack_from(body, offset)
    )
    cost = PassphraseCost(memory, iterations, lanes) if memory else None
    provider = name[:name_length].decode("ascii", "replace")
    return Slot(slot_id, provider, salt, cost, commitment, nonce + wrapped, kind)
