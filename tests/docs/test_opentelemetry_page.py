"""The page on OpenTelemetry is true, word for word."""

from __future__ import annotations

from pathlib import Path

from tests.support.how_to import follow_with


def test_the_page_is_true(repository: Path, tmp_path: Path) -> None:
    """Every file is written, every command run, and prints what the page says."""
    assert follow_with(repository / "docs/how-to/beside-opentelemetry.md", tmp_path) >= 4
