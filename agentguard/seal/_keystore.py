"""
The keys of a store, opened: who may open it, and with which keys it is sealed.

A random master key is wrapped once for every slot (one slot a key provider), and
wraps in turn one root key for every generation. Changing a provider rewrites one
slot; a new generation adds one root; nothing that was sealed is ever rewritten.
Every change reads the file anew under a lock and replaces it whole, so changes of
two processes are both kept, and a crash leaves the old file or the new one.
"""

from __future__ import annotations

import fcntl
import hmac
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agentguard.errors import KeyUnavailableError, SealError, StoreError, TamperedError
from agentguard.seal._auditor import SIGN_LABEL, AuditorKey, AuditorPublicKey, seal_bundle
from agentguard.seal._files import (
    check_private_folder,
    ensure_private_folder,
    read_file,
    write_file_atomic,
    write_new_file,
)
from agentguard.seal._root import RandomBytes, RootKey, SealKey
from agentguard.seal._signing import VerifyKey
from agentguard.seal._slots import make_auditor_slot, make_slot, open_auditor_slot, open_slots
from agentguard.seal._store_file import (
    GENERATIONS_MAX,
    MAC_LABEL,
    SLOTS_MAX,
    STORE_BYTES_MAX,
    Contents,
    Slot,
    pack_store,
    unpack_store,
)
from agentguard.values import KeyProvider

STORE_FILE = "STORE"
_GENERATION_LABEL = b"agentguard/v1/generation"


