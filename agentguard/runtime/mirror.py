"""Beside OpenTelemetry: a span of the application's provider for each of ours, and native spans to us."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from sys import modules
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakKeyDictionary

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.environment_variables import OTEL_PYTHON_TRACER_PROVIDER
from opentelemetry.trace import SpanKind

from agentguard.capture import CaptureEnvironment, ForeignSpanProcessor, Span
from agentguard.runtime.provider import own_provider
from agentguard.values import AttributeValue, Usage
from agentguard.values.attributes import SCHEMA_URL
from agentguard.version import __version__

if TYPE_CHECKING:
    # Only the type: it loads the SDK.
    from agentguard.runtime.late_span import LateTracer

StartSpan: TypeAlias = Callable[
    [str, Context | None, SpanKind, Mapping[str, AttributeValue] | None], trace.Span
]
KINDS: Mapping[str, SpanKind] = {kind.name.lower(): kind for kind in SpanKind}


def has_provider() -> bool:
    """
    Whether a global provider may be set: asking OpenTelemetry itself would read the environment at each call.

    It is sure to be none where OpenTelemetry's own variable says so, the environment names none, and
    nobody has put a function of theirs in the place of OpenTelemetry's.
    """
    return (
        getattr(trace, "_TRACER_PROVIDER", trace) is not None or trace.get_tracer_provider is not BARE_GETTER
    )


_GET_PROVIDER = trace.get_tracer_provider
BARE_GETTER = None if OTEL_PYTHON_TRACER_PROVIDER in os.environ else _GET_PROVIDER
"""OpenTelemetry's own way to its provider, where that looks nowhere but at `trace._TRACER_PROVIDER`."""


class Relay:
    """
    The one span processor that a provider gets from us, whoever is set up now.

    A provider cannot give a processor back, so this one outlives a `shutdown`
    and does nothing until the next `init`.
    """

    def __init__(self) -> None:
        self.target: ForeignSpanProcessor | None = None

    def on_start(self, span: Any, parent_context: Context | None = None) -> None:
        """Pass it on, unless it stands for one of ours."""
        if self.target is not None and not getattr(span, "is_agentguards", False):
            self.target.on_start(span, parent_context)

    def _on_ending(self, span: Any) -> None:
        """Do nothing: the SDK calls this on each processor."""

    def on_end(self, span: Any) -> None:
        """Pass it on, unless it stands for one of ours."""
        if self.target is not None and not getattr(span, "is_agentguards", False):
            self.target.on_end(span)

    def shutdown(self) -> None:
        """Do nothing: the store is closed by its owner."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 - the signature is the SDK's
        """Do nothing: what was queued is the store's to flush."""
        return True


_RELAYS: WeakKeyDictionary[Any, Relay] = WeakKeyDictionary()


class Mirror:
    """
    How spans stand beside OpenTelemetry, by the setting `otel`.

    auto: the application's provider is looked for at each call, because many
    applications set theirs after they import us. It is never replaced; it gets
    one span processor, which brings native spans of model SDKs into the store.
    global: the same, and where there is none a provider of ours becomes it.
    isolated: ours is OpenTelemetry's current span, and no provider is looked for.
    off: OpenTelemetry sees nothing of us, and we nothing of it.
    """

    def __init__(
        self,
        environment: CaptureEnvironment,
        *,
        mode: str,
        resource: Mapping[str, str],
        on_usage: Callable[[Span | None, Usage], object],
    ) -> None:
        """
        Look for nothing yet, but in the mode global.

        Args:
            environment:
                Where native spans go.
            mode:
                auto, isolated, global or off.
            resource:
                What describes this process, for a provider of ours.
            on_usage:
                Hears of tokens that only a native span has counted.
        """
        self._environment = environment
        self._is_on = mode in {"auto", "global"}
        self.is_visible = mode != "off"
        """Whether OpenTelemetry sees our spans as current, and we its."""
        self.joins = self._is_on
        """Whether what we know may go to providers of the application."""
        self._known: tuple[Any, StartSpan | None, LateTracer | None] | None = None
        """The provider of the last call, how to begin a span of it, and what begins them late."""
        self._relays: list[Relay] = []
        self.processor = ForeignSpanProcessor(environment, on_usage=on_usage)
        self._own = own_provider(resource) if mode == "global" else None
        if self._own is not None:
            self._watch(self._own)

    def _watch(self, provider: Any) -> None:
        """Have the native spans of a provider brought to us."""
        relay = _RELAYS.get(provider)
        if relay is None:
            relay = _RELAYS[provider] = Relay()
            provider.add_span_processor(relay)
        relay.target = self.processor
        if relay not in self._relays:
            self._relays.append(relay)

    def begin(self, ours: Span, context: Context | None = None) -> trace.Span | None:
        """
        Begin a span of the application's provider for one of ours.

        Ours adopts its ids, so that it joins the application's traces; our
        own record is kept whatever that provider samples.

        Args:
            ours:
                Has just begun. Samplers see its attributes.
            context:
                What the span begins under; None for the current one.

        Returns:
            The span, or None where there is no SDK provider but ours, or it failed: that is no reason to
            stop a call.
        """
        if not (self._is_on and has_provider()):
            return None
        try:
            provider = trace.get_tracer_provider()
            known = self._known
            if known is None or known[0] is not provider:
                known = self._known = provider, *self._join(provider)
            start_span = known[1]
            if start_span is None:
                return None
            mirror = start_span(ours.name, context, KINDS[ours.otel_kind], ours.held)
            ours.adopt(mirror)
        except Exception as error:
            # A provider, and its samplers, may be of any make.
            self._environment.on_internal_error("capture.mirror", error)
            return None
        return mirror

    def late_tracer(self) -> LateTracer | None:
        """
        Give what begins spans of the application's provider late.

        Returns:
            None where another provider has come since `begin` was last called, and where only `begin` can begin
            a span of it.

        """
        known = self._known
        if (
            known is None
            or known[0] is not getattr(trace, "_TRACER_PROVIDER", None)
            or trace.get_tracer_provider is not _GET_PROVIDER
        ):
            return None
        return known[2]

    def _join(self, provider: Any) -> tuple[StartSpan | None, LateTracer | None]:
        """Have a provider bring us native spans, and say how to begin a span of it, if it is one to be joined."""
        if provider is self._own or not hasattr(provider, "add_span_processor"):
            return None, None
        self._watch(provider)
        tracer: trace.Tracer = provider.get_tracer(
            "agentguard", __version__, schema_url=SCHEMA_URL[self._environment.profile]
        )
        if "opentelemetry.sdk.trace" not in modules:
            return tracer.start_span, None
        # Imported here: the SDK is heavy, and this is where the application has loaded it.
        from agentguard.runtime.late_span import late_tracer

        late = late_tracer(tracer)
        return (tracer if late is None else late).start_span, late

    def close(self) -> None:
        """Take no more native spans."""
        for relay in self._relays:
            if relay.target is self.processor:
                relay.target = None
