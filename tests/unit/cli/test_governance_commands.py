"""`agentguard decisions`, `approvals` and `kill`, from an empty store to a signed approval."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from agentguard.audit import read_entries
from agentguard.cli import main
from agentguard.runtime.clock import SystemClock
from agentguard.seal import FileKey, Keystore, create_key_file
from agentguard.state import MachineState, freeze_action
from agentguard.store import Store
from agentguard.values import ApprovalTerms, Effect, GrantScopes
from tests.support.decisions import decision, open_journal, raise_it

Run = Callable[..., tuple[int, str, str]]

POLICY = """\
apiVersion: agentguard/v1
kind: Policy
metadata: {{ name: pay, version: 1.0.0, title: Payments, owner: a@example.com }}
defaults: {{ unmatched: allow, mode: enforce, timezone: UTC }}
rules:
  - id: PAY-1
    title: Nothing is deleted
    at: tool.before
    when: tool.name == 'delete'
    then: deny
---
apiVersion: agentguard/v1
kind: Approvers
metadata: {{ name: people }}
groups:
  payments:
    {approver}
"""


@pytest.fixture
def keystore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keystore:
    """The keys of a new store, in a folder that the commands find."""
    create_key_file(tmp_path / "key")
    monkeypatch.chdir(tmp_path)
    return Store.create(tmp_path / "store", provider=FileKey(tmp_path / "key"), clock=SystemClock()).keystore


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], tmp_path: Path, keystore: Keystore) -> Run:
    """Run one command: status, standard output, standard error."""

    def run_it(*words: str) -> tuple[int, str, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["--store", str(tmp_path / "store"), "--key", f"file:{tmp_path / 'key'}", *words])
        captured = capfd.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run_it


def write(store: Path, keystore: Keystore) -> None:
    """Two denials, and an admission with its outcome."""
    journal = open_journal(store, keystore)
    journal.append(decision(0xAAAA_0000_0000_0001))
    journal.append(decision(0xAAAB_0000_0000_0002, effect=Effect.ALLOW))
    journal.append(decision(0xAAAB_0000_0000_0002, effect=Effect.ALLOW, point="outcome", outcome="error"))
    journal.append(decision(0xBBBB_0000_0000_0003)._replace(tool="evil\x1b]0;owned\x07"))
    assert journal.close(5.0)


def test_nothing_decided_yet(run: Run) -> None:
    """A new store has no decisions, and that is fine."""
    assert run("decisions", "list")[0] == 0
    status, out, _ = run("decisions", "verify")
    assert (status, out.count("ok ")) == (0, 7)
    assert run("decisions", "show", "ab")[0] == 2


def test_listing(run: Run, tmp_path: Path, keystore: Keystore) -> None:
    """Decisions come in order, filtered, escaped, and with their outcome as documents."""
    write(tmp_path / "store", keystore)
    status, out, _ = run("decisions", "list")
    assert status == 0
    assert "\x1b]" not in out
    assert "evil\\x1b]0;owned\\x07" in out
    rows = json.loads(run("decisions", "list", "--format", "json")[1])
    assert [row["decision_id"][:4] for row in rows] == ["aaaa", "aaab", "bbbb"]
    assert [row["outcome"] for row in rows] == ["", "error", ""]
    for words, count in (
        (["--effect", "deny"], 2),
        (["--tool", "refund"], 2),
        (["--rule", "PAY-1"], 3),
        (["--rule", "X"], 0),
        (["--call", "aaab"], 1),
        (["--limit", "1"], 1),
        (["--since", "2030-01-01"], 0),
    ):
        assert len(run("decisions", "list", "--format", "jsonl", *words)[1].splitlines()) == count, words


def test_showing(run: Run, tmp_path: Path, keystore: Keystore) -> None:
    """The reviewer's voice with values and outcome; ambiguous and unknown ids are one line."""
    write(tmp_path / "store", keystore)
    status, out, _ = run("decisions", "show", "aaaa")
    assert status == 0
    for text in (
        "deny by PAY-1 of payments",
        "> 50",
        "args.usd   51.5",
        "what the model was told",
        "record 1",
    ):
        assert text in out
    assert "outcome      error" in run("decisions", "show", "aaab")[1]
    assert json.loads(run("decisions", "show", "bb", "--format", "json")[1])["effect"] == "deny"
    status, _, err = run("decisions", "show", "aaa")
    assert (status, "2 decisions begin with `aaa`" in err) == (2, True)
    status, _, err = run("decisions", "show", "zz\x1b[31m")
    assert (status, "\x1b[31mz" in err, "no decision `zz\\x1b[31m`" in err) == (2, False, True)


