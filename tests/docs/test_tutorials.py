"""The tutorials are true, word for word."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.support.tutorial import follow

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "tutorial").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_tutorial_is_true(page: Path, tmp_path: Path) -> None:
    """Every file it shows is written, every command is run, and prints what the page says."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "COLUMNS": "240",
    }
    assert follow(page, tmp_path, environment) > 0
