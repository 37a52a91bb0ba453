"""What is put on record when somebody looks at captured content: who, by which command, with which filter."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping

from agentguard.cli._common import Place
from agentguard.cli._machine import command_name, try_to_record
from agentguard.values import SpanRecord, is_content

_MAY_SHOW_CONTENT = re.compile(r"\*|\b(?:attributes|events|links|status_description)\b", re.IGNORECASE)


def noted(place: Place, spans: Iterable[SpanRecord], filters: Mapping[str, object]) -> Iterator[SpanRecord]:
    """
    Hand on spans; before the first one with content comes out, that somebody reads it is on disk.

    Args:
        place:
            Which store.
        spans:
            What is about to be shown whole.
        filters:
            What was asked for.

    Raises:
        AuditError: It cannot be recorded; then nothing of it is shown.
    """
    is_told = False
    for span in spans:
        if not is_told and has_content(span):
            is_told = True
            _tell(place, ", ".join(f"{name}={value}" for name, value in filters.items() if value is not None))
        yield span


def note_query(place: Place, query: str) -> None:
    """Put on record an SQL query that can show content, by its hash: the query itself may quote some."""
    if _MAY_SHOW_CONTENT.search(query):
        _tell(place, f"sql sha256:{hashlib.sha256(query.encode()).hexdigest()}")


def has_content(span: SpanRecord) -> bool:
    """Whether a span holds captured content."""
    return any(map(is_content, span.attributes)) or any(
        any(map(is_content, attributes))
        for attributes in (
            *(event.attributes for event in span.events),
            *(link.attributes for link in span.links),
        )
    )


def _tell(place: Place, text: str) -> None:
    try_to_record(place, "content.read", {"command": command_name(), "filter": text[:500]})
