"""A fresh machine builds the same environment: every requirement is pinned, and no index is named."""

from __future__ import annotations

import re
from pathlib import Path

_LINE = re.compile(r'[A-Za-z0-9._-]+==[A-Za-z0-9._+!-]+(; [a-z_]+ [<>=!]+ "[^"]+")?|-r [a-z-]+\.txt')
BASE_DISTRIBUTIONS_MAX = 45


def test_requirements_are_plain_pins(repository: Path) -> None:
    """Each line is `name==version`, another file of the folder, or a comment."""
    wrong = []
    for path in sorted((repository / "requirements").glob("*.txt")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if line.strip() and not line.startswith("#") and not _LINE.fullmatch(line):
                wrong.append(f"{path.name}:{number}: {line}")
    assert wrong == []


def test_base_environment_stays_small(repository: Path) -> None:
    """What `pip install agentguard` brings along is at most 45 distributions."""
    lines = (repository / "requirements" / "base.txt").read_text(encoding="utf-8").splitlines()
    assert sum("==" in line for line in lines) <= BASE_DISTRIBUTIONS_MAX
