"""Slots over time: rotation, concurrent changes, crashes, and auditors."""

from __future__ import annotations

import base64
import multiprocessing
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentguard.errors import KeyUnavailableError, SealError, TamperedError
from agentguard.seal import (
    AuditorKey,
    AuditorPublicKey,
    Keystore,
    SigningKey,
    create_auditor_file,
    create_keystore,
    open_keystore,
)
from tests.support.stores import KnownKey


def test_rotation_of_the_only_slot_draws_a_new_master(tmp_path: Path) -> None:
    """The new key opens everything, the old one nothing, and an old copy does not reach later generations."""
    store = create_keystore(tmp_path / "s", KnownKey(1))
    root = store.root
    old_file = (tmp_path / "s" / "STORE").read_bytes()
    old_master = store._master
    slot = store.rotate_slot(1, KnownKey(2))
    assert [s.slot_id for s in store.slots] == [slot.slot_id] == [2]
    assert store.slot_id == 2
    assert store._master != old_master
    assert store.add_generation() == 2
    opened = open_keystore(tmp_path / "s", KnownKey(2))
    assert opened.root_of(1) == root
    with pytest.raises(KeyUnavailableError):
        open_keystore(tmp_path / "s", KnownKey(1))
    copy = tmp_path / "copy"
    copy.mkdir(mode=0o700)
    (copy / "STORE").write_bytes(old_file)
    stolen = open_keystore(copy, KnownKey(1))
    assert stolen.root_of(1) == root
    stolen._generations = opened._generations
    with pytest.raises(TamperedError):
        stolen.root_of(2)


def test_rotation_beside_other_slots_keeps_them(tmp_path: Path) -> None:
    """Where another provider has a slot, that one still opens after a rotation."""
    store = create_keystore(tmp_path, KnownKey(1))
    store.add_slot(KnownKey(2))
    master = store._master
    store.rotate_slot(1, KnownKey(3))
    assert store._master == master
    for byte in (2, 3):
        assert open_keystore(tmp_path, KnownKey(byte)).root == store.root
    with pytest.raises(KeyUnavailableError):
        open_keystore(tmp_path, KnownKey(1))
    with pytest.raises(SealError, match="expected one of a provider"):
        store.rotate_slot(1, KnownKey(4))


def test_changes_of_two_processes_are_both_kept(tmp_path: Path) -> None:
    """A change begins with what the file holds now, not with what was read at the start."""
    first = create_keystore(tmp_path, KnownKey(1))
    second = open_keystore(tmp_path, KnownKey(1))
    first.add_slot(KnownKey(2))
    second.add_slot(KnownKey(3))
    assert second.add_generation() == 2
    assert first.add_generation() == 3
    for byte in (1, 2, 3):
        assert open_keystore(tmp_path, KnownKey(byte)).generations == (1, 2, 3)


def test_a_generation_of_another_process_is_found(tmp_path: Path) -> None:
    """A process that runs reads what a later generation wrote; one whose master is gone says so."""
    running = create_keystore(tmp_path, KnownKey(1))
    other = open_keystore(tmp_path, KnownKey(1))
    other.add_generation()
    assert running.root_of(2) == other.root
    other.rotate_slot(1, KnownKey(2))
    other.add_generation()
    with pytest.raises(KeyUnavailableError):
        running.root_of(3)
    with pytest.raises(KeyUnavailableError, match="new keys"):
        running.add_slot(KnownKey(5))


