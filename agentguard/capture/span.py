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
from types import TracebackType
from typing import Final, Self

from opentelemetry import trace
from opentelemetry.trace import SpanContext

from agentguard.capture.columns import columns_of
from agentguard.capture.environment import CaptureEnvironment
from agentguard.capture.failures import class_name, error_type, is_cancellation
from agentguard.capture.load import leave
from agentguard.capture.mirror import finish_mirror
from agentguard.capture.recording import DESCRIPTION_CHARS_MAX, RecordingSpan, text_size
from agentguard.capture.retrying import RetryingSpan
from agentguard.capture.usage import extract_usage
from agentguard.capture.usage_sums import (
    LOCKS,
    UsageTotals,
    add_totals,
    combine_usage,
    totals_of,
    usage_attributes,
    with_numbers,
)
from agentguard.values import AttributeValue, SpanEvent, SpanRecord, Usage
from agentguard.values import attributes as names

_CHUNKS_MAX: Final = 4_096
"""Output chunks whose times are noted in one stream; the later ones are not."""

_DROPPED: Final = (names.DROPPED_ATTRIBUTES, names.DROPPED_EVENTS, names.DROPPED_LINKS)
_MODEL_KINDS: Final = frozenset({"model", "embeddings"})
_make_usage: Final = partial(tuple.__new__, Usage)
_make_record: Final = partial(tuple.__new__, SpanRecord)