class Keystore:
    """
    The opened keys of one store.

    `root` seals what is written now; `root_of` opens what older generations wrote.
    """

    def __init__(
        self,
        folder: Path,
        contents: Contents,
        master: RootKey | None,
        *,
        slot_id: int = 0,
        roots: dict[int, RootKey] | None = None,
    ) -> None:
        self.folder = folder
        self.store_id = contents.store_id
        """16 random bytes that name the store."""
        self.slots = contents.slots
        self.slot_id = slot_id
        """Of the slot that it was opened with; 0 for an auditor's."""
        self._master = master
        self._generations = contents.generations
        self._roots = dict(roots or {})
        self.generation = contents.generations[-1][0] if master is not None else max(self._roots)
        """Number of the generation that is written now, from 1."""

    @property
    def is_read_only(self) -> bool:
        """Whether it was opened with an auditor's key."""
        return self._master is None

    @property
    def opened_with(self) -> dict[str, object]:
        """Which key opened it, for the record: slot and provider, nothing secret."""
        slot = next((slot for slot in self.slots if slot.slot_id == self.slot_id), None)
        return {"key_slot": self.slot_id, "key_provider": slot.provider if slot else AuditorKey.name}

    @property
    def root(self) -> RootKey:
        """Root key of the newest generation."""
        return self.root_of(self.generation)

    @property
    def generations(self) -> tuple[int, ...]:
        """The numbers of all generations, ascending."""
        return tuple(sorted(self._roots) if self._master is None else (n for n, _ in self._generations))

    @property
    def verify_key(self) -> VerifyKey:
        """The public key by which an auditor knows this store."""
        return self.root_of(self.generations[0]).verify_key(SIGN_LABEL, self.store_id)

    def root_of(self, generation: int) -> RootKey:
        """
        Return the root key of *generation*; of an auditor only what reads.

        A generation that another process added since is looked up in the file.

        Raises:
            KeyUnavailableError: The store has no such generation (any more).
            TamperedError: Its wrapped key was altered.
        """
        root = self._roots.get(generation)
        if root is None:
            wrapped = dict(self._generations).get(generation)
            if wrapped is None and self._master is not None and self._is_reread():
                wrapped = dict(self._generations).get(generation)
            if wrapped is None or self._master is None:
                raise KeyUnavailableError(
                    f"key generation: got {generation}, expected one of {list(self.generations)}"
                )
            key = SealKey(self._master, _GENERATION_LABEL, self.store_id)
            root = RootKey(key.open(wrapped, _generation_aad(self.store_id, generation)))
            self._roots[generation] = root
        return root

    # Changes -----------------------------------------------------------------------

    def add_slot(self, provider: KeyProvider, *, random_bytes: RandomBytes = os.urandom) -> Slot:
        """
        Let another provider open the store too.

        Raises:
            KeyUnavailableError: The provider gives no key, or this keystore only reads.
            SealError: There are `SLOTS_MAX` slots already.
            OSError: The STORE file cannot be written.
        """
        with self._changing() as master:
            slot = make_slot(self._free_slot_id(), provider, master, self.store_id, random_bytes=random_bytes)
            self._replace((*self.slots, slot), self._generations, random_bytes)
        return slot

    def add_auditor(self, public: AuditorPublicKey, *, random_bytes: RandomBytes = os.urandom) -> Slot:
        """
        Let whoever has the private half read the store.

        Raises:
            KeyUnavailableError: This keystore only reads.
            SealError: There is a slot for it already, or there are `SLOTS_MAX`.
            OSError: The STORE file cannot be written.
        """
        with self._changing():
            if any(slot.is_auditor and slot.commitment == public.raw for slot in self.slots):
                raise SealError(f"auditor {public.key_id}: got it a second time, expected one slot for it")
            slot = make_auditor_slot(self._free_slot_id(), public, random_bytes=random_bytes)
            self._replace((*self.slots, slot), self._generations, random_bytes)
        return slot

    def remove_slot(self, slot_id: int, *, random_bytes: RandomBytes = os.urandom) -> None:
        """
        Take one way to open the store away.

        An older copy of the STORE file still opens with that provider's key.

        Raises:
            KeyUnavailableError: This keystore only reads.
            SealError: There is no such slot, or it is the last one that can write.
            OSError: The STORE file cannot be written.
        """
        with self._changing():
            left = tuple(slot for slot in self.slots if slot.slot_id != slot_id)
            if len(left) == len(self.slots):
                raise SealError(
                    f"key slot: got {slot_id}, expected one of {[slot.slot_id for slot in self.slots]}"
                )
            if all(slot.is_auditor for slot in left):
                raise SealError(f"key slot {slot_id}: got the last one, expected another to be left").hint(
                    "add a slot first, or nothing in the store can be read any more"
                )
            self._replace(left, self._generations, random_bytes)

    def rotate_slot(
        self, slot_id: int, provider: KeyProvider, *, random_bytes: RandomBytes = os.urandom
    ) -> Slot:
        """
        Replace the slot *slot_id* by one for *provider*, in one step.

        Where no other provider has a slot, the master key is drawn anew too: then
        an old copy of the STORE file with its old key opens what was written up to
        now, and nothing that a later generation writes.

        Raises:
            KeyUnavailableError: The provider gives no key, or this keystore only reads.
            SealError: There is no such slot.
            OSError: The STORE file cannot be written; the old slot still opens.
        """
        with self._changing() as master:
            old = next((slot for slot in self.slots if slot.slot_id == slot_id and not slot.is_auditor), None)
            if old is None:
                raise SealError(f"key slot: got {slot_id}, expected one of a provider")
            others = tuple(slot for slot in self.slots if slot is not old)
            generations = self._generations
            if all(slot.is_auditor for slot in others):
                new_master = RootKey.generate(random_bytes)
                generations = tuple(
                    (
                        number,
                        _wrap_root(new_master, self.store_id, number, self.root_of(number), random_bytes),
                    )
                    for number in self.generations
                )
            else:
                new_master = master
            slot = make_slot(
                self._free_slot_id(), provider, new_master, self.store_id, random_bytes=random_bytes
            )
            self._replace((*others, slot), generations, random_bytes, master=new_master)
            if slot_id == self.slot_id:
                self.slot_id = slot.slot_id
        return slot

    def add_generation(self, *, random_bytes: RandomBytes = os.urandom) -> int:
        """
        Seal what is written from now on under a new root; returns its number.

        Raises:
            KeyUnavailableError: This keystore only reads.
            SealError: There are `GENERATIONS_MAX` generations already.
            OSError: The STORE file cannot be written.
        """
        with self._changing() as master:
            if len(self._generations) >= GENERATIONS_MAX:
                raise SealError(f"key generations: got more than {GENERATIONS_MAX}, expected at most that")
            number = self._generations[-1][0] + 1
            root = RootKey.generate(random_bytes)
            wrapped = _wrap_root(master, self.store_id, number, root, random_bytes)
            self._replace(self.slots, (*self._generations, (number, wrapped)), random_bytes)
            self.generation = number
        return number

    @contextmanager
    def _changing(self) -> Iterator[RootKey]:
        """Hold the lock of the store's keys, and begin with what the file holds now."""
        if self._master is None:
            raise KeyUnavailableError("key: got an auditor's, which only reads, expected a key of the store")
        # The folder itself is locked: it is there, and no file needs to be made for it.
        fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if not self._is_reread():
                raise KeyUnavailableError(
                    f"{self.folder / STORE_FILE}: got new keys since it was opened, expected the same"
                ).hint("another process rotated the key: open the store anew")
            yield self._master
        finally:
            # By name: a child forked meanwhile shares the lock, closing alone would not end it.
            fcntl.flock(fd, fcntl.LOCK_UN)
            os.close(fd)

    def _is_reread(self) -> bool:
        """Take over slots and generations from the file; False where it has another master key now."""
        contents = _read(self.folder)
        if self._master is None or contents.store_id != self.store_id:
            return False
        if not hmac.compare_digest(self._master.mac(MAC_LABEL, contents.body), contents.mac):
            return False
        self.slots, self._generations = contents.slots, contents.generations
        return True

    def _free_slot_id(self) -> int:
        """Give an id that no slot has."""
        if len(self.slots) >= SLOTS_MAX:
            raise SealError(f"key slots: got {len(self.slots) + 1}, expected at most {SLOTS_MAX}")
        return 1 + max(slot.slot_id for slot in self.slots)

    def _replace(
        self,
        slots: tuple[Slot, ...],
        generations: tuple[tuple[int, bytes], ...],
        random_bytes: RandomBytes,
        *,
        master: RootKey | None = None,
    ) -> None:
        """Write the STORE file anew, with every auditor's keys sealed anew."""
        master = master or self._master
        assert master is not None
        key = SealKey(master, _GENERATION_LABEL, self.store_id)
        roots = {
            number: RootKey(key.open(wrapped, _generation_aad(self.store_id, number)))
            for number, wrapped in generations
        }
        slots = tuple(
            slot._replace(
                attachment=seal_bundle(
                    AuditorPublicKey(slot.commitment),
                    roots,
                    store_id=self.store_id,
                    slot_id=slot.slot_id,
                    random_bytes=random_bytes,
                )
            )
            if slot.is_auditor
            else slot
            for slot in slots
        )
        write_file_atomic(self.folder / STORE_FILE, pack_store(self.store_id, slots, generations, master))
        self.slots, self._generations, self._master = slots, generations, master

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
    slot = make_slot(1, provider, master, store_id, random_bytes=random_bytes)
    wrapped = _wrap_root(master, store_id, 1, RootKey.generate(random_bytes), random_bytes)
    data = pack_store(store_id, (slot,), ((1, wrapped),), master)
    path = folder / STORE_FILE
    try:
        write_new_file(path, data)
    except FileExistsError as error:
        raise StoreError(f"{folder}: got a store, expected none").hint("open it instead") from error
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror or error}") from error
    return Keystore(folder, unpack_store(data, path), master, slot_id=1)


