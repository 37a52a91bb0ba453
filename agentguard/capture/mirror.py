"""Bringing a span of the application's provider to the same end as ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from opentelemetry import trace
from opentelemetry.trace import Status, StatusCode

from agentguard.values import AttributeValue, SpanEvent


def finish_mirror(
    mirror: trace.Span,
    *,
    name: str,
    attributes: Mapping[str, AttributeValue],
    events: Sequence[SpanEvent],
    status: str,
    description: str,
    end_time: int | None,
) -> None:
    """
    Give a provider's span what ours holds, and end it.

    Args:
        mirror:
            A span of any provider, begun when ours was.
        name:
            Name of our span.
        attributes:
            All of them, derived ones included.
        events:
            In the order noted.
        status:
            unset, ok or error.
        description:
            Of the status; the name of a class, or empty.
        end_time:
            Nanoseconds since 1970, or None for now.

    """
    try:
        if mirror.is_recording():
            if getattr(mirror, "name", None) != name:
                mirror.update_name(name)
            mirror.set_attributes(_not_there(mirror, attributes))
            for event in events:
                mirror.add_event(event.name, event.attributes, event.time_unix_ns)
            if status == "error":
                mirror.set_status(Status(StatusCode.ERROR, description or None))
            elif status == "ok":
                mirror.set_status(Status(StatusCode.OK))
    finally:
        mirror.end(end_time)


def _not_there(mirror: trace.Span, attributes: Mapping[str, AttributeValue]) -> Mapping[str, AttributeValue]:
    """Leave out what the span has had since it began, where it can say so: setting costs a provider most."""
    there = getattr(mirror, "attributes", None)
    if not isinstance(there, Mapping):
        return attributes
    there = dict(there)
    return {key: value for key, value in attributes.items() if there.get(key) != value}
