"""The first screen of the README is true."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_first_example_prints_what_the_readme_says(tmp_path: Path) -> None:
    """After `agentguard init` the ten lines run as shown, and the denial is on record."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    example = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert example is not None
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    assert run("agentguard", "init").returncode == 0
    ran = run("python", "-c", example.group(1))
    assert ran.stdout == "refunded 20.00 USD for A-1\n"
    assert re.search(
        r"agentguard\.errors\.CallDenied: Denied by policy SPD-002 \(decision [0-9a-f]{4}\)\. "
        r"This is a rule, not a fault\. Kind: forbidden\.",
        ran.stderr,
    )
    listed = run("agentguard", "decisions", "list", "--effect", "deny")
    assert "denied by SPD-002 (No payment above the cap): args.amount_usd 5000.00" in listed.stdout


def test_first_screen_has_both_commands() -> None:
    """`make demo` and `make test` stand within the first 45 lines."""
    first = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:45]
    assert any("make demo" in line for line in first)
    assert any("make test" in line for line in first)
