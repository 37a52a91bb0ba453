"""`agentguard store erase`: says what it does, asks, refuses under a hold, and leaves a record without content."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agentguard.audit import Question, StoredEvent, read_entries, verify
from agentguard.cli import main
from agentguard.runtime.clock import SystemClock
from agentguard.seal import FileKey, create_key_file
from agentguard.state import MachineState, freeze_action
from agentguard.store import Store
from agentguard.values import ApprovalTerms, SpanRecord
from agentguard.values import attributes as names
from tests.support.content import UNREADABLE, by_id, content_span
from tests.support.decisions import raise_it
from tests.support.stores import fill

Run = Callable[..., tuple[int, str, str]]
NEEDLE = "Ottokar"
SPANS = [
    content_span(i, of_user=("ann-4711", "bob")[i % 2], of_conversation=f"talk-{i % 3}", says=f"{NEEDLE} {i}")
    for i in range(12)
]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store with content of two users."""
    create_key_file(tmp_path / "key")
    monkeypatch.chdir(tmp_path)
    store = Store.create(tmp_path / "store", provider=FileKey(tmp_path / "key"), clock=SystemClock())
    fill(store, SPANS, is_sealed=True)
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


def erased(store: Store) -> list[SpanRecord]:
    """The spans that say so."""
    return [span for span in store.query().spans() if span.attributes.get(UNREADABLE) == "erased"]


def events(store: Store) -> list[dict[str, object]]:
    """What the decision log has of erasures."""
    return [
        dict(entry.details)
        for entry in read_entries(store.folder, store.keystore)
        if isinstance(entry, StoredEvent) and entry.kind == "store.erased"
    ]


def test_a_user_is_erased_and_it_is_on_record(run: Run, store: Store) -> None:
    """The content goes, the record has a keyed hash and no id, and the log still verifies and names it."""
    status, out, err = run(
        "store", "erase", "--subject", "ann-4711", "--yes", "--reason", "a letter", "--format", "json"
    )
    assert status == 0
    assert json.loads(out) == {"keys": 1, "spans": 6, "approvals": 0, "unreadable_places": 0}
    assert "the content of 6 spans, sealed with 1 keys, becomes unreadable" in err
    assert len(erased(store)) == 6
    (event,) = events(store)
    assert (event["kind"], event["keys"], event["spans"], event["reason"]) == ("user", 1, 6, "a letter")
    assert len(str(event["subject_mac"])) == 32
    assert not any(text in str(event) for text in ("ann", NEEDLE, "talk"))
    report = verify(store.folder, keystore=store.keystore)
    (line,) = (line for line in report.verdicts if line.question == Question.ERASURES)
    assert not any(line.answer.name == "BAD" for line in report.verdicts)
    assert "content was erased" in str(line)


def test_user_and_conversation_at_once(run: Run, store: Store) -> None:
    """Each of them is on record; what is about either goes."""
    status, out, _ = run(
        "store", "erase", "--subject", "bob", "--conversation", "talk-0", "--yes", "--format", "jsonl"
    )
    assert (status, json.loads(out)["spans"]) == (0, 8)
    assert [event["kind"] for event in events(store)] == ["user", "conversation"]
    assert len(erased(store)) == 8


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_it_asks(run: Run, store: Store, monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    """Without `--yes` and without that answer nothing happens."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
    status, _, err = run("store", "erase", "--subject", "bob")
    assert status == 130
    assert "this cannot be undone" in err
    assert by_id(store.query().spans()) == by_id(SPANS)
    assert not events(store)


def test_nothing_to_erase(run: Run, store: Store) -> None:
    """An id that nothing is sealed for may be mistyped: status 1, and no record."""
    status, _, err = run("store", "erase", "--subject", "an-4711", "--yes")
    assert status == 1
    assert "nothing is sealed for it" in err
    assert not events(store)


def test_a_hold_refuses(run: Run, store: Store) -> None:
    """The line says which hold, and nothing is erased or recorded."""
    run("store", "hold", "add", "--reason", "a court")
    (hold,) = store.holds.list()
    status, _, err = run("store", "erase", "--subject", "bob", "--yes")
    assert status == 2
    assert f"6 spans that the legal hold {hold.hold_id} keeps" in err
    assert not events(store)
    assert by_id(store.query().spans()) == by_id(SPANS)


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--subject", "bob", "--reason", "Bob asked us"),
        ("--conversation", "talk-0", "--reason", "x" * 501),
    ],
)
def test_refused_words(run: Run, store: Store, words: tuple[str, ...]) -> None:
    """Nobody is named, or the reason names who is to be erased: the log is kept for good."""
    assert run("store", "erase", *words, "--yes")[0] == 2
    assert by_id(store.query().spans()) == by_id(SPANS)


def test_requests_for_approval_go_too(run: Run, store: Store) -> None:
    """What a user's agent asked for is removed with its arguments; other requests stay."""

    def state() -> MachineState:
        return MachineState.open(store.folder, store.keystore, SystemClock(), on_internal_error=raise_it)

    terms = ApprovalTerms(("ann",), 1, 900.0)
    opened = state()
    for principal in ("bob", "bob", "eve"):
        action = freeze_action("tool.before", tool="pay", principal=principal, args={"note": NEEDLE})
        opened.approvals.request(action._replace(digest=f"{principal}{len(opened.approvals.list())}"), terms)
    opened.close()
    status, out, err = run("store", "erase", "--subject", "bob", "--yes", "--format", "json")
    assert (status, json.loads(out)["approvals"]) == (0, 2)
    assert "2 requests for approval on behalf of it are removed" in err
    opened = state()
    assert [request.requester for request in opened.approvals.list()] == ["eve"]
    opened.close()


def test_the_principal_of_a_run_is_who_it_is_about(tmp_path: Path, run: Run, store: Store) -> None:
    """A program names the principal of a run, and that is enough to find its content."""
    span = content_span(50, says=NEEDLE)
    attributes = {**span.attributes, names.PRINCIPAL_ID: "carol"}
    fill(store, [span._replace(attributes=attributes)], is_sealed=True)
    assert run("store", "erase", "--subject", "carol", "--yes")[0] == 0
    assert [one.span_id for one in erased(store)] == [span.span_id]
