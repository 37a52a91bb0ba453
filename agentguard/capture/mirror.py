"""Bringing a span of the application's provider to the same end as ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from opentelemetry import trace
from opentelemetry.trace import Status, StatusCode

from agentguard.values import AttributeValue, SpanEvent


class EndedSpan(Protocol):
    """A span of ours that has ended: it does not change any more, and any thread may ask it at any time."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def attributes(self) -> dict[str, AttributeValue]:
        """All of them, derived ones included, in a fresh dict."""
        ...

    @property
    def start_unix_ns(self) -> int:
        """Wall-clock start."""
        ...

    @property
    def duration_ns(self) -> int:
        """Monotonic duration."""
        ...

    @property
    def events(self) -> Sequence[SpanEvent]:
        """In the order noted."""
        ...

    @property
    def status(self) -> str:
        """One of unset, ok and error."""
        ...

    @property
    def status_description(self) -> str:
        """Of an error: the name of a class, or empty."""
        ...

    def report(self, where: str, error: BaseException) -> None:
        """Pass an error of our own to whoever counts them."""
        ...


def finish_mirror(mirror: trace.Span, ended: EndedSpan, end_time: int | None) -> None:
    """
    Give a provider's span what ours holds, and end it.

    Args:
        mirror:
            A span of any provider, begun when ours was. One that has a method
            `end_late` is asked first: it may take all of it at once, to read it later.
        ended:
            Ours.
        end_time:
            Nanoseconds since 1970, or None for now.

    """
    # Asked of the class: an object of somebody else may answer to any name.
    end_late = getattr(type(mirror), "end_late", None)
    if end_late is not None and end_late(mirror, ended):
        return
    try:
        if mirror.is_recording():
            if getattr(mirror, "name", None) != ended.name:
                mirror.update_name(ended.name)
            # All of them: to find out which it has had since it began costs as much as to set them again.
            mirror.set_attributes(ended.attributes)
            for event in ended.events:
                mirror.add_event(event.name, event.attributes, event.time_unix_ns)
            if ended.status == "error":
                mirror.set_status(Status(StatusCode.ERROR, ended.status_description or None))
            elif ended.status == "ok":
                mirror.set_status(Status(StatusCode.OK))
    finally:
        mirror.end(end_time)