def test_a_crash_leaves_the_old_file_or_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever step of a rotation fails, the store opens with the old key, and all is as it was."""
    store = create_keystore(tmp_path, KnownKey(1))
    store.add_auditor(create_auditor_file(tmp_path / "a").public_key())
    before = (tmp_path / "STORE").read_bytes()

    def fails(*_: object, **__: object) -> None:
        raise OSError(28, "no space")

    for name in ("os.replace", "agentguard.seal._files.write_all"):
        with monkeypatch.context() as patch:
            patch.setattr(name, fails)
            with pytest.raises(OSError, match="no space"):
                store.rotate_slot(1, KnownKey(2))
        assert (tmp_path / "STORE").read_bytes() == before
        assert open_keystore(tmp_path, KnownKey(1)).root == store.root
    assert store.slot_id == 1
    store.rotate_slot(1, KnownKey(2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["STORE", "a"]


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "remove", "rotate", "generation"]), st.integers(0, 5)), max_size=8
    )
)
def test_no_change_ever_locks_the_store(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    """After any changes each slot's key opens every generation, and there is always a slot."""
    folder = tmp_path_factory.mktemp("s") / "s"
    store = create_keystore(folder, KnownKey(1))
    keys, following, roots = {1: 1}, 2, [store.root]
    for step, number in steps:
        chosen = sorted(keys)[number % len(keys)]
        if step == "add":
            keys[store.add_slot(KnownKey(following)).slot_id] = following
            following += 1
        elif step == "rotate":
            new = store.rotate_slot(chosen, KnownKey(following)).slot_id
            del keys[chosen]
            keys[new] = following
            following += 1
        elif step == "generation":
            store.add_generation()
            roots.append(store.root)
        elif len(keys) == 1:
            with pytest.raises(SealError, match="last one"):
                store.remove_slot(chosen)
        else:
            store.remove_slot(chosen)
            del keys[chosen]
        for byte in keys.values():
            opened = open_keystore(folder, KnownKey(byte))
            assert [opened.root_of(g) for g in opened.generations] == roots


# Auditors --------------------------------------------------------------------------


def with_auditor(folder: Path) -> tuple[Keystore, AuditorKey]:
    """A store, and an auditor who may read it."""
    store = create_keystore(folder / "s", KnownKey(1))
    key = create_auditor_file(folder / "auditor")
    store.add_auditor(key.public_key())
    return store, key


def test_auditor_reads_what_may_be_read(tmp_path: Path) -> None:
    """An auditor has the keys of segments and of the decision log, of all generations, and no other."""
    store, key = with_auditor(tmp_path)
    store.add_generation()
    opened = open_keystore(tmp_path / "s", key)
    assert opened.is_read_only
    assert opened.generations == (1, 2)
    assert opened.verify_key == store.verify_key
    for generation in opened.generations:
        mine, theirs = store.root_of(generation), opened.root_of(generation)
        for label in (
            b"agentguard/v1/seg",
            b"agentguard/v1/dec",
            b"agentguard/v1/dec-mac",
            b"agentguard/v1/wrap",
        ):
            assert mine.subkey(label) == theirs.subkey(label)
        sign = b"agentguard/v1/dec-sign"
        assert mine.verify_key(sign, store.store_id) == theirs.verify_key(sign, store.store_id)
        for label, context in (
            (sign, store.store_id),
            (b"agentguard/v1/box", b"x"),
            (b"agentguard/v1/seg", b"x"),
        ):
            with pytest.raises(KeyUnavailableError, match="an auditor's"):
                theirs.derive(label, context)
    assert "hidden" in repr(opened.root)


def test_auditor_changes_nothing(tmp_path: Path) -> None:
    """No slot, no generation, no rotation; and the key opens no ordinary slot."""
    _, key = with_auditor(tmp_path)
    opened = open_keystore(tmp_path / "s", key)
    before = (tmp_path / "s" / "STORE").read_bytes()
    for change in (
        lambda: opened.add_slot(KnownKey(2)),
        lambda: opened.add_auditor(key.public_key()),
        lambda: opened.remove_slot(1),
        lambda: opened.rotate_slot(1, KnownKey(2)),
        opened.add_generation,
        lambda: key.key(b""),
    ):
        with pytest.raises(KeyUnavailableError, match="only reads"):
            change()
    assert (tmp_path / "s" / "STORE").read_bytes() == before


def test_auditors_come_and_go(tmp_path: Path) -> None:
    """One that was removed is refused, a stranger too; the last slot that writes stays."""
    store, key = with_auditor(tmp_path)
    stranger = create_auditor_file(tmp_path / "stranger")
    with pytest.raises(KeyUnavailableError, match="got no slot") as caught:
        open_keystore(tmp_path / "s", stranger)
    assert stranger.public_key().to_text() in str(caught.value.__notes__)
    with pytest.raises(SealError, match="a second time"):
        store.add_auditor(key.public_key())
    with pytest.raises(SealError, match="last one"):
        store.remove_slot(1)
    store.rotate_slot(1, KnownKey(2))
    assert open_keystore(tmp_path / "s", key).is_read_only
    store.remove_slot(2)
    with pytest.raises(KeyUnavailableError, match="got no slot"):
        open_keystore(tmp_path / "s", key)


