"""`agentguard init` sets a project up; `agentguard doctor` says what is set up and what is not."""

from __future__ import annotations

import errno
import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from agentguard.cli import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in the folder of the test: status, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def test_init_makes_everything_once(run: Run, tmp_path: Path) -> None:
    """Key outside the project, store, policies, settings; a second run changes nothing."""
    status, out, err = run("init", "--service", "shop")
    assert (status, out) == (0, "")
    settings = (tmp_path / "agentguard.toml").read_text(encoding="utf-8")
    key = Path(settings.split('key = "file:')[1].split('"')[0])
    assert stat.S_IMODE(key.stat().st_mode) == 0o400
    assert tmp_path not in key.parents
    assert stat.S_IMODE((tmp_path / ".agentguard" / "store").stat().st_mode) == 0o700
    assert (tmp_path / "policies" / "spending.yaml").exists()
    assert "made settings" in err
    status, _, err = run("init")
    assert status == 2
    assert "is set up already" in err
    assert "Traceback" not in err
    assert run("policy", "check")[0] == 0


def test_init_keeps_files_of_the_user(run: Run, tmp_path: Path) -> None:
    """Policies that are there stay as they are."""
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "spending.yaml").write_text("# mine\n", encoding="utf-8")
    assert run("init")[0] == 0
    assert (tmp_path / "policies" / "spending.yaml").read_text(encoding="utf-8") == "# mine\n"


def test_init_with_a_passphrase(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key may be a passphrase; then there is no key file, and another passphrase opens nothing."""
    monkeypatch.setenv("AGENTGUARD_PASSPHRASE", "correct horse battery staple")
    assert run("init", "--key", "passphrase")[0] == 0
    assert run("spans")[0] == 0
    assert "no other factor" not in run("doctor")[1]
    monkeypatch.setenv("AGENTGUARD_PASSPHRASE", "wrong")
    status, _, err = run("spans")
    assert status == 2
    assert "wrong" not in err
    assert "Traceback" not in err


def test_doctor_before_anything_is_set_up(run: Run) -> None:
    """Nothing is there yet: said as such, with the way on, and nothing is made by looking."""
    status, out, _ = run("doctor")
    assert status == 0
    assert "none configured: calls are recorded and not governed" in out
    assert "agentguard init" in out
    assert run("spans")[0] == 2


def test_doctor_is_red_where_key_and_store_lie_together(run: Run) -> None:
    """One disk, no other factor: exit status 1, and the way to mend it."""
    run("init")
    status, out, _ = run("doctor", "--format", "json")
    findings = json.loads(out)
    assert status == 1
    [bad] = [f for f in findings if f["level"] == "bad"]
    assert bad["part"] == "key"
    assert "passphrase" in bad["mend"]


def test_doctor_names_broken_policies_and_loose_files(run: Run, tmp_path: Path) -> None:
    """A folder that does not load, and a store open to others, are both said in one run."""
    run("init")
    (tmp_path / "policies" / "bad.yaml").write_text("kind: Polic\n", encoding="utf-8")
    (tmp_path / ".agentguard" / "store" / "STORE").chmod(0o644)
    status, out, _ = run("doctor")
    assert status == 1
    assert "bad.yaml:" in out
    assert "chmod" in out


@pytest.mark.parametrize("style", ["text", "json", "jsonl", "cyclonedx"])
def test_dependencies(run: Run, style: str) -> None:
    """The distributions of this process, in every format; without advisories vulnerabilities are unknown."""
    status, out, err = run("doctor", "--deps", "--format", style)
    assert status == 0
    assert "cryptography" in out
    assert "not known" in err
    if style == "cyclonedx":
        document = json.loads(out)
        assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
        assert any(c["purl"].startswith("pkg:pypi/cryptography@") for c in document["components"])


def test_advisories_become_findings_and_facts(run: Run, tmp_path: Path) -> None:
    """A version that an advisory names is a finding, and a fact for policies."""
    from importlib.metadata import version

    run("init")
    record = {
        "id": "OSV-2026-1",
        "affected": [
            {"package": {"ecosystem": "PyPI", "name": "Click"}, "versions": [version("click")]},
            {"package": {"ecosystem": "PyPI", "name": "rich"}, "versions": ["0.0.1"]},
        ],
    }
    (tmp_path / "osv.json").write_text(json.dumps([record]), encoding="utf-8")
    status, out, err = run("doctor", "--deps", "--advisories", "osv.json", "--format", "json")
    assert status == 1
    assert [d["name"] for d in json.loads(out) if d["vulnerabilities"]] == ["click"]
    assert "deps.vulnerable = 1" in err
    (tmp_path / "osv.json").write_text("nonsense", encoding="utf-8")
    status, _, err = run("doctor", "--deps", "--advisories", "osv.json")
    assert status == 2
    assert "cannot be read as JSON" in err


def test_help_of_every_command(run: Run) -> None:
    """Each command explains itself; help imports neither store nor policies."""
    from agentguard.cli._main import COMMANDS

    assert run("--help")[0] == 0
    for name in COMMANDS:
        status, out, _ = run(name, "--help")
        assert status == 0, name
        assert "Usage" in out


def test_unknown_command_is_one_line(run: Run) -> None:
    """A typing mistake ends with status 2 and no traceback."""
    status, _, err = run("spnas")
    assert status == 2
    assert "Traceback" not in err


def test_doctor_tells_one_reason_once(run: Run, tmp_path: Path) -> None:
    """Settings that cannot be read are one finding; the parts that need them are named behind it."""
    (tmp_path / "agentguard.toml").write_text('servce = "x"\n', encoding="utf-8")
    status, out, _ = run("doctor")
    assert status == 1
    assert out.count("unknown setting `servce`, did you mean `service`?") == 1
    assert "not looked at, for the same reason: key, store, policies" in out


def test_a_full_disk_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Output that does not fit on the disk ends with a sentence, and no traceback."""

    def full(*_words: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("agentguard.cli.doctor.look", full)
    status, out, err = run("doctor")
    assert (status, out, err) == (2, "", "error: input or output: No space left on device\n")
