"""What commands put on record: who read content, what was done to the store, with which key; and never content."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from agentguard.audit import StoredEvent, read_entries, verify
from agentguard.cli import main
from agentguard.cli import store as store_commands
from agentguard.runtime.clock import SystemClock
from agentguard.seal import FileKey, create_auditor_file, create_key_file, open_keystore
from agentguard.store import Store
from tests.support.clock import START_UNIX_NS
from tests.support.decisions import decision, open_journal
from tests.support.spans import make_span
from tests.support.stores import fill

Run = Callable[..., tuple[int, str, str]]
NEEDLE = "the customer's own words"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store with a span that holds content, and one that holds none."""
    monkeypatch.chdir(tmp_path)
    create_key_file(tmp_path / "key")
    made = Store.create(tmp_path / "store", provider=FileKey(tmp_path / "key"), clock=SystemClock())
    one = make_span(1)
    with_content = one._replace(attributes={**one.attributes, "gen_ai.input.messages": NEEDLE})
    two = make_span(2)
    plain = two._replace(attributes={"gen_ai.agent.name": "quiet"}, events=(), links=())
    fill(made, [with_content, plain], is_sealed=True)
    return made


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], tmp_path: Path, store: Store) -> Run:
    """Run one command: status, standard output, standard error."""

    def run_it(*words: str, key: str = f"file:{tmp_path / 'key'}") -> tuple[int, str, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["--store", str(tmp_path / "store"), "--key", key, *words])
        captured = capfd.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run_it


def told(store: Store) -> list[tuple[str, Mapping[str, object]]]:
    """Kinds and details of what commands have chained, without what every journal has."""
    entries = [
        entry for entry in read_entries(store.folder, store.keystore) if isinstance(entry, StoredEvent)
    ]
    assert NEEDLE not in str(entries)
    return [(e.kind, e.details) for e in entries if not e.kind.startswith("journal.")]


@pytest.mark.parametrize(
    ("words", "filters"),
    [
        (("spans", "--format", "json"), ""),
        (("spans", "--format", "jsonl", "--limit", "0", "--status", "ok"), "status=ok"),
        (("trace", f"{make_span(1).trace_id}", "--format", "json"), f"trace_id={make_span(1).trace_id}"),
    ],
)
def test_showing_content_is_recorded(run: Run, store: Store, words: tuple[str, ...], filters: str) -> None:
    """Who showed it, by which command, and which spans were asked for; once, and before it is shown."""
    assert NEEDLE in run(*words)[1]
    (used, read) = told(store)
    assert (used[0], used[1]["command"], used[1]["key_provider"]) == ("key.used", words[0], "file")
    assert (read[0], read[1]["command"], read[1]["filter"]) == ("content.read", words[0], filters)
    assert read[1]["by"] == used[1]["by"] != ""


