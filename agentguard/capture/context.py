"""
Finding the span around us, and making one current.

Our span is held under OpenTelemetry's key and under one of our own: a no-op
tracer inside ours makes a span current that records nothing, and would hide it.
"""

# ruff: noqa: SLF001 - a span is told from its mirror here, and nowhere else

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanContext

from agentguard.capture.span import Span
from agentguard.wrapping import current_context

_KEY: Final = otel_context.create_key("agentguard-span")
_OTEL_KEY: Final = next(iter(trace.set_span_in_context(trace.INVALID_SPAN, Context())))
"""The key under which OpenTelemetry keeps the current span, learnt through its public function."""
SPAN_KEYS: Final = (_OTEL_KEY, _KEY)
"""Where OpenTelemetry's current span is found, and ours."""


Parent: TypeAlias = tuple[Span | SpanContext | None, Span | None]
"""
Under what a new span begins: the span above in the trace (ours, or the identity of a foreign one, or none),
and the nearest span of ours, whether or not a foreign one lies between.
"""


def context_with(
    span: Span,
    context: Context | None = None,
    *,
    current: trace.Span | None = None,
    is_visible: bool = True,
    more: Mapping[str, object] | None = None,
) -> Context:
    """
    Make a context in which the span is current, without attaching it.

    Args:
        span:
            Our span.
        context:
            What the new context is built on; None for the current one.
        current:
            What OpenTelemetry is to see as current instead: the span of the
            application's provider that mirrors ours.
        is_visible:
            Whether OpenTelemetry is to see any span of this call. False leaves its
            current span as it was: only we know that ours is there.
        more:
            Further values of the new context, by context key.

    Returns:
        A new context; one copy, since every guarded call makes one.

    """
    base = current_context() if context is None else context
    if more is None:
        more = {}
    if not is_visible:
        return Context({**base, _KEY: span, **more})
    return Context({**base, _OTEL_KEY: span if current is None else current, _KEY: span, **more})


def span_values(span: Span, *, current: trace.Span | None = None, is_visible: bool) -> dict[str, object]:
    """
    Give what a context holds in which the span is current.

    Args:
        span:
            Our span.
        current:
            As for `context_with`.
        is_visible:
            As for `context_with`.

    Returns:
        Values by context key, in a fresh dict.

    """
    return {_OTEL_KEY: span if current is None else current, _KEY: span} if is_visible else {_KEY: span}


def current_span(context: Context | None = None) -> Span | None:
    """Give the innermost span of ours, or None."""
    span = (current_context() if context is None else context).get(_KEY)
    return span if type(span) is Span else None


def find_parent(context: Context | None = None, *, only_ours: bool = False) -> Parent:
    """
    Say under what a new span begins in a context.

    Args:
        context:
            The context to look into; None for the current one.
        only_ours:
            Look at spans of ours only, as if OpenTelemetry had none.

    Returns:
        Our own span where it is the innermost; else the foreign span that is
        current, with our nearest one as owner; else nothing.

    """
    if context is None:
        context = current_context()
    if only_ours:
        owner = current_span(context)
        return owner, owner
    current = context.get(_OTEL_KEY)
    if type(current) is Span:
        return current, current
    owner = current_span(context)
    # As the lines below would find out; this is the way of every call beside a provider of the application.
    if owner is not None and owner._mirror is current:
        return owner, owner
    if current is None or not isinstance(current, trace.Span):
        return owner, owner
    identity = current.get_span_context()
    if not identity.is_valid:
        return owner, owner
    if owner is not None and identity.span_id == owner.get_span_context().span_id:
        # A no-op tracer passes on the identity of our span.
        return owner, owner
    return identity, owner
