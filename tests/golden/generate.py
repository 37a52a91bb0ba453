"""
Write what agentguard emits for each operation, outcome and profile; or verify it.

`python -m tests.golden.generate` writes the files beside this one; `--check`
compares, and names the first difference of each file. Ids, times and versions are
replaced by words, so that a file changes only where what is emitted does.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader

import agentguard
from agentguard.runtime.active import ACTIVE
from agentguard.seal import create_key_file
from agentguard.values import SpanRecord
from agentguard.values.attributes import PROFILES, Profile
from tests.golden.scenarios import OPERATIONS, POLICY, WAYS, nested

FOLDER = Path(__file__).parent

SECONDS = re.compile(r"(_s|time_to_first_chunk|latency_us)$")


class Words:
    """Words for what differs from run to run: the same word for the same value."""

    def __init__(self) -> None:
        self._words: dict[tuple[str, str], str] = {}

    def word(self, kind: str, value: str) -> str:
        """Name a value by its kind and the order of appearance."""
        if not value:
            return ""
        number = sum(1 for known, _ in self._words if known == kind) + 1
        return self._words.setdefault((kind, value), f"<{kind} {number}>")

    def attributes(self, attributes: dict[str, Any]) -> dict[str, Any]:
        """Replace values that are ids or times."""
        found = {}
        for key, value in sorted(attributes.items()):
            if key in {"agentguard.run.id", "agentguard.policy.decision_id", "agentguard.policy.version"}:
                found[key] = self.word(key.split(".")[1], str(value))
            elif SECONDS.search(key) and key != "agentguard.retry.backoff_s":
                found[key] = "<seconds>"
            else:
                found[key] = list(value) if isinstance(value, tuple) else value
        return found

    def span(self, span: SpanRecord) -> dict[str, Any]:
        """One span, as JSON has it."""
        assert span.duration_ns >= 0
        return {
            "name": span.name,
            "kind": span.kind,
            "otel_kind": span.otel_kind,
            "trace_id": self.word("trace", span.trace_id),
            "span_id": self.word("span", span.span_id),
            "parent_span_id": self.word("span", span.parent_span_id),
            "status": span.status,
            "status_description": span.status_description,
            "scope": span.scope,
            "attributes": self.attributes(dict(span.attributes)),
            "events": [
                {"name": event.name, "attributes": self.attributes(dict(event.attributes))}
                for event in span.events
            ],
        }


def spans(profile: Profile, folder: Path) -> dict[str, Any]:
    """Run all scenarios in one profile, and give the spans of each."""
    policies = folder / "policies"
    policies.mkdir(parents=True)
    (policies / "golden.yaml").write_text(POLICY, encoding="utf-8")
    create_key_file(folder / "key")
    runtime = agentguard.init(
        service="golden",
        store=folder / "store",
        key=f"file:{folder / 'key'}",
        policies=policies,
        semconv=profile,
        strict=True,
        drift_interval_s=0,
    )
    assert runtime is not None
    found: dict[str, Any] = {}

    def run(name: str, scenario: Callable[[], None]) -> None:
        before = {span.span_id for span in runtime.store.query().spans()}
        scenario()
        assert runtime.flush(10).is_complete
        new = [span for span in runtime.store.query().spans() if span.span_id not in before]
        words = Words()
        found[name] = [words.span(span) for span in sorted(new, key=lambda span: span.start_unix_ns)]

    try:
        for operation in OPERATIONS:
            for way, call in WAYS.items():
                run(f"{operation} {way}", lambda call=call, operation=operation: call(operation))  # type: ignore[misc]
        run("nested", nested)
    finally:
        agentguard.shutdown(5)
        ACTIVE.runtime = None
        ACTIVE.is_off = False
    return found


def measured(reader: InMemoryMetricReader) -> dict[str, Any]:
    """What was measured, by metric: how often, and the sum where it is no time."""
    found: dict[str, Any] = {}
    data = reader.get_metrics_data()
    for metric in (
        (m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics) if data else ()
    ):
        rows = []
        for point in metric.data.data_points:
            row: dict[str, Any] = {"attributes": dict(sorted((point.attributes or {}).items()))}
            if isinstance(point, HistogramDataPoint):
                row["count"] = point.count
                row["sum"] = "<seconds>" if metric.unit == "s" else point.sum
            else:
                row["value"] = point.value
            rows.append(row)
        rows.sort(key=lambda row: json.dumps(row["attributes"]))
        found[metric.name] = {"unit": metric.unit, "description": metric.description, "points": rows}
        first = metric.data.data_points[0]
        if isinstance(first, HistogramDataPoint):
            found[metric.name]["boundaries"] = list(first.explicit_bounds)
    return dict(sorted(found.items()))


@contextmanager
def meter_provider() -> Iterator[InMemoryMetricReader]:
    """A MeterProvider of the application, for the time of the block."""
    before = metrics._internal._METER_PROVIDER
    reader = InMemoryMetricReader()
    metrics._internal._METER_PROVIDER = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    try:
        yield reader
    finally:
        metrics._internal._METER_PROVIDER.shutdown()
        metrics._internal._METER_PROVIDER = before


def files(folder: Path) -> dict[str, str]:
    """What the files are to hold, by name."""
    found = {}
    for profile in PROFILES:
        with meter_provider() as reader:
            emitted = spans(profile, folder / profile)
            made = measured(reader)
        found[f"spans-{profile}.json"] = json.dumps(emitted, indent=1, ensure_ascii=False) + "\n"
        found[f"metrics-{profile}.json"] = json.dumps(made, indent=1, ensure_ascii=False) + "\n"
    return found


def differences(wanted: dict[str, str]) -> list[str]:
    """Name the first line of each file that is not what is emitted."""
    found = []
    for name, text in wanted.items():
        path = FOLDER / name
        kept = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        for number, line in enumerate(text.splitlines(), 1):
            if number > len(kept) or kept[number - 1] != line:
                is_kept = kept[number - 1].strip() if number <= len(kept) else "nothing"
                found.append(f"{name}:{number}: got {line.strip()}, expected {is_kept}")
                break
        else:
            if len(kept) > len(text.splitlines()):
                found.append(f"{name}: ends early")
    return found


def main(arguments: list[str]) -> int:
    """Write, or check."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = files(Path(folder))
    if "--check" in arguments:
        found = differences(wanted)
        print("\n".join(found) or "what is emitted is what the files say")
        return 1 if found else 0
    for name, text in wanted.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
