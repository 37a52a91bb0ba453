"""A backend that misbehaves, and then does not: a counter and a line for each way, nothing lost, nobody waits."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

import agentguard
from agentguard.export import ExportCounters, OtlpExporter, _delivery, otlp_config
from tests.support.clock import FrozenClock
from tests.support.otlp import OK, FakeStore, Receiver, Reply, make_span
from tests.unit.runtime.conftest import Start, start  # noqa: F401 - a fixture

SPANS = [make_span(n) for n in range(40)]


@contextmanager
def broken_at_first(
    times: int, behave: Callable[[socket.socket, threading.Event], None]
) -> Iterator[tuple[str, Receiver]]:
    """A receiver behind a gate that treats the first connections as *behave* says, and passes the others on."""
    stop = threading.Event()
    with Receiver() as receiver, socket.create_server(("127.0.0.1", 0)) as gate:
        gate.settimeout(0.1)

        def pump(source: socket.socket, target: socket.socket) -> None:
            try:
                while data := source.recv(65_536):
                    target.sendall(data)
            except OSError:
                pass
            finally:
                for end in (source, target):
                    end.close()

        def treat(client: socket.socket) -> None:
            with client:
                behave(client, stop)

        def serve() -> None:
            left = times
            while not stop.is_set():
                try:
                    client, _ = gate.accept()
                except TimeoutError:
                    continue
                if left:
                    left -= 1
                    threading.Thread(target=treat, args=(client,), daemon=True).start()
                    continue
                server = socket.create_connection(("127.0.0.1", receiver.port))
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=pump, args=ends, daemon=True).start()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{gate.getsockname()[1]}", receiver
        finally:
            stop.set()
            thread.join()


def hang(client: socket.socket, stop: threading.Event) -> None:
    """Take the request, and never answer."""
    client.recv(65_536)
    stop.wait(0.6)


def reset(client: socket.socket, _: threading.Event) -> None:
    """Break the connection off, with a reset."""
    client.recv(100)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")


def garbage(client: socket.socket, _: threading.Event) -> None:
    """Answer with something else than HTTP."""
    client.recv(65_536)
    client.sendall(b"\x00\xff\x16\x03\x01 not HTTP at all\r\n\r\n")


def half_an_answer(client: socket.socket, _: threading.Event) -> None:
    """Say nothing but the first half of a status line."""
    client.recv(65_536)
    client.sendall(b"HTTP/1.1 2")


def run(endpoint: str, tmp_path: Path, batch: int = 8) -> tuple[ExportCounters, list[str]]:
    """Export until everything is answered for; gives the counters and what was told."""
    told: list[str] = []
    config = replace(
        otlp_config(endpoint, environ={"OTEL_EXPORTER_OTLP_TIMEOUT": "400"}),
        batch_spans_max=batch,
        poll_interval_s=0.02,
    )
    exporter = OtlpExporter(
        FakeStore(tmp_path, SPANS), config, clock=FrozenClock(), chance=lambda: 0.0,
        on_internal_error=lambda where, error: told.append(f"{where}: {error}"),
    )  # fmt: skip
    return exporter.run_once(20), told


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses are those of a backend that comes back soon."""
    monkeypatch.setattr(_delivery, "FIRST_BACKOFF_S", 0.02)
    monkeypatch.setattr(_delivery, "MISCONFIGURED_BACKOFF_S", 0.02)


@pytest.mark.parametrize("behave", [hang, reset, garbage, half_an_answer])
def test_connections_that_go_wrong(tmp_path: Path, behave: Callable[..., None]) -> None:
    """Each is a failure that is counted and told, and every span arrives."""
    with broken_at_first(3, behave) as (endpoint, receiver):
        counters, told = run(endpoint, tmp_path)
    assert set(receiver.names) == {span.span_id for span in SPANS}
    assert (counters.sent, counters.lost, counters.failures) == (40, 0, 3)
    assert counters.last_failure == ""
    assert len(told) == 3
    assert all(": export: a request is tried again: " in line for line in told)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ((401, {}, b"who are you"), "HTTP 401"),
        ((403, {}, b""), "HTTP 403"),
        ((404, {}, b""), "HTTP 404"),
        ((429, {"Retry-After": "0"}, b""), "HTTP 429"),
        ((500, {}, b"\xff" * 100_000), "HTTP 500"),
        ((503, {"Retry-After": "garbage"}, b""), "HTTP 503"),
    ],
)
def test_statuses_that_pass(tmp_path: Path, reply: Reply, said: str) -> None:
    """A wrong key, a full backend, a broken one: told by status, never in the backend's words; nothing is given up."""
    answers = iter([reply, reply])
    with Receiver(lambda _: next(answers, OK)) as receiver:
        counters, told = run(receiver.endpoint, tmp_path)
    assert receiver.names == [span.span_id for span in SPANS]
    assert (counters.sent, counters.lost, counters.failures) == (40, 0, 2)
    assert told == [f"export.otlp ({said}): export: a request is tried again: {said}"] * 2


