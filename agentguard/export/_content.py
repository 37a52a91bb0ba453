"""What of its content a span takes along: nothing, redacted, or all. It leaves the machine only where that is said."""

from __future__ import annotations

import json
from typing import Final, Literal, TypeAlias, TypeVar

from agentguard.redaction import KINDS, redact
from agentguard.values import (
    Attributes,
    AttributeValue,
    Column,
    SpanEvent,
    SpanLink,
    SpanRecord,
    is_content,
)

Content: TypeAlias = Literal["none", "redacted", "full"]
CONTENTS: Final[tuple[Content, ...]] = ("none", "redacted", "full")
_Item = TypeVar("_Item", SpanEvent, SpanLink)


def outgoing(record: SpanRecord, content: Content) -> SpanRecord:
    """
    Make what leaves the machine of a span.

    Args:
        record:
            As it is in the store.
        content:
            What is to become of recorded content; `redacted` replaces what any
            detector finds in it, on the way out: the store keeps what it has.

    Returns:
        The span; the same object where nothing is to be changed.
    """
    attributes = _outgoing(record.attributes, content)
    events, links = outgoing_items(record.events, content), outgoing_items(record.links, content)
    if attributes is record.attributes and events is record.events and links is record.links:
        return record
    return record._replace(attributes=attributes, events=events, links=links)


def without_content(record: SpanRecord) -> SpanRecord:
    """Return the span without content; the same object where it has none."""
    return outgoing(record, "none")


def outgoing_items(items: tuple[_Item, ...], content: Content) -> tuple[_Item, ...]:
    """Make what leaves the machine of events or links; the same object where nothing is to be changed."""
    if content == "full" or not any(is_content(name) for item in items for name in item.attributes):
        return items
    return tuple([item._replace(attributes=_outgoing(item.attributes, content)) for item in items])


def outgoing_column(name: str, column: Column, content: Content) -> Column:
    """Make what leaves the machine of one attribute of many spans; empty where it stays."""
    if content == "full" or not is_content(name):
        return column
    return () if content == "none" else list(map(_clean, column))


def _outgoing(attributes: Attributes, content: Content) -> Attributes:
    """Make what leaves the machine of attributes; the same object where nothing is to be changed."""
    if content == "full" or not any(map(is_content, attributes)):
        return attributes
    if content == "none":
        return {name: value for name, value in attributes.items() if not is_content(name)}
    return {name: _clean(value) if is_content(name) else value for name, value in attributes.items()}


def _clean(value: AttributeValue) -> AttributeValue:
    """Redact one value; what was written as JSON is looked at as what it says, keys and all."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            plain = json.loads(value)
        except ValueError:
            plain = None
        if plain is not None:
            cleaned, count = redact(plain, KINDS)
            return json.dumps(cleaned, ensure_ascii=False) if count else value
    return redact(value, KINDS)[0]
