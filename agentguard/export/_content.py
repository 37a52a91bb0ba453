"""
What of a span is content: what people and models wrote, and what tools returned.

Content leaves the machine only where that is said; everything else about a call
(names, times, tokens, errors by class, hashes) is not content.
"""

from __future__ import annotations

from typing import Final

from agentguard.values import Attributes, SpanRecord
from agentguard.values import attributes as names

CONTENT_ATTRIBUTES: Final = frozenset(
    {
        names.INPUT_MESSAGES,
        names.OUTPUT_MESSAGES,
        names.SYSTEM_INSTRUCTIONS,
        names.TOOL_DEFINITIONS,
        names.TOOL_CALL_ARGUMENTS,
        names.TOOL_CALL_RESULT,
        names.RETRIEVAL_QUERY,
        names.RETRIEVAL_DOCUMENTS,
        names.INPUT_CONTENT,
        names.OUTPUT_CONTENT,
        names.EXCEPTION_MESSAGE,
        names.EXCEPTION_STACKTRACE,
        # Written by other instrumentations, whose spans may be in the store too.
        "gen_ai.prompt",
        "gen_ai.completion",
        "gen_ai.evaluation.explanation",
        "input.value",
        "output.value",
        "db.query.text",
        "db.statement",
        "url.query",
    }
)
"""Attributes that hold content, on spans, events and links."""

CONTENT_PREFIXES: Final = (
    "gen_ai.prompt.variable.",
    "gen_ai.prompt.0",
    "gen_ai.completion.0",
    "llm.input_messages",
    "llm.output_messages",
    "llm.prompts",
    "http.request.header.",
    "http.response.header.",
)
"""Beginnings of names of attributes that hold content."""


def is_content(name: str) -> bool:
    """Whether an attribute of this name holds content."""
    return name in CONTENT_ATTRIBUTES or name.startswith(CONTENT_PREFIXES)


def without_content(record: SpanRecord) -> SpanRecord:
    """Return the span without content; the same object where it has none."""
    attributes = _without(record.attributes)
    events, links = record.events, record.links
    if any(is_content(name) for event in events for name in event.attributes):
        events = tuple(event._replace(attributes=_without(event.attributes)) for event in events)
    if any(is_content(name) for link in links for name in link.attributes):
        links = tuple(link._replace(attributes=_without(link.attributes)) for link in links)
    if attributes is record.attributes and events is record.events and links is record.links:
        return record
    return record._replace(attributes=attributes, events=events, links=links)


def _without(attributes: Attributes) -> Attributes:
    if not any(is_content(name) for name in attributes):
        return attributes
    return {name: value for name, value in attributes.items() if not is_content(name)}
