"""A real collector, killed and started again in the middle: every span arrives, and arrives right."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agentguard.export import OtlpExporter, otlp_config
from agentguard.seal import FileKey, create_key_file
from agentguard.store import SegmentWriter, Store, WriterConfig
from agentguard.values import SpanRecord
from tests.integrations.otlp.rotel import Rotel, Seen
from tests.support.clock import FrozenClock
from tests.support.otlp import RESOURCE, make_span

ROOT = Path(__file__).parents[3]


class Finished:
    """A span source with a record that is made already."""

    def __init__(self, record: SpanRecord) -> None:
        self.bytes_estimate = 500
        self._record = record

    def record(self) -> SpanRecord:
        return self._record


@pytest.fixture
def rotel(tmp_path: Path) -> Iterator[Rotel]:
    """A collector, not yet started."""
    own = Rotel(tmp_path)
    yield own
    own.kill()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    create_key_file(tmp_path / "key")
    return Store.create(tmp_path / "store", provider=FileKey(tmp_path / "key"), clock=FrozenClock())


def exporter_for(store: Store, rotel: Rotel, protocol: str) -> OtlpExporter:
    config = replace(otlp_config(rotel.endpoint(protocol), protocol=protocol), poll_interval_s=0.05)
    return OtlpExporter(store, config, clock=FrozenClock(), on_internal_error=lambda *_: None)


def write(writer: SegmentWriter, numbers: range) -> None:
    for number in numbers:
        assert writer.append(Finished(make_span(number, status="error" if number % 7 == 0 else "unset")))
    assert writer.flush(10).is_complete


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def assert_arrived(seen: dict[str, list[Seen]], numbers: range) -> None:
    """Every span is there at least once, each time as it was recorded."""
    assert set(seen) == {make_span(number).span_id for number in numbers}
    for number in numbers:
        expected = make_span(number)
        for span in set(seen[expected.span_id]):
            assert span.trace_id == expected.trace_id
            assert span.parent_id == expected.parent_span_id
            assert span.name == expected.name
            assert (span.start_unix_ns, span.end_unix_ns) == (expected.start_unix_ns, expected.end_unix_ns)
            assert span.status == ("STATUS_CODE_ERROR" if number % 7 == 0 else "STATUS_CODE_UNSET")
            assert dict(span.attributes) == expected.attributes


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_collector_dies_and_comes_back(store: Store, rotel: Rotel, protocol: str) -> None:
    """Before, while and after the collector is away the application writes on; nothing is lost."""
    rotel.start()
    writer = store.writer(resource=RESOURCE, on_internal_error=lambda *_: None, config=WriterConfig())
    exporter = exporter_for(store, rotel, protocol)
    exporter.start()
    write(writer, range(700))
    wait_until(lambda: len(rotel.spans()) == 700, "the first spans")
    rotel.kill()
    write(writer, range(700, 1500))
    started = time.monotonic()
    assert not exporter.flush(0.5)
    assert time.monotonic() - started < 1.0
    assert exporter.counters.failures > 0
    rotel.start()
    write(writer, range(1500, 2000))
    assert exporter.flush(30)
    wait_until(lambda: len(rotel.spans()) == 2000, "all spans")
    assert exporter.stop(5)
    writer.close(10)
    assert_arrived(rotel.spans(), range(2000))


_APPLICATION = """
import sys, time
from pathlib import Path
from dataclasses import replace
from agentguard.export import OtlpExporter, otlp_config
from agentguard.runtime import SystemClock
from agentguard.seal import FileKey
from agentguard.store import Store, WriterConfig
from tests.integrations.otlp.test_rotel import RESOURCE, write

folder, endpoint, first, last = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
store = Store.open(folder / "store", provider=FileKey(folder / "key"), clock=SystemClock())
quiet = lambda *_: None
writer = store.writer(resource=RESOURCE, on_internal_error=quiet, config=WriterConfig())
config = replace(otlp_config(endpoint), poll_interval_s=0.01, batch_spans_max=50)
OtlpExporter(store, config, clock=SystemClock(), on_internal_error=quiet).start()
for start in range(first, last, 20):
    write(writer, range(start, min(start + 20, last)))
    print(start + 20, flush=True)
time.sleep(60)
"""


def test_application_dies_in_the_middle(store: Store, rotel: Rotel, tmp_path: Path) -> None:
    """`kill -9` of the exporting process, twice: whatever was flushed to the store arrives in the end."""
    rotel.start()
    stored = 0
    for life in range(2):
        command = [sys.executable, "-c", _APPLICATION, str(tmp_path), rotel.endpoint("http/protobuf")]
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(
            [*command, str(stored), str(stored + 1000)],
            stdout=subprocess.PIPE,
            text=True,
            env=environ,
            cwd=ROOT,
        ) as application:
            assert application.stdout is not None
            for _ in range(10 + 7 * life):
                stored = int(application.stdout.readline())
            application.send_signal(signal.SIGKILL)
            application.wait()
            # What was printed before the kill was flushed before it.
            for line in application.stdout:
                stored = int(line)
    exporter_for(store, rotel, "http/protobuf").run_once(30)
    wait_until(lambda: len(rotel.spans()) >= stored, "all stored spans")
    seen = rotel.spans()
    # The write that the kill cut off may be there, in part or whole.
    assert set(seen) >= {make_span(number).span_id for number in range(stored)}
    assert len(seen) <= stored + 40
    arrived = sorted(int(span_id, 16) - 1 for span_id in seen)
    assert_arrived(
        {make_span(n).span_id: seen[make_span(n).span_id] for n in arrived if n < stored}, range(stored)
    )
