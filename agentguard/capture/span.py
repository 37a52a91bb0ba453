"""
The span of a guarded call.

Takes what happens during one call, gives a `SpanRecord` once it has ended. The
record is made lazily, off the thread that made the call.
"""

# ruff: noqa: SLF001 - a span adds to the totals of the span above it, an instance of the same class

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from types import MappingProxyType, TracebackType
from typing import Any, Final, Self

from opentelemetry import trace
from opentelemetry.trace import SpanContext, TraceFlags, TraceState

from agentguard.capture.columns import columns_of
from agentguard.capture.environment import CaptureEnvironment
from agentguard.capture.failures import class_name, error_type, is_cancellation
from agentguard.capture.load import leave
from agentguard.capture.mirror import finish_mirror
from agentguard.capture.rare import NOTHING
from agentguard.capture.recording import DESCRIPTION_CHARS_MAX, text_size
from agentguard.capture.spending import MODEL_KINDS, SpendingSpan
from agentguard.capture.usage_sums import (
    totals_of,
    usage_attributes,
)
from agentguard.values import AttributeValue, SpanEvent, SpanRecord
from agentguard.values import attributes as names

SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
NO_STATE: Final = TraceState()
_NO_ATTRIBUTES: Final[Mapping[str, AttributeValue]] = MappingProxyType({})
OPEN: Final = object()
BASE_BYTES: Final = 2_000
"""Of a span with the attributes that a decorator gives it."""

_DROPPED: Final = (names.DROPPED_ATTRIBUTES, names.DROPPED_EVENTS, names.DROPPED_LINKS)
_make_record: Final = partial(tuple.__new__, SpanRecord)


