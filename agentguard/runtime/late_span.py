"""
Spans of the application's SDK of which most is made later, or never.

Takes a tracer of the SDK, gives spans that are the SDK's to whoever asks them: the
tracer's sampler has decided, its ids stand, its processors hear of the start and of
the end. A span of the SDK locks, checks and copies for each attribute; ours has
checked and holds them all already. So one of these is only an identity until
somebody writes to it or reads what is not there yet: then the SDK's own constructor
makes the rest. Of one that nobody touched before its end, the record is made
by the thread that exports it.

Loaded only where the application has set up the SDK.
"""

# ruff: noqa: SLF001 - the tracer's limits, and whether it is enabled, have no public name

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from functools import partial
from time import time_ns
from typing import Any, Final, NamedTuple

from opentelemetry import trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Event, ReadableSpan, Tracer
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from agentguard.capture import EndedSpan
from agentguard.forks import free_in_child
from agentguard.values import AttributeValue, SpanEvent

_SAMPLED: Final = TraceFlags.SAMPLED
_RANDOM: Final = int(getattr(TraceFlags, "RANDOM_TRACE_ID", 0))
_FLAGS: Final = tuple(TraceFlags(bits) for bits in range(4))
_METRICS_OF_THE_SDK: Final = "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED"
_STATUS: Final = {"unset": Status(StatusCode.UNSET), "ok": Status(StatusCode.OK)}


_MAKING: Final = free_in_child(threading.RLock())
"""Held while the rest of a span is made: threads that meet in one are rare."""


class LateTracer:
    """Begins late spans in the place of one tracer of the SDK."""

    __slots__ = ("_tracer",)

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def start_span(
        self,
        name: str,
        context: Context | None,
        kind: SpanKind,
        attributes: Mapping[str, AttributeValue] | None,
    ) -> trace.Span:
        """
        Begin a span as the tracer would.

        Args:
            name:
                Name of the span.
            context:
                What the span begins under; None for the current one.
            kind:
                Its kind.
            attributes:
                What the sampler may look at.

        Returns:
            A late span, or one that records nothing where the sampler says so.

        """
        parent = trace.get_current_span(context).get_span_context()
        span = self.decide(name, context, parent, kind, attributes)
        if span is None:
            return self._tracer.start_span(name, context, kind, attributes)
        self.announce(span, context)
        return span

    def announce(self, span: trace.Span, context: Context | None) -> None:
        """Have the processors hear of a span that `decide` gave, if it is one for them."""
        if type(span) is LateSpan:
            self._tracer.span_processor.on_start(span, parent_context=context)

    def decide(
        self,
        name: str,
        context: Context | None,
        parent: SpanContext | None,
        kind: SpanKind,
        attributes: Mapping[str, AttributeValue] | None,
    ) -> trace.Span | None:
        """
        Ask the sampler, and give the span that it wants; nobody has heard of it yet.

        Args:
            name:
                As for `start_span`.
            context:
                What the span begins under.
            parent:
                The span that is current there; None or an invalid one where there is none.
            kind:
                As for `start_span`.
            attributes:
                As for `start_span`.

        Returns:
            As `start_span`; None where the SDK has switched the tracer off.
        """
        tracer = self._tracer
        if not tracer._is_enabled():
            return None
        ids = tracer.id_generator
        if parent is None or not parent.is_valid:
            parent = None
            trace_id = ids.generate_trace_id()
            flags = _RANDOM if _RANDOM and ids.is_trace_id_random() else 0
        else:
            trace_id = parent.trace_id
            flags = parent.trace_flags & _RANDOM
        sampled = tracer.sampler.should_sample(context, trace_id, name, kind, attributes, ())
        decision = sampled.decision
        if decision is Decision.RECORD_AND_SAMPLE:
            flags |= _SAMPLED
        identity = SpanContext(trace_id, ids.generate_span_id(), False, _FLAGS[flags], sampled.trace_state)
        if decision is Decision.DROP:
            return trace.NonRecordingSpan(identity)
        return _late_span(tracer, name, kind, identity, parent, sampled.attributes)


