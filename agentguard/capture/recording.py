"""
The part of a span that OpenTelemetry's API asks for, without its SDK.

Takes attributes, events, links, a status and an end, within limits; gives the
ended span to the sink exactly once. Nothing here raises into the caller, and
nothing here does I/O.

Threads: any thread may write to a span. Single writes are atomic; counts of
drops may be too low by a few under contention; `end` takes effect exactly once.

Source: OpenTelemetry specification 1.50, trace/api.md.
"""

# ruff: noqa: SLF001 - a span reads the ids of the span above it, an instance of the same class

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Final

from opentelemetry import trace
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags, TraceState
from opentelemetry.util.types import Attributes as OtelAttributes

from agentguard.capture.attribute_values import (
    INT64_MAX,
    INT64_MIN,
    clean_key,
    clean_name,
    clean_time,
    clean_value,
)
from agentguard.capture.environment import CaptureEnvironment
from agentguard.capture.failures import class_name, looks_like_a_class
from agentguard.values import AttributeValue, SpanEvent, SpanLink, SpanRecord
from agentguard.values import attributes as names

_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_NO_STATE: Final = TraceState()
_OPEN: Final = object()
_SHORT_CHARS: Final = 64
_BASE_BYTES: Final = 2_000
"""Of a span with the attributes that a decorator gives it."""
_ENTRY_BYTES: Final = 100
_ITEM_BYTES: Final = 400
DROPPED_ATTRIBUTE, _EVENT, _LINK = range(3)
"""Places of the counts of what was dropped."""
_MESSAGE_KEYS: Final = frozenset({names.EXCEPTION_MESSAGE, names.EXCEPTION_STACKTRACE})
DESCRIPTION_CHARS_MAX: Final = 500