def test_verifying_a_flipped_byte(run: Run, tmp_path: Path, keystore: Keystore) -> None:
    """Verification names the record, in words and as a document, and ends with 1."""
    write(tmp_path / "store", keystore)
    assert run("decisions", "verify")[0] == 0
    path = next((tmp_path / "store" / "dec").iterdir())
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    status, out, _ = run("decisions", "verify")
    assert status == 1
    assert "BAD    integrity" in out
    assert f"first bad: {path.stem}, record" in out
    report = json.loads(run("decisions", "verify", "--format", "json")[1])
    assert (report["good"], report["first_bad"]["journal"]) == (False, path.stem)
    assert report["verdicts"]["completeness"]["answer"] == "ok"
    assert "cannot be read" in run("decisions", "list")[2]


def test_kill(run: Run, tmp_path: Path, keystore: Keystore) -> None:
    """An order is set, shown, lifted, and chained into the decision log."""
    assert run("kill", "status")[0] == 0
    assert run("kill", "set", "tool:refund", "--reason", "odd \x1b[31m", "--by", "dana")[0] == 0
    status, out, _ = run("kill", "status")
    assert (status, "dana" in out, "\x1b[31m" in out) == (1, True, False)
    assert run("kill", "set", "nonsense", "--reason", "x")[0] == 2
    assert run("kill", "set", "--reason", " ")[0] == 2
    status, _, err = run("kill", "clear")
    assert (status, "still stopped: tool:refund" in err) == (1, True)
    assert run("kill", "clear", "tool:refund")[0] == 0
    assert run("kill", "status")[0] == 0
    events = [entry for entry in read_entries(tmp_path / "store", keystore) if hasattr(entry, "kind")]
    assert [e.kind for e in events if e.kind.startswith("kill")] == ["kill.set", "kill.cleared"]


def test_a_request_from_asking_to_running(run: Run, tmp_path: Path, keystore: Keystore) -> None:
    """Keygen, listing the approver, showing, signing; wrong keys and second votes are refused with 1."""
    store = tmp_path / "store"
    state = MachineState.open(store, keystore, SystemClock(), on_internal_error=raise_it)
    action = freeze_action(
        "tool.before", tool="wire", agent="support", principal="cy", args={"usd": 9000, "to": "x\x1b]0;y\x07"}
    )
    terms = ApprovalTerms(("group:payments",), 1, 900.0)
    token = state.approvals.request(action, terms, rule_id="PAY-10", title="Two people", reason="ok\u202eok")
    assert "nothing waits" not in run("approvals", "list")[2]
    status, out, _ = run("approvals", "show", token[:6])
    assert (status, out.splitlines()[0]) == (0, "Two people")
    assert ("\x1b]" in out, "\u202e" in out, "untrusted" in out, "usd = 9000" in out) == (
        False,
        False,
        True,
        True,
    )
    status, out, _ = run("approvals", "keygen", "--out", "bob.key", "--id", "bob")
    assert (status, Path("bob.key").stat().st_mode & 0o777) == (0, 0o600)
    run("approvals", "keygen", "--out", "eve.key")
    assert run("approvals", "keygen", "--out", "eve.key")[0] == 2
    assert run("approvals", "approve", token, "--key", "bob.key", "--as", "bob", "--yes")[0] == 2
    Path("policies").mkdir()
    Path("policies/pay.yaml").write_text(POLICY.format(approver=out.rstrip("\n").replace("\n", "\n    ")))
    Path("agentguard.toml").write_text('policies = ["policies"]\n')
    assert run("approvals", "approve", token, "--key", "bob.key", "--as", "bob")[0] == 2
    assert run("approvals", "approve", token, "--key", "eve.key", "--as", "bob", "--yes")[0] == 1
    assert run("approvals", "approve", token, "--key", "bob.key", "--as", "eve", "--yes")[0] == 1
    status, _, err = run("approvals", "approve", token, "--key", "bob.key", "--as", "bob", "--yes")
    assert (status, f"request {token} is granted" in err) == (0, True), err
    status, out, err = run("approvals", "stats", "--format", "json")
    [everyone, bob] = json.loads(out)
    assert (everyone["approver"], bob["approver"]) == ("(all)", "bob")
    assert (bob["answers"], bob["approved"], bob["approve_rate"]) == (1, 1, 1.0)
    # Whoever answers within two seconds has hardly read it.
    assert status == (1 if bob["under_2_s"] else 0)
    assert "1 requests" in err
    assert run("approvals", "approve", token, "--key", "bob.key", "--as", "bob", "--yes")[0] == 1
    row = json.loads(run("approvals", "list", "--format", "json")[1])[0]
    assert (row["state"], row["votes"][0]["approver"]) == ("granted", "bob")
    assert run("approvals", "deny", token, "--yes")[0] == 0
    assert run("approvals", "deny", token, "--yes")[0] == 1
    assert json.loads(run("approvals", "list", "--format", "json")[1]) == []
    assert json.loads(run("approvals", "list", "--all", "--format", "json")[1])[0]["state"] == "denied"
    kinds = [getattr(entry, "kind", "") for entry in read_entries(store, keystore)]
    assert [kind for kind in kinds if kind.startswith("approval")] == ["approval.vote", "approval.denied"]
    assert run("decisions", "verify")[0] == 0
    state.close()