def test_bad_requests_are_narrowed_down(tmp_path: Path) -> None:
    """Of 400 for one span, and 413 for large requests, only that span does not arrive; it is counted and told."""
    bad = SPANS[13].span_id

    def judge(spans: list[object]) -> Reply:
        if len(spans) > 4:
            return 413, {}, b""
        return (400, {}, b"") if any(span.span_id.hex() == bad for span in spans) else OK  # type: ignore[attr-defined]

    with Receiver(judge) as receiver:
        counters, told = run(receiver.endpoint, tmp_path)
    assert set(receiver.names) == {span.span_id for span in SPANS} - {bad}
    assert (counters.sent, counters.refused, counters.lost) == (39, 1, 1)
    assert told == ["export.otlp (HTTP 400): export: one span is refused by the destination: HTTP 400"]


@pytest.mark.parametrize(
    "reply",
    [
        (200, {"Content-Length": "5000"}, b"short"),
        (200, {"Content-Length": "0"}, b"more than it says"),
        (200, {}, b"\x00\xff garbage, and no protobuf"),
        (200, {"Content-Type": "text/html"}, b"<html>" * 50_000),
    ],
)
def test_lies_after_a_200(tmp_path: Path, reply: Reply) -> None:
    """The status has said that the spans were taken: lies about the length and garbage after it change nothing."""
    with Receiver(lambda _: reply) as receiver:
        started = time.monotonic()
        counters, _ = run(receiver.endpoint, tmp_path, batch=20)
        assert time.monotonic() - started < 5
    assert set(receiver.names) == {span.span_id for span in SPANS}
    assert (counters.sent, counters.lost) == (40, 0)


def test_each_way_is_a_counter_and_a_line(
    start: Start,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A running program counts and logs what its backend says, each reason by itself, and sends all the same."""
    answers = iter([(429, {"Retry-After": "0"}, b"SECRET"), (401, {}, b"SECRET"), (500, {}, b"SECRET")] * 2)
    with Receiver(lambda _: next(answers, OK)) as receiver:
        runtime = start(export=receiver.endpoint, strict=False)

        @agentguard.tool
        def work() -> int:
            return 1

        work()
        deadline = time.monotonic() + 10
        while not receiver.taken:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        agentguard.shutdown(5.0)
    for reason in ("HTTP 429", "HTTP 401", "HTTP 500"):
        assert runtime.health.counts[f"export.otlp ({reason}): ExportError"] == 2
        assert sum(f"({reason})" in line for line in caplog.messages) == 1
    assert "SECRET" not in caplog.text


def test_calls_do_not_wait_for_a_backend_that_hangs(start: Start) -> None:  # noqa: F811
    """Calls run at their own pace, and the spans are there for the next process."""
    with socket.create_server(("127.0.0.1", 0), backlog=1) as silent:
        runtime = start(
            export=f"http://127.0.0.1:{silent.getsockname()[1]}", flush_timeout_s=0.5, strict=False
        )

        @agentguard.tool
        def work() -> int:
            return 1

        longest_s = 0.0
        for _ in range(200):
            began = time.perf_counter()
            work()
            longest_s = max(longest_s, time.perf_counter() - began)
        assert longest_s < 0.5
        began = time.perf_counter()
        agentguard.shutdown(1.0)
        assert time.perf_counter() - began < 3
        assert sum(1 for _ in runtime.store.query().spans()) == 200
