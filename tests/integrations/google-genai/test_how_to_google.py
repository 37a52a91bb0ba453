"""The page on google-genai clients is true, word for word."""

from __future__ import annotations

from pathlib import Path

from tests.support.how_to import follow_with
from tests.support.wire import WireServer


def test_the_page_is_true(repository: Path, tmp_path: Path, wire: WireServer) -> None:
    """Every file is written, every command run, and prints what the page says."""
    page = repository / "docs/how-to/wrap-google-genai.md"
    assert follow_with(page, tmp_path, GEMINI_API_KEY="none", GOOGLE_GEMINI_BASE_URL=wire.url) >= 5
