"""
A tracer provider of ours as the global one, for applications that have none.

Asked for with `otel = "global"`: native spans of model SDKs exist only where there
is a provider. It exports nothing; its spans reach the store through a processor.
OpenTelemetry's SDK is loaded only here, and only then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry import trace

_OWN: list[Any] = []
"""Our provider, once it is the global one: OpenTelemetry lets it be set once in the life of a process."""


def own_provider(resource: Mapping[str, str]) -> Any:
    """
    Make a provider of ours the global one, where the application has set none.

    It records every span, and marks those as sampled whose parent is: what we
    keep does not change what an upstream service decided for its own backend.

    Args:
        resource:
            What describes this process.

    Returns:
        Our provider, the same for each call; None where the global one is
        another's, or OpenTelemetry is switched off by `OTEL_SDK_DISABLED`.

    """
    current = trace.get_tracer_provider()
    if _OWN and current is _OWN[0]:
        return current
    if not isinstance(current, trace.ProxyTracerProvider):
        return None
    # Imported here: the SDK is heavy, and only this setting needs it.
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult

    class RecordAll(Sampler):
        """Records everything; samples roots, and what the parent says."""

        def should_sample(
            self,
            parent_context: Any,
            trace_id: int,  # noqa: ARG002 - the signature is the SDK's
            name: str,  # noqa: ARG002 - the same
            kind: Any = None,  # noqa: ARG002 - the same
            attributes: Any = None,
            links: Any = None,  # noqa: ARG002 - the same
            trace_state: Any = None,  # noqa: ARG002 - the same
        ) -> SamplingResult:
            parent = trace.get_current_span(parent_context).get_span_context()
            is_sampled = not parent.is_valid or parent.trace_flags.sampled
            return SamplingResult(
                Decision.RECORD_AND_SAMPLE if is_sampled else Decision.RECORD_ONLY,
                # The span has the attributes that its sampler hands back, and no others.
                attributes,
                parent.trace_state,
            )

        def get_description(self) -> str:
            return "agentguard: record all, sample what the parent does"

    provider = TracerProvider(
        sampler=RecordAll(), resource=Resource.create(dict(resource)), shutdown_on_exit=False
    )
    trace.set_tracer_provider(provider)
    if trace.get_tracer_provider() is not provider:
        # Another thread was quicker; its provider is the application's.
        return None
    _OWN[:] = [provider]
    return provider