class Span(RetryingSpan):
    """
    One call while it runs, and what is known of it.

    Args of the constructor: `attributes` is taken over as it is and must be a
    fresh dict of clean values; `parent` is the span above in the trace, `owner`
    the nearest span of ours around it (the same, unless a foreign span lies
    between); `mirror` is a span of the application's provider whose ids this
    span adopts, and which gets the same content when it ends.
    """

    __slots__ = (
        "_billed",
        "_chunks_ns",
        "_first_chunk_ns",
        "_in_flight",
        "_is_refined",
        "_outcome",
        "_owner",
        "_owner_id",
        "_totals",
        "_unpriced",
        "_usage",
        "kind",
        "otel_kind",
    )

    def __init__(
        self,
        environment: CaptureEnvironment,
        name: str,
        kind: str,
        otel_kind: str = "internal",
        parent: Span | SpanContext | None = None,
        owner: Span | None = None,
        attributes: dict[str, AttributeValue] | None = None,
        mirror: trace.Span | None = None,
        *,
        start_unix_ns: int | None = None,
    ) -> None:
        self.kind = kind
        self.otel_kind = otel_kind
        if owner is None and type(parent) is Span:
            owner = parent
        self._owner = owner
        self._owner_id = 0 if owner is None else owner._span_id
        self._outcome = ""
        self._usage: Usage | None = None
        self._billed: UsageTotals | None = None
        self._totals: UsageTotals | None = None
        self._unpriced: tuple[int, str] | None = None
        self.retries = 0
        self._failed_attempt = None
        self._first_chunk_ns = -1
        self._chunks_ns: list[int] | None = None
        by_kind = environment.in_flight
        try:
            in_flight = by_kind[kind] + 1
        except KeyError:
            in_flight = 1
        by_kind[kind] = self._in_flight = in_flight
        # By name, which is half as long as `super()`: there is one for each call.
        RecordingSpan.__init__(self, environment, name, parent, attributes, start_unix_ns, mirror)

    def _settle(self) -> None:
        """Leave the calls in flight, price the usage, and add it to the span around this one."""
        leave(self._environment.in_flight, self.kind)
        usage = self._usage
        if usage is not None:
            if self._billed is not None:
                self._bill(usage)
            if usage.cost_usd is None:
                self._usage = usage = self._priced(usage)
        owner = self._owner
        if owner is not None:
            # Not kept any longer: an ended span must not hold the ones above it in memory.
            self._owner = None
            # What was reported inside counts, so that nested reports of one response are added once.
            contribution = self._totals or self._billed
            if contribution is None and usage is not None:
                contribution = totals_of(usage)
            if contribution is not None:
                owner.add_inner_usage(contribution)

    def _priced(self, usage: Usage) -> Usage:
        """Put a price on a usage that has none, where the model's is known: the one that answered, or was asked."""
        price_usd = self._environment.price_usd
        if price_usd is None:
            return usage
        cost_usd = price_usd(usage)
        if cost_usd is None:
            asked = self._attributes.get(names.REQUEST_MODEL)
            if usage.model is not None or self.kind not in _MODEL_KINDS or not isinstance(asked, str):
                return usage
            cost_usd = price_usd(usage._replace(model=asked))
            if cost_usd is None:
                return usage
        if self._environment.profile != "compat":
            self._attributes[names.COST_SOURCE] = "local"
        return _make_usage((*usage[:-1], cost_usd))

    def _bill(self, usage: Usage) -> None:
        """Add the price of one attempt to the sum over attempts, which has the prices that providers gave."""
        if usage.cost_usd is not None:
            return
        cost_usd = self._priced(usage).cost_usd
        if cost_usd is not None:
            self._billed = add_totals(self._billed, UsageTotals(None, None, cost_usd))
            return
        tokens = (usage.input_tokens or 0) + (usage.output_tokens or 0)
        if tokens:
            before = 0 if self._unpriced is None else self._unpriced[0]
            self._unpriced = before + tokens, usage.model or ""

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
        for key, value in attributes.items():
            before = self._attributes.get(key)
            if key == names.CONTENT_REDACTIONS and isinstance(before, int) and isinstance(value, int):
                # Arguments, result and messages are redacted one after the other.
                value += before  # noqa: PLW2901 - the sum stands for both
            self._attributes[key] = value
            self.bytes_estimate += text_size(value)

    def fail(self, error: BaseException) -> None:
        """Say that the call raised: error.type, status, outcome and an exception event."""
        if self._duration_ns >= 0:
            self._environment.late_writes += 1
            return
        self._attributes[names.ERROR_TYPE] = error_type(error)
        self._outcome = names.OUTCOME_CANCELLED if is_cancellation(error) else names.OUTCOME_ERROR
        self._status = "error"
        self._status_description = class_name(error)[:DESCRIPTION_CHARS_MAX]
        self.record_exception(error)

    def abandon(self) -> None:
        """Say that a stream was not consumed to its end: its usage is unknown, not zero."""
        if self._duration_ns >= 0:
            self._environment.late_writes += 1
            return
        self._attributes.setdefault(names.ERROR_TYPE, names.ERROR_OTHER)
        self._attributes[names.STREAM_OUTCOME] = names.OUTCOME_ABANDONED
        self._outcome = names.OUTCOME_ABANDONED
        self._status = "error"

    def deny(self) -> None:
        """Say that policy stopped the call before it ran."""
        if self._duration_ns >= 0:
            self._environment.late_writes += 1
            return
        self._attributes[names.ERROR_TYPE] = names.OUTCOME_DENIED
        self._outcome = names.OUTCOME_DENIED
        self._status = "error"
        self._status_description = "CallDenied"

    def record_usage(
        self,
        value: object = None,
        *,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        cost_usd: float | None = None,
    ) -> bool:
        """
        Say what the call used.

        Reports of the same response, and reports that fill each other's gaps,
        become one. A different report is that of another attempt: the last one
        stands as the usage, and all of them are summed as billed.

        Args:
            value:
                A `Usage`, or a response object of a model SDK.
            input_tokens:
                Overrides what *value* says, as do the other numbers.
            output_tokens:
                Reasoning included.
            cost_usd:
                What the provider says that the call cost.

        Returns:
            Whether anything was found and kept.

        """
        if self._duration_ns >= 0:
            self._environment.late_writes += 1
            return False
        try:
            usage = value if isinstance(value, Usage) else extract_usage(value)
            if input_tokens is not None or output_tokens is not None or cost_usd is not None:
                usage = with_numbers(usage, input_tokens, output_tokens, cost_usd)
            if usage is None:
                return False
            if self._usage is None:
                self._usage = usage
            else:
                old, was_billed = self._usage, self._billed
                self._usage, self._billed = combine_usage(old, usage, was_billed)
                if self._billed is not was_billed:
                    # A further attempt: what the earlier one cost is known now or never.
                    self._bill(old)
        except Exception as error:
            self._environment.on_internal_error("capture.record_usage", error)
            return False
        return True

    def add_inner_usage(self, usage: UsageTotals) -> None:
        """Add what a call inside this one used to the totals; ignored once this one has ended."""
        if self._duration_ns < 0:
            with LOCKS.sums:
                self._totals = add_totals(self._totals, usage)

    def first_chunk(self) -> None:
        """Say that the first chunk with content has arrived; later calls do nothing."""
        if self._first_chunk_ns < 0 and self._duration_ns < 0:
            self._first_chunk_ns = self._environment.monotonic_ns() - self._start_monotonic_ns

    def chunk(self) -> None:
        """Say that a chunk with content has arrived: the first one, or a later one."""
        if self._first_chunk_ns < 0:
            self.first_chunk()
        elif self._environment.measures_chunks and self._duration_ns < 0:
            chunks_ns = self._chunks_ns
            if chunks_ns is None:
                chunks_ns = self._chunks_ns = [self._first_chunk_ns]
            if len(chunks_ns) < _CHUNKS_MAX:
                chunks_ns.append(self._environment.monotonic_ns() - self._start_monotonic_ns)

    @property
    def chunk_gaps_s(self) -> list[float]:
        """Seconds between output chunks that followed each other, as far as they were noted."""
        chunks_ns = self._chunks_ns or ()
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
    def usage(self) -> Usage | None:
        """What the call itself reported last."""
        return self._usage

    @property
    def totals(self) -> UsageTotals | None:
        """What the calls below this one used together; None where none said anything."""
        return self._totals

    @property
    def counted_usage(self) -> Usage | None:
        """
        What to add to sums over a run: all attempts that were billed.

        None where calls inside reported theirs, so nothing counts twice.
        """
        if self._totals is not None:
            return None
        usage, billed = self._usage, self._billed
        if usage is None or billed is None:
            return usage
        return usage._replace(**billed._asdict())

    @property
    def unpriced_attempts(self) -> tuple[int, str] | None:
        """
        Tokens of attempts that nobody has priced, and the last such model; None where there are none.

        Of a call with several attempts that has ended; they are part of `counted_usage`, not of its price.
        """
        return None if self._totals is not None else self._unpriced

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
        return self._events or ()

    @property
    def status(self) -> str:
        """One of unset, ok and error."""
        return self._status

    @property
    def status_description(self) -> str:
        """Of an error: the name of a class, or empty."""
        return self._status_description

    def course(self) -> tuple[str, str, int, int, str]:
        """Give call id, trace id, start, duration and outcome at once: the decision log asks for all of every call."""
        # The duration before the outcome, which is set first.
        duration_ns = self._duration_ns
        return (
            self._span_id.to_bytes(8, "big").hex(), self._trace_id.to_bytes(16, "big").hex(),
            self._start_unix_ns, duration_ns, self._outcome,
        )  # fmt: skip

    @property
    def attributes(self) -> dict[str, AttributeValue]:
        """All attributes as they would be recorded now, in a fresh dict."""
        environment = self._environment
        # One call into C copies the dict, so another thread may go on writing.
        found = dict(self._attributes)
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
        if self._first_chunk_ns >= 0:
            found[names.TIME_TO_FIRST_CHUNK_S] = self._first_chunk_ns / 1e9
            if self.kind in _MODEL_KINDS:
                found.setdefault(names.REQUEST_STREAM, True)
        if self._is_parent_foreign:
            found[names.PARENT_FOREIGN] = True
            if self._owner_id:
                found[names.PARENT_CALL_ID] = f"{self._owner_id:016x}"
        usage_attributes(
            found,
            kind=self.kind,
            usage=self._usage,
            billed=self._billed,
            is_billed_whole=self._unpriced is None,
            totals=self._totals,
            is_failed=self._outcome not in {"", names.OUTCOME_ABANDONED},
            is_ended=self._duration_ns >= 0,
            profile=environment.profile,
            is_plain_on_agents=environment.usage_on_agents,
        )
        if self._dropped is not None:
            found.update(
                {key: dropped for key, dropped in zip(_DROPPED, self._dropped, strict=True) if dropped}
            )
        return found

    columns = staticmethod(columns_of)
    """Makes columns of many spans at once, which say what their records would."""

    def record(self) -> SpanRecord:
        """Make the record of the ended span; meant for the thread that writes it, which asks once."""
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
                self._status_description,
                self.attributes,
                tuple(self._events or ()),
                tuple(self._links or ()),
                "agentguard",
                self._environment.scope_version,
                self._trace_state.to_header() if self._trace_state else "",
            )
        )
        refine = self._environment.refine
        if refine is None or hasattr(self, "_is_refined"):
            return record
        self._is_refined = True
        return refine(record, self._usage, self.chunk_gaps_s if self._chunks_ns else ())

    def __repr__(self) -> str:
        state = "open" if self._duration_ns < 0 else "ended"
        return f"<Span {self.name!r} {self.call_id} {state}>"
