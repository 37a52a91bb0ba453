"""
Measurements and events of finished calls, to the providers that the application has set.

Takes measurements and records, gives them to the global MeterProvider and the global
LoggerProvider of OpenTelemetry, where there is one; else to nobody. The SDK is never
imported, and no provider is ever set. Meant for the thread that writes spans.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.environment_variables import OTEL_PYTHON_METER_PROVIDER
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from agentguard.capture.measuring import Measurement
from agentguard.forks import IMPORTS
from agentguard.values import AttributeValue, SpanRecord
from agentguard.values import attributes as names
from agentguard.values.attributes import SCHEMA_URL, Profile
from agentguard.values.metric_names import METRICS

_METRICS: Final = "opentelemetry.metrics"
_VARIABLE: Final = "_METER_PROVIDER"
"""Where OpenTelemetry keeps the provider, beside its function that gives it."""

_WARN: Final = 13
_INFO: Final = 9


def _is_set(provider: object) -> bool:
    """Whether a provider is more than the stand-ins of the API."""
    return not type(provider).__module__.startswith("opentelemetry.metrics") and not type(
        provider
    ).__module__.startswith("opentelemetry._logs")


def span_context(trace_id: str, span_id: str) -> Context:
    """Make a context that names a span of ours, for what belongs to it after its end."""
    identity = SpanContext(
        int(trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED)
    )
    return trace.set_span_in_context(NonRecordingSpan(identity), Context())


class Meters:
    """The instruments of one profile, at the MeterProvider that is there."""

    def __init__(self, profile: Profile, version: str) -> None:
        self._profile: Profile = profile
        self._version = version
        self._api: Any = None
        self._get: Any = None
        self._is_named = OTEL_PYTHON_METER_PROVIDER in os.environ
        self._provider: Any = None
        self._instruments: dict[str, Any] = {}

    def find(self) -> bool:
        """
        Look for a MeterProvider; it may be set, or replaced, at any time.

        Returns:
            Whether there is one.

        """
        if self._api is None:
            if not self._is_named and _METRICS not in sys.modules:
                # Whoever sets one has loaded it: half a megabyte, of which a process without metrics needs nothing.
                return False
            with IMPORTS:
                from opentelemetry import metrics

                self._api, self._get = metrics, metrics.get_meter_provider
        get = self._api.get_meter_provider
        # Asking reads the environment, for each record: there is sure to be none where OpenTelemetry's own
        # variable says so, the environment names none, and nobody has put another function there.
        if not self._is_named and get is self._get and get.__globals__.get(_VARIABLE, self) is None:
            return False
        provider = get()
        if provider is self._provider:
            return True
        if not _is_set(provider):
            return False
        meter = provider.get_meter("agentguard", self._version, SCHEMA_URL[self._profile])
        made: dict[str, Any] = {}
        for spec in METRICS:
            if self._profile not in spec.profiles or not spec.is_emitted:
                continue
            if spec.instrument == "counter":
                made[spec.name] = meter.create_counter(spec.name, spec.unit, spec.description)
            else:
                made[spec.name] = meter.create_histogram(
                    spec.name,
                    spec.unit,
                    spec.description,
                    explicit_bucket_boundaries_advisory=list(spec.buckets),
                )
        self._instruments = made
        self._provider = provider
        return True

    def record(self, measured: Iterable[Measurement], context: Context) -> None:
        """Record measurements; `find` has found a provider."""
        instruments = self._instruments
        for name, value, attributes in measured:
            instrument = instruments[name]
            record = instrument.add if hasattr(instrument, "add") else instrument.record
            record(value, attributes, context)

    def count(self, name: str, n: int) -> None:
        """Add to a counter that belongs to no span, where there is a provider."""
        if self.find():
            self._instruments[name].add(n)


class Events:
    """Events of the conventions, as log records of the LoggerProvider that is there."""

    def __init__(self, profile: Profile, version: str) -> None:
        self._profile: Profile = profile
        self._version = version
        self._api: Any = None
        self._provider: Any = None
        self._logger: Any = None

    def find(self) -> bool:
        """
        Look for a LoggerProvider; it may be set, or replaced, at any time.

        Returns:
            Whether there is one.

        """
        if self._api is None:
            # Imported here: a process without log records needs nothing of it.
            with IMPORTS:
                from opentelemetry import _logs

                self._api = _logs
        provider = self._api.get_logger_provider()
        if provider is self._provider:
            return True
        if not _is_set(provider):
            return False
        self._logger = provider.get_logger("agentguard", self._version, schema_url=SCHEMA_URL[self._profile])
        self._provider = provider
        return True

    def _emit(
        self,
        name: str,
        severity: int,
        time_unix_ns: int,
        attributes: Mapping[str, AttributeValue],
        context: Context | None,
    ) -> None:
        """Give one log record to the logger."""
        api = self._api
        self._logger.emit(
            api.LogRecord(
                timestamp=time_unix_ns,
                context=context,
                severity_number=api.SeverityNumber(severity),
                severity_text="WARN" if severity == _WARN else "INFO",
                attributes=dict(attributes),
                event_name=name,
            )
        )

    def exceptions(self, record: SpanRecord) -> None:
        """
        Say what a client operation raised: `gen_ai.client.operation.exception`.

        The record says whether the text of the exception is kept; nothing is added to it.
        """
        raised = [event for event in record.events if event.name == names.EVENT_EXCEPTION]
        if not raised or not self.find():
            return
        context = span_context(record.trace_id, record.span_id)
        for event in raised:
            self._emit(names.EVENT_OPERATION_EXCEPTION, _WARN, event.time_unix_ns, event.attributes, context)

    def evaluation(
        self, attributes: Mapping[str, AttributeValue], time_unix_ns: int, context: Context | None
    ) -> None:
        """
        Say how a call was judged: `gen_ai.evaluation.result`.

        Args:
            attributes:
                Name, score and label of the judgement.
            time_unix_ns:
                When it became known.
            context:
                Names the judged call; None where its trace is not known any more.

        """
        if self.find():
            self._emit(names.EVENT_EVALUATION, _INFO, time_unix_ns, attributes, context)
