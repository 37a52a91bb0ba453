"""The reference page: its examples load, its error is true, and it names every code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agentguard.errors import PolicyDocumentError
from agentguard.policy import load_texts
from agentguard.review import run_tests

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "reference" / "policy-files.md").read_text("utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
KEY = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="


def test_the_examples_load_and_pass() -> None:
    """All of them together."""
    loaded = load_texts({f"{n}.yaml": block.replace("BASE64", KEY) for n, block in enumerate(BLOCKS)})
    assert run_tests(loaded).is_passed
    assert (len(loaded.policies), len(loaded.approvers), len(loaded.tool_schemas)) == (4, 2, 1)


def test_the_error_is_true() -> None:
    """The page shows what the loader says."""
    with pytest.raises(PolicyDocumentError) as caught:
        load_texts({"refunds.yaml": BLOCKS[0].replace("> vars.cap_usd", "> vars.cap_us")})
    (problem,) = caught.value.problems
    shown = str(problem).replace(": unknown name", ": error: unknown name")
    assert shown in PAGE
    for line in problem.excerpt.split("\n"):
        assert line.strip() in PAGE
    assert problem.hint in PAGE


def test_every_code_is_on_the_page() -> None:
    """Of problems and of findings; those of conditions have their own page."""
    codes: set[str] = set()
    for path in (ROOT / "agentguard" / "policy").glob("*.py"):
        text = path.read_text("utf-8")
        codes.update(re.findall(r'code(?:: str)? ?= ?"([a-z-]+)"', text))
        if path.name == "_lint.py":
            codes.update(re.findall(r'Finding\(\s*[\w.\[\]0-9]+,\s*"([a-z-]+)"', text))
        if path.name == "_yaml.py":
            codes.update(re.findall(r'"(yaml-[a-z]+|too-deep)"', text))
    codes -= {"invalid"}
    assert len(codes) > 40
    assert [code for code in sorted(codes) if f"`{code}`" not in PAGE] == []
