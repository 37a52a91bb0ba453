"""`agentguard policy`: exit statuses, output in every format, and the way from a template to a passing test."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from agentguard.cli import main
from tests.support.policies import STARTERS, document

WRONG = document("D | tool.before | args.n > 10 && cost.usd_tody > 1.0 | dney")


def run(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Run one command: status, standard output, standard error."""
    with pytest.raises(SystemExit) as ended:
        main(["policy", *words])
    captured = capfd.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    """A document with two mistakes."""
    path = tmp_path / "wrong.yaml"
    path.write_text(WRONG)
    return path


def test_the_starters_are_fine(capfd: pytest.CaptureFixture[str]) -> None:
    """Strictly, too; and their cases pass."""
    status, out, err = run(capfd, "check", "--strict", str(STARTERS))
    assert (status, bool(re.search(r"[0-9]+ policies, [0-9]+ rules", err))) == (0, True)
    assert ": note: " in out
    status, out, _ = run(capfd, "test", str(STARTERS))
    assert status == 0
    assert out.rstrip().endswith("cases passed")


def test_a_mistake_is_shown_as_a_compiler_would(capfd: pytest.CaptureFixture[str], wrong: Path) -> None:
    """Place, text, excerpt, caret, hint; exit status 2, nothing on standard output."""
    status, out, err = run(capfd, "check", str(wrong))
    assert (status, out) == (2, "")
    assert f"{wrong}:9:27: error: unknown name `cost.usd_tody`" in err
    assert f"{wrong}:10:11: error: unknown effect `dney`" in err
    assert "    hint: did you mean `deny`?" in err
    excerpt, caret = err.split("\n")[1:3]
    assert excerpt[caret.index("^") :].startswith("cost.usd_tody")
    assert "2 errors: nothing was loaded" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("command", ["check", "test", "show", "eval"])
def test_every_command_refuses_what_does_not_load(
    capfd: pytest.CaptureFixture[str], wrong: Path, command: str, tmp_path: Path
) -> None:
    """Exit status 2."""
    call = tmp_path / "call.json"
    call.write_text('{"tool": {"name": "x"}}')
    more = ["-i", str(call)] if command == "eval" else []
    assert run(capfd, command, *more, str(wrong))[0] == 2


def test_other_formats_hold_the_same(capfd: pytest.CaptureFixture[str], wrong: Path) -> None:
    """JSON, SARIF, JUnit and annotations go to standard output."""
    status, out, _ = run(capfd, "check", "--format", "json", str(wrong))
    assert status == 2
    assert [(n["line"], n["code"]) for n in json.loads(out)][1] == (10, "unknown-effect")
    _, out, _ = run(capfd, "check", "--format", "sarif", str(wrong))
    assert len(json.loads(out)["runs"][0]["results"]) == 2
    _, out, _ = run(capfd, "check", "--format", "junit", str(wrong))
    assert ET.fromstring(out).get("failures") == "2"
    _, out, _ = run(capfd, "check", "--format", "github", str(wrong))
    assert out.startswith("::error file=")


