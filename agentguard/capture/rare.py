"""What few spans have: so that most need no place for it, and nothing is stored for it at each call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agentguard.capture.usage_sums import UsageTotals
from agentguard.values import SpanEvent, SpanLink

if TYPE_CHECKING:
    from agentguard.capture.environment import CaptureEnvironment

_CHUNKS_MAX: Final = 4_096
"""Output chunks whose times are noted in one stream; the later ones are not."""


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

    @property
    def traits(self) -> tuple[bool, bool, int, tuple[int, ...] | None]:
        """
        What says, beside what was billed, which attributes follow from it.

        Whether something is unpriced and whether a chunk has come; the owner as -1, 0 or 1; what was dropped.
        """
        owner_id, dropped = self.far_owner_id, self.dropped
        return (
            self.unpriced is not None,
            self.first_chunk_ns >= 0,
            min(owner_id, 1),
            None if dropped is None else tuple(dropped),
        )

    @classmethod
    def of(cls, traits: tuple[bool, bool, int, tuple[int, ...] | None]) -> Rare:
        """Make one with these traits."""
        is_unpriced, is_stream, owner_id, dropped = traits
        rare = cls()
        rare.unpriced = (0, "") if is_unpriced else None
        rare.first_chunk_ns = 0 if is_stream else -1
        rare.far_owner_id = owner_id
        rare.dropped = None if dropped is None else list(dropped)
        return rare

    @classmethod
    def whole(cls, rare: Rare | int | None) -> Rare:
        """Give the rare part of a short span, which may be but the time to its first chunk."""
        if type(rare) is not int:
            return rare or NOTHING  # type: ignore[return-value] # by the line above
        made = cls()
        made.first_chunk_ns = rare
        return made

    def note_later_chunk(self, environment: CaptureEnvironment, started_ns: int) -> None:
        """
        Note that a chunk with content has arrived, behind the first one; where somebody measures them.

        Args:
            environment:
                That of the span.
            started_ns:
                Its start, by the monotonic clock.

        """
        chunks_ns = self.chunks_ns
        if chunks_ns is None:
            chunks_ns = self.chunks_ns = [self.first_chunk_ns]
        if len(chunks_ns) < _CHUNKS_MAX:
            chunks_ns.append(environment.monotonic_ns() - started_ns)


NOTHING: Final = Rare()
"""The rare part of most spans; read only."""
