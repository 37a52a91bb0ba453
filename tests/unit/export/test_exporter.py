"""Store and forward: everything arrives at least once, whoever dies in between, and nobody waits for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from opentelemetry import context

from agentguard.errors import ExportError
from agentguard.export import OtlpExporter, otlp_config
from agentguard.export._lease import Lease
from agentguard.export._source import decode_cursor, encode_cursor
from tests.support.clock import FrozenClock
from tests.support.otlp import OK, FakeStore, Receiver, Reply, make_span

SPANS = [make_span(n) for n in range(1200)]


def exporter_for(store: FakeStore, endpoint: str, **changes: object) -> OtlpExporter:
    config = replace(otlp_config(endpoint), poll_interval_s=0.02, **changes)  # type: ignore[arg-type]
    return OtlpExporter(
        store, config, clock=FrozenClock(), on_internal_error=lambda *_: None, chance=lambda: 0.0
    )


def wait_until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)


def test_one_shot_sends_everything_once(tmp_path: Path) -> None:
    """All spans in order, in batches, and a second run sends nothing."""
    store = FakeStore(tmp_path, SPANS)
    with Receiver() as receiver:
        counters = exporter_for(store, receiver.endpoint).run_once(5)
        assert receiver.names == [span.span_id for span in SPANS]
        assert (counters.sent, counters.requests) == (1200, 2)
        assert exporter_for(store, receiver.endpoint).run_once(5).sent == 0
        store.spans.append(make_span(5000))
        assert exporter_for(store, receiver.endpoint).run_once(5).sent == 1


def test_one_shot_can_begin_again(tmp_path: Path) -> None:
    """`from_start` sends what was sent before, under the same ids."""
    store = FakeStore(tmp_path, SPANS[:5])
    with Receiver() as receiver:
        exporter_for(store, receiver.endpoint).run_once(5)
        exporter_for(store, receiver.endpoint).run_once(5, from_start=True)
        assert receiver.names == [span.span_id for span in SPANS[:5]] * 2


def test_one_shot_says_where_nobody_listens(tmp_path: Path) -> None:
    """The error names the destination and the reason, soon; what is not sent stays."""
    store = FakeStore(tmp_path, SPANS[:5])
    with Receiver() as receiver:
        pass
    with pytest.raises(ExportError, match=r"127\.0\.0\.1:\d+/v1/traces: ConnectionError; 0 spans"):
        exporter_for(store, receiver.endpoint).run_once(0.2)
    assert store.blobs[next(iter(store.blobs))].data is None


def test_cursor_moves_only_behind_what_arrived(tmp_path: Path) -> None:
    """A destination that stops answering in the middle gets the rest later, and no span is left out."""
    store = FakeStore(tmp_path, SPANS)
    answers = iter([OK])
    with Receiver(lambda _: next(answers, (503, {}, b""))) as receiver:
        with pytest.raises(ExportError, match="HTTP 503; 1024 spans were sent"):
            exporter_for(store, receiver.endpoint).run_once(0.2)
        receiver.judge = lambda _: OK
        exporter_for(store, receiver.endpoint).run_once(5)
        assert receiver.names == [span.span_id for span in SPANS]


def test_background_thread_follows_the_store(tmp_path: Path) -> None:
    """Spans that come later are sent without being asked for, and flush waits for them."""
    store = FakeStore(tmp_path, SPANS[:3])
    with Receiver() as receiver:
        exporter = exporter_for(store, receiver.endpoint)
        exporter.start()
        exporter.start()
        wait_until(lambda: len(receiver.taken) == 3)
        store.spans += SPANS[3:30]
        assert exporter.flush(5)
        assert receiver.names == [span.span_id for span in SPANS[:30]]
        assert exporter.stop(5)
        assert not exporter.flush(0.1)


def test_dead_destination_costs_a_bounded_flush_and_loses_nothing(tmp_path: Path) -> None:
    """Flush and stop end in time; once the destination lives again, everything arrives."""
    store = FakeStore(tmp_path, SPANS[:700])
    with Receiver() as receiver:
        port = receiver.port
    exporter = exporter_for(store, receiver.endpoint)
    exporter.start()
    started = time.monotonic()
    assert not exporter.flush(0.3)
    assert exporter.stop(2)
    assert time.monotonic() - started < 1.5
    assert exporter.counters.last_failure == "ConnectionError"
    with Receiver(port=port) as receiver:
        again = exporter_for(store, receiver.endpoint)
        again.start()
        assert again.flush(5)
        assert receiver.names == [span.span_id for span in SPANS[:700]]
        again.stop(2)


def test_flush_does_not_cut_what_the_server_asked_for(tmp_path: Path) -> None:
    """After a `Retry-After` no request comes earlier, however often flush is called."""
    store = FakeStore(tmp_path, SPANS[:3])
    with Receiver(lambda _: (429, {"Retry-After": "60"}, b"")) as receiver:
        exporter = exporter_for(store, receiver.endpoint)
        exporter.start()
        wait_until(lambda: exporter.counters.failures == 1)
        for _ in range(5):
            assert not exporter.flush(0.05)
        assert len(receiver.requests) == 1
        assert exporter.stop(2)


def test_learns_what_the_destination_takes(tmp_path: Path) -> None:
    """After a 413 the next batches are small enough, so that not each of them is refused first."""
    store = FakeStore(tmp_path, [make_span(n, attributes={"pad": "x" * 2000}) for n in range(1000)])

    def judge(spans: list[object]) -> Reply:
        return OK if len(spans) <= 100 else (413, {}, b"")

    with Receiver(judge) as receiver:
        counters = exporter_for(store, receiver.endpoint).run_once(5)
        assert receiver.names == [span.span_id for span in store.spans]
    assert counters.requests < 40
    assert counters.lost == 0


def test_only_one_process_exports(tmp_path: Path) -> None:
    """A second exporter stands by, its flush does not wait, and it takes over from a dead one."""
    store = FakeStore(tmp_path, SPANS[:10])
    with Receiver() as receiver:
        first, second = exporter_for(store, receiver.endpoint), exporter_for(store, receiver.endpoint)
        first.start()
        assert first.flush(5)
        second.start()
        wait_until(lambda: second.is_standby)
        assert second.flush(1)
        with pytest.raises(ExportError, match="another process exports"):
            exporter_for(store, receiver.endpoint).run_once(1)
        assert len(receiver.taken) == 10
        first.stop(5)
        store.spans += SPANS[10:20]
        wait_until(lambda: second.flush(0.1) and not second.is_standby)
        assert second.flush(5)
        assert receiver.names == [span.span_id for span in SPANS[:20]]
        second.stop(5)


def test_a_dead_process_gives_its_lease_back(tmp_path: Path) -> None:
    """`kill -9` of the holder frees the lock file, which is readable by its owner only."""
    path = tmp_path / "export.lock"
    code = (
        "import sys,time; from pathlib import Path; from agentguard.export._lease import Lease\n"
        "lease = Lease(Path(sys.argv[1])); assert lease.acquire(); print('held', flush=True); time.sleep(60)"
    )
    root = Path(__file__).parents[3]
    holder = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, cwd=root)
    assert holder.stdout is not None
    with holder:
        assert holder.stdout.readline() == b"held\n"
        lease = Lease(path)
        assert not lease.acquire()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert lease.acquire()
    assert path.stat().st_mode & 0o777 == 0o600
    lease.release()


def test_a_forked_child_leaves_the_lease_to_its_parent(tmp_path: Path) -> None:
    """The child neither holds nor frees it, and its copy does not keep it from others after the parent."""
    store = FakeStore(tmp_path, SPANS[:3])
    with Receiver() as receiver:
        exporter = exporter_for(store, receiver.endpoint)
        exporter.start()
        assert exporter.flush(5)
        lease_path = next(tmp_path.glob("export-*.lock"))
        read, write = os.pipe()
        ready, say_ready = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(write)
            held = exporter._lease.is_held or exporter.flush(0.1)
            os.write(say_ready, b"!")
            os.read(read, 1)
            os._exit(1 if held else 0)
        os.close(read)
        assert os.read(ready, 1) == b"!"
        os.close(ready)
        os.close(say_ready)
        assert not Lease(lease_path).acquire()
        exporter.stop(5)
        other = Lease(lease_path)
        assert other.acquire()
        other.release()
        os.close(write)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_internal_errors_end_neither_thread_nor_program(tmp_path: Path) -> None:
    """A store that cannot be read for a while is told of, and read again."""
    store = FakeStore(tmp_path, SPANS[:3])
    seen: list[BaseException] = []
    broken = threading.Event()
    broken.set()
    query = store.query

    def failing() -> FakeStore:
        if broken.is_set():
            raise OSError("disk")
        return query()

    store.query = failing  # type: ignore[method-assign]
    with Receiver() as receiver:
        exporter = OtlpExporter(
            store,
            replace(otlp_config(receiver.endpoint), poll_interval_s=0.02),
            clock=FrozenClock(),
            on_internal_error=lambda _, error: seen.append(error),
        )
        exporter.start()
        wait_until(lambda: bool(seen))
        broken.clear()
        assert exporter.flush(5)
        assert len(receiver.taken) == 3
        exporter.stop(5)


def test_own_requests_make_no_spans(tmp_path: Path) -> None:
    """The application's HTTP instrumentation is told to look away while we send."""
    seen: list[object] = []

    class Transport:
        def send(self, items: object) -> object:
            from agentguard.export._transport import Answer, Ending

            seen.append(context.get_value(context._SUPPRESS_INSTRUMENTATION_KEY))
            return Answer(Ending.SENT)

        def close(self) -> None:
            pass

    exporter = OtlpExporter(
        FakeStore(tmp_path, SPANS[:1]),
        otlp_config("http://localhost:1"),
        clock=FrozenClock(),
        on_internal_error=lambda *_: None,
        transport=Transport,  # type: ignore[arg-type]
    )
    exporter.run_once(1)
    assert seen == [True]
    assert context.get_value(context._SUPPRESS_INSTRUMENTATION_KEY) is None


@pytest.mark.parametrize(
    "data",
    [
        None,
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b'{"version": 2, "writers": {}}',
        b'{"version": 1, "writers": {"a": 3}}',
    ],
)
def test_unreadable_cursors_begin_again(data: bytes | None) -> None:
    """At least once holds where the cursor is lost or of a later version."""
    assert decode_cursor(data) == {}


def test_cursors_come_back() -> None:
    """What is written is read."""
    assert decode_cursor(encode_cursor({"a1": (3, 700), "b2": (0, 0)})) == {"a1": (3, 700), "b2": (0, 0)}