def late_tracer(tracer: trace.Tracer) -> LateTracer | None:
    """
    Say how to begin late spans in the place of a tracer.

    Args:
        tracer:
            Of the application's provider, of any make.

    Returns:
        None where only the tracer itself can make its spans: it is somebody's own,
        it counts them, or the SDK is of a version that is not known here.

    """
    if type(tracer) is not Tracer or os.environ.get(_METRICS_OF_THE_SDK, "").strip().lower() == "true":
        return None
    try:
        # Two are made, one of which is written to, and both are read; no processor hears of them.
        touched, ended = (
            _late_span(tracer, "", SpanKind.INTERNAL, SpanContext(1, 1, False), None, {"key": 1})
            for _ in range(2)
        )
        touched.set_attribute("other", 2)
        is_known = touched.is_recording() and dict(touched.attributes or {}) == {"key": 1, "other": 2}
        record = ended.record_of(_Probe())
        is_known = is_known and record is not None and dict(record.attributes or {}) == {"key": 1}
        is_known = is_known and isinstance(tracer._is_enabled(), bool)
    except (AttributeError, TypeError):
        return None
    return LateTracer(tracer) if is_known else None


class _Probe(NamedTuple):
    """A span that held nothing; stands for one of ours."""

    name: str = ""
    attributes: dict[str, AttributeValue] = {}  # noqa: RUF012 - a field of a tuple, and nobody writes to it
    start_unix_ns: int = 1
    duration_ns: int = 1
    events: tuple[SpanEvent, ...] = (SpanEvent("", 1, {}),)
    status: str = "error"
    status_description: str = ""

    def report(self, where: str, error: BaseException) -> None:
        """Nothing of it can go wrong."""


class LateSpan(SdkSpan):
    """
    A span of the SDK, of which at first there is only what costs nothing.

    Its class and all its methods are the SDK's. What they look for and do not find
    is made by `__getattr__`.
    """

    is_agentguards: Final = True
    """Says to our own processor that it stands for one of ours."""

    _tracer: Tracer
    _begun_with: Mapping[str, Any]
    """What the sampler gave it."""
    _ended: EndedSpan | None

    def get_span_context(self) -> SpanContext:
        """Identify this span; asked several times in each call, so without the SDK's frames."""
        context: SpanContext = self.__dict__["_context"]
        return context

    def __getattr__(self, name: str) -> Any:
        state = self.__dict__
        with _MAKING:
            if "_lock" not in state:
                # What stands already wins: it may have ended.
                state.update({**self._rest(), **state})
        try:
            return state[name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}") from None

    def _rest(self) -> dict[str, Any]:
        """Have the SDK make the whole."""
        tracer, ended, context = self._tracer, self._ended, self._context
        assert context is not None
        whole = _bare_span()
        SdkSpan.__init__(
            whole,
            name=self._name,
            context=context,
            parent=self._parent,
            sampler=tracer.sampler,
            resource=tracer.resource,
            attributes=_over(self._begun_with, {} if ended is None else _held_by(ended)),
            kind=self._kind,
            span_processor=tracer.span_processor,
            instrumentation_info=tracer.instrumentation_info,
            limits=tracer._span_limits,
            instrumentation_scope=tracer._instrumentation_scope,
        )
        return vars(whole)

    def end_late(self, ended: EndedSpan) -> bool:
        """
        End it with what a span of ours holds.

        Args:
            ended:
                Ours.

        Returns:
            Whether that is all there is to do. False where somebody has written to
            the span or looked at it closely: it is the SDK's now, and to be ended as such.

        """
        record = self.record_of(ended)
        if record is None:
            return False
        processor = self._tracer.span_processor
        # As the SDK does; the processors it comes with do nothing there.
        processor._on_ending(self)
        processor.on_end(record)
        return True

    def record_of(self, ended: EndedSpan) -> LateRecord | None:
        """End it, and give its record; None where it is the SDK's now. Nobody hears of it."""
        kept = self.__dict__.copy()
        if "_lock" in kept or kept["_end_time"] is not None:
            return None
        start = ended.start_unix_ns
        self._ended = kept["_ended"] = ended
        self._name = kept["_name"] = ended.name
        self._start_time = kept["_start_time"] = start
        self._end_time = kept["_end_time"] = start + ended.duration_ns
        record = _bare_record()
        # The record has what the span had. The span itself is gone with its call.
        record.__dict__ = kept
        return record


