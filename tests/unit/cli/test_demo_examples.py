"""Every example runs as its README says, in a folder of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agentguard.cli.demo.server import MODEL, ModelServer

EXAMPLES = ("quickstart", "support_agent", "web_service", "anthropic_agent")
"""The last two need a framework: `tests/integrations` runs them."""


def run(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder, with the package of this tree and the test's own home."""
    repository = Path(__file__).resolve().parents[3]
    environment = {**os.environ, **variables, "PYTHONPATH": str(repository)}
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def example(request: pytest.FixtureRequest, repository: Path, tmp_path: Path) -> Path:
    """A copy of one example."""
    return Path(shutil.copytree(repository / "examples" / request.param, tmp_path / request.param))


@pytest.mark.parametrize("example", ["quickstart"], indirect=True)
def test_quickstart(example: Path) -> None:
    """The small refund is paid, the large one is refused in words, and both are on record."""
    done = run(example, "quickstart.py")
    assert done.returncode == 0, done.stderr
    paid, refused = done.stdout.splitlines()
    assert paid == "paid USD 20.00 back for A-12"
    assert refused.startswith("Denied by policy REF-001 (decision ")
    assert "4800" not in refused
    listed = run(example, "-m", "agentguard", "decisions", "list", "--format", "json")
    assert listed.returncode == 0, listed.stderr
    assert "REF-001" in listed.stdout
    spans = run(example, "-m", "agentguard", "spans", "--format", "json")
    assert len(json.loads(spans.stdout)) == 3


@pytest.mark.parametrize("example", ["support_agent"], indirect=True)
@pytest.mark.parametrize(
    ("question", "beginning"),
    [
        ("Where is my order A-12?", "Good news:"),
        ("Please refund USD 4,800 for A-12.", "This is not for me to decide,"),
        ("Please refund USD 20 for A-12.", "Done:"),
    ],
)
def test_support_agent(example: Path, question: str, beginning: str) -> None:
    """The agent answers through the real SDK, and learns of the cap in its own words."""
    pytest.importorskip("openai")
    with ModelServer() as server:
        done = run(
            example,
            "support_agent.py",
            question,
            OPENAI_BASE_URL=server.url,
            OPENAI_API_KEY="none",
            SUPPORT_MODEL=MODEL,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(beginning)


@pytest.mark.parametrize("example", EXAMPLES, indirect=True)
def test_policies_of_examples_load(example: Path) -> None:
    """The policies beside each example pass the check."""
    done = run(example, "-m", "agentguard", "policy", "check", "policies")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_example_has_a_test(repository: Path) -> None:
    """A new folder of examples is run, too."""
    assert {p.name for p in (repository / "examples").iterdir() if p.is_dir()} == set(EXAMPLES)


@pytest.mark.parametrize(
    "folder", ["agentguard/cli/demo/policies", *(f"examples/{name}/policies" for name in EXAMPLES)]
)
def test_policies_have_their_cases(repository: Path, folder: str) -> None:
    """Every shipped policy has its cases beside it, and all hold."""
    done = run(repository, "-m", "agentguard", "policy", "test", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " cases passed" in done.stdout
