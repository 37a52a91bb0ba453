"""`agentguard exceptions`: listed with their state, counted by use, and a finding where they end."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest

from agentguard.cli import main
from agentguard.seal import create_key_file
from agentguard.values import Decision, Effect
from tests.support.policies import document
from tests.unit.policy.test_exceptions import EXCEPTION, RULE


def run(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run the command."""
    with pytest.raises(SystemExit) as caught:
        main([*arguments])
    out, err = capfd.readouterr()
    assert isinstance(caught.value.code, int)
    return caught.value.code, out, err


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Policies with an exception that ended, one that ends soon, and one that does not."""
    soon = datetime.datetime.now(tz=datetime.UTC).date() + datetime.timedelta(days=5)
    made = tmp_path / "policies"
    made.mkdir()
    (made / "p.yaml").write_text(document(RULE))
    for number, day in enumerate(("2020-12-31", soon.isoformat(), "2999-12-31")):
        text = EXCEPTION.replace("2026-12-31", day)
        name = text.split("name: ")[1].split()[0].rstrip("}").strip()
        (made / f"e{number}.yaml").write_text(text.replace(f"name: {name}", f"name: {name}-{number}", 1))
    return made


def test_list_says_where_each_stands(capfd: pytest.CaptureFixture[str], folder: Path) -> None:
    """In the order in which they end; listing is no finding."""
    status, out, _ = run(capfd, "exceptions", "list", str(folder), "--format", "json")
    rows = json.loads(out)
    assert (status, [row["state"] for row in rows]) == (0, ["expired", "ends soon", "in force"])
    assert all(row["owner"] and row["approver"] and row["ticket"] and row["reason"] for row in rows)


def test_check_is_a_finding_where_one_ends(capfd: pytest.CaptureFixture[str], folder: Path) -> None:
    """1 with an expired one or one that ends soon, 0 without."""
    status, out, _ = run(capfd, "exceptions", "check", str(folder), "--format", "json")
    assert (status, [row["state"] for row in json.loads(out)]) == (1, ["expired", "ends soon"])
    (folder / "e0.yaml").unlink()
    assert run(capfd, "exceptions", "check", str(folder))[0] == 1
    status, out, err = run(capfd, "exceptions", "check", "--within", "3", str(folder))
    assert (status, out) == (0, "")
    assert "2 in force, none ends within 3 days" in err


def test_policies_that_do_not_load_are_no_answer(capfd: pytest.CaptureFixture[str], folder: Path) -> None:
    """2, and one line with its place."""
    (folder / "e0.yaml").write_text("kind: Exception\n")
    status, out, err = run(capfd, "exceptions", "check", str(folder))
    assert (status, out) == (2, "")
    assert "e0.yaml:1:1" in err


def test_uses_are_counted_by_the_decision_log(
    capfd: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    """Each decision that an exception let through counts once."""
    from agentguard.audit import DecisionJournal
    from agentguard.runtime.clock import SystemClock
    from agentguard.seal import FileKey, create_keystore, open_keystore
    from agentguard.values import DecisionRecord

    store = tmp_path / "store"
    store.mkdir(mode=0o700)
    create_keystore(store, create_key_file(tmp_path / "key"))
    journal = DecisionJournal.open(
        store, keystore=open_keystore(store, FileKey(tmp_path / "key")), clock=SystemClock(), on_internal_error=lambda *_: None, details={}
    )  # fmt: skip
    names = [
        row["exception"]
        for row in json.loads(run(capfd, "exceptions", "list", str(folder), "--format", "json")[1])
    ]
    for number in range(3):
        used = Decision(Effect.ALLOW, warnings=(f"exception:{names[1]}",))
        journal.append(DecisionRecord(f"{number:016x}", 1, "tool.before", used, ""))
    assert journal.close(5.0)
    place = ("--store", str(store), "--key", f"file:{tmp_path / 'key'}")
    status, out, err = run(capfd, *place, "exceptions", "list", str(folder), "--uses", "--format", "json")
    assert (status, [row["uses"] for row in json.loads(out)]) == (0, [0, 3, 0]), err