class Span(SpendingSpan):
    """
    One call while it runs, and what is known of it.

    Args of the constructor: `parent` is the span above in the trace, `owner` the
    nearest span of ours around it (the same, unless a foreign span lies
    between); `attributes` are clean values that never change, best one mapping
    for all calls of one callable; `own` is a fresh dict of clean values that are
    this call's alone, and win.
    """

    __slots__ = (
        "_in_flight",
        "_is_refined",
        "_outcome",
        "_owner",
        "otel_kind",
    )

    form: Final = None
    """Only a `ShortSpan` has one."""
    _owner: Span | None

    def __init__(
        self,
        environment: CaptureEnvironment,
        name: str,
        kind: str,
        otel_kind: str = "internal",
        parent: Span | SpanContext | None = None,
        owner: Span | None = None,
        attributes: Mapping[str, AttributeValue] | None = None,
        own: dict[str, AttributeValue] | None = None,
        run_id: str = "",
        agent_name: str = "",
        *,
        start_unix_ns: int | None = None,
    ) -> None:
        # One constructor for the whole class: there is one for each call.
        self._environment = environment
        self.name = name
        self.kind = kind
        self.otel_kind = otel_kind
        self._rare = NOTHING
        if type(parent) is Span:
            if owner is None:
                owner = parent
            self._trace_id = parent._trace_id
            self._parent_id = parent._span_id
            self._flags = parent._flags
            self._trace_state = parent._trace_state
        elif parent is None:
            self._trace_id = environment.ids.trace_id()
            self._parent_id = 0
            self._flags = SAMPLED
            self._trace_state = NO_STATE
        else:
            assert isinstance(parent, SpanContext)
            self._trace_id = parent.trace_id
            self._parent_id = parent.span_id
            self._flags = parent.trace_flags
            self._trace_state = parent.trace_state
            if not parent.is_remote:
                self._own_rare().far_owner_id = 0 if owner is None else owner._span_id
        self._span_id = environment.ids.span_id()
        self._owner = owner
        self._base = _NO_ATTRIBUTES if attributes is None else attributes
        self._own = own
        self._run_id = run_id
        self._agent_name = agent_name
        self._context = self._mirror = self._usage = self._totals = None
        self._status = "unset"
        self._outcome = ""
        self.retries = 0
        self.bytes_estimate = BASE_BYTES
        by_kind = environment.in_flight
        try:
            in_flight = by_kind[kind] + 1
        except KeyError:
            in_flight = 1
        by_kind[kind] = self._in_flight = in_flight
        self._duration_ns = -1
        self._open = OPEN
        self._start_unix_ns = environment.unix_ns() if start_unix_ns is None else start_unix_ns
        self._start_monotonic_ns = environment.monotonic_ns()

    def _settle(self) -> None:
        """Leave the calls in flight, price the usage, and add it to the span around this one."""
        leave(self._environment.in_flight, self.kind)
        usage = self._usage
        if usage is not None:
            if self._rare.billed is not None:
                self._bill(usage)
            if usage.cost_usd is None:
                self._usage = usage = self._priced(usage)
        owner = self._owner
        if owner is not None:
            # Not kept any longer: an ended span must not hold the ones above it in memory.
            self._owner = None
            # What was reported inside counts, so that nested reports of one response are added once.
            contribution = self._totals or self._rare.billed
            if contribution is None and usage is not None:
                contribution = totals_of(usage)
            if contribution is not None:
                owner.add_inner_usage(contribution)

    def discard(self) -> None:
        """Forget a call that never began: nobody hears of it, and it counts nowhere."""
        try:
            del self._open
        except AttributeError:
            return
        self._duration_ns = 0
        self._mirror = self._owner = None
        leave(self._environment.in_flight, self.kind)

    def _finish(self, mirror: trace.Span, end_time: int | None) -> None:
        """Give the span of the application's provider what this one holds, and end it."""
        finish_mirror(mirror, self, end_time)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        """Record what was raised, and end."""
        if exc_val is not None:
            self.fail(exc_val)
        self.end()

    # What a guarded call says about itself

    def set(self, key: str, value: object) -> Self:
        """Set one attribute, and return the span."""
        self.set_attribute(key, value)
        return self

    def event(self, name: str, attributes: Mapping[str, object] | None = None) -> Self:
        """Note an event, and return the span."""
        self.add_event(name, attributes)  # type: ignore[arg-type] # cleaned there
        return self

    def set_content(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Set what `ContentCapture` made; it has a limit of its own, so it is not cut again."""
        if self._duration_ns >= 0:
            self._environment.late_writes += 1
            return
        own = self._make_own()
        for key, value in attributes.items():
            before = own.get(key)
            if key == names.CONTENT_REDACTIONS and isinstance(before, int) and isinstance(value, int):
                # Arguments, result and messages are redacted one after the other.
                value += before  # noqa: PLW2901 - the sum stands for both
            own[key] = value
            self.bytes_estimate += text_size(value)

    def fail(self, error: BaseException) -> None:
        """Say that the call raised: error.type, status, outcome and an exception event."""
        if self._duration_ns >= 0:
            self._environment.late_writes += 1
            return
        self._make_own()[names.ERROR_TYPE] = error_type(error)
        self._outcome = names.OUTCOME_CANCELLED if is_cancellation(error) else names.OUTCOME_ERROR
        self._status = "error"
        self._own_rare().status_description = class_name(error)[:DESCRIPTION_CHARS_MAX]
        self.record_exception(error)

    def abandon(self) -> None:
        """Say that a stream was not consumed to its end: its usage is unknown, not zero."""
        if self._duration_ns >= 0:
            self._environment.late_writes += 1
            return
        own = self._make_own()
        if names.ERROR_TYPE not in self._base:
            own.setdefault(names.ERROR_TYPE, names.ERROR_OTHER)
        own[names.STREAM_OUTCOME] = names.OUTCOME_ABANDONED
        self._outcome = names.OUTCOME_ABANDONED
        self._status = "error"

    def deny(self) -> None:
        """Say that policy stopped the call before it ran."""
        if self._duration_ns >= 0:
            self._environment.late_writes += 1
            return
        self._make_own()[names.ERROR_TYPE] = names.OUTCOME_DENIED
        self._outcome = names.OUTCOME_DENIED
        self._status = "error"
        self._own_rare().status_description = "CallDenied"

    def first_chunk(self) -> None:
        """Say that the first chunk with content has arrived; later calls do nothing."""
        if self._rare.first_chunk_ns < 0 and self._duration_ns < 0:
            self._own_rare().first_chunk_ns = self._environment.monotonic_ns() - self._start_monotonic_ns

    def chunk(self) -> None:
        """Say that a chunk with content has arrived: the first one, or a later one."""
        if self._rare.first_chunk_ns < 0:
            self.first_chunk()
        elif self._environment.measures_chunks and self._duration_ns < 0:
            self._rare.note_later_chunk(self._environment, self._start_monotonic_ns)

    @property
    def chunk_gaps_s(self) -> list[float]:
        """Seconds between output chunks that followed each other, as far as they were noted."""
        chunks_ns = self._rare.chunks_ns or ()
        return [(later - earlier) / 1e9 for earlier, later in pairwise(chunks_ns)]

    def report(self, where: str, error: BaseException) -> None:
        """Pass an error of our own to whoever counts them."""
        self._environment.on_internal_error(where, error)

    # What others read

    @property
    def call_id(self) -> str:
        """16 hexadecimal digits; joins span, decisions and outcome."""
        # Bytes and their digits: half as long as a format, and asked for by each record.
        return self._span_id.to_bytes(8, "big").hex()

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits."""
        return self._trace_id.to_bytes(16, "big").hex()

    @property
    def is_usual(self) -> bool:
        """Whether its trace began here: it is sampled, and nobody has put a state to it."""
        return self._trace_state is NO_STATE and self._flags == SAMPLED

    @property
    def outcome(self) -> str:
        """Empty while nothing is wrong, else error, cancelled, abandoned or denied."""
        return self._outcome

    @property
    def start_unix_ns(self) -> int:
        """Wall-clock start."""
        return self._start_unix_ns

    @property
    def duration_ns(self) -> int:
        """Monotonic duration; -1 while the span is open."""
        return self._duration_ns

    @property
    def events(self) -> Sequence[SpanEvent]:
        """What was noted so far, in that order."""
        return self._rare.events or ()

    @property
    def status(self) -> str:
        """One of unset, ok and error."""
        return self._status

    @property
    def status_description(self) -> str:
        """Of an error: the name of a class, or empty."""
        return self._rare.status_description

    def course(self) -> tuple[int, int, int, int, str]:
        """Give call id, trace id, start, duration and outcome at once: the decision log asks for all of every call."""
        # The duration before the outcome, which is set first.
        duration_ns = self._duration_ns
        return self._span_id, self._trace_id, self._start_unix_ns, duration_ns, self._outcome

    @property
    def attributes(self) -> dict[str, AttributeValue]:
        """All attributes as they would be recorded now, in a fresh dict."""
        environment, rare = self._environment, self._rare
        found = self.held
        found[names.SEMCONV] = names.SEMCONV_VERSION[environment.profile]
        found[names.LOAD_IN_FLIGHT] = self._in_flight
        if environment.profile != "compat" and names.AGENT_VERSION in found:
            found[names.OWN_AGENT_VERSION] = found[names.AGENT_VERSION]
            if environment.profile == "latest":
                # The later conventions have it for agents that somebody hosts, not for those of this process.
                del found[names.AGENT_VERSION]
        if self._outcome:
            found[names.OUTCOME] = self._outcome
        if self.retries:
            found[names.HTTP_RESEND_COUNT] = self.retries
            found[names.ATTEMPTS] = self.retries + 1
        if rare.first_chunk_ns >= 0:
            found[names.TIME_TO_FIRST_CHUNK_S] = rare.first_chunk_ns / 1e9
            if self.kind in MODEL_KINDS:
                found.setdefault(names.REQUEST_STREAM, True)
        if rare.far_owner_id >= 0:
            found[names.PARENT_FOREIGN] = True
            if rare.far_owner_id:
                found[names.PARENT_CALL_ID] = f"{rare.far_owner_id:016x}"
        usage_attributes(
            found,
            kind=self.kind,
            usage=self._usage,
            billed=rare.billed,
            is_billed_whole=rare.unpriced is None,
            totals=self._totals,
            is_failed=self._outcome not in {"", names.OUTCOME_ABANDONED},
            is_ended=self._duration_ns >= 0,
            profile=environment.profile,
            is_plain_on_agents=environment.usage_on_agents,
        )
        if rare.dropped is not None:
            found.update(
                {key: dropped for key, dropped in zip(_DROPPED, rare.dropped, strict=True) if dropped}
            )
        return found

    @property
    def kin(self) -> tuple[Any, ...]:
        """What it has in common with spans that probably have the same attributes."""
        return self._environment, self.kind, self._outcome, self.retries, tuple(self._base)

    def row(self) -> tuple[int, int, int, int, int]:
        """Give ids and times: what `columns` reads of each span by itself."""
        return self._trace_id, self._span_id, self._parent_id, self._start_unix_ns, self._duration_ns

    @staticmethod
    def blank() -> Span:
        """Make one without anything in it, for who fills it."""
        return object.__new__(Span)

    columns = staticmethod(columns_of)
    """Makes columns of many spans at once, which say what their records would."""

    def record(self) -> SpanRecord:
        """Make the record of the ended span; meant for the thread that writes it, which asks once."""
        rare = self._rare
        # By place, in the order of the fields: names would take as long as all the rest.
        record: SpanRecord = _make_record(
            (
                self._trace_id.to_bytes(16, "big").hex(),
                self._span_id.to_bytes(8, "big").hex(),
                self._parent_id.to_bytes(8, "big").hex() if self._parent_id else "",
                self.name,
                self.kind,
                self.otel_kind,
                self._start_unix_ns,
                max(self._duration_ns, 0),
                self._status,
                rare.status_description,
                self.attributes,
                tuple(rare.events or ()),
                tuple(rare.links or ()),
                "agentguard",
                self._environment.scope_version,
                self._trace_state.to_header() if self._trace_state else "",
            )
        )
        refine = self._environment.refine
        if refine is None or hasattr(self, "_is_refined"):
            return record
        self._is_refined = True
        return refine(record, self._usage, self.chunk_gaps_s if rare.chunks_ns else ())

    def __repr__(self) -> str:
        state = "open" if self._duration_ns < 0 else "ended"
        return f"<Span {self.name!r} {self.call_id} {state}>"
