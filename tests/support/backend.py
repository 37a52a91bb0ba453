"""Work whose spans go to a real backend, and what must be found there."""

from __future__ import annotations

import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple, Self

import agentguard
from agentguard.values import SpanRecord
from agentguard.values import attributes as names
from tests.support.governed import Governed

RUNS = 12


class Found(NamedTuple):
    """A span as a backend gives it back."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    input_tokens: int | None
    output_tokens: int | None
    is_error: bool


def work(governed: Governed) -> list[SpanRecord]:
    """Let an agent ask a model and use tools, one of which fails at times; gives what is in the store."""

    @agentguard.model(provider="openai", name="small")
    def ask(number: int) -> str:
        agentguard.record_usage(input_tokens=100 + number, output_tokens=number)
        return "said"

    @agentguard.tool(effect="read")
    def search(number: int) -> str:
        if number % 5 == 0:
            raise ValueError("nothing there")
        return "found"

    @agentguard.agent(name="clerk")
    def serve(number: int) -> None:
        ask(number)
        with suppress(ValueError):
            search(number)
        ask(number + 1)

    for number in range(RUNS):
        serve(number)
    return governed.spans()


def expected(spans: Sequence[SpanRecord]) -> set[Found]:
    """What a backend must give back of them."""
    return {
        Found(
            span.trace_id,
            span.span_id,
            span.parent_span_id,
            span.name,
            _count(span.attributes.get(names.INPUT_TOKENS)),
            _count(span.attributes.get(names.OUTPUT_TOKENS)),
            span.status == "error",
        )
        for span in spans
    }


def _count(value: object) -> int | None:
    return value if isinstance(value, int) else None


class Server:
    """A backend in a process of its own, as a context manager."""

    def __init__(
        self, command: Sequence[str | Path], folder: Path, url: str, environ: Mapping[str, str]
    ) -> None:
        self._command = [str(part) for part in command]
        self._folder = folder
        self.url = url
        self._environ = {**os.environ, **environ}
        self._log: IO[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._log = (self._folder / "server.log").open("wb")
        self._process = subprocess.Popen(
            self._command, cwd=self._folder, env=self._environ, stdout=self._log, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        return self

    def wait_until_ready(self, path: str, timeout_s: float = 240.0) -> None:
        """Wait until it answers."""
        wait_for(
            lambda: self._answers(path), timeout_s, lambda: (self._folder / "server.log").read_text()[-3000:]
        )

    def _answers(self, path: str) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "server.log").read_text()[-3000:]
        try:
            with urllib.request.urlopen(self.url + path, timeout=2) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, 15)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, 9)
            self._process.wait(20)
        if self._log is not None:
            self._log.close()


def wait_for(is_so: Callable[[], bool], timeout_s: float, say: Callable[[], object]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, say()
        time.sleep(0.25)
