"""`agentguard store key`: slots by command, each change a record of the decision log."""

from __future__ import annotations

import base64
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from agentguard.audit import StoredEvent, read_entries, verify
from agentguard.cli import main
from agentguard.errors import ConfigurationError, KeyUnavailableError
from agentguard.runtime.clock import SystemClock
from agentguard.runtime.config import load_config
from agentguard.runtime.opening import open_store
from agentguard.seal import AuditorKey, FileKey, PassphraseKey, create_key_file, open_keystore
from agentguard.store import Store
from tests.support.spans import make_span
from tests.support.stores import fill

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new store with a key file."""
    create_key_file(tmp_path / "key")
    monkeypatch.chdir(tmp_path)
    return Store.create(tmp_path / "store", provider=FileKey(tmp_path / "key"), clock=SystemClock()).folder


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], tmp_path: Path, store: Path) -> Run:
    """Run one command with a key: status, standard output, standard error."""

    def run_it(*words: str, key: str = f"file:{tmp_path / 'key'}") -> tuple[int, str, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["--store", str(store), "--key", key, *words])
        captured = capfd.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run_it


def events(store: Path, provider: FileKey) -> list[str]:
    """What the decision log says of keys; each command has said first with which key it was run."""
    entries = read_entries(store, open_keystore(store, provider))
    kinds = [
        entry.kind for entry in entries if isinstance(entry, StoredEvent) and entry.kind.startswith("key.")
    ]
    assert kinds.count("key.used") > 0
    return [kind for kind in kinds if kind != "key.used"]


def test_add_list_remove(run: Run, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second key file is made and opens; the last slot cannot be removed; all of it is recorded."""
    assert run("store", "key", "add", f"file:{tmp_path / 'second'}")[0] == 0
    monkeypatch.setenv("AGENTGUARD_NEW_PASSPHRASE", "correct horse")
    assert run("store", "key", "add", "passphrase")[0] == 0
    status, out, _ = run("store", "key", "list", "--format", "json")
    assert [(row["slot"], row["provider"], row["in_use"]) for row in json.loads(out)] == [
        (1, "file", "yes"), (2, "file", ""), (3, "passphrase", "")
    ]  # fmt: skip
    assert status == 0
    assert open_keystore(store, PassphraseKey(lambda: "correct horse")).slot_id == 3
    assert run("store", "key", "remove", "1")[0] == 0
    assert run("store", "key", "list")[0] == 2
    second = f"file:{tmp_path / 'second'}"
    assert run("store", "key", "remove", "3", key=second)[0] == 0
    status, _, err = run("store", "key", "remove", "2", key=second)
    assert status == 2
    assert "got the last one" in err
    assert events(store, FileKey(tmp_path / "second")) == [
        "key.added", "key.added", "key.removed", "key.removed"
    ]  # fmt: skip


def test_rotate_in_place(run: Run, store: Path, tmp_path: Path) -> None:
    """A new key in the same file: the old one opens nothing, spans stay readable, the log verifies."""
    opened = Store.open(store, provider=FileKey(tmp_path / "key"), clock=SystemClock())
    fill(opened, [make_span(1), make_span(2)], is_sealed=True)
    old = FileKey(tmp_path / "key").key(b"")
    assert run("store", "key", "rotate", "--generation")[0] == 0
    assert run("store", "key", "rotate")[0] == 0
    assert FileKey(tmp_path / "key").key(b"") != old
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o400
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("key")) == ["key"]
    keystore = open_keystore(store, FileKey(tmp_path / "key"))
    assert len(keystore.slots) == 1
    assert keystore.generations == (1, 2)
    (tmp_path / "old").write_bytes(base64.b64encode(old))
    (tmp_path / "old").chmod(0o400)
    with pytest.raises(KeyUnavailableError):
        open_keystore(store, FileKey(tmp_path / "old"))
    status, out, _ = run("spans", "--format", "json")
    assert status == 0
    assert len(json.loads(out)) == 2
    assert verify(store, keystore).is_good
    assert events(store, FileKey(tmp_path / "key")) == ["key.rotated", "key.added"]


