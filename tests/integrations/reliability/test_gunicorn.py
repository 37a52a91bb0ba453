"""Under gunicorn, with and without `--preload`, with threads and with green threads: each request is recorded once."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integrations.reliability.programs import SCHEDULING_S
from tests.support.crash_site import LOSS_WINDOW_S, Site

pytest.importorskip("gunicorn")
pytest.importorskip("gevent")

WORKERS = {
    "sync": ["--worker-class", "sync"],
    "gthread": ["--worker-class", "gthread", "--threads", "4"],
    "gevent": ["--worker-class", "gevent"],
}


class Server:
    """A gunicorn with two workers."""

    def __init__(self, site: Site, *options: str) -> None:
        self._path = str(site.folder / "socket")
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "gunicorn", "--bind", f"unix:{self._path}", "--workers", "2",
                "--graceful-timeout", "10", "--log-level", "warning", *options,
                "tests.integrations.reliability.app:app",
            ],
            env=site.environment(), stderr=subprocess.PIPE,
        )  # fmt: skip

    def get(self) -> int:
        """Make one request; gives the process that answered."""
        connection = http.client.HTTPConnection("localhost", timeout=5)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(5)
        with contextlib.closing(connection):
            connection.sock.connect(self._path)
            connection.request("GET", "/")
            response = connection.getresponse()
            assert response.status == 200
            return int(response.read())

    def await_first(self) -> int:
        """Wait until it answers."""
        deadline = time.monotonic() + 60
        while True:
            try:
                return self.get()
            except OSError:
                assert time.monotonic() < deadline
                assert self.process.poll() is None, self.errors()
                time.sleep(0.05)

    def get_many(self, threads: int, each: int) -> set[int]:
        """Make requests from several threads; gives the processes that answered."""
        seen: set[int] = set()

        def ask() -> None:
            for _ in range(each):
                with contextlib.suppress(OSError, http.client.HTTPException):
                    seen.add(self.get())

        asking = [threading.Thread(target=ask) for _ in range(threads)]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
        return seen

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Ask it to end, and wait."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=30)
        # A thread that began before gevent took over ends with a complaint of the interpreter.
        bad = [part for part in errors.decode().split("Exception ignored")[:1] if "Traceback" in part]
        assert not bad, bad

    def errors(self) -> str:
        """What it said, once it has ended."""
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()


@contextlib.contextmanager
def running(site: Site, *options: str) -> Iterator[Server]:
    """A server that is gone afterwards, whatever happens."""
    server = Server(site, *options)
    try:
        server.await_first()
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            server.process.terminate()
        server.process.communicate(timeout=30)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A place of its own."""
    return Site(tmp_path / "site").prepare()


@pytest.mark.parametrize("preload", [False, True], ids=["each loads", "preload"])
@pytest.mark.parametrize("worker", WORKERS)
def test_every_request_is_recorded_once(site: Site, worker: str, preload: bool) -> None:
    """Requests from many clients, workers replaced in between: all spans and decisions are there, once."""
    with running(site, *WORKERS[worker], *["--preload"] * preload) as server:
        first = server.get_many(8, 25)
        server.process.send_signal(signal.SIGHUP)
        time.sleep(1.0)
        second = server.get_many(8, 25)
        server.end()
    assert len(first | second) > len(first), "the workers were not replaced"
    found = site.look()
    found.check()
    assert len(found.said) >= 2 * 2 * 8 * 20


@pytest.mark.parametrize("worker", WORKERS)
def test_a_killed_worker_loses_the_window_at_most(site: Site, worker: str) -> None:
    """Workers are killed under load and replaced; of each, what is missing was younger than the window."""
    with running(site, *WORKERS[worker], "--preload") as server:
        died: dict[int, float] = {}
        for _ in range(5):
            server.get_many(4, 20)
            victim = server.get()
            os.kill(victim, signal.SIGKILL)
            died[victim] = time.time()
        server.get_many(4, 20)
        server.end()
    found = site.look()
    found.check(lost_within_s=60.0, died_unix_s=time.time())
    for one in found.lost:
        assert one.pid in died, "a span of a worker is lost that nobody killed"
        assert died[one.pid] - one.time_unix_s < LOSS_WINDOW_S + SCHEDULING_S
