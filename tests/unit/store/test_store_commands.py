"""The commands that read the store, as a person runs them."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

import pytest

from agentguard.cli import main
from agentguard.seal import FileKey, create_key_file
from agentguard.store import Store
from tests.support.clock import FrozenClock
from tests.support.spans import make_span
from tests.support.stores import fill

EVIL = "refund\x1b[31m\u202e\nsecond line"


class Runner:
    """Runs commands on one store."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._where = ["--store", str(folder / "store"), "--key", f"file:{folder / 'key'}"]
        self._capsys = capsys

    def __call__(self, *words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([*self._where, *words])
        captured = self._capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store with three traces; the last span has an evil name."""
    provider = create_key_file(tmp_path / "key")
    store = Store.create(tmp_path / "store", provider=provider, clock=FrozenClock())
    spans = [make_span(i) for i in range(29)]
    spans.append(
        make_span(29, name=EVIL, kind="tool", status="error", attributes={"error.type": "ValueError"})
    )
    fill(store, spans, is_sealed=True)
    return tmp_path


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str]) -> Runner:
    """Run a command."""
    return Runner(folder, capsys)


def test_spans(run: Runner) -> None:
    """A table, the latest last, with control characters made visible; or documents."""
    status, out, _ = run("spans")
    assert status == 0
    lines = out.splitlines()
    assert len(lines) == 31
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert r"refund\x1b[31m" in lines[-1]
    status, out, _ = run("spans", "--kind", "tool", "--format", "json")
    assert [row["name"] for row in json.loads(out)] == [EVIL]
    status, out, _ = run("spans", "--format", "jsonl", "--limit", "0")
    assert len(out.splitlines()) == 30
    status, out, err = run("spans", "--limit", "3")
    assert len(out.splitlines()) == 4
    assert "--limit 0" in err
    status, out, _ = run("spans", "--agent", "sales", "--status", "ok", "--format", "jsonl")
    assert {json.loads(line)["attributes"]["gen_ai.agent.name"] for line in out.splitlines()} == {"sales"}
    status, out, err = run("spans", "--since", "1h")
    assert (status, out) == (0, "")
    assert "no spans" in err


def test_trace(run: Runner) -> None:
    """A tree, found by the beginning of the trace's id or of a call's id."""
    trace_id = make_span(25).trace_id
    status, out, _ = run("trace", trace_id)
    assert status == 0
    assert len(out.splitlines()) == 11
    assert out.count("└─") == 2
    assert run("trace", make_span(25).span_id)[1] == out
    status, out, _ = run("trace", trace_id, "--format", "jsonl")
    assert len(out.splitlines()) == 10
    status, _, err = run("trace", trace_id[:20])
    assert status == 2
    assert "begins 3 traces" in err
    status, _, err = run("trace", "ffff")
    assert status == 2
    assert "expected the id of a recorded trace" in err


def test_stats(run: Runner) -> None:
    """One line for each agent, tool and model."""
    status, out, _ = run("stats", "--format", "json")
    assert status == 0
    rows = json.loads(out)
    assert [(row["kind"], row["calls"], row["errors"]) for row in rows] == [("model", 29, 2), ("tool", 1, 1)]
    assert run("stats")[1].splitlines()[0].split()[:3] == ["kind", "name", "calls"]


def test_sql(run: Runner) -> None:
    """Rows of a query; what does more than read ends with status 2 and no traceback."""
    status, out, _ = run("sql", "select kind, count(*) as n from spans group by kind", "--format", "jsonl")
    assert [json.loads(line) for line in out.splitlines()] == [
        {"kind": "model", "n": 29},
        {"kind": "tool", "n": 1},
    ]
    status, out, err = run("sql", "attach 'x' as y")
    assert (status, out) == (2, "")
    assert "expected one SELECT" in err
    assert "Traceback" not in err


def test_store_info_and_verify(run: Runner, folder: Path) -> None:
    """An intact store says so; damage and tampering end with status 1 and name the place."""
    status, out, _ = run("store", "info", "--format", "json")
    assert status == 0
    assert json.loads(out)["spans"] == 30
    status, out, _ = run("store", "verify")
    assert status == 0
    assert out.startswith("intact: 30 spans")
    (path,) = (folder / "store" / "seg").glob("*.ags")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    status, out, _ = run("store", "verify", "--format", "json")
    assert status == 1
    document = json.loads(out)
    assert document["verdict"] == "damaged"
    assert document["places"][0]["segment"] == path.name
    status, _, err = run("spans")
    assert "damaged" in err


def test_keep(run: Runner, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a running process does every hour: seals and packs; and says how many files are left."""
    monkeypatch.setenv("AGENTGUARD_RETENTION_DAYS", "36500")
    store = open_with_key(folder)
    for process in range(9):
        fill(store, [make_span(100 + process)], is_sealed=False)
    status, out, _ = run("store", "keep", "--format", "json")
    assert status == 0
    document = json.loads(out)
    assert (document["sealed"], document["packed"]["files"], document["files"]) == (9, 10, 1)
    status, out, _ = run("store", "info", "--format", "json")
    assert (json.loads(out)["segments"], json.loads(out)["files"], json.loads(out)["spans"]) == (10, 1, 39)
    status, out, _ = run("store", "keep")
    assert (status, out) == (0, "removed 0 segments with 0 spans, sealed 0, packed 0; 1 files\n")
    assert run("store", "verify")[1].startswith("intact: 39 spans")
    status, out, _ = run("store", "backup", str(folder / "copy"), "--format", "json")
    assert json.loads(out)["files"] >= 2
    status, out, _ = run("store", "migrate", "--format", "json")
    assert json.loads(out) == {"formats": {"1": 1}, "reads": 1}


def test_keep_doubts_the_clock(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where nothing was recorded for a year, old spans stay, and the exit status says so."""
    provider = create_key_file(tmp_path / "key")
    store = Store.create(tmp_path / "store", provider=provider, clock=FrozenClock())
    year_ago = time.time_ns() - 400 * 86_400 * 10**9
    fill(store, [make_span(i, start_unix_ns=year_ago + i) for i in range(3)], is_sealed=True)
    store.seal_segments()
    status, out, err = Runner(tmp_path, capsys)("store", "keep")
    assert status == 1
    assert "removed 0 segments" in out
    assert "does not fit what was recorded" in err


def open_with_key(folder: Path) -> Store:
    """Open the store of a folder with the key beside it."""
    return Store.open(folder / "store", provider=FileKey(folder / "key"), clock=FrozenClock())


def test_without_a_store_or_with_a_wrong_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One clear line and a hint, status 2."""
    create_key_file(tmp_path / "key")
    status, out, err = Runner(tmp_path, capsys)("spans")
    assert (status, out) == (2, "")
    assert "expected a store folder" in err
    assert "hint" in err
    Store.create(tmp_path / "store", provider=create_key_file(tmp_path / "other"), clock=FrozenClock())
    status, _, err = Runner(tmp_path, capsys)("stats")
    assert status == 2
    assert "opens none" in err


def test_follow_shows_what_is_written_later(folder: Path) -> None:
    """`--follow` goes on with new spans of another process, each once, until it is interrupted."""
    import signal
    import subprocess
    import sys
    import time

    from agentguard.seal import FileKey

    command = [
        sys.executable, "-c", "from agentguard.cli import main; main()", "--store", str(folder / "store"),
        "--key", f"file:{folder / 'key'}", "spans", "--follow", "--limit", "2", "--format", "jsonl",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        first = [json.loads(process.stdout.readline())["span_id"] for _ in range(2)]
        assert first == [make_span(28).span_id, make_span(29).span_id]
        time.sleep(0.2)
        store = Store.open(folder / "store", provider=FileKey(folder / "key"), clock=FrozenClock())
        fill(store, [make_span(100), make_span(101)], is_sealed=True)
        assert [json.loads(process.stdout.readline())["span_id"] for _ in range(2)] == [
            make_span(100).span_id,
            make_span(101).span_id,
        ]
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            # Python drops an interrupt that meets it in a finalizer: a person presses the keys again.
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
        assert process.returncode == 130
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_backup_and_restore(run: Runner, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A copy is made, the store is lost, and comes back; what is there is never written over."""
    status, out, _ = run("store", "backup", str(folder / "copy"))
    assert status == 0
    assert "files" in out
    status, _, err = run("store", "restore", str(folder / "copy"))
    assert status == 2
    assert "expected no folder" in err
    (folder / "store").rename(folder / "lost")
    status, out, _ = run("store", "restore", str(folder / "copy"))
    assert status == 0
    assert "restored" in out
    assert json.loads(run("store", "info", "--format", "json")[1])["spans"] == 30


def test_repair_and_migrate(run: Runner, folder: Path) -> None:
    """A damaged chunk is put right as far as it can be; the format is told."""
    assert run("store", "repair") == (0, "", "nothing to repair\n")
    (path,) = (folder / "store" / "seg").iterdir()
    data = bytearray(path.read_bytes())
    data[200] ^= 0xFF
    path.write_bytes(data)
    status, out, _ = run("store", "repair", "--format", "json")
    assert status == 0
    assert json.loads(out)["rebuilt"] == [path.name]
    status, out, _ = run("store", "migrate")
    assert status == 0
    assert "format 1: 1 files" in out
