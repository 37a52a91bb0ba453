"""Calls that came too late for the drift checker are a metric of the process whose pass found them."""

import threading
from collections.abc import Callable

import pytest
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from agentguard import drift
from tests.unit.runtime.conftest import Start


@pytest.mark.parametrize("otel", ["auto", "off"])
def test_late_calls_are_measured(start: Start, monkeypatch: pytest.MonkeyPatch, otel: str) -> None:
    """Each pass that finds some adds them; with `otel = off` nothing goes to the application's providers."""
    passes, is_over = iter([3, 0, 4]), threading.Event()

    class Watching:
        """A checker whose passes find late calls."""

        def __init__(self, *_: object, on_late: Callable[[int], None], **__: object) -> None:
            self._on_late = on_late

        def check_once(self) -> None:
            found = next(passes, -1)
            if found > 0:
                self._on_late(found)
            if found < 0:
                is_over.set()

    monkeypatch.setattr(drift, "Checker", Watching)
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    monkeypatch.setattr(metrics._internal, "_METER_PROVIDER", provider)
    start(drift_interval_s=0.01, otel=otel)
    assert is_over.wait(30)
    data = reader.get_metrics_data()
    found = [
        (point.value, dict(point.attributes or {}))
        for resource in ([] if data is None else data.resource_metrics)
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "agentguard.drift.late_calls"
        for point in metric.data.data_points
    ]
    assert found == ([(7, {})] if otel == "auto" else [])
    provider.shutdown()
