"""The pages on the middleware are true, word for word."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.how_to import follow_with


@pytest.mark.parametrize("name", ["middleware-asgi", "middleware-wsgi"])
def test_the_page_is_true(repository: Path, tmp_path: Path, name: str) -> None:
    """Every file is written, every command run, and prints what the page says."""
    assert follow_with(repository / f"docs/how-to/{name}.md", tmp_path) >= 4