def open_keystore(folder: Path, provider: KeyProvider) -> Keystore:
    """
    Open the store in *folder* with the key of *provider*; with an auditor's, to read only.

    Raises:
        StoreError: The folder holds no store, or others may write into it.
        KeyUnavailableError: The provider gives no key, or another one than the store's.
        TamperedError: The STORE file is damaged or altered.
    """
    check_private_folder(folder)
    path = folder / STORE_FILE
    contents = _read(folder)
    if isinstance(provider, AuditorKey):
        return Keystore(folder, contents, None, roots=open_auditor_slot(contents, provider, path))
    master, slot_id = open_slots(contents, provider, path)
    if not hmac.compare_digest(master.mac(MAC_LABEL, contents.body), contents.mac):
        raise TamperedError(f"{path}: got another content than was authenticated, expected it unaltered")
    keystore = Keystore(folder, contents, master, slot_id=slot_id)
    keystore.root_of(keystore.generation)
    return keystore


def _read(folder: Path) -> Contents:
    """Read the STORE file; nothing in it is authenticated yet."""
    path = folder / STORE_FILE
    try:
        data = read_file(path, bytes_max=STORE_BYTES_MAX)
    except FileNotFoundError as error:
        raise StoreError(f"{folder}: got a folder without a STORE file, expected a store").hint(
            "`agentguard init` makes a store"
        ) from error
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror or error}") from error
    except SealError as error:
        raise TamperedError(str(error)) from error
    return unpack_store(data, path)


def _wrap_root(
    master: RootKey, store_id: bytes, number: int, root: RootKey, random_bytes: RandomBytes
) -> bytes:
    """Wrap the root key of one generation under the master."""
    key = SealKey(master, _GENERATION_LABEL, store_id, random_bytes=random_bytes)
    return key.seal(root._key, _generation_aad(store_id, number))  # noqa: SLF001 - keys leave only to be wrapped


def _generation_aad(store_id: bytes, number: int) -> bytes:
    return b"generation" + store_id + struct.pack("<I", number)
