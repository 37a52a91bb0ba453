"""Spans of the application's own OpenTelemetry provider, beside ours."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind

from agentguard.version import __version__

KINDS: Mapping[str, SpanKind] = {kind.name.lower(): kind for kind in SpanKind}


def mirror_span(otel: str, name: str, otel_kind: str, context: Context | None) -> trace.Span | None:
    """
    Begin a span of the application's provider, where it has one.

    Our span adopts its ids, so that it joins the application's traces; our own
    record is kept whatever that provider samples. The provider is looked for at
    each call: many applications set theirs after they import us.

    Args:
        otel:
            The setting: only `auto` looks for a provider.
        name:
            Name of the span.
        otel_kind:
            internal, client, server, producer or consumer.
        context:
            What the span begins under; None for the current one.

    Returns:
        The span, or None where there is no SDK provider.
    """
    if otel != "auto":
        return None
    provider = trace.get_tracer_provider()
    if not hasattr(provider, "add_span_processor"):
        return None
    return _tracer(provider).start_span(name, context=context, kind=KINDS[otel_kind])


@lru_cache(maxsize=4)
def _tracer(provider: trace.TracerProvider) -> trace.Tracer:
    """Keep the tracer: making one takes a lock of the provider."""
    return provider.get_tracer("agentguard", __version__)
