"""A real collector that can be killed: rotel, which writes what it takes to a log."""

from __future__ import annotations

import re
import socket
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

_FIELD = re.compile(r"^\s*(Trace ID|Parent ID|ID|Name|Kind|Start time|End time|Status code)\s*: ?(.*)$")
_ATTRIBUTE = re.compile(r"^     -> ([^:]+): (Str|Int|Bool|Double)\((.*)\)$")


class Seen(NamedTuple):
    """A span as the collector wrote it down."""

    trace_id: str
    parent_id: str
    name: str
    start_unix_ns: int
    end_unix_ns: int
    status: str
    attributes: tuple[tuple[str, str], ...]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Rotel:
    """One collector on two fixed ports, through all its lives."""

    def __init__(self, folder: Path) -> None:
        spec = find_spec("rotel")
        assert spec is not None
        assert spec.origin is not None
        self._binary = Path(spec.origin).parent / "rotel-agent"
        self._folder = folder
        self._lives = 0
        self._process: subprocess.Popen[bytes] | None = None
        self.http_port, self.grpc_port = free_port(), free_port()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self._lives += 1
        with (self._folder / f"rotel-{self._lives}.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    self._binary, "start", "--exporter", "blackhole",
                    "--debug-log", "traces", "--debug-log-verbosity", "detailed",
                    "--otlp-http-endpoint", f"127.0.0.1:{self.http_port}",
                    "--otlp-grpc-endpoint", f"127.0.0.1:{self.grpc_port}",
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
            )  # fmt: skip
        for port in (self.http_port, self.grpc_port):
            _wait_for_port(port)

    def kill(self) -> None:
        """End it without a word."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def endpoint(self, protocol: str) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.grpc_port if protocol == 'grpc' else self.http_port}"

    def spans(self) -> dict[str, list[Seen]]:
        """All that it took in all its lives, by span id: a span that came twice is there twice."""
        found: dict[str, list[Seen]] = {}
        for log in sorted(self._folder.glob("rotel-*.log")):
            for block in re.split(r"^Span #\d+$", log.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
                head, _, rest = block.partition("Attributes:\n")
                fields = dict(m.groups() for m in map(_FIELD.match, head.splitlines()) if m)
                attributes = []
                for line in rest.splitlines():
                    match = _ATTRIBUTE.match(line)
                    if match is None:
                        break
                    attributes.append((match[1], match[3]))
                if "Status code" not in fields:
                    continue  # the end of a log that was cut off by a kill
                found.setdefault(fields["ID"], []).append(
                    Seen(
                        fields["Trace ID"],
                        fields["Parent ID"],
                        fields["Name"],
                        int(fields["Start time"]),
                        int(fields["End time"]),
                        fields["Status code"],
                        tuple(attributes),
                    )
                )
        return found


def _wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 15
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
        except OSError:
            assert time.monotonic() < deadline, f"nobody listens on {port}"
            time.sleep(0.02)
        else:
            return
