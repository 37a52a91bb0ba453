"""The page about reading from Python is followed word for word."""

from __future__ import annotations

from pathlib import Path

from tests.support.how_to import follow_with


def test_page(repository: Path, tmp_path: Path) -> None:
    """Every command does what the page says."""
    folder = tmp_path / "project"
    folder.mkdir()
    assert follow_with(repository / "docs/how-to/read-from-python.md", folder) >= 5
