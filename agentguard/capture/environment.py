"""What all spans of one runtime share: clock, ids, sink, limits, profile."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from agentguard.capture.cost import Rate
from agentguard.capture.load import Load
from agentguard.values import Clock, Ids, InternalErrorHook, SpanRecord, SpanSource, Usage
from agentguard.values.attributes import Profile


class Refine(Protocol):
    """Looks at each record once, off the calling thread, and may add to it."""

    def __call__(self, record: SpanRecord, usage: Usage | None, gaps_s: Sequence[float], /) -> SpanRecord:
        """Look at a record; *usage* is what the call used, *gaps_s* the seconds between its output chunks."""
        ...

    def is_idle(self, usages: Iterable[Usage | None], *, has_events: bool) -> bool:
        """Whether the records of spans that used this would stay as they are, and nobody need see them."""
        ...


class SpanLimits(NamedTuple):
    """How large one span may grow; what exceeds a limit is dropped and counted on the span."""

    attributes_max: int = 128
    events_max: int = 128
    links_max: int = 128
    event_attributes_max: int = 128
    attribute_chars_max: int = 16_384
    """Longer strings are cut."""
    sequence_items_max: int = 256
    """Longer sequences are cut."""


class CaptureEnvironment:
    """
    One object a runtime, shared by its spans; but for what is said below it never changes.

    `sink` gets each span exactly once, when it ends, on the thread that ended
    it. Whatever the sink raises goes to `on_internal_error`.
    """

    __slots__ = (
        "captures_messages",
        "ids",
        "in_flight",
        "late_writes",
        "limits",
        "load",
        "measures_chunks",
        "monotonic_ns",
        "on_internal_error",
        "price_usd",
        "profile",
        "rates",
        "refine",
        "scope_version",
        "sink",
        "unix_ns",
        "usage_on_agents",
    )

    def __init__(
        self,
        *,
        clock: Clock,
        ids: Ids,
        sink: Callable[[SpanSource], object],
        on_internal_error: InternalErrorHook,
        profile: Profile = "compat",
        limits: SpanLimits | None = None,
        scope_version: str = "",
        captures_messages: bool = False,
        price_usd: Callable[[Usage], float | None] | None = None,
        rates: Mapping[str, Rate] | None = None,
        usage_on_agents: bool = False,
        load: Load | None = None,
        refine: Refine | None = None,
    ) -> None:
        # Bound methods, because each span reads both clocks and every look-up counts.
        self.unix_ns = clock.unix_ns
        self.monotonic_ns = clock.monotonic_ns
        self.ids = ids
        self.sink = sink
        self.on_internal_error = on_internal_error
        self.profile: Profile = profile
        self.limits = limits or SpanLimits()
        self.scope_version = scope_version
        self.captures_messages = captures_messages
        """Whether texts of exceptions may stand on spans; only with content capture."""
        self.price_usd = price_usd
        """Gives the price of a usage, or None for an unknown model; must be cheap."""
        self.rates = rates
        """`PriceTable.rates` of the same table, for `usage_row`; None where there is no such table."""
        self.usage_on_agents = usage_on_agents
        """Whether `gen_ai.usage.*` is also written on agent spans, where backends count it twice."""
        self.load = Load() if load is None else load
        """Calls in flight; may be shared by several environments."""
        self.in_flight = self.load.by_kind
        self.refine = refine
        """What looks at each record once it is made."""
        self.measures_chunks = False
        """Whether the time of each output chunk is noted: somebody has to want them. May be set at any time."""
        self.late_writes = 0
        """Calls that came after a span had ended and were ignored; a lower bound under threads."""
