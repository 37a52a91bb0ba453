"""Backup, restore and repair: nothing else comes back than what was there, and nothing is thrown away."""

from __future__ import annotations

import json
import os
import shutil
import stat
import threading
from pathlib import Path

import pytest

from agentguard.audit import DecisionJournal, read_decisions, verify
from agentguard.errors import KeyUnavailableError, StoreError, TamperedError
from agentguard.store import Store, restore
from tests.support.clock import FrozenClock
from tests.support.decisions import decision
from tests.support.faulty_disk import FaultyDisk
from tests.support.spans import FinishedSpan, make_span
from tests.support.stores import KnownKey, fill, new_store, new_writer, open_store, raise_error, segment_files

SPANS = [make_span(i) for i in range(60)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Sixty spans, some of them live, a small sealed file, and three decisions."""
    store = new_store(tmp_path / "store", FaultyDisk())
    fill(store, SPANS[:40], is_sealed=True)
    fill(store, SPANS[40:], is_sealed=False)
    store.sealed_blob("settings").write(b"x")
    journal = DecisionJournal.open(
        store.folder, keystore=store.keystore, clock=FrozenClock(), on_internal_error=raise_error
    )
    for number in range(3):
        journal.append(decision(number))
    assert journal.close(10)
    return store


def test_there_and_back(store: Store, tmp_path: Path) -> None:
    """A restored store has the same spans and decisions, is private, and goes on."""
    made = store.back_up(tmp_path / "backup")
    assert (tmp_path / "backup" / "BACKUP").is_file()
    assert not list((tmp_path / "backup").rglob("*lock"))
    shutil.rmtree(store.folder)
    back = restore(tmp_path / "backup", tmp_path / "store", provider=KnownKey())
    assert back == made
    again = open_store(tmp_path / "store")
    assert sorted(again.query().spans()) == sorted(SPANS)
    assert again.sealed_blob("settings").read() == b"x"
    assert len(list(read_decisions(again.folder, again.keystore))) == 3
    assert verify(again.folder, again.keystore).is_good
    for path in (tmp_path / "store").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    fill(again, [make_span(99)], is_sealed=True)
    assert len(list(again.query().spans())) == 61


def test_while_others_write(tmp_path: Path) -> None:
    """Each backup that is taken under load is whole: no torn frame, no hole, the log verifies."""
    store = new_store(tmp_path / "store")
    writer = new_writer(store, segment_spans_max=50, frame_spans_max=8, frame_interval_s=0.002)
    journal = DecisionJournal.open(
        store.folder, keystore=store.keystore, clock=FrozenClock(), on_internal_error=raise_error
    )
    is_done = threading.Event()

    def write() -> None:
        number = 0
        while not is_done.is_set():
            writer.append(FinishedSpan(make_span(number)))
            journal.append(decision(number))
            number += 1
            is_done.wait(0.0002)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for number in range(4):
            is_done.wait(0.1)
            store.back_up(tmp_path / f"backup{number}")
    finally:
        is_done.set()
        thread.join()
        writer.close(10)
        journal.close(10)
    for number in range(4):
        restore(tmp_path / f"backup{number}", tmp_path / f"store{number}", provider=KnownKey())
        back = open_store(tmp_path / f"store{number}")
        query = back.query()
        numbers = [int(span.span_id, 16) - 0xB000_0000_0000_0000 for span in query.spans()]
        assert numbers == list(range(len(numbers)))
        assert not query.damage
        report = verify(back.folder, back.keystore)
        assert report.is_good, report.first_bad


def test_only_into_a_new_place(store: Store, tmp_path: Path) -> None:
    """Neither command writes over anything, and a failed one leaves nothing behind."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    store.back_up(tmp_path / "backup")
    for name in ("full", "link", "backup"):
        with pytest.raises(StoreError, match="expected no folder or an empty one"):
            store.back_up(tmp_path / name)
        with pytest.raises(StoreError, match="expected no folder or an empty one"):
            restore(tmp_path / "backup", tmp_path / name, provider=KnownKey())
    with pytest.raises(KeyUnavailableError):
        restore(tmp_path / "backup", tmp_path / "new", provider=KnownKey(8))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup", "full", "link", "store"]


def _change_a_byte(backup: Path) -> None:
    path = min(backup.glob("seg/*"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _cut(backup: Path) -> None:
    path = min(backup.glob("dec/*"))
    path.write_bytes(path.read_bytes()[:-5])


def _remove(backup: Path) -> None:
    min(backup.glob("seg/*")).unlink()


def _swap(backup: Path) -> None:
    one, two = sorted(backup.glob("seg/*"))[:2]
    first = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(first)


def _change_the_list(backup: Path) -> None:
    path = backup / "BACKUP"
    path.write_bytes(path.read_bytes().replace(b'"version":1', b'"version":2'))


def _empty_the_list(backup: Path) -> None:
    (backup / "BACKUP").write_bytes(b"")


def _link_a_file(backup: Path) -> None:
    path = min(backup.glob("seg/*"))
    path.rename(backup / "elsewhere")
    path.symlink_to(backup / "elsewhere")


def _link_a_folder(backup: Path) -> None:
    (backup / "seg").rename(backup / "elsewhere")
    (backup / "seg").symlink_to(backup / "elsewhere")


def _second_name(backup: Path) -> None:
    os.link(min(backup.glob("seg/*")), backup / "elsewhere")


def _fifo(backup: Path) -> None:
    path = min(backup.glob("seg/*"))
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("harm", "error"),
    [
        (_change_a_byte, TamperedError), (_cut, TamperedError), (_remove, TamperedError), (_swap, TamperedError),
        (_change_the_list, TamperedError), (_empty_the_list, TamperedError), (_link_a_file, StoreError),
        (_link_a_folder, StoreError), (_second_name, StoreError), (_fifo, StoreError),
    ],
)  # fmt: skip
def test_a_backup_that_was_changed(
    store: Store, tmp_path: Path, harm: object, error: type[Exception]
) -> None:
    """Nothing is restored, and the error is of the right kind."""
    store.back_up(tmp_path / "backup")
    harm(tmp_path / "backup")  # type: ignore[operator]
    with pytest.raises(error):
        restore(tmp_path / "backup", tmp_path / "new", provider=KnownKey())
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc/x", "seg/../../x", "seg/.x", "x", "seg", "seg//x", "seg/x\n", "state.db", "seg/" + "y" * 200,
     "log/1/2/3/4/5/6/7/8/9", ""],
)  # fmt: skip
def test_names_that_lead_elsewhere(store: Store, tmp_path: Path, name: str) -> None:
    """Even an authentic list may only name what a backup has."""
    from agentguard.store._backup import _LABEL

    store.back_up(tmp_path / "backup")
    path = tmp_path / "backup" / "BACKUP"
    document = json.loads(path.read_bytes().splitlines()[0])
    document["files"][-1][0] = name
    plain = json.dumps(document).encode()
    path.write_bytes(plain + b"\n" + store.keystore.root.mac(_LABEL, plain).hex().encode() + b"\n")
    with pytest.raises(StoreError, match="got the name"):
        restore(tmp_path / "backup", tmp_path / "new", provider=KnownKey())
    assert not (tmp_path / "x").exists()
    assert not (tmp_path / "new").exists()


