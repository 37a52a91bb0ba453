"""
The span of a call of which there is nothing to say but its course: ids, times, and what it used.

It holds what differs from call to call; all else is in its form, one for all calls of a callable. Whoever
wants more of it (an attribute, an event, an error) gets the `Span` that it stands for.
"""

# ruff: noqa: SLF001 - the same span in two forms: this one, and `Span`

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from opentelemetry import trace
from opentelemetry.trace import SpanContext

from agentguard.capture.columns import columns_of
from agentguard.capture.environment import CaptureEnvironment
from agentguard.capture.mirror import finish_mirror
from agentguard.capture.rare import Rare
from agentguard.capture.span import BASE_BYTES, NO_STATE, OPEN, SAMPLED, Span
from agentguard.capture.usage_quick import READING_FIELDS, Reading, UsageRow
from agentguard.capture.usage_sums import UsageTotals
from agentguard.reckoning import RECKONING
from agentguard.values import AttributeValue, SpanEvent, SpanRecord, Usage
from agentguard.values import attributes as names
from agentguard.wrapping import LazyContext

SHORT_BYTES: Final = 1_000
"""What a short span holds in memory, all in all, at most."""


class _Run(Protocol):
    """A run, as far as spans know it."""

    @property
    def run_id(self) -> str:
        """Its id; empty where it has none."""
        ...


class SpanForm:
    """What is the same for all short spans of one callable."""

    __slots__ = ("agent_name", "attributes", "environment", "kind", "name", "otel_kind")

    environment: CaptureEnvironment
    name: str
    kind: str
    otel_kind: str
    attributes: Mapping[str, AttributeValue]
    """Clean values; they never change."""
    agent_name: str
    """Of the agent around the calls, for their spans; empty where there is none, or they are its own."""

    @property
    def kin(self) -> tuple[Any, ...]:
        """What it has in common with forms whose spans probably have the same attributes."""
        return self.environment, self.kind, tuple(self.attributes)


class ShortSpan(LazyContext):
    """
    A span that is its own context, so that a call makes one object.

    Whoever begins it sets the slots. A span under it needs no more than these.
    """

    __slots__ = (
        "duration_ns",
        "form",
        "identity",
        "in_flight",
        "is_open",
        "mirror",
        "own",
        "parent_id",
        "rare",
        "run",
        "span_id",
        "start_monotonic_ns",
        "start_unix_ns",
        "totals",
        "trace_id",
        "usage",
    )

    form: SpanForm
    trace_id: int
    span_id: int
    parent_id: int
    """0 where it is the first of its trace."""
    start_unix_ns: int
    start_monotonic_ns: int
    duration_ns: int
    """-1 while it is open."""
    identity: SpanContext | None
    """That of the span of the application's provider, which is also ours, or one that has the flags and the state of
    a trace that began elsewhere; None where neither is there."""
    mirror: trace.Span | None
    """That span, until this one ends."""
    in_flight: int
    rare: Rare | int | None
    """The chunks of its stream: None before the first one, and where chunks are not measured the time to the first one."""
    run: _Run
    own: dict[str, AttributeValue] | None
    """Attributes of this span alone; not to be changed, since several spans may have the same."""
    usage: Usage | UsageRow | Reading | None
    """What the call itself used; a reading until it is reckoned."""
    totals: UsageTotals | None
    """What calls inside it used, as far as it is reckoned."""
    is_open: object
    """There until it ends or grows: of two threads, the one that deletes it says which."""

    @property
    def run_id(self) -> str:
        """Of its run."""
        return self.run.run_id

    bytes_estimate: Final = SHORT_BYTES
    retries: Final = 0
    events: Final[Sequence[SpanEvent]] = ()
    status: Final = "unset"
    status_description: Final = ""
    _outcome: Final = ""
    columns = staticmethod(columns_of)

    def note_chunk(self) -> None:
        """As `Span.chunk`, of any but the first."""
        rare, environment = self.rare, self.form.environment
        if environment.measures_chunks and self.duration_ns < 0 and isinstance(rare, Rare):
            rare.note_later_chunk(environment, self.start_monotonic_ns)

    @property
    def name(self) -> str:
        """Of the calls of its form."""
        return self.form.name

    @property
    def held(self) -> dict[str, AttributeValue]:
        """As `Span.held`."""
        form = self.form
        found = {**form.attributes, names.RUN_ID: self.run_id}
        if form.agent_name:
            found[names.AGENT_NAME] = form.agent_name
        if self.own is not None:
            found.update(self.own)
        return found

    @property
    def attributes(self) -> dict[str, AttributeValue]:
        """As `Span.attributes`, of the ended span."""
        RECKONING.settle()
        return self.grown_span(None, is_open=False).attributes

    def end_mirror(self) -> None:
        """Bring the span of the application's provider to the same end, and let go of it: it reads this one later."""
        mirror, self.mirror = self.mirror, None
        assert mirror is not None
        try:
            finish_mirror(mirror, self, None)
        except Exception as error:
            self.report("capture.mirror", error)

    def report(self, where: str, error: BaseException) -> None:
        """As `Span.report`."""
        self.form.environment.on_internal_error(where, error)

    def row(self) -> tuple[int, int, int, int, int]:
        """As `Span.row`."""
        return self.trace_id, self.span_id, self.parent_id, self.start_unix_ns, self.duration_ns

    @staticmethod
    def blank() -> Span:
        """As `Span.blank`."""
        return Span.blank()

    def record(self) -> SpanRecord:
        """Make the record of the ended span."""
        RECKONING.settle()
        return self.grown_span(None, is_open=False).record()

    def grown_span(self, owner: Span | None, *, is_open: bool) -> Span:
        """
        Make the span that this one stands for, with room for everything; what was used is reckoned before.

        Args:
            owner:
                The span around it.
            is_open:
                Whether it goes on, and has yet to reach its end.

        Returns:
            A new span with the same ids, times and content; nobody else has it yet.
        """
        form = self.form
        span = Span.blank()
        span._environment = form.environment
        span.name, span.kind, span.otel_kind = form.name, form.kind, form.otel_kind
        span._trace_id, span._span_id, span._parent_id = self.trace_id, self.span_id, self.parent_id
        identity = span._context = self.identity
        if identity is None:
            span._flags, span._trace_state = SAMPLED, NO_STATE
        else:
            span._flags, span._trace_state = identity.trace_flags, identity.trace_state
        span._mirror = self.mirror if is_open else None
        span._rare = Rare.whole(self.rare)
        span._owner = owner if is_open else None
        span._base = form.attributes
        span._own = None if self.own is None else dict(self.own)
        span._run_id, span._agent_name = self.run_id, form.agent_name
        usage = self.usage
        # A reading is that of a call which ends at this moment, on another thread.
        span._usage = None if usage is None or len(usage) == READING_FIELDS else Usage._make(usage)
        span._totals = self.totals
        span._status, span._outcome = "unset", ""
        span.retries = 0
        span.bytes_estimate = BASE_BYTES
        span._in_flight = self.in_flight
        span._start_unix_ns, span._start_monotonic_ns = self.start_unix_ns, self.start_monotonic_ns
        if is_open:
            span._duration_ns = -1
        elif self.duration_ns >= 0:
            span._duration_ns = self.duration_ns
        else:
            # It ends at this moment, on another thread.
            span._duration_ns = form.environment.monotonic_ns() - self.start_monotonic_ns
        if is_open:
            span._open = OPEN
        return span
