"""
How one request ends: the words between the two protocols and the delivery.

Each transport turns its protocol's answers into one of these; what is to be done
about them is decided in one place.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from agentguard.export._encode import Item


class Ending(Enum):
    """What an answer means for the spans that were sent."""

    SENT = "sent"
    """Taken; a part may have been rejected, by number."""
    RETRY = "retry"
    """Not now: unreachable, overloaded, failed. The same request again, later."""
    TOO_LARGE = "too large"
    """The request is larger than the server takes: split it."""
    REFUSED = "refused"
    """The server says that the data is bad: find the span that is."""
    MISCONFIGURED = "misconfigured"
    """Wrong address, key or method: nothing passes until a person mends it."""


class Answer(NamedTuple):
    """One answer of a destination."""

    ending: Ending
    reason: str = ""
    """In our own words: `HTTP 429`, `connection refused`. Never the server's text, which it may fill as it likes."""
    rejected: int = 0
    """Spans of the request that the server did not take (`partial_success`)."""
    retry_after_s: float | None = None
    """What the server asked for."""
    is_unreadable: bool = False
    """Taken, as the status says; but whether a part was rejected cannot be read: cut short, too long, or no such message."""


class Transport(Protocol):
    """Sends one request and says how it ended."""

    def send(self, items: Sequence[Item]) -> Answer:
        """Send; never raises for what the network or the server does."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...
