"""
What of a span is content, and what names a person.

Content is what people and models wrote, and what tools returned. Everything else
about a call (names, times, tokens, errors by class, hashes) is structure. Content
leaves the machine only where that is said, and is sealed with keys that can be
erased.
"""

from __future__ import annotations

from typing import Final

from agentguard.values import attributes as names
from agentguard.values.attribute_table import ATTRIBUTES

CONTENT_ATTRIBUTES: Final = frozenset(
    {
        *(name for name, spec in ATTRIBUTES.items() if spec.is_content),
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

USER_ATTRIBUTES: Final = (names.USER_ID, "enduser.id", names.PRINCIPAL_ID)
"""Which user a span is about; the first that is there."""

CONVERSATION_ATTRIBUTES: Final = (names.CONVERSATION_ID, names.SESSION_ID)
"""Which conversation a span belongs to; the first that is there."""

_PERSON_PREFIXES: Final = ("user.", "enduser.", "client.")
_PERSON_ATTRIBUTES: Final = frozenset({*USER_ATTRIBUTES, *CONVERSATION_ATTRIBUTES, names.MCP_SESSION_ID})

_STRUCTURE_PREFIXES: Final = (
    "agentguard.",
    "code.",
    "error.",
    "gen_ai.usage.",
    "http.",
    "jsonrpc.",
    "mcp.",
    "network.",
    "otel.",
    "rpc.",
    "server.",
    "service.",
    "telemetry.",
    "thread.",
)
"""Families of names whose values describe the program, not a person."""


def is_content(name: str) -> bool:
    """
    Whether an attribute of this name holds content.

    Example:
        >>> is_content("gen_ai.input.messages"), is_content("gen_ai.request.model")
        (True, False)
    """
    return name in CONTENT_ATTRIBUTES or name.startswith(CONTENT_PREFIXES)


def is_personal(name: str) -> bool:
    """
    Whether the value may name or quote a person: content, ids of people, and names that nobody knows.

    Example:
        >>> is_personal("user.id"), is_personal("customer.email"), is_personal("gen_ai.usage.input_tokens")
        (True, True, False)
    """
    if is_content(name) or name in _PERSON_ATTRIBUTES or name.startswith(_PERSON_PREFIXES):
        return True
    return name not in ATTRIBUTES and not name.startswith(_STRUCTURE_PREFIXES)
