"""`agentguard store hold` and `agentguard incident`: what is kept, told, and recorded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from agentguard.audit import StoredEvent, read_entries, verify
from agentguard.cli import main
from agentguard.runtime.clock import SystemClock
from agentguard.seal import FileKey, create_key_file
from agentguard.store import Store
from agentguard.values import attributes as names
from tests.support.decisions import decision, open_journal
from tests.support.spans import make_span
from tests.support.stores import fill

Run = Callable[..., tuple[int, str, str]]
HOUR_NS = 3600 * 10**9


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store with calls of two agents: two hours ago, and one of them now."""
    create_key_file(tmp_path / "key")
    monkeypatch.chdir(tmp_path)
    store = Store.create(tmp_path / "store", provider=FileKey(tmp_path / "key"), clock=SystemClock())
    now = store.clock.unix_ns()
    for number, (agent, age_ns) in enumerate(
        (("billing", 2 * HOUR_NS), ("support", 2 * HOUR_NS), ("billing", 10**9))
    ):
        span = make_span(
            number, start_unix_ns=now - age_ns, name=f"call-{number}", attributes={names.AGENT_NAME: agent}
        )
        fill(store, [span], is_sealed=True)
    return store


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], tmp_path: Path, store: Store) -> Run:
    """Run one command: status, standard output, standard error."""

    def run_it(*words: str) -> tuple[int, str, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["--store", str(store.folder), "--key", f"file:{tmp_path / 'key'}", *words])
        captured = capfd.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run_it


def events(store: Store, kind: str) -> list[dict[str, object]]:
    """The details of what the decision log has of one kind."""
    return [
        dict(entry.details)
        for entry in read_entries(store.folder, store.keystore)
        if isinstance(entry, StoredEvent) and entry.kind == kind
    ]


def names_left(store: Store) -> set[str]:
    """The calls that are still there."""
    return {span.name for span in store.query().spans()}


def test_hold(run: Run, store: Store) -> None:
    """What is held survives retention, until the hold is lifted; both are recorded."""
    status, _, err = run("store", "hold", "add", "--reason", "case 7 \x1b[31m", "--agent", "support")
    assert status == 0
    assert "\x1b" not in err
    store.remove_old(age_s_max=3600)
    assert names_left(store) == {"call-1", "call-2"}
    status, out, _ = run("store", "hold", "list", "--format", "json")
    (listed,) = json.loads(out)
    assert (listed["kind"], listed["agent"], listed["until"]) == ("hold", "support", "")
    assert run("store", "hold", "remove", listed["hold"])[0] == 2  # A reason is wanted.
    assert run("store", "hold", "remove", listed["hold"][:6], "--reason", "settled")[0] == 0
    store.remove_old(age_s_max=3600)
    assert names_left(store) == {"call-2"}
    assert [(one["action"], one["hold"]) for one in events(store, "store.hold")] == [
        ("set", listed["hold"]), ("lifted", listed["hold"])
    ]  # fmt: skip
    assert run("store", "hold", "list")[1] == ""
    assert verify(store.folder, store.keystore).is_good


def test_incident(run: Run, store: Store) -> None:
    """Calls, decisions and events of the time and the agent, in order; kept until it is closed."""
    journal = open_journal(store.folder, store.keystore)
    now = store.clock.unix_ns()
    for number, (agent, age_ns) in enumerate(
        (("billing", HOUR_NS), ("support", HOUR_NS), ("billing", 9 * HOUR_NS))
    ):
        record = decision(0xAAAA_0000_0000_0001 + number)
        journal.append(record._replace(agent=agent, time_unix_ns=now - age_ns))
    assert journal.close(5.0)
    assert run("kill", "set", "agent:billing", "--reason", "stop")[0] == 0
    status, out, err = run(
        "incident",
        "open",
        "--since",
        "3h",
        "--agent",
        "billing",
        "--reason",
        "odd refunds",
        "--format",
        "json",
    )
    assert status == 0, err
    document = json.loads(out)
    told = [(entry["what"], entry["name"]) for entry in document["timeline"]]
    assert [what for what, _ in told] == ["call", "decision", "call", "event", "event"]
    assert told[-2:] == [("event", "key.used"), ("event", "kill.set")]
    assert {entry["agent"] for entry in document["timeline"]} == {"billing", ""}
    assert document["counts"] == {"call": 2, "decision": 1, "event": 2}
    incident = document["incident"]["hold"]
    (opened,) = events(store, "incident.opened")
    assert opened["incident"] == incident
    assert opened["timeline_sha256"] == document["timeline_sha256"]
    assert opened["segments"] == 2
    store.remove_old(age_s_max=1)
    assert names_left(store) == {"call-0", "call-2"}
    status, out, _ = run("incident", "show", incident)
    assert status == 0
    assert "kill.set" in out
    assert run("incident", "list")[1].count("billing") == 1
    assert run("incident", "close", incident, "--reason", "a test")[0] == 0
    store.remove_old(age_s_max=3600)
    assert names_left(store) == {"call-2"}
    assert run("incident", "show", incident)[0] == 2


def test_incident_formats_and_refusals(run: Run) -> None:
    """One object a line; a plain hold is no incident; a range that ends before it begins is refused."""
    status, out, _ = run(
        "incident", "open", "--since", "3h", "--until", "1h", "--reason", "x", "--format", "jsonl"
    )
    assert status == 0
    assert [json.loads(line)["name"] for line in out.splitlines()] == ["call-0", "call-1"]
    assert run("store", "hold", "add", "--reason", "y")[0] == 0
    holds = json.loads(run("store", "hold", "list", "--format", "json")[1])
    plain = next(one["hold"] for one in holds if one["kind"] == "hold")
    status, _, err = run("incident", "close", plain, "--reason", "z")
    assert status == 2
    assert "plain hold" in err
    assert run("incident", "open", "--since", "1h", "--until", "3h", "--reason", "x")[0] == 2
    assert run("incident", "open", "--reason", "x")[0] == 2


def test_a_damaged_log_is_said(run: Run, store: Store) -> None:
    """The timeline shows what can be read, and the status says that something cannot."""
    assert run("store", "hold", "add", "--reason", "y")[0] == 0
    path = min((store.folder / "dec").iterdir())
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    status, out, err = run("incident", "open", "--since", "3h", "--reason", "x")
    assert status == 1
    assert "call-0" in out
    assert "could not be read" in err
