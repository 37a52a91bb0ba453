"""The page about redaction does what it says."""

from __future__ import annotations

import doctest
from pathlib import Path

from agentguard.redaction import KINDS


def test_the_examples_run(repository: Path) -> None:
    """Each example gives the output that stands below it."""
    result = doctest.testfile(str(repository / "docs/how-to/redact.md"), module_relative=False)
    assert result.attempted >= 5
    assert result.failed == 0


def test_every_kind_is_listed(repository: Path) -> None:
    """No kind is missing on the page."""
    text = (repository / "docs/how-to/redact.md").read_text(encoding="utf-8")
    assert [kind for kind in KINDS if f"`{kind}`" not in text] == []