class RecordingSpan(trace.Span):
    """A span of OpenTelemetry that records into memory; `Span` adds what a guarded call says."""

    __slots__ = (
        "_attributes",
        "_context",
        "_dropped",
        "_duration_ns",
        "_environment",
        "_events",
        "_flags",
        "_is_parent_foreign",
        "_links",
        "_mirror",
        "_open",
        "_parent_id",
        "_span_id",
        "_start_monotonic_ns",
        "_start_unix_ns",
        "_status",
        "_status_description",
        "_trace_id",
        "_trace_state",
        "bytes_estimate",
        "name",
    )

    def __init__(
        self,
        environment: CaptureEnvironment,
        name: str,
        parent: RecordingSpan | SpanContext | None,
        attributes: dict[str, AttributeValue] | None,
        start_unix_ns: int | None,
        mirror: trace.Span | None,
    ) -> None:
        self._environment = environment
        self._span_id: int
        self.name = name
        self._is_parent_foreign = False
        if parent is None:
            self._trace_id = environment.ids.trace_id()
            self._parent_id = 0
            self._flags: int = _SAMPLED
            self._trace_state: TraceState = _NO_STATE
        elif isinstance(parent, SpanContext):
            self._trace_id = parent.trace_id
            self._parent_id = parent.span_id
            self._flags = parent.trace_flags
            self._trace_state = parent.trace_state
            self._is_parent_foreign = not parent.is_remote
        else:
            self._trace_id = parent._trace_id
            self._parent_id = parent._span_id
            self._flags = parent._flags
            self._trace_state = parent._trace_state
        self._context: SpanContext | None = None
        self._mirror = mirror
        if mirror is None:
            self._span_id = environment.ids.span_id()
        else:
            self._adopt(mirror)
        self._attributes: dict[str, AttributeValue] = {} if attributes is None else attributes
        self._events: list[SpanEvent] | None = None
        self._links: list[SpanLink] | None = None
        self._dropped: list[int] | None = None
        """Attributes, events and links that were dropped; None while there are none."""
        self.bytes_estimate = _BASE_BYTES
        """About how many bytes of memory the span holds; a plain number, since both sides of the queue ask."""
        self._status = "unset"
        self._status_description = ""
        self._duration_ns = -1
        self._open = _OPEN
        self._start_unix_ns = environment.unix_ns() if start_unix_ns is None else start_unix_ns
        self._start_monotonic_ns = environment.monotonic_ns()

    def _adopt(self, mirror: trace.Span) -> None:
        """Take the ids of a span of the application's provider."""
        context = mirror.get_span_context()
        if not context.is_valid:
            self._span_id = self._environment.ids.span_id()
            return
        self._context = context
        self._span_id = context.span_id
        self._trace_id = context.trace_id
        self._flags = context.trace_flags
        self._trace_state = context.trace_state

    def get_span_context(self) -> SpanContext:
        """Identify this span for children and for propagation."""
        context = self._context
        if context is None:
            context = self._context = SpanContext(
                self._trace_id,
                self._span_id,
                is_remote=False,
                trace_flags=TraceFlags(self._flags),
                trace_state=self._trace_state,
            )
        return context

    def is_recording(self) -> bool:
        """Whether the span still takes anything; False once it has ended."""
        return self._duration_ns < 0

    def set_attribute(self, key: str, value: object) -> None:
        """
        Set one attribute; the last value wins.

        A value that OpenTelemetry does not allow, an empty key, and a new key
        beyond the limit are dropped and counted on the span.
        """
        if self._duration_ns >= 0:
            self._environment.late_writes += 1
            return
        kind = type(value)
        if kind is str:
            length = len(value)  # type: ignore[arg-type]
            if length > _SHORT_CHARS:
                value = self._shortened(value)  # type: ignore[arg-type]
        elif kind is int:
            if not INT64_MIN <= value <= INT64_MAX:  # type: ignore[operator]
                self._drop(DROPPED_ATTRIBUTE)
                return
        elif kind is not bool and kind is not float:
            limits = self._environment.limits
            value = clean_value(
                value, chars_max=limits.attribute_chars_max, items_max=limits.sequence_items_max
            )
            if value is None:
                self._drop(DROPPED_ATTRIBUTE)
                return
            self.bytes_estimate += text_size(value)
        attributes = self._attributes
        if type(key) is not str or key not in attributes:
            key = clean_key(key)  # type: ignore[assignment] # None is refused here
            if key is None or (
                key not in attributes and len(attributes) >= self._environment.limits.attributes_max
            ):
                self._drop(DROPPED_ATTRIBUTE)
                return
            self.bytes_estimate += _ENTRY_BYTES
        attributes[key] = value  # type: ignore[assignment] # checked above

    def _drop(self, place: int) -> None:
        """Count what is not kept."""
        dropped = self._dropped
        if dropped is None:
            dropped = self._dropped = [0, 0, 0]
        dropped[place] += 1

    def _shortened(self, text: str) -> str:
        """Cut a long text to the limit, and count its memory."""
        chars_max = self._environment.limits.attribute_chars_max
        if len(text) > chars_max:
            text = text[:chars_max]
        self.bytes_estimate += text_size(text)
        return text

    def set_attributes(self, attributes: Mapping[str, object]) -> None:
        """Set several attributes."""
        if not issubclass(type(attributes), Mapping):
            self._drop(DROPPED_ATTRIBUTE)
            return
        for key, value in attributes.items():
            self.set_attribute(key, value)

    def add_event(self, name: str, attributes: OtelAttributes = None, timestamp: int | None = None) -> None:
        """Note something that happened; beyond the limit it is dropped and counted."""
        if self._duration_ns >= 0:
            self._environment.late_writes += 1
            return
        events = self._events
        if events is None:
            events = self._events = []
        if len(events) >= self._environment.limits.events_max:
            self._drop(_EVENT)
            return
        time_ns = None if timestamp is None else clean_time(timestamp)
        if time_ns is None:
            time_ns = self._start_unix_ns + self._environment.monotonic_ns() - self._start_monotonic_ns
        self.bytes_estimate += _ITEM_BYTES
        events.append(SpanEvent(clean_name(name), time_ns, self._clean(attributes)))

    def add_link(self, context: SpanContext, attributes: OtelAttributes = None) -> None:
        """Point to a span of another trace; an invalid pointer without attributes is ignored."""
        if self._duration_ns >= 0:
            self._environment.late_writes += 1
            return
        if not issubclass(type(context), SpanContext):
            self._drop(_LINK)
            return
        if not context.is_valid and not attributes and not context.trace_state:
            return
        links = self._links
        if links is None:
            links = self._links = []
        if len(links) >= self._environment.limits.links_max:
            self._drop(_LINK)
            return
        cleaned = self._clean(attributes)
        self.bytes_estimate += _ITEM_BYTES
        links.append(SpanLink(f"{context.trace_id:032x}", f"{context.span_id:016x}", cleaned))
        mirror = self._mirror
        if mirror is not None:
            try:
                mirror.add_link(context, cleaned)
            except Exception as error:
                # Law 1: a provider's span may be of any make.
                self._environment.on_internal_error("capture.mirror", error)

    def _clean(self, attributes: Mapping[str, object] | None) -> dict[str, AttributeValue]:
        """Keep of some attributes what is allowed, and count the rest."""
        cleaned: dict[str, AttributeValue] = {}
        if not issubclass(type(attributes), Mapping):
            if attributes is not None:
                self._drop(DROPPED_ATTRIBUTE)
            return cleaned
        limits = self._environment.limits
        for key, value in (attributes or {}).items():
            kept = clean_value(
                value, chars_max=limits.attribute_chars_max, items_max=limits.sequence_items_max
            )
            name = clean_key(key)
            is_secret = name in _MESSAGE_KEYS and not self._environment.captures_messages
            if kept is None or is_secret or name is None or len(cleaned) >= limits.event_attributes_max:
                # A withheld message is no loss: nobody asked for it.
                if not is_secret:
                    self._drop(DROPPED_ATTRIBUTE)
                continue
            cleaned[name] = kept
            self.bytes_estimate += text_size(kept)
        return cleaned

    def update_name(self, name: str) -> None:
        """Change the name."""
        if self._duration_ns >= 0:
            self._environment.late_writes += 1
            return
        self.name = clean_name(name)

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """
        Set the status: OK is final, UNSET is ignored.

        A description is kept if it can be the name of a class. A sentence is
        kept only where content is captured, since messages leak.
        """
        if self._duration_ns >= 0:
            self._environment.late_writes += 1
            return
        code: object = status
        if issubclass(type(status), Status):
            description = status.description  # type: ignore[union-attr] # by the line above
            code = status.status_code  # type: ignore[union-attr]
        if (code is not StatusCode.OK and code is not StatusCode.ERROR) or self._status == "ok":
            return
        self._status = "ok" if code is StatusCode.OK else "error"
        text = ""
        if code is StatusCode.ERROR and issubclass(type(description), str):
            text = str.__str__(description)
        if text and not self._environment.captures_messages and not looks_like_a_class(text):
            text = ""
        self._status_description = text[:DESCRIPTION_CHARS_MAX]

    def record_exception(
        self,
        exception: BaseException,
        attributes: OtelAttributes = None,
        timestamp: int | None = None,
        escaped: bool = False,  # noqa: ARG002 - deprecated in the specification, part of the API
    ) -> None:
        """Note an exception by its class; by its message only where content is captured."""
        noted: dict[str, object] = {names.EXCEPTION_TYPE: class_name(exception)}
        if self._environment.captures_messages:
            noted[names.EXCEPTION_MESSAGE] = message_of(exception)
        if attributes is not None and issubclass(type(attributes), Mapping):
            noted.update(attributes)
        self.add_event(names.EVENT_EXCEPTION, noted, timestamp)  # type: ignore[arg-type]

    def end(self, end_time: int | None = None) -> None:
        """
        End the span and hand it to the sink; only the first call does anything.

        Args:
            end_time:
                Nanoseconds since 1970; without it the monotonic clock measures.

        """
        try:
            # Deleting a slot is one step of the interpreter: of two threads, one gets here.
            del self._open
        except AttributeError:
            return
        environment = self._environment
        if end_time is not None:
            end_time = clean_time(end_time)
        if end_time is None:
            duration_ns = environment.monotonic_ns() - self._start_monotonic_ns
        else:
            duration_ns = end_time - self._start_unix_ns
        self._duration_ns = max(0, duration_ns)
        try:
            self._settle()
        except Exception as error:
            environment.on_internal_error("capture.settle", error)
        mirror = self._mirror
        if mirror is not None:
            self._mirror = None
            try:
                self._finish(mirror, end_time)
            except Exception as error:
                environment.on_internal_error("capture.mirror", error)
        try:
            environment.sink(self)
        except Exception as error:
            environment.on_internal_error("capture.end", error)

    def _settle(self) -> None:
        """Do what is left to do before the sink gets the span; for subclasses."""

    def _finish(self, mirror: trace.Span, end_time: int | None) -> None:
        """Bring the span of the application's provider to the same end."""
        mirror.end(end_time)

    @abc.abstractmethod
    def record(self) -> SpanRecord:
        """Make the record of the ended span."""


def text_size(value: AttributeValue) -> int:
    """About how many bytes a clean value holds beyond its slot."""
    if isinstance(value, str):
        return len(value) if value.isascii() else 4 * len(value)
    if isinstance(value, Sequence):
        return sum(text_size(item) + 50 for item in value)
    return 0


def message_of(error: BaseException) -> str:
    """Read the message of an exception, which may raise itself."""
    try:
        return str(error)
    except Exception:
        return ""
