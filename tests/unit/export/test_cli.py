"""`agentguard export`: as its user types it."""

from __future__ import annotations

import csv
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from agentguard.audit import StoredEvent, read_entries
from agentguard.cli._common import Place
from agentguard.cli._main import root
from agentguard.errors import AgentGuardError, ConfigurationError, ExportError
from agentguard.seal import FileKey, create_key_file
from agentguard.store import Store, WriterConfig
from tests.support.clock import FrozenClock
from tests.support.otlp import OK, RESOURCE, Receiver, make_span, rejecting
from tests.unit.export.test_with_store import Finished, fail

Run = Callable[..., Result]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a store of 30 tool calls and one model call with content."""
    create_key_file(tmp_path / "key")
    store = Store.create(tmp_path / "store", provider=FileKey(tmp_path / "key"), clock=FrozenClock())
    writer = store.writer(resource=RESOURCE, on_internal_error=fail, config=WriterConfig())
    for number in range(30):
        writer.append(Finished(make_span(number)))
    content = {"gen_ai.input.messages": "NEEDLE", "gen_ai.usage.input_tokens": 4}
    writer.append(Finished(make_span(30, kind="model", attributes=content)))
    writer.close(10)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(place: Path) -> Run:
    """Run a command in the folder; errors of ours are raised."""

    def run_it(*words: str) -> Result:
        own = ["--store", str(place / "store"), "--key", f"file:{place / 'key'}", "export", *words]
        return CliRunner().invoke(root, own, catch_exceptions=True, standalone_mode=False)

    return run_it


def events(place: Path) -> list[tuple[str, dict[str, object]]]:
    store = Place(store=place / "store", key=f"file:{place / 'key'}").open_store()
    entries = [
        entry for entry in read_entries(store.folder, store.keystore) if isinstance(entry, StoredEvent)
    ]
    entries.sort(key=lambda entry: entry.time_unix_ns)
    return [(entry.kind, dict(entry.details)) for entry in entries if entry.kind.startswith("export.")]


def test_otlp_sends_once_and_goes_on(place: Path, run: Run) -> None:
    """Everything the first time, nothing the second, everything again when asked; each run is noted."""
    with Receiver() as receiver:
        first = run("otlp", "--endpoint", receiver.endpoint, "--header", "x-key=1")
        assert first.return_value == 0
        assert "sent 31 spans to http://127.0.0.1" in first.stdout
        assert receiver.requests[0][0]["x-key"] == "1"
        assert b"NEEDLE" not in receiver.requests[0][1].SerializeToString()
        assert "sent 0 spans" in run("otlp", "--endpoint", receiver.endpoint).stdout
        again = run("otlp", "--endpoint", receiver.endpoint, "--again", "--content", "full")
        assert "sent 31 spans" in again.stdout
        assert b"NEEDLE" in receiver.requests[-1][1].SerializeToString()
    assert [(kind, details["content"]) for kind, details in events(place)] == [
        ("export.otlp", "none"),
        ("export.otlp", "none"),
        ("export.otlp", "full"),
    ]


def test_otlp_says_what_was_not_taken(run: Run) -> None:
    """Rejected spans are findings."""
    with Receiver(lambda _: rejecting(3)) as receiver:
        result = run("otlp", "--endpoint", receiver.endpoint)
    assert result.return_value == 1
    assert "sent 28 spans" in result.stdout
    assert "3 rejected" in result.stdout


def test_otlp_refuses_the_network_in_clear(run: Run) -> None:
    """A plain address beyond this machine needs a word."""
    result = run("otlp", "--endpoint", "http://collector.example:4318")
    assert isinstance(result.exception, ConfigurationError)
    assert "in clear" in str(result.exception)


def test_otlp_says_that_nobody_is_there(run: Run) -> None:
    """One line, and nothing is lost."""
    with Receiver() as receiver:
        pass
    result = run("otlp", "--endpoint", receiver.endpoint, "--timeout", "0.2")
    assert isinstance(result.exception, ExportError)
    assert "0 spans were sent, the rest stays in the store" in str(result.exception)


def test_otlp_follow_ends_with_a_signal(place: Path) -> None:
    """SIGTERM brings what is left and ends with the counts."""
    with Receiver(lambda _: OK) as receiver:
        command = [
            sys.executable, "-c", "from agentguard.cli import main; main()",
            "--store", str(place / "store"), "--key", f"file:{place / 'key'}",
            "export", "otlp", "--endpoint", receiver.endpoint, "--follow",
        ]  # fmt: skip
        environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
        process = subprocess.Popen(
            command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=place
        )
        with process:
            assert process.stderr is not None
            assert "exporting" in process.stderr.readline()
            process.send_signal(signal.SIGTERM)
            out, _ = process.communicate(timeout=30)
        assert process.returncode == 0
        assert "sent 31 spans" in out
        assert len(receiver.taken) == 31


def test_features_are_written_private(place: Path, run: Run) -> None:
    """Model calls by default, all with --kind all, no file replaced unasked, 0600, noted."""
    result = run("features", "--out", "f.csv")
    assert result.return_value == 0
    with (place / "f.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["token_count"], row["kind"]) == ("4", "model")
    assert "NEEDLE" not in (place / "f.csv").read_text()
    assert (place / "f.csv").stat().st_mode & 0o777 == 0o600
    assert isinstance(run("features", "--out", "f.csv").exception, ExportError)
    assert run("features", "--out", "f.csv", "--force", "--kind", "all").return_value == 0
    assert len((place / "f.csv").read_text().splitlines()) == 32
    assert run("features", "--out", "f.parquet").return_value == 0
    assert isinstance(run("features", "--out", "f.xlsx").exception, ExportError)
    assert [kind for kind, _ in events(place)] == ["export.features"] * 3


def test_jsonl_needs_the_word(place: Path, run: Run) -> None:
    """Without --plaintext nothing is written and the way out is said; with it content still stays."""
    refused = run("jsonl")
    assert isinstance(refused.exception, AgentGuardError)
    assert refused.stdout == ""
    assert "--plaintext" in refused.exception.__notes__[0]
    lines = run("jsonl", "--plaintext").stdout.splitlines()
    assert len(lines) == 31
    assert json.loads(lines[0])["name"] == "execute_tool t0"
    assert not any("NEEDLE" in line for line in lines)
    assert (
        run("jsonl", "--plaintext", "--content", "full", "--kind", "model", "--out", "s.jsonl").return_value
        == 0
    )
    assert "NEEDLE" in (place / "s.jsonl").read_text()
    assert (place / "s.jsonl").stat().st_mode & 0o777 == 0o600
    assert [details["content"] for _, details in events(place)] == ["none", "full"]


def test_spans_as_a_table_need_the_word_too(place: Path, run: Run) -> None:
    """Refused without it; with it private, on record, and with the content that was said."""
    parquet = pytest.importorskip("pyarrow.parquet")
    assert "in clear" in str(run("parquet", "--out", "s.parquet").exception)
    assert run("parquet", "--plaintext", "--content", "full", "--out", "s.parquet").return_value == 0
    file = place / "s.parquet"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    table = parquet.read_table(file).to_pydict()
    assert len(table["span_id"]) == 31
    assert "NEEDLE" in "".join(table["attributes"])
    assert [kind for kind, _ in events(place)] == ["export.parquet"]
    assert run("parquet", "--plaintext", "--force", "--out", "s.parquet").return_value == 0
    assert "NEEDLE" not in "".join(parquet.read_table(file).to_pydict()["attributes"])


def test_until_bounds_the_rows(place: Path, run: Run) -> None:
    """Both ends of the time are read."""
    assert len(run("jsonl", "--plaintext", "--until", "2026-01-01T00:00:00.010").stdout.splitlines()) == 10
    assert run("jsonl", "--plaintext", "--since", "2026-06-01").stdout == ""
