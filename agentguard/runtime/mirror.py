"""Beside the application's own OpenTelemetry provider: a span of its for each of ours, and its native spans to us."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from weakref import WeakKeyDictionary

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind

from agentguard.capture import CaptureEnvironment, ForeignSpanProcessor, Span
from agentguard.values import Usage
from agentguard.version import __version__

KINDS: Mapping[str, SpanKind] = {kind.name.lower(): kind for kind in SpanKind}


class Mirror:
    """
    The way to the application's provider, where there is one.

    The provider is looked for at each call, because many applications set
    theirs after they import us. It is never set or replaced; it gets one span
    processor, which brings native spans of model SDKs into the store.
    """

    def __init__(
        self,
        environment: CaptureEnvironment,
        *,
        is_on: bool,
        on_usage: Callable[[Span | None, Usage], object],
    ) -> None:
        """
        Look for nothing yet.

        Args:
            environment:
                Where native spans go.
            is_on:
                Whether a provider is looked for at all.
            on_usage:
                Hears of tokens that only a native span has counted.
        """
        self._environment = environment
        self._is_on = is_on
        self._on_usage = on_usage
        self._tracers: WeakKeyDictionary[trace.TracerProvider, trace.Tracer] = WeakKeyDictionary()

    def begin(self, name: str, otel_kind: str, context: Context | None) -> trace.Span | None:
        """
        Begin a span of the application's provider.

        Our span adopts its ids, so that it joins the application's traces; our
        own record is kept whatever that provider samples.

        Args:
            name:
                Name of the span.
            otel_kind:
                internal, client, server, producer or consumer.
            context:
                What the span begins under; None for the current one.

        Returns:
            The span, or None where there is no SDK provider.
        """
        if not self._is_on:
            return None
        provider = trace.get_tracer_provider()
        if not hasattr(provider, "add_span_processor"):
            return None
        tracer = self._tracers.get(provider)
        if tracer is None:
            provider.add_span_processor(ForeignSpanProcessor(self._environment, on_usage=self._on_usage))
            tracer = self._tracers[provider] = provider.get_tracer("agentguard", __version__)
        return tracer.start_span(name, context=context, kind=KINDS[otel_kind])
