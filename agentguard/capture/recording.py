"""
The part of a span that OpenTelemetry's API asks for, without its SDK.

Takes attributes, events, links, a status and an end, within limits; gives the
ended span to the sink exactly once. Nothing here raises into the caller, and
nothing here does I/O.

Threads: any thread may write to a span. Single writes are atomic; counts of
drops may be too low by a few under contention; `end` takes effect exactly once.

Source: OpenTelemetry specification 1.50, trace/api.md.
"""

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
from agentguard.capture.rare import NOTHING, Rare
from agentguard.values import AttributeValue, SpanEvent, SpanLink, SpanRecord
from agentguard.values import attributes as names

_SHORT_CHARS: Final = 64
_ENTRY_BYTES: Final = 100
_ITEM_BYTES: Final = 400
DROPPED_ATTRIBUTE, _EVENT, _LINK = range(3)
"""Places of the counts of what was dropped."""
_MESSAGE_KEYS: Final = frozenset({names.EXCEPTION_MESSAGE, names.EXCEPTION_STACKTRACE})
DESCRIPTION_CHARS_MAX: Final = 500


class RecordingSpan(trace.Span):
    """A span of OpenTelemetry that records into memory; `Span` sets the slots, and adds what a guarded call says."""

    __slots__ = (
        "_agent_name",
        "_base",
        "_context",
        "_duration_ns",
        "_environment",
        "_flags",
        "_mirror",
        "_open",
        "_own",
        "_parent_id",
        "_rare",
        "_run_id",
        "_span_id",
        "_start_monotonic_ns",
        "_start_unix_ns",
        "_status",
        "_trace_id",
        "_trace_state",
        "bytes_estimate",
        "name",
    )

    _agent_name: str
    _base: Mapping[str, AttributeValue]
    """Attributes that never change, best shared by all calls of one callable."""
    _context: SpanContext | None
    """Made when somebody asks."""
    _duration_ns: int
    """-1 while the span is open."""
    _environment: CaptureEnvironment
    _flags: int
    _mirror: trace.Span | None
    _open: object
    """There while the span is open."""
    _own: dict[str, AttributeValue] | None
    """What was set on this span; None while nothing was."""
    _parent_id: int
    _rare: Rare
    _run_id: str
    _span_id: int
    _start_monotonic_ns: int
    _start_unix_ns: int
    _status: str
    _trace_id: int
    _trace_state: TraceState
    bytes_estimate: int
    """About how many bytes of memory the span holds; a plain number, since both sides of the queue ask."""
    name: str

    def adopt(self, mirror: trace.Span) -> None:
        """
        Take the ids of a span of the application's provider, which gets the same content when this one ends.

        To be called before anybody else has this span.
        """
        context = mirror.get_span_context()
        self._mirror = mirror
        if not context.is_valid:
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
        own = self._own
        if own is None:
            own = self._make_own()
        if type(key) is not str or key not in own:
            key = clean_key(key)  # type: ignore[assignment] # None is refused here
            if key is None or self._is_full_for(key, len(own)):
                self._drop(DROPPED_ATTRIBUTE)
                return
            self.bytes_estimate += _ENTRY_BYTES
        own[key] = value  # type: ignore[assignment] # checked above

    def _make_own(self) -> dict[str, AttributeValue]:
        """Make the dict of what is set on this span, unless another thread has made it."""
        own: dict[str, AttributeValue] = {}
        # The interpreter does not switch threads between these two lines, since nothing is called or made.
        if self._own is None:
            self._own = own
        return self._own

    def _own_rare(self) -> Rare:
        """Make the rare part of this span, unless another thread has made it."""
        if self._rare is NOTHING:
            rare = Rare()
            # As above.
            if self._rare is NOTHING:
                self._rare = rare
        return self._rare

    def _is_full_for(self, key: str, size: int) -> bool:
        """Say whether a name would be one too many, beside so many that were set on this span."""
        attributes_max = self._environment.limits.attributes_max
        # Run and agent are two at most. Names that were set again count once.
        if size + len(self._base) + 2 < attributes_max:
            return False
        held = self.held
        return key not in held and len(held) >= attributes_max

    @property
    def held(self) -> dict[str, AttributeValue]:
        """What was given or set so far, in a fresh dict; what follows from the rest of the span is not in it."""
        # One call into C copies a dict, so another thread may go on writing.
        found = dict(self._base)
        if self._run_id:
            found[names.RUN_ID] = self._run_id
        if self._agent_name:
            found[names.AGENT_NAME] = self._agent_name
        own = self._own
        if own is not None:
            found.update(own)
        return found

    def _drop(self, place: int) -> None:
        """Count what is not kept."""
        rare = self._own_rare()
        dropped = rare.dropped
        if dropped is None:
            dropped = rare.dropped = [0, 0, 0]
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
        rare = self._own_rare()
        events = rare.events
        if events is None:
            events = rare.events = []
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
        rare = self._own_rare()
        links = rare.links
        if links is None:
            links = rare.links = []
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
        if text or self._rare.status_description:
            self._own_rare().status_description = text[:DESCRIPTION_CHARS_MAX]

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