def test_following_records_it_once(run: Run, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream with content is one reading."""

    def stop(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(store_commands.time, "sleep", stop)
    assert NEEDLE in run("spans", "--follow", "--format", "jsonl")[1]
    assert [kind for kind, _ in told(store)] == ["key.used", "content.read"]


@pytest.mark.parametrize(
    "words",
    [
        ("spans",),
        ("spans", "--format", "json", "--agent", "quiet"),
        ("stats",),
        ("store", "info"),
        ("sql", "select agent, count(name) from spans group by agent"),
        ("decisions", "list"),
        ("decisions", "verify"),
    ],
)
def test_what_shows_no_content_is_not(run: Run, store: Store, words: tuple[str, ...]) -> None:
    """Names, numbers and verdicts are no content."""
    status, out, _ = run(*words)
    assert (status, NEEDLE in out) == (0, False)
    assert told(store) == []


@pytest.mark.parametrize("query", ["select * from spans", "select attributes from spans where name = 'x'"])
def test_sql_that_can_show_content_is_recorded(run: Run, store: Store, query: str) -> None:
    """By its hash: the query itself may quote content."""
    assert run("sql", query)[0] == 0
    kind, details = told(store)[-1]
    assert kind == "content.read"
    assert str(details["filter"]).startswith("sql sha256:")
    assert "from" not in str(details["filter"])


def test_an_auditor_reads_and_is_told_that_it_is_not_recorded(run: Run, store: Store, tmp_path: Path) -> None:
    """A key that cannot write reads all the same, and says so; nothing is written."""
    key = create_auditor_file(tmp_path / "auditor")
    store.keystore.add_auditor(key.public_key())
    before = sorted(path.name for path in store.folder.rglob("*"))
    status, out, err = run("spans", "--format", "json", key=f"auditor:{tmp_path / 'auditor'}")
    assert (status, NEEDLE in out) == (0, True)
    assert "this key reads only" in err
    assert run("store", "verify", key=f"auditor:{tmp_path / 'auditor'}")[0] == 0
    assert sorted(path.name for path in store.folder.rglob("*")) == before


def test_content_that_cannot_be_recorded_is_not_shown(run: Run, store: Store) -> None:
    """Where the log cannot be written, nothing is shown."""
    journal = open_journal(store.folder, store.keystore)
    journal.append(decision(1))
    assert journal.close(5.0)
    ledger = next((store.folder / "log").glob("*.agl"))
    before, word, after = ledger.read_bytes().rpartition(b"seq ")
    ledger.write_bytes(before + b"sEq " + after)
    assert word
    status, out, err = run("spans", "--format", "json")
    assert (status, NEEDLE in out) == (2, False)
    assert "could not" in err or "damaged" in err


def test_events_are_listed(run: Run, store: Store) -> None:
    """Newest last, by kind and time, as text without hashes in full, as documents whole; damage is told."""
    journal = open_journal(store.folder, store.keystore)
    journal.append_event("policies.loaded", {"revision": "ab" * 32, "policies": ["pay", "refunds"], "by": ""})
    journal.append_event("store.hold", {"action": "set", "since_unix_ns": START_UNIX_NS})
    assert journal.close(5.0)
    status, out, _ = run("decisions", "events")
    assert status == 0
    assert "revision abababababab; policies pay, refunds\n" in out.replace(" \n", "\n").replace("  ", "")
    assert "since 2026-01-01 00:00:00" in out
    assert "journal.open" not in out
    kinds = [
        json.loads(line)["kind"]
        for line in run("decisions", "events", "--all", "--format", "jsonl")[1].splitlines()
    ]
    assert kinds == ["journal.open", "policies.loaded", "store.hold", "journal.close"]
    assert (
        json.loads(run("decisions", "events", "--kind", "journal.o", "--format", "json")[1])[0]["index"] == 0
    )
    assert run("decisions", "events", "--kind", "kill")[2].startswith("no events")
    path = next((store.folder / "dec").iterdir())
    data = bytearray(path.read_bytes())
    data[-700] ^= 1
    path.write_bytes(data)
    assert "decisions verify" in run("decisions", "events")[2]


def test_care_for_the_store_is_recorded(run: Run, store: Store, tmp_path: Path) -> None:
    """Verification, repair, backup; and a restored store says that it was restored, in its own log."""
    assert run("store", "verify")[0] == 0
    assert run("store", "repair")[0] == 0
    assert run("store", "backup", str(tmp_path / "copy"))[0] == 0
    found = dict(told(store))
    assert (found["store.verified"]["verdict"], found["store.verified"]["spans"]) == ("intact", 2)
    assert set(found["store.repaired"]) == {"sealed", "rebuilt", "put_aside", "left", "by"}
    assert found["store.backup"]["target"] == str(tmp_path / "copy")
    (tmp_path / "store").rename(tmp_path / "gone")
    assert run("store", "restore", str(tmp_path / "copy"))[0] == 0
    restored = open_keystore(tmp_path / "store", FileKey(tmp_path / "key"))
    kinds = [e.kind for e in read_entries(tmp_path / "store", restored) if isinstance(e, StoredEvent)]
    assert "store.restored" in kinds
    assert "store.backup" not in kinds
    assert verify(tmp_path / "store", restored).is_good


def test_a_crashed_writer_can_be_proven(run: Run, store: Store, tmp_path: Path) -> None:
    """`prove` states what a dead writer left, and the proof says so; an auditor cannot."""
    journal = open_journal(store.folder, store.keystore)
    for number in (1, 2):
        journal.append(decision(0xABC0 + number))
    file = journal._committer._file
    assert file is not None
    file.abandon()
    key = create_auditor_file(tmp_path / "auditor")
    store.keystore.add_auditor(key.public_key())
    status, _, err = run("decisions", "prove", f"{0xABC2:016x}", key=f"auditor:{tmp_path / 'auditor'}")
    assert (status, "no checkpoint states record 2 yet" in err) == (2, True)
    status, _, err = run("decisions", "prove", f"{0xABC2:016x}", "--out", "proof")
    assert status == 0
    assert "its writer died; 2 records are adopted" in err
    document = json.loads(run("decisions", "verify", "--format", "json")[1])
    assert "adopted at" in document["verdicts"]["unanchored_tail"]["sentence"]
    with contextlib.chdir(tmp_path):
        status, out, _ = run("decisions", "verify-proof", "proof", "--key", document["verifier_key"])
    assert status == 0
    assert "a later process found it whole" in out
    assert "log.adopted" in [kind for kind, _ in told(store)]
    # The auditor can now, too.
    assert run("decisions", "prove", f"{0xABC1:016x}", key=f"auditor:{tmp_path / 'auditor'}")[0] == 0


def test_anchors_of_the_settings(run: Run, store: Store, tmp_path: Path) -> None:
    """Without `--to` the settings say where; verification and doctor know them too."""
    status, _, err = run("decisions", "anchor")
    assert (status, "decisions_anchors" in err) == (2, True)
    (tmp_path / "agentguard.toml").write_text(
        '[decisions]\nanchors = ["file:kept/notes"]\nmark = "kept/mark"\nretention_days = 400\n'
    )
    (tmp_path / "kept").mkdir()
    journal = open_journal(store.folder, store.keystore)
    journal.append(decision(1))
    assert journal.close(5.0)
    _, out, _ = run("doctor")
    assert f"checkpoints go to file:{tmp_path}/kept/notes: none yet" in out
    assert "the high-water mark is not yet at" in out
    status, _, err = run("decisions", "anchor")
    assert (status, "is kept at" in err) == (0, True)
    assert (tmp_path / "kept" / "mark").exists()
    _, out, _ = run("decisions", "verify")
    assert f"kept at file:{tmp_path}/kept/notes" in out
    _, out, _ = run("doctor")
    assert "kept/notes: the last at 20" in out
    (tmp_path / "agentguard.toml").unlink()
    _, out, _ = run("doctor")
    assert "no checkpoint is handed to anybody" in out
    assert "the last was entry" in out