def test_a_full_disk_leaves_no_half_backup(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder appears once it is whole."""
    from agentguard.store import _backup

    def refuse(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_backup, "sync_data", refuse)
    with pytest.raises(StoreError, match="No space left"):
        store.back_up(tmp_path / "backup")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]


def test_repair(store: Store, tmp_path: Path) -> None:
    """A damaged chunk and a damaged header: the rest is sealed anew, and the damaged files are kept."""
    live, damaged = sorted(segment_files(store), key=lambda path: path.read_bytes()[10])
    (extra,) = [store.segments / "00000000000000ff-00000000.ags"]
    extra.write_bytes(b"?" * 500)
    data = bytearray(damaged.read_bytes())
    data[200] ^= 0xFF
    damaged.write_bytes(data)
    before = sorted(span.span_id for span in store.query().spans())
    done = store.repair()
    assert done.sealed == (live.name,)
    assert done.rebuilt == (damaged.name,)
    assert done.put_aside == (extra.name,)
    assert done.left == ()
    assert sorted(span.span_id for span in store.query().spans()) == before
    quarantine = tmp_path / "store" / "quarantine"
    assert sorted(path.name for path in quarantine.iterdir()) == sorted([damaged.name, extra.name])
    assert (quarantine / damaged.name).read_bytes() == data
    assert store.repair() == ((), (), (), ())
    assert store.info().live_segments == 0
