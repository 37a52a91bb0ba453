"""Pages that need no framework are true, word for word, and the table of what is captured is complete."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.how_to import follow_with

PAGES = [
    "threads-and-processes",
    "what-is-captured",
    "migrate-decorators",
    "fall-back",
    "approve-from-elsewhere",
    "act-on-drift",
]


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_true(repository: Path, tmp_path: Path, name: str) -> None:
    """Every file is written, every command run, and prints what the page says."""
    assert follow_with(repository / f"docs/how-to/{name}.md", tmp_path) >= 3


def test_the_table_names_every_way(repository: Path) -> None:
    """No decorator and no integration is missing in the table."""
    page = (repository / "docs/how-to/what-is-captured.md").read_text(encoding="utf-8")
    table = "\n".join(line for line in page.splitlines() if line.startswith("|"))
    decorators = ("agent", "guard", "model", "retriever", "run", "span", "tool", "workflow", "wrap")
    assert [name for name in decorators if f"agentguard.{name}" not in table] == []
    for word in ("OpenAI", "Anthropic", "genai", "ASGI", "WSGI", "tenacity", "stamina", "httpx2", "threads"):
        assert word in table


def test_links_between_the_pages_lead_somewhere(repository: Path) -> None:
    """Each relative link of these pages names a file that exists."""
    folder = repository / "docs/how-to"
    broken = [
        f"{page.name}: {target}"
        for page in sorted(folder.glob("*.md"))
        for target in re.findall(r"\]\(([^)#:]+\.md)[^)]*\)", page.read_text(encoding="utf-8"))
        if not (folder / target).resolve().exists()
    ]
    assert broken == []
