"""`agentguard decisions prove, verify-proof, anchor, tiles` and `verify --anchor`, as a person uses them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from agentguard.audit import StoredEvent, read_entries
from agentguard.cli import main
from agentguard.runtime.clock import SystemClock
from agentguard.seal import FileKey, Keystore, create_key_file
from agentguard.store import Store
from tests.support.decisions import write_log

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def keystore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keystore:
    """The keys of a store with six decisions."""
    create_key_file(tmp_path / "key")
    monkeypatch.chdir(tmp_path)
    store = Store.create(tmp_path / "store", provider=FileKey(tmp_path / "key"), clock=SystemClock())
    write_log(store.folder, store.keystore, range(0x31, 0x37))
    return store.keystore


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], tmp_path: Path, keystore: Keystore) -> Run:
    """Run one command: status, standard output, standard error."""

    def run_it(*words: str, with_store: bool = True) -> tuple[int, str, str]:
        capfd.readouterr()
        place = (
            ["--store", str(tmp_path / "store"), "--key", f"file:{tmp_path / 'key'}"] if with_store else []
        )
        with pytest.raises(SystemExit) as ended:
            main([*place, *words])
        captured = capfd.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run_it


def key_of(run: Run) -> str:
    """The public key that `verify` prints."""
    return str(json.loads(run("decisions", "verify", "--format", "json")[1])["verifier_key"])


def test_a_proof_without_the_store(run: Run, tmp_path: Path) -> None:
    """Made with the store, checked when neither store nor key file is there any more."""
    status, _, told = run("decisions", "prove", f"{0x33:016x}", "--out", "one.tlog-proof")
    assert (status, "wrote the proof of record 3" in told) == (0, True)
    key = key_of(run)
    shutil.rmtree(tmp_path / "store")
    (tmp_path / "key").unlink()
    status, text, _ = run("decisions", "verify-proof", "one.tlog-proof", "--key", key, with_store=False)
    assert status == 0
    assert text.startswith(f"proven  decision {0x33:016x}: deny PAY-1  amount 51 > 50")
    (tmp_path / "public").write_text(key + "\n")
    status, text, _ = run(
        "decisions", "verify-proof", "one.tlog-proof", "--key", "public", "--format", "json", with_store=False
    )
    assert json.loads(text)["rule_id"] == "PAY-1"
    proof = (tmp_path / "one.tlog-proof").read_text()
    (tmp_path / "other").write_text(proof.replace("index 3", "index 4"))
    status, _, told = run("decisions", "verify-proof", "other", "--key", key, with_store=False)
    assert (status, "not in the tree" in told) == (2, True)
    status, _, told = run(
        "decisions", "verify-proof", "one.tlog-proof", "--key", "nonsense", with_store=False
    )
    assert (status, "verifier key: expected" in told) == (2, True)


def test_anchor_and_verify(run: Run, tmp_path: Path, keystore: Keystore) -> None:
    """An anchor in a file tells that the store was set back; making it is chained."""
    shutil.copytree(tmp_path / "store", tmp_path / "older")
    status, _, told = run("decisions", "anchor", "--to", "file:kept")
    assert (status, "is kept at file:kept" in told) == (0, True)
    assert any(
        isinstance(entry, StoredEvent) and entry.kind == "log.anchored"
        for entry in read_entries(tmp_path / "store", keystore)
    )
    status, text, _ = run("decisions", "verify", "--anchor", "kept")
    assert (status, "complete up to anchor" in text) == (0, True)
    for folder in ("dec", "log"):
        shutil.rmtree(tmp_path / "store" / folder)
        shutil.copytree(tmp_path / "older" / folder, tmp_path / "store" / folder)
    assert run("decisions", "verify")[0] == 0
    status, text, _ = run("decisions", "verify", "--anchor", "kept")
    assert (status, "the log was set back" in text) == (1, True)


def test_a_proof_for_an_anchor(run: Run) -> None:
    """The auditor's own anchor decides which tree a proof is of."""
    run("decisions", "anchor", "--to", "file:kept")
    assert run("decisions", "prove", f"{0x34:016x}", "--checkpoint", "kept", "--out", "one")[0] == 0
    status, text, _ = run("decisions", "verify-proof", "one", "--key", key_of(run), "--checkpoint", "kept")
    assert (status, "proven" in text) == (0, True)


@pytest.mark.parametrize(
    "target", ["nothing", "rfc3161:https://tsa.example", "ftp://x/y", "http://192.0.2.1/x"]
)
def test_targets_that_are_none(run: Run, target: str) -> None:
    """A wrong target is told, with the status of a command that could not do its work."""
    assert run("decisions", "anchor", "--to", target)[0] == 2


def test_tiles(run: Run, tmp_path: Path) -> None:
    """The tiles of the one journal: its checkpoint, and one partial tile."""
    assert run("decisions", "tiles", "out")[0] == 0
    names = sorted(path.name for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert names == ["8", "checkpoint"]


def test_an_unknown_decision(run: Run) -> None:
    """No traceback: what was not found, and what lists it."""
    status, _, told = run("decisions", "prove", "ffff")
    assert (status, "no decision `ffff`" in told) == (2, True)
