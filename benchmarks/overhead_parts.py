"""
What the benchmarks of overhead share: the governed program, the sink, processes of their own, and the report.

Every benchmark of the family makes one `Report`: tables and bars, as text for people or JSON for
`overhead_report.py`. What it is doing meanwhile goes to standard error.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

RULES = 100
RELEVANT = 5
DOCUMENT_RULES = 1_000
"""A document may be a megabyte long."""
QUIET_LOAD = 4.0
"""Above this load figures of wall time say more about the machine than about us."""

ANSWER = {
    "id": "chatcmpl-1",
    "model": "gpt-5-2026-08-07",
    "choices": [{"finish_reason": "stop"}],
    "usage": {
        "prompt_tokens": 1200,
        "completion_tokens": 90,
        "prompt_tokens_details": {"cached_tokens": 1000},
        "completion_tokens_details": {"reasoning_tokens": 30},
    },
}


def ask(_: str) -> dict[str, Any]:
    """Stand in for a model."""
    return ANSWER


def refund(order_id: str, amount_usd: float) -> str:  # noqa: ARG001 - a policy reads it
    """Stand in for a tool."""
    return order_id


# The governed program ---------------------------------------------------------


def write_policies(folder: Path, rules: int = RULES, *, relevant: int = RELEVANT) -> Path:
    """
    Write a bundle of which some rules could apply to a call of the benchmarks, and none has a budget.

    Args:
        folder:
            Where a folder for them is made.
        rules:
            In all.
        relevant:
            Of those, how many are evaluated for a call of `refund` or `gpt-5`; none of them matches.

    Returns:
        The folder of the documents, each with at most a thousand rules.
    """
    kinds = [
        ("tool.before", "tool.name == 'refund' && args.amount_usd > {n}00.0"),
        ("tool.before", "tool.effect != 'read' && run.tool_calls > 100000000{n}"),
        ("tool.before", "tool.calls_5m > 10000000{n}"),
        ("model.before", "!(model.name in ['gpt-5', 'gpt-5-mini', 'other-{n}'])"),
        ("model.before", "run.model_calls > 100000000{n}"),
    ]
    chosen = [
        (point, condition.replace("{n}", str(1 + number // len(kinds))))
        for number, (point, condition) in enumerate(
            kinds[number % len(kinds)] for number in range(min(relevant, rules))
        )
    ]
    chosen += [
        ("tool.before", f"tool.name == 'other_{number}' && args.amount_usd > {number}.5")
        for number in range(rules - len(chosen))
    ]
    policies = folder / "policies"
    policies.mkdir(exist_ok=True)
    for first in range(0, rules, DOCUMENT_RULES):
        lines = "".join(
            f"""\
  - id: BEN-{number:05}
    title: Rule {number}
    at: {point}
    when: "{condition}"
    then: deny
"""
            for number, (point, condition) in enumerate(chosen[first : first + DOCUMENT_RULES], first + 1)
        )
        (policies / f"bench-{first}.yaml").write_text(
            f"""\
apiVersion: agentguard/v1
kind: Policy
metadata: {{ name: bench-{first}, version: 1.0.0, title: The rules of a benchmark }}
defaults: {{ unmatched: allow, mode: enforce, timezone: UTC }}
rules:
{lines}""",
            encoding="utf-8",
        )
    return policies


def start_governed(folder: Path, *, rules: int = RULES, relevant: int = RELEVANT, **settings: object) -> Any:
    """
    Start agentguard with a store, a key and a bundle in this folder; `rules=0` means no policies.

    Returns:
        The runtime.
    """
    import agentguard
    from agentguard.seal import create_key_file

    key = folder / "key"
    if not key.exists():
        create_key_file(key)
    defaults: dict[str, object] = {
        "service": "bench",
        "store": folder / "store",
        "key": f"file:{key}",
        "policies": write_policies(folder, rules, relevant=relevant) if rules else None,
        "drift_interval_s": 0,
        "flush_timeout_s": 60,
        # Prepared stores carry spans of any age: housekeeping is not what such a run measures.
        "retention_days": 36_500,
    }
    return agentguard.init(**(defaults | settings))  # type: ignore[arg-type]


# Processes of their own -------------------------------------------------------


def clean_environ() -> dict[str, str]:
    """The environment without settings of agentguard and OpenTelemetry, the package importable."""
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("AGENTGUARD_", "OTEL_"))
    }
    environ["PYTHONPATH"] = os.pathsep.join((str(Path(__file__).parents[1]), str(Path(__file__).parent)))
    return environ


def run_python(
    arguments: Sequence[str], *, timeout_s: float = 1800, python: str = sys.executable, **more: str
) -> str:
    """
    Run an interpreter in an empty folder, and give what it printed last.

    Raises:
        SystemExit: It failed; its complaint is the message.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = subprocess.run(
            [python, *arguments], capture_output=True, text=True, cwd=folder, timeout=timeout_s, check=False,
            env=clean_environ() | {"XDG_CONFIG_HOME": folder, "XDG_DATA_HOME": folder} | more,
        )  # fmt: skip
    if result.returncode:
        sys.exit(f"{' '.join(arguments[:6])}: exit {result.returncode}\n{result.stderr[-3000:]}")
    return result.stdout.strip().splitlines()[-1]


def run_arm(file: str, arm: str, *, timeout_s: float = 1800, **options: object) -> dict[str, Any]:
    """Run one arm of a benchmark in a process of its own; its last line is JSON."""
    given = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    found: dict[str, Any] = json.loads(run_python([file, f"--arm={arm}", *given], timeout_s=timeout_s))
    return found