def test_auditor_pins_the_store(tmp_path: Path) -> None:
    """A file that names the store's key refuses a slot that somebody else made for the same auditor."""
    store, key = with_auditor(tmp_path)
    key.path.chmod(0o600)
    text = key.path.read_text()
    key.path.write_text(f"{text}store:{store.verify_key.to_text()}\n")
    store.add_generation()
    assert open_keystore(tmp_path / "s", key).generations == (1, 2)
    key.path.write_text(f"{text}store:{SigningKey(bytes(32)).verify_key.to_text()}\n")
    with pytest.raises(TamperedError, match="another signature"):
        open_keystore(tmp_path / "s", key)


def test_every_byte_of_an_auditors_slot_counts(tmp_path: Path) -> None:
    """Whichever byte of what is sealed for an auditor is altered, it does not open."""
    store, key = with_auditor(tmp_path)
    from agentguard.seal._auditor import open_bundle

    slot = store.slots[-1]
    for place in range(len(slot.attachment)):
        forged = bytearray(slot.attachment)
        forged[place] ^= 4
        with pytest.raises((TamperedError, KeyUnavailableError)):
            open_bundle(key, bytes(forged), store_id=store.store_id, slot_id=slot.slot_id)
    for cut in (0, 64, 96, len(slot.attachment) - 1):
        with pytest.raises(TamperedError):
            open_bundle(key, slot.attachment[:cut], store_id=store.store_id, slot_id=slot.slot_id)
    with pytest.raises(TamperedError):
        open_bundle(key, slot.attachment, store_id=store.store_id, slot_id=slot.slot_id + 1)


def test_auditor_key_texts(tmp_path: Path) -> None:
    """The public key survives its text; others, and secrets in other files, are refused unrepeated."""
    key = create_auditor_file(tmp_path / "a")
    public = key.public_key()
    assert AuditorPublicKey.from_text(public.to_text() + "\n") == public
    assert len(public.key_id) == 16
    for text in ("", "x25519:", "x25519:!", "x25519:" + base64.b64encode(bytes(31)).decode()):
        with pytest.raises(SealError):
            AuditorPublicKey.from_text(text)
    with pytest.raises(KeyUnavailableError, match="expected none"):
        create_auditor_file(tmp_path / "a")
    other = tmp_path / "b"
    secret = base64.b64encode(bytes(32)).decode()
    other.write_text(secret)
    other.chmod(0o400)
    with pytest.raises(KeyUnavailableError) as caught:
        AuditorKey(other).public_key()
    assert secret not in str(caught.value)


# Hostile files, and real processes ---------------------------------------------------


@settings(max_examples=150)
@given(st.data())
def test_no_file_of_version_two_breaks_the_reader(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever stands in a STORE file with a right checksum: our error, and never a store with other slots."""
    folder = tmp_path_factory.mktemp("s")
    store = create_keystore(folder / "s", KnownKey(1))
    key = create_auditor_file(folder / "auditor")
    store.add_auditor(key.public_key())
    whole = (folder / "s" / "STORE").read_bytes()[:-4]
    forged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        forged[data.draw(st.integers(8, len(forged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.sampled_from([0, 0, 1, 36, 200]))
    body = bytes(forged[: len(forged) - cut])
    (folder / "s" / "STORE").write_bytes(body + struct.pack("<I", zlib.crc32(body)))
    for provider in (KnownKey(1), key):
        try:
            opened = open_keystore(folder / "s", provider)
        except SealError:
            continue
        if provider is not key:
            assert body == whole
        assert opened.generations == (1,)


def _adds(folder: Path, byte: int) -> None:
    """What each of several processes does."""
    for number in range(4):
        open_keystore(folder, KnownKey(1)).add_slot(KnownKey(byte + number))


def test_processes_that_change_keys_at_once(tmp_path: Path) -> None:
    """Four processes add four slots each: all sixteen are there."""
    create_keystore(tmp_path / "s", KnownKey(1))
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_adds, args=(tmp_path / "s", 10 * i + 10)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
        assert worker.exitcode == 0
    store = open_keystore(tmp_path / "s", KnownKey(1))
    assert len(store.slots) == 17
    assert len({slot.slot_id for slot in store.slots}) == 17
    assert open_keystore(tmp_path / "s", KnownKey(43)).root == store.root