def test_grants_are_signed_with_a_scope_listed_and_revoked(
    run: Run, keystore: Keystore, tmp_path: Path
) -> None:
    """Never wider than the rule; each refusal is one line, and changes nothing."""
    store = tmp_path / "store"
    state = MachineState.open(store, keystore, SystemClock(), on_internal_error=raise_it)
    terms = ApprovalTerms(("group:payments",), 1, 900.0, GrantScopes(5, 3600.0, any_arguments=True))
    asked = freeze_action("tool.before", tool="delete", args={"rows": 3})
    token = state.approvals.request(asked, terms, rule_id="PAY-1", policy="pay", run_id="r1")
    _, out, _ = run("approvals", "keygen", "--out", "bob.key", "--id", "bob")
    Path("policies").mkdir()
    Path("policies/pay.yaml").write_text(POLICY.format(approver=out.rstrip("\n").replace("\n", "\n    ")))
    Path("agentguard.toml").write_text('policies = ["policies"]\n')
    sign = ("approvals", "approve", token, "--key", "bob.key", "--as", "bob", "--yes")
    for options, said in (
        (("--uses", "6"), "the rule allows 1 to 5"),
        (("--for", "2h"), "the rule allows 1 to 3600 s"),
        (("--any-run",), "no other run"),
        (("--when", "args.rows <="), "the condition:1:"),
        (("--when", "tool.name == 'x'"), "the condition:1:"),
    ):
        status, out, err = run(*sign, *options)
        assert (status, out) == (1, ""), err
        assert said in err
    assert run(*sign, "--for", "soon")[0] == 2
    assert state.approvals.show(token).votes == ()
    status, _, err = run(*sign, "--uses", "2", "--when", "args.rows <= 10")
    assert (status, "for up to 2 calls of this run within 3600 s, where args.rows <= 10" in err) == (
        0,
        True,
    ), err
    [listed] = json.loads(run("approvals", "list", "--grants", "--format", "json")[1])
    assert (listed["token"], listed["used"]) == (token, "0 of 2")
    assert "vote: bob approve for up to 2 calls" in run("approvals", "show", token)[1]
    assert run("approvals", "revoke", token, "--yes")[0] == 0
    status, _, err = run("approvals", "revoke", token, "--yes")
    assert (status, "is denied, not granted" in err) == (1, True)
    assert json.loads(run("approvals", "list", "--grants", "--format", "json")[1]) == []
    kinds = [getattr(entry, "kind", "") for entry in read_entries(store, keystore)]
    assert [kind for kind in kinds if kind.startswith("approval")] == ["approval.vote", "approval.revoked"]
    state.close()
