"""What of its content a span takes along: nothing, redacted, or all. It leaves the machine only where that is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

from agentguard.redaction import KINDS, redact
from agentguard.values import Attributes, AttributeValue, SpanRecord, is_content

Content: TypeAlias = Literal["none", "redacted", "full"]
CONTENTS: Final[tuple[Content, ...]] = ("none", "redacted", "full")


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
    if content == "full":
        return record
    if content == "none":
        return without_content(record)
    return _changed(record, _redacted)


def without_content(record: SpanRecord) -> SpanRecord:
    """Return the span without content; the same object where it has none."""
    return _changed(record, _without)


def _changed(record: SpanRecord, change: Callable[[Attributes], Attributes]) -> SpanRecord:
    """Change the content of a span, its events and its links, where there is any."""
    attributes = change(record.attributes) if _has_content(record.attributes) else record.attributes
    events, links = record.events, record.links
    if any(_has_content(event.attributes) for event in events):
        events = tuple(event._replace(attributes=change(event.attributes)) for event in events)
    if any(_has_content(link.attributes) for link in links):
        links = tuple(link._replace(attributes=change(link.attributes)) for link in links)
    if attributes is record.attributes and events is record.events and links is record.links:
        return record
    return record._replace(attributes=attributes, events=events, links=links)


def _has_content(attributes: Attributes) -> bool:
    return any(map(is_content, attributes))


def _without(attributes: Attributes) -> Attributes:
    return {name: value for name, value in attributes.items() if not is_content(name)}


def _redacted(attributes: Attributes) -> Attributes:
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
