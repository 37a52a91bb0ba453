"""
What a finished call looks like, as plain values.

`capture` makes them, `store` keeps them, `export` and `drift` read them.
Nothing here reads a clock or a file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

AttributeValue: TypeAlias = (
    str | bool | int | float | Sequence[str] | Sequence[bool] | Sequence[int] | Sequence[float]
)
"""What OpenTelemetry allows as the value of an attribute."""

Attributes: TypeAlias = Mapping[str, AttributeValue]


class SpanEvent(NamedTuple):
    """Something that happened at one moment inside a span."""

    name: str
    time_unix_ns: int
    attributes: Attributes


class SpanLink(NamedTuple):
    """A pointer to a span of another trace."""

    trace_id: str
    """32 hexadecimal digits, lower case."""
    span_id: str
    """16 hexadecimal digits, lower case."""
    attributes: Attributes


class SpanRecord(NamedTuple):
    """
    One finished span, whole: what the store writes and gives back.

    Ids are lower-case hexadecimal, times are nanoseconds. `duration_ns` comes
    from the monotonic clock, so it is right when the wall clock jumps.
    """

    trace_id: str
    """32 hexadecimal digits."""
    span_id: str
    """16 hexadecimal digits; it is also the `call_id` of the guarded call."""
    parent_span_id: str
    """16 hexadecimal digits, or empty for a root span."""
    name: str
    kind: str
    """agent, model, tool, workflow, retriever, or another operation such as plan."""
    otel_kind: str
    """internal, client, server, producer or consumer."""
    start_unix_ns: int
    duration_ns: int
    status: str
    """unset, ok or error."""
    status_description: str
    attributes: Attributes
    events: tuple[SpanEvent, ...] = ()
    links: tuple[SpanLink, ...] = ()
    scope: str = "agentguard"
    """Name of the instrumentation scope; another one for spans of other SDKs."""
    scope_version: str = ""
    trace_state: str = ""

    @property
    def call_id(self) -> str:
        """The id that joins span, decisions and outcome of one call."""
        return self.span_id

    @property
    def end_unix_ns(self) -> int:
        """Start plus duration."""
        return self.start_unix_ns + self.duration_ns


class OutcomeRecord(NamedTuple):
    """What became known of a call after it ended: its label, a score."""

    call_id: str
    time_unix_ns: int
    """When the outcome was recorded, not when the call ran."""
    predicted_label: str | None
    true_label: str | None
    score: float | None
    attributes: Attributes = MappingProxyType({})


class GapRecord(NamedTuple):
    """What was lost on purpose, with the reason and the count: no loss is silent."""

    reason: str
    count: int  # type: ignore[assignment] # the tuple's own method of this name is not used
    first_unix_ns: int
    last_unix_ns: int


class Usage(NamedTuple):
    """
    Tokens of one model call; `None` means unknown, which is not zero.

    Input includes tokens read from and written to a cache, output includes
    reasoning, as the GenAI conventions have it.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    model: str | None = None
    """The model that answered, as the provider named it."""
    response_id: str | None = None
    finish_reasons: tuple[str, ...] = ()
    provider: str | None = None
    """The convention's name of the provider, such as openai or anthropic."""
    cost_usd: float | None = None


class FlushResult(NamedTuple):
    """What a flush achieved."""

    is_complete: bool
    """All that was queued before the call is on disk."""
    stored: int
    """Spans on disk since the start of this process."""
    dropped: int
    """Spans dropped and counted since the start of this process."""
    pending: int
    """Spans still in memory."""
