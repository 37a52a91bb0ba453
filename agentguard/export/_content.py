"""Spans without their content, which leaves the machine only where that is said."""

from __future__ import annotations

from agentguard.values import Attributes, SpanRecord, is_content


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
