"""The catalogue of events: what the code writes is named, and what is named is documented."""

from __future__ import annotations

import ast
from pathlib import Path

import agentguard
from agentguard.audit import EVENTS
from agentguard.audit.events import table

PACKAGE = Path(agentguard.__file__).parent
WRITERS = {"append_event", "record_event", "try_to_record", "_record", "_tell"}


def written() -> set[str]:
    """Kinds that are written as literals anywhere in the package."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in WRITERS:
                found |= {
                    argument.value
                    for argument in node.args[:2]
                    if isinstance(argument, ast.Constant) and "." in str(argument.value)
                }
    return found


def test_every_kind_that_is_written_is_named() -> None:
    """Nobody writes an event that the catalogue does not know."""
    assert written() - {event.kind for event in EVENTS} == set()
    assert len(written()) >= 8


def test_kinds_are_named_once() -> None:
    """One row a kind, a sentence each."""
    kinds = [event.kind for event in EVENTS]
    assert len(set(kinds)) == len(kinds)
    assert all(event.meaning.endswith(".") for event in EVENTS)


def test_the_page_has_the_table() -> None:
    """The reference page shows the catalogue as it is."""
    page = Path(__file__).parents[3] / "docs" / "reference" / "decision-log-events.md"
    assert table() in page.read_text(encoding="utf-8")
