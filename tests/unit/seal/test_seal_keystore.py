"""The STORE file: slots, generations, damage."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from agentguard.errors import AgentGuardError, KeyUnavailableError, SealError, StoreError, TamperedError
from agentguard.seal import PassphraseCost, PassphraseKey, create_keystore, open_keystore
from tests.support.stores import KnownKey

CHEAP = PassphraseCost(memory_kib=64, iterations=1, lanes=1)


def test_create_and_open(tmp_path: Path) -> None:
    """The same provider opens the store, another does not, and the file is private."""
    made = create_keystore(tmp_path / "store", KnownKey())
    opened = open_keystore(tmp_path / "store", KnownKey())
    assert opened.root == made.root
    assert opened.store_id == made.store_id
    assert stat.S_IMODE((tmp_path / "store").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "store" / "STORE").stat().st_mode) == 0o600
    with pytest.raises(KeyUnavailableError, match="opens none"):
        open_keystore(tmp_path / "store", KnownKey(8))


def test_a_store_is_never_made_over_another(tmp_path: Path) -> None:
    """Creating twice is refused."""
    create_keystore(tmp_path, KnownKey())
    with pytest.raises(StoreError, match="expected none"):
        create_keystore(tmp_path, KnownKey())


def test_slots_and_generations(tmp_path: Path) -> None:
    """A passphrase can be added and the first key removed; older roots stay readable."""
    store = create_keystore(tmp_path, KnownKey())
    passphrase = PassphraseKey(lambda: "correct horse", cost=CHEAP)
    store.add_slot(passphrase)
    assert store.add_generation() == 2
    store.remove_slot(1)
    opened = open_keystore(tmp_path, PassphraseKey(lambda: "correct horse"))
    assert opened.root == store.root_of(2)
    assert opened.root_of(1) == store.root_of(1) != opened.root
    with pytest.raises(KeyUnavailableError):
        open_keystore(tmp_path, KnownKey())
    with pytest.raises(KeyUnavailableError):
        open_keystore(tmp_path, PassphraseKey(lambda: "wrong horse"))
    with pytest.raises(KeyUnavailableError):
        opened.root_of(3)
    with pytest.raises(SealError, match="the last one"):
        opened.remove_slot(2)
    with pytest.raises(SealError, match="expected one of"):
        opened.remove_slot(9)


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    """Whichever bit of STORE is flipped: one error of ours, and never a store."""
    create_keystore(tmp_path, KnownKey())
    path = tmp_path / "STORE"
    good = path.read_bytes()
    for place in range(len(good)):
        data = bytearray(good)
        data[place] ^= 1 << (place % 8)
        path.write_bytes(data)
        with pytest.raises(TamperedError):
            open_keystore(tmp_path, KnownKey())


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    """A STORE file that is cut, empty or too long is refused."""
    create_keystore(tmp_path, KnownKey())
    path = tmp_path / "STORE"
    good = path.read_bytes()
    for length in range(len(good)):
        path.write_bytes(good[:length])
        with pytest.raises(TamperedError):
            open_keystore(tmp_path, KnownKey())
    path.write_bytes(good + b"x" * 100_000)
    with pytest.raises(TamperedError):
        open_keystore(tmp_path, KnownKey())


def test_a_checksum_made_right_does_not_help(tmp_path: Path) -> None:
    """An attacker can mend the checksum; the MAC, the wrap or the commitment still refuses."""
    import struct
    import zlib

    create_keystore(tmp_path, KnownKey())
    path = tmp_path / "STORE"
    good = path.read_bytes()
    for place in range(len(good) - 4):
        data = bytearray(good)
        data[place] ^= 0x10
        data[-4:] = struct.pack("<I", zlib.crc32(data[:-4]))
        path.write_bytes(data)
        with pytest.raises(AgentGuardError):
            open_keystore(tmp_path, KnownKey())


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o720, 0o702])
def test_folders_that_others_may_write_to_are_refused(tmp_path: Path, mode: int) -> None:
    """The store's own folder must be its owner's alone."""
    folder = tmp_path / "store"
    create_keystore(folder, KnownKey())
    folder.chmod(mode)
    with pytest.raises(StoreError, match="expected no write for group and others"):
        open_keystore(folder, KnownKey())
    with pytest.raises(StoreError, match="expected no write for group and others"):
        create_keystore(folder, KnownKey())


def test_a_parent_that_others_may_write_to_is_accepted(tmp_path: Path) -> None:
    """Volumes of container platforms are group-writable."""
    parent = tmp_path / "volume"
    parent.mkdir()
    parent.chmod(0o2777)
    create_keystore(parent / "store", KnownKey())
    open_keystore(parent / "store", KnownKey())


def test_links_are_refused(tmp_path: Path) -> None:
    """Neither the folder nor STORE may be a symbolic link, and a FIFO does not hang."""
    create_keystore(tmp_path / "real", KnownKey())
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(StoreError, match="symbolic link"):
        open_keystore(tmp_path / "link", KnownKey())
    (tmp_path / "real" / "STORE").rename(tmp_path / "elsewhere")
    (tmp_path / "real" / "STORE").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AgentGuardError):
        open_keystore(tmp_path / "real", KnownKey())
    (tmp_path / "real" / "STORE").unlink()
    os.mkfifo(tmp_path / "real" / "STORE")
    with pytest.raises(TamperedError):
        open_keystore(tmp_path / "real", KnownKey())


def test_missing_stores(tmp_path: Path) -> None:
    """A missing folder and a folder without STORE are told apart, each with a hint."""
    with pytest.raises(StoreError, match="expected a store folder"):
        open_keystore(tmp_path / "none", KnownKey())
    with pytest.raises(StoreError, match="without a STORE file"):
        open_keystore(tmp_path, KnownKey())
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="got a file"):
        open_keystore(tmp_path / "file", KnownKey())
