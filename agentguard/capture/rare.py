"""What few spans have: so that most need no place for it, and nothing is stored for it at each call."""

from __future__ import annotations

from typing import Final

from agentguard.capture.usage_sums import UsageTotals
from agentguard.values import SpanEvent, SpanLink


class Rare:
    """
    The rare part of a span.

    The names below are the values of a span that has nothing of it; an object of
    this class holds those that were set.
    """

    events: list[SpanEvent] | None = None
    links: list[SpanLink] | None = None
    dropped: list[int] | None = None
    """Attributes, events and links that were dropped."""
    status_description: str = ""
    far_owner_id: int = -1
    """Where the parent is of another library: id of the nearest span of ours around it, or 0; -1 elsewhere."""
    billed: UsageTotals | None = None
    """The sum over attempts, where there were several."""
    unpriced: tuple[int, str] | None = None
    """Tokens of attempts without a price, and the last such model."""
    failed_attempt: tuple[str, int, int] | None = None
    """Target, status and time of the last attempt that failed, while another one may follow."""
    first_chunk_ns: int = -1
    """From the start to the first output chunk of a stream; -1 where none has come."""
    chunks_ns: list[int] | None = None
    """The same of all chunks, where they are measured."""


NOTHING: Final = Rare()
"""The rare part of most spans; read only."""