class LateRecord(ReadableSpan):
    """What processors and exporters get of an ended span: made when the first of them reads it."""

    is_agentguards: Final = True
    """Says to our own processor that it stands for one of ours."""

    _tracer: Tracer
    _begun_with: Mapping[str, Any]
    _ended: EndedSpan | None

    def __getattr__(self, name: str) -> Any:
        state = self.__dict__
        with _MAKING:
            ended = state.get("_ended")
            if ended is not None:
                self._complete(ended)
                self._ended = None
        try:
            return state[name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}") from None

    def _complete(self, ended: EndedSpan) -> None:
        """Make the rest, within the limits of the application."""
        tracer, begun, own = self._tracer, self._begun_with, _held_by(ended)
        limits = tracer._span_limits
        chars_max = limits.max_span_attribute_length
        attributes: Mapping[str, Any]
        if begun.keys() <= own.keys():
            attributes = _bounded(own, limits.max_span_attributes, chars_max)
        else:
            # What a sampler has added is to be checked as the SDK does.
            attributes = BoundedAttributes(
                limits.max_span_attributes, _over(begun, own), max_value_len=chars_max
            )
        events: Any = ()
        if ended.events:
            events = BoundedList(limits.max_events)
            for event in ended.events:
                kept = _bounded(event.attributes, limits.max_event_attributes, limits.max_attribute_length)
                events.append(Event(event.name, kept, event.time_unix_ns))
        ReadableSpan.__init__(
            self,
            name=self._name,
            context=self._context,
            parent=self._parent,
            resource=tracer.resource,
            attributes=attributes,
            events=events,
            kind=self._kind,
            instrumentation_info=tracer.instrumentation_info,
            status=_STATUS.get(ended.status) or Status(StatusCode.ERROR, ended.status_description or None),
            start_time=self._start_time,
            end_time=self._end_time,
            instrumentation_scope=tracer._instrumentation_scope,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Be whole before a copy is made."""
        self.__getattr__("_attributes")
        return self.__dict__


_bare_span: Final = partial(object.__new__, LateSpan)
_bare_record: Final = partial(object.__new__, LateRecord)


def _late_span(
    tracer: Tracer,
    name: str,
    kind: SpanKind,
    context: SpanContext,
    parent: SpanContext | None,
    attributes: Mapping[str, Any],
) -> LateSpan:
    """Make the identity. Not by the SDK's constructor, which is what is put off: all at once, as one dict."""
    span = _bare_span()
    span.__dict__ = {
        "_tracer": tracer,
        "_name": name,
        "_kind": kind,
        "_context": context,
        "_parent": parent,
        "_begun_with": attributes,
        "_start_time": time_ns(),
        "_end_time": None,
        "_ended": None,
    }
    return span


def _held_by(ended: EndedSpan) -> dict[str, AttributeValue]:
    """Read the attributes of ours; what goes wrong there must not cost the application its batch of spans."""
    try:
        return ended.attributes
    except Exception as error:
        ended.report("capture.mirror", error)
        return {}


def _over(begun: Mapping[str, Any], own: Mapping[str, AttributeValue]) -> dict[str, Any]:
    """Put ours over those that the sampler gave the span."""
    # A copy in one step: what the sampler hands back may be the very dict that a call still writes to.
    copy = getattr(begun, "copy", None)
    return {**(dict(begun) if copy is None else copy()), **own}


def _bounded(
    attributes: Mapping[str, AttributeValue], items_max: int | None, chars_max: int | None
) -> Mapping[str, Any]:
    """Hold clean attributes to the limits of the application; most have none that matters."""
    if chars_max is None and (items_max is None or len(attributes) <= items_max):
        return attributes
    return BoundedAttributes(items_max, attributes, max_value_len=chars_max)