@pytest.mark.parametrize("step", ["create_key_file", "add_slot", "replace", "remove_slot", "rotate_slot"])
def test_a_rotation_that_is_cut_off(
    run: Run, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Whichever step fails, the key file opens the store, and the next rotation tidies up."""

    def fails(*_: object, **__: object) -> None:
        raise OSError(5, "cut off")

    target = {
        "create_key_file": "agentguard.seal.create_key_file",
        "replace": "pathlib.Path.replace",
    }.get(step, f"agentguard.seal.Keystore.{step}")
    with monkeypatch.context() as patch:
        patch.setattr(target, fails)
        assert run("store", "key", "rotate")[0] == 2
    assert open_keystore(store, FileKey(tmp_path / "key")).slots
    assert run("store", "key", "rotate")[0] == 0
    slots = open_keystore(store, FileKey(tmp_path / "key")).slots
    # Between the new name of the file and the removal both slots are there; the old one can be removed by hand.
    assert len(slots) == (2 if step == "remove_slot" else 1)
    assert not (tmp_path / "key.next").exists()


def test_rotate_to_another_provider(
    run: Run, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another provider takes the slot; a provider whose key is made elsewhere needs to be told where."""
    monkeypatch.setenv("AGENTGUARD_NEW_PASSPHRASE", "one")
    status, _, err = run("store", "key", "rotate", "--to", "passphrase")
    assert status == 0, err
    assert "key = 'passphrase'" in err
    assert run("store", "key", "list")[0] == 2
    monkeypatch.setenv("AGENTGUARD_PASSPHRASE", "one")
    monkeypatch.setenv("AGENTGUARD_NEW_PASSPHRASE", "two")
    assert run("store", "key", "rotate", key="passphrase")[0] == 0
    monkeypatch.setenv("AGENTGUARD_PASSPHRASE", "two")
    new = base64.b64encode(bytes(range(32))).decode()
    monkeypatch.setenv("NEW_KEY", new)
    assert run("store", "key", "rotate", "--to", "env:NEW_KEY", key="passphrase")[0] == 0
    status, out, err = run("store", "key", "rotate", key="env:NEW_KEY")
    assert status == 2
    assert "expected --to" in err
    assert new not in out + err


def test_a_linked_key_file_is_not_replaced(run: Run, tmp_path: Path) -> None:
    """A mounted secret is a link: it is rotated where it is made."""
    (tmp_path / "link").symlink_to(tmp_path / "key")
    status, _, err = run("store", "key", "rotate", key=f"file:{tmp_path / 'link'}")
    assert status == 2
    assert "got a link" in err


def test_auditor(run: Run, store: Path, tmp_path: Path) -> None:
    """An auditor reads spans and the decision log, pins the store, and changes nothing."""
    opened = Store.open(store, provider=FileKey(tmp_path / "key"), clock=SystemClock())
    fill(opened, [make_span(1)], is_sealed=True)
    status, public, _ = run("store", "key", "auditor", str(tmp_path / "auditor"))
    assert status == 0
    status, pin, _ = run("store", "key", "add", "--auditor", public.strip())
    assert status == 0
    path = tmp_path / "auditor"
    path.chmod(0o600)
    with path.open("a") as file:
        file.write(pin)
    key = f"auditor:{path}"
    status, out, _ = run("spans", "--format", "json", key=key)
    assert status == 0
    assert len(json.loads(out)) == 1
    status, out, err = run("decisions", "verify", key=key)
    assert status == 0, out + err
    assert run("store", "info", key=key)[0] == 0
    before = {p: p.read_bytes() for p in store.rglob("*") if p.is_file()}
    for words in (
        ("store", "key", "add", f"file:{tmp_path / 'x'}"),
        ("store", "key", "rotate", "--generation"),
        ("store", "key", "remove", "1"),
        ("kill", "set", "--reason", "x"),
    ):
        status, _, err = run(*words, key=key)
        assert status == 2, words
        assert "auditor" in err, words
    assert {p: p.read_bytes() for p in store.rglob("*.agd")} == {
        p: b for p, b in before.items() if p.suffix == ".agd"
    }
    assert (store / "STORE").read_bytes() == before[store / "STORE"]


def test_an_auditor_does_not_record(store: Path, tmp_path: Path, run: Run) -> None:
    """A program that is set up with an auditor's key is refused when it starts, not when it writes."""
    _, public, _ = run("store", "key", "auditor", str(tmp_path / "auditor"))
    run("store", "key", "add", "--auditor", public.strip())
    config = load_config({"store": str(store), "key": f"auditor:{tmp_path / 'auditor'}"})
    with pytest.raises(ConfigurationError, match="only reads"):
        open_store(config, SystemClock())
    opened = Store.open(store, provider=AuditorKey(tmp_path / "auditor"), clock=SystemClock())
    with pytest.raises(KeyUnavailableError, match="an auditor's"):
        opened.sealed_blob("settings").write(b"x")


def test_usage(run: Run, tmp_path: Path) -> None:
    """One thing is added at a time, and what is no key is refused."""
    assert run("store", "key", "add")[0] == 2
    assert run("store", "key", "add", "env", "--auditor", "x")[0] == 2
    assert run("store", "key", "add", "--auditor", "x25519:short")[0] == 2
    assert run("store", "key", "add", "nowhere:x")[0] == 2
    assert run("store", "key", "rotate", "--slot", "9")[0] == 2
    assert run("store", "key", "rotate", "--slot", "9", "--to", f"file:{tmp_path / 'n'}")[0] == 2
    assert run("store", "key", "auditor", str(tmp_path / "key"))[0] == 2


def test_a_key_from_a_pipe(run: Run, tmp_path: Path) -> None:
    """A command reads its descriptor once, although it needs the key more than once."""
    reading, writing = os.pipe()
    os.write(writing, (tmp_path / "key").read_bytes())
    os.close(writing)
    assert run("store", "key", "add", f"file:{tmp_path / 'n'}", key=f"fd:{reading}")[0] == 0
    os.close(reading)


def test_an_auditor_verifies_a_copy_that_nobody_can_write(
    run: Run, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a disk that is mounted to be read only the log verifies all the same: no lock is made."""
    _, public, _ = run("store", "key", "auditor", str(tmp_path / "auditor"))
    run("store", "key", "add", "--auditor", public.strip())
    real_open = os.open

    def read_only(path: object, flags: int, *more: int, **others: object) -> int:
        if flags & (os.O_RDWR | os.O_WRONLY | os.O_CREAT) and str(path).startswith(str(store)):
            raise OSError(30, "Read-only file system", str(path))
        return real_open(path, flags, *more, **others)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", read_only)
    for lock_is_there in (True, False):
        status, out, err = run("decisions", "verify", key=f"auditor:{tmp_path / 'auditor'}")
        assert status == 0, out + err
        if lock_is_there:
            (store / "log" / "lock").unlink()


def test_a_user_without_a_name(
    run: Run, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a container under a random number neither a name nor a home is needed."""

    def unknown() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr("getpass.getuser", unknown)
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(Path, "home", staticmethod(_no_home))
    assert run("store", "key", "add", f"file:{tmp_path / 'n'}")[0] == 0
    assert run("kill", "set", "--reason", "x")[0] == 0
    entries = read_entries(store, open_keystore(store, FileKey(tmp_path / "key")))
    by = {
        str(entry.details["by"])
        for entry in entries
        if isinstance(entry, StoredEvent) and "by" in entry.details
    }
    assert by == {f"uid {os.getuid()}"}
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name)
    assert load_config({}).store == Path("/.local/share/agentguard/store")


def _no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_a_default_key_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the settings folder cannot be written, the error names the place and the way out."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("AGENTGUARD_STORE", str(tmp_path / "s"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KeyUnavailableError, match="cannot be written") as caught:
        open_store(load_config({}), SystemClock())
    assert "AGENTGUARD_KEY_FILE" in str(caught.value.__notes__)


def test_which_key_opened_the_store_is_recorded(run: Run, store: Path, tmp_path: Path) -> None:
    """Each journal begins with the slot and the provider of the key that its process used."""
    assert run("store", "key", "add", f"file:{tmp_path / 'n'}")[0] == 0
    assert run("kill", "set", "--reason", "x", key=f"file:{tmp_path / 'n'}")[0] == 0
    entries = read_entries(store, open_keystore(store, FileKey(tmp_path / "key")))
    used = {
        (entry.details["key_slot"], entry.details["key_provider"])
        for entry in entries
        if isinstance(entry, StoredEvent) and entry.kind == "journal.open" and "key_slot" in entry.details
    }
    assert used == {(1, "file"), (2, "file")}


def test_doctor_looks_at_the_key_as_the_provider_does(run: Run, tmp_path: Path) -> None:
    """A key file that is open to others, or holds no key, is red with the provider's words."""
    (tmp_path / "key").chmod(0o444)
    assert "got mode 0444" in run("doctor")[1]
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "key").write_text("nonsense")
    (tmp_path / "key").chmod(0o400)
    status, out, _ = run("doctor")
    assert status != 0
    assert "got 6 bytes in base64, expected 32" in out
