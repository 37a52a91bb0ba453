"""The page of what a call costs has a place for each benchmark that writes into it, and names commands that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "explanation" / "overhead.md").read_text(encoding="utf-8")


def _benchmarks() -> list[str]:
    """Names of the benchmarks that the report runs: the keys of its table."""
    tree = ast.parse((ROOT / "benchmarks" / "overhead_report.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "QUICK":
            return list(ast.literal_eval(node.value))
    raise AssertionError("no table of benchmarks")


@pytest.mark.parametrize("name", _benchmarks())
def test_every_benchmark_has_its_place(name: str) -> None:
    """Its tables stand between its own two markers, once, and say how they were made."""
    found = re.findall(rf"<!-- bench:{name} -->\n+(.*?)<!-- /bench:{name} -->", PAGE, re.DOTALL)
    assert len(found) == 1
    assert found[0].startswith("`python benchmarks/overhead")


def test_commands_exist() -> None:
    """Each benchmark that the page names is in the repository."""
    for name in set(re.findall(r"benchmarks/\w+\.py", PAGE)):
        assert (ROOT / name).is_file(), name