def say(text: str) -> None:
    """Tell the person who waits."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


# The sink ---------------------------------------------------------------------


class Sink:
    """Takes telemetry over HTTP in a process of its own; counts spans of OTLP, and answers everybody politely."""

    def __init__(self) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        sink = self
        self.spans = 0
        self.bytes = 0
        self._lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self._body()
                count = 0
                if self.path.endswith("/traces"):
                    if self.headers.get("Content-Encoding") == "gzip":
                        body = gzip.decompress(body)
                    request = ExportTraceServiceRequest.FromString(body)
                    count = sum(len(s.spans) for r in request.resource_spans for s in r.scope_spans)
                with sink._lock:
                    sink.spans += count
                    sink.bytes += len(body)
                self._answer(b"" if count else b"{}")

            do_PATCH = do_POST  # noqa: N815 - the name is given

            def do_GET(self) -> None:
                counts = {"spans": sink.spans, "bytes": sink.bytes}
                self._answer(json.dumps(counts if self.path == "/counts" else {}).encode())

            def _body(self) -> bytes:
                if self.headers.get("Transfer-Encoding") != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length", 0)))
                parts = []
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)

            def _answer(self, body: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/json" if body else "application/x-protobuf")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@contextmanager
def sink_process() -> Iterator[str]:
    """Start a sink on this machine; gives its address."""
    with subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


def arrived(sink: str) -> dict[str, int]:
    """Spans and bytes that the sink has taken."""
    import urllib.request

    with urllib.request.urlopen(f"{sink}/counts") as response:
        counts: dict[str, int] = json.loads(response.read())
    return counts


# The report -------------------------------------------------------------------


class Report:
    """Tables and bars of one benchmark."""

    def __init__(self, name: str, command: str) -> None:
        self.name = name
        self.command = command
        self.tables: list[dict[str, Any]] = []
        self.bars: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self.load_before = os.getloadavg()[0]

    def table(
        self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], note: str = ""
    ) -> None:
        """Add a table; numbers are shown with three digits."""
        self.tables.append(
            {"title": title, "columns": list(columns), "rows": [list(row) for row in rows], "note": note}
        )

    def bar(self, what: str, measured: float, at_most: float, unit: str) -> None:
        """Say what was promised and what is."""
        self.bars.append(
            {
                "what": what,
                "measured": measured,
                "at_most": at_most,
                "unit": unit,
                "holds": measured <= at_most,
            }
        )

    def machine(self) -> dict[str, Any]:
        """Where and when."""
        return {
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
            "cores": os.cpu_count(),
            "load_before": round(self.load_before, 1),
            "load_after": round(os.getloadavg()[0], 1),
        }

    def as_dict(self) -> dict[str, Any]:
        """All of it."""
        return {
            "benchmark": self.name, "command": self.command, "machine": self.machine(), "tables": self.tables,
            "bars": self.bars, "notes": self.notes,
        }  # fmt: skip

    def print(self, form: str) -> None:
        """Print it as `text` or `json`."""
        print(json.dumps(self.as_dict(), indent=1) if form == "json" else text_of(self.as_dict()))


def shown(value: object) -> str:
    """A number with three digits, everything else as it is."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value)


def bar_rows(bars: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Bars as rows: what, bar, measured, verdict."""
    return [
        [
            bar["what"],
            f"{shown(bar['at_most'])} {bar['unit']}".strip(),
            f"{shown(bar['measured'])} {bar['unit']}".strip(),
            "holds" if bar["holds"] else "missed",
        ]
        for bar in bars
    ]


BAR_COLUMNS = ("what", "at most", "measured", "")


def busy(machine: dict[str, Any]) -> str:
    """How quiet the machine was."""
    load = max(machine["load_before"], machine["load_after"])
    quiet = "quiet" if load < QUIET_LOAD else "BUSY: ratios and CPU time hold, wall time does not"
    return f"load {machine['load_before']} to {machine['load_after']} on {machine['cores']} cores: {quiet}"


def text_of(report: dict[str, Any]) -> str:
    """The report for a terminal."""
    machine = report["machine"]
    parts = [f"{report['command']}\nPython {machine['python']}, {machine['system']}; {busy(machine)}"]
    parts += [_aligned(t["title"], t["columns"], t["rows"], t["note"]) for t in report["tables"]]
    if report["bars"]:
        parts.append(_aligned("Bars", BAR_COLUMNS, bar_rows(report["bars"]), ""))
    return "\n\n".join((*parts, *report["notes"]))


def _aligned(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], note: str) -> str:
    cells = [list(columns), *([shown(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    is_text = [all(isinstance(row[place], str) for row in rows) for place in range(len(columns))]
    lines = [
        "  ".join(
            cell.ljust(width) if text else cell.rjust(width)
            for cell, width, text in zip(row, widths, is_text, strict=True)
        ).rstrip()
        for row in cells
    ]
    return "\n".join((title, "-" * len(title), *lines, *([note] if note else [])))


def plotted(values: Sequence[float], width: int = 24) -> list[str]:
    """One horizontal stroke a value, the longest for the greatest."""
    top = max((*values, 1e-9))
    return ["#" * max(round(value / top * width), 1) for value in values]


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which this share of them lies."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(values)


def parser_of(doc: str | None) -> argparse.ArgumentParser:
    """A parser whose help is the whole story, with the options that every benchmark here has."""
    parser = argparse.ArgumentParser(
        description=(doc or "").strip(), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--format", choices=("text", "json"), default="text", help="for people, or for programs"
    )
    parser.add_argument("--arm", default="", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    own = Sink()
    print(own.server.server_port, flush=True)
    own.server.serve_forever()