def test_findings_count_only_when_strict(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """An untested rule is a warning."""
    path = tmp_path / "p.yaml"
    path.write_text(document("D | tool.before | args.n > 10 | deny"))
    status, out, _ = run(capfd, "check", str(path))
    assert (status, "warning: rule `D` has no test" in out) == (0, True)
    assert run(capfd, "check", "--strict", str(path))[0] == 1
    assert run(capfd, "test", str(path))[0] == 1


def test_a_failing_case_is_a_finding(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """With what was expected and what was got."""
    for name in ("spending.yaml", "spending.test.yaml"):
        (tmp_path / name).write_text(
            (STARTERS / name).read_text().replace("cap_usd: 500.0", "cap_usd: 5000.0")
        )
    status, out, _ = run(capfd, "test", str(tmp_path))
    assert status == 1
    assert "FAIL spending-cases: above the cap nobody can" in out
    assert "expected deny, got require_approval" in out
    status, out, _ = run(capfd, "test", "--format", "junit", str(tmp_path))
    assert int(ET.fromstring(out).get("failures") or 0) >= 1
    status, out, _ = run(capfd, "test", "--format", "json", str(tmp_path))
    assert json.loads(out)["passed"] is False
    assert run(capfd, "test", "--format", "github", str(tmp_path))[1].startswith("::error")


def test_one_call_is_answered(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """With reason, values, and what was assumed; --fail makes a denial count."""
    call = tmp_path / "call.json"
    call.write_text(
        json.dumps({"point": "tool.before", "tool": {"name": "refund"}, "args": {"amount_usd": 900.0}})
    )
    status, out, _ = run(capfd, "eval", "-i", str(call), str(STARTERS / "spending.yaml"))
    assert status == 0
    assert out.startswith("deny at tool.before, by SPD-002 (spending)")
    assert "args.amount_usd 900.00 > vars.cap_usd (500)" in out
    assert "assumed: run.repeats = 0" in out
    status, out, _ = run(
        capfd, "eval", "--fail", "--format", "json", "-i", str(call), str(STARTERS / "spending.yaml")
    )
    assert status == 1
    assert json.loads(out)["rule"] == "SPD-002"
    call.write_text("{")
    status, out, err = run(capfd, "eval", "-i", str(call), str(STARTERS / "spending.yaml"))
    assert (status, "the call is not JSON" in err) == (2, True)


def test_rules_that_are_not_enforced_say_so(capfd: pytest.CaptureFixture[str]) -> None:
    """Wherever they are shown."""
    status, out, _ = run(capfd, "show", str(STARTERS / "drift.yaml"))
    assert status == 0
    assert "DRF-003" in out
    assert "NOT ENFORCED (shadow)" in out
    _, out, _ = run(capfd, "show", "--format", "json", str(STARTERS / "drift.yaml"))
    assert json.loads(out)["policies"][0]["rules"][2]["mode"] == "shadow"


def test_the_schema_lists_facts_and_describes_documents(capfd: pytest.CaptureFixture[str]) -> None:
    """As a table, as JSON, as JSON Schema."""
    assert "cost.usd_today" in run(capfd, "schema")[1]
    facts = json.loads(run(capfd, "schema", "--format", "json")[1])
    assert {"args", "tool.name"} <= {row["fact"] for row in facts}
    schema = json.loads(run(capfd, "schema", "--format", "json-schema")[1])
    assert len(schema["oneOf"]) == 5


def test_from_a_template_to_a_passing_test(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """List, copy, check without naming a path, and nothing is ever overwritten."""
    monkeypatch.chdir(tmp_path)
    status, out, _ = run(capfd, "init")
    assert (status, "read-only" in out, "spending" in out) == (0, True, True)
    assert run(capfd, "init", "--template", "spending")[0] == 0
    assert sorted(path.name for path in (tmp_path / "policies").iterdir()) == [
        "spending.test.yaml",
        "spending.yaml",
    ]
    assert run(capfd, "check", "--strict")[0] == 0
    assert run(capfd, "test")[0] == 0
    status, _, err = run(capfd, "init", "--template", "spending")
    assert (status, "is there already" in err) == (2, True)
    status, _, err = run(capfd, "init", "--template", "spendin")
    assert (status, "did you mean `spending`?" in err) == (2, True)


def test_nothing_to_check_is_an_error(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No folder, an empty folder, a folder that is not there: exit status 2."""
    monkeypatch.chdir(tmp_path)
    assert run(capfd, "check")[0] == 2
    (tmp_path / "policies").mkdir()
    assert run(capfd, "check")[0] == 2
    status, _, err = run(capfd, "check", str(tmp_path / "nowhere"))
    assert (status, "cannot be read: No such file or directory" in err) == (2, True)


def test_escapes_of_a_terminal_are_shown_and_not_sent(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """In names, titles and messages alike."""
    path = tmp_path / "p.yaml"
    path.write_text(
        document("D | tool.before | args.n > 10 | deny").replace("About D", '"a\\e[31mb\\u202Ec"')
    )
    for command in ("show", "check"):
        _, out, err = run(capfd, command, str(path))
        assert "\x1b" not in out + err
        assert "\u202e" not in out + err


def test_the_whole_command_without_a_traceback(tmp_path: Path) -> None:
    """As a process of its own: a binary file."""
    (tmp_path / "x.yaml").write_bytes(bytes(range(256)))
    done = subprocess.run(
        [sys.executable, "-m", "agentguard", "policy", "check", str(tmp_path)],
        capture_output=True, text=True, check=False, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(STARTERS.parent)},
    )  # fmt: skip
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


TOOLS = """
import agentguard

@agentguard.tool
def refund(order_id: str, amount_usd: float, note: str | None = None) -> str: ...

@agentguard.tool(name="mail.send")
async def send(to: list[str], **more: object) -> str: ...
"""


def test_a_tool_schema_of_a_module(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written from annotations, it types the arguments of rules."""
    (tmp_path / "shop_tools.py").write_text(TOOLS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    status, out, err = run(capfd, "schema", "--from", "shop_tools")
    assert (status, "mail.send takes any keyword" in err) == (0, True)
    assert "  refund:\n    args:\n      order_id: string\n      amount_usd: double\n      note: dyn\n" in out
    (tmp_path / "tools.yaml").write_text(out)
    rule = tmp_path / "rule.yaml"
    rule.write_text(document("D | tool.before | tool.name == 'refund' && args.amont_usd > 1.0 | deny"))
    status, _, err = run(capfd, "check", "tools.yaml", "rule.yaml")
    assert (status, "did you mean `args.amount_usd`" in err or "amount_usd" in err) == (2, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--from", "no_such_module_here"), "ModuleNotFoundError"),
        (("--from", "json"), "decorates no tool"),
        (("--from-mcp", "no-such-file.json"), "No such file"),
    ],
)
def test_no_tool_schema_of_nothing(
    capfd: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    """One line, status 2."""
    status, out, err = run(capfd, "schema", *words)
    assert (status, out, said in err) == (2, "", True)
    assert "Traceback" not in err


def test_a_tool_schema_of_an_mcp_server(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """From the answer to tools/list."""
    file = tmp_path / "weather server.json"
    file.write_text(
        '{"tools": [{"name": "get/w", "inputSchema": {"properties": {"n": {"type": "integer"}}}}]}'
    )
    status, out, _ = run(capfd, "schema", "--from-mcp", str(file))
    assert (
        status,
        out.endswith('metadata: { name: weather-server }\ntools:\n  "get/w":\n    args:\n      n: int\n'),
    ) == (0, True)


def test_problems_are_printed_once(capfd: pytest.CaptureFixture[str], wrong: Path, tmp_path: Path) -> None:
    """Also by commands that end with the error itself."""
    from agentguard.cli._common import fail
    from agentguard.errors import PolicyDocumentError
    from agentguard.policy import load_bundle

    with pytest.raises(PolicyDocumentError) as caught:
        load_bundle([wrong])
    with pytest.raises(SystemExit):
        fail(caught.value)
    err = capfd.readouterr().err
    assert err.count("cost.usd_tody > 1.0") == 1
    assert err.count("did you mean `deny`?") == 1


def test_rules_in_english(capfd: pytest.CaptureFixture[str]) -> None:
    """From the compiled conditions."""
    status, out, _ = run(capfd, "show", "--plain", str(STARTERS))
    assert status == 0
    assert (
        "LOOP-001: Before a tool runs: if run.repeats is at least 3 (vars.repeats), the call is denied."
        in out
    )


def test_eval_names_the_smallest_change(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Beside the reason."""
    call = tmp_path / "call.json"
    call.write_text('{"tool": {"name": "lookup"}, "run": {"tool_calls": 60}}')
    status, out, _ = run(capfd, "eval", "-i", str(call), str(STARTERS / "runaway-loops.yaml"))
    assert (status, "would be allowed if run.tool_calls < 50" in out) == (0, True)


def test_explain_a_decision(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found in the log by its first digits, in three voices."""
    import agentguard
    from agentguard.runtime.active import ACTIVE

    path = tmp_path / "p.yaml"
    path.write_text(document("R | tool.before | args.n > 10 | deny"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    try:
        agentguard.init(store=tmp_path / "store", policies=path, drift_interval_s=0)

        @agentguard.tool
        def count(n: int) -> int:
            return n

        with pytest.raises(agentguard.CallDenied) as caught:
            count(11)
    finally:
        agentguard.shutdown(5.0)
        ACTIVE.runtime = None
    with pytest.raises(SystemExit) as ended:
        main(
            ["--store", str(tmp_path / "store"), "policy", "explain", caught.value.decision_id[:8], str(path)]
        )
    out, err = capfd.readouterr()
    assert (ended.value.code, err) == (0, "")
    assert "args.n 11 > 10" in out
    assert "would be allowed if args.n <= 10" in out
    assert f"agent  {caught.value}" in out
    for wrong, said in (("zz", "no decision id"), ("0000000000000000", "no decision")):
        with pytest.raises(SystemExit) as ended:
            main(["--store", str(tmp_path / "store"), "policy", "explain", wrong])
        assert (ended.value.code, said in capfd.readouterr().err) == (2, True)


def test_coverage_and_mutants(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The starters' cases notice nearly every change; a rule without a case is a finding."""
    status, out, _ = run(capfd, "test", "--coverage", "--mutate", "--min-score", "0.95", str(STARTERS))
    assert status == 0
    assert re.search(r"([0-9]+) of \1 rules reached", out)
    assert "mutation score" in out
    rule = tmp_path / "p.yaml"
    rule.write_text(
        document("R | tool.before | args.n > 10 | deny", "S | tool.before | args.n > 99 | deny")
        + "---\napiVersion: agentguard/v1\nkind: PolicyTest\nmetadata: { name: t }\npolicies: all\ncases:\n"
        "  - { name: c, at: tool.before, given: { tool.name: a, args: { n: 20 } }, expect: deny }\n"
    )
    status, out, _ = run(capfd, "test", "--coverage", "--mutate", "--format", "json", str(rule))
    assert status == 1
    found = json.loads(out)
    assert [row["matched"] for row in found["coverage"]] == [1, 0]
    assert any(row["change"] == "> as >=" for row in found["mutation"]["survived"])
    status, out, _ = run(capfd, "test", "--mutate", "--min-score", "0.99", "--format", "github", str(rule))
    assert (status, "mutant-survived" in out) == (1, True)


def test_fmt(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Says what would change, changes it, and then has nothing to say; a broken file is left alone."""
    good, broken = tmp_path / "good.yaml", tmp_path / "broken.yaml"
    good.write_text("a:   1 # why\nb:\n- 2\n")
    good.chmod(0o640)
    assert run(capfd, "fmt", "--check", str(tmp_path))[0] == 1
    assert run(capfd, "fmt", str(tmp_path))[0] == 0
    assert good.read_text() == "a: 1   # why\nb:\n  - 2\n"
    assert good.stat().st_mode & 0o777 == 0o640
    assert run(capfd, "fmt", "--check", str(tmp_path))[0] == 0
    broken.write_text("a: [1")
    status, _, err = run(capfd, "fmt", str(tmp_path))
    assert (status, broken.read_text(), "1 cannot be read" in err) == (2, "a: [1", True)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_sign_and_verify(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A signed folder verifies; a changed one does not, and is not signed over silently."""
    from agentguard.state import create_approver_key

    rules, key = tmp_path / "rules", tmp_path / "ann.key"
    rules.mkdir()
    (rules / "p.yaml").write_text(document("R | tool.before | args.n > 10 | deny"))
    public = create_approver_key(key).to_text()
    status, out, err = run(capfd, "sign", "--key", str(key), str(rules))
    assert (status, "serial 1" in out, public in err) == (0, True, True)
    assert run(capfd, "verify", "--key", public, str(rules))[0] == 0
    (rules / "p.yaml").write_text(document("R | tool.before | args.n > 99 | deny"))
    status, out, _ = run(capfd, "verify", "--key", public, str(rules))
    assert (status, "p.yaml: not what was signed" in out) == (1, True)
    status, out, _ = run(capfd, "verify", "--format", "json", "--key", public, str(rules))
    assert (status, [row["code"] for row in json.loads(out)]) == (1, ["not-as-signed"])
    assert (
        "agentguard policy verify"
        in run(capfd, "verify", "--format", "sarif", "--key", public, str(rules))[1]
    )
    assert run(capfd, "sign", "--add", "--key", str(key), str(rules))[0] == 2
    assert "serial 2" in run(capfd, "sign", "--key", str(key), str(rules))[1]
    assert run(capfd, "verify", str(rules))[0] == 2
    assert run(capfd, "verify", "--key", public, str(tmp_path))[0] == 2


def test_rules_over_facts_of_an_application(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known once the module that registers them is imported."""
    from agentguard.runtime import registering

    (tmp_path / "shop_facts.py").write_text(
        "import agentguard\nagentguard.register_fact('payee.known', bool, lambda: True, trusted=True)\n"
    )
    (tmp_path / "p.yaml").write_text(document("R | tool.before | !payee.known | deny"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert run(capfd, "check", "p.yaml")[0] == 2
    try:
        assert run(capfd, "--app", "shop_facts", "check", "p.yaml")[0] == 0
    finally:
        registering._REGISTERED.clear()


def test_bench(capfd: pytest.CaptureFixture[str]) -> None:
    """Every condition has a figure."""
    status, out, _ = run(capfd, "bench", "--limit", "0", "--format", "json", str(STARTERS / "spending.yaml"))
    rows = json.loads(out)
    assert (status, len(rows)) == (0, 7)
    assert all(row["us"] > 0 for row in rows)


def test_replay_and_history(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a candidate would have stopped of the calls in the log, and what was in force."""
    import agentguard
    from agentguard.runtime.active import ACTIVE

    path, candidate = tmp_path / "p.yaml", tmp_path / "c.yaml"
    path.write_text(document("R | tool.before | args.n > 10 | deny"))
    candidate.write_text(
        document(
            "C | tool.before | tool.name == 'count' && args.n > 12 | deny",
            "D | tool.before | tool.name == 'send' | deny",
        )
    )
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    @agentguard.tool
    def count(n: int) -> int:
        return n

    @agentguard.tool
    def send(n: int) -> int:
        return n

    try:
        runtime = agentguard.init(store=tmp_path / "store", policies=path, drift_interval_s=0)
        assert runtime is not None
        count(1)
        send(1)
        for n in (11, 13):
            with pytest.raises(agentguard.CallDenied):
                count(n)
    finally:
        agentguard.shutdown(5.0)
        ACTIVE.runtime = None

    def ask(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(["--store", str(tmp_path / "store"), "policy", *words])
        return int(ended.value.code or 0), capfd.readouterr().out

    status, out = ask("replay", "--candidate", str(candidate), "--since", "1h", "--format", "json")
    found = json.loads(out)
    assert status == 0
    assert {name: found[name] for name in ("calls", "blocked", "newly_blocked", "newly_allowed", "unknown")} == {
        "calls": 4, "blocked": 2, "newly_blocked": 1, "newly_allowed": 1, "unknown": 1
    }  # fmt: skip
    assert ask("replay", "--candidate", str(candidate), "--fail-on", "newly_blocked>20%")[0] == 1
    assert ask("replay", "--candidate", str(candidate), "--fail-on", "newly_blocked>50%")[0] == 0
    status, out = ask(
        "replay", "--candidate", str(candidate), "--format", "junit", "--fail-on", "newly_blocked>0"
    )
    assert (status, out.count("<failure")) == (1, 2)
    assert 'name="p/D"' in out
    assert "stops 1 calls that had run" in out
    status, out = ask("replay", "--candidate", str(path), "--format", "json")
    found = json.loads(out)
    # Against themselves the policies would do what they did; arguments that nobody kept are unknown.
    assert (status, found["newly_blocked"], found["newly_allowed"], found["runs_diverged"]) == (0, 0, 0, 0)
    status, out = ask("history")
    assert (status, runtime.revision[:12] in out) == (0, True)
    assert "loaded" in ask("history", "--at", "2999-01-01")[1]
    assert "loaded" not in ask("history", "--at", "2001-01-01")[1]
