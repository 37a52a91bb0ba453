"""
What a governed call costs, beside an OpenTelemetry SDK span in the same run.

One turn is an agent call around two model calls and a tool call: four spans with the
same attributes in every arm. The arms run in processes of their own, one after the
other, in an order that changes from round to round; a figure is the median of the
ratios within the rounds, so that a busy machine slows both sides of each ratio.

    plain       the functions, undecorated
    otel        OpenTelemetry SDK, BatchSpanProcessor, OTLP over HTTP to a sink on this machine
    record      agentguard: sealed store, no policies, nothing exported
    governed    the same with policies: 2 decisions a call, chained and sealed
    exported    the same, and every span to the same sink

`hot` is the CPU time of the calling thread, `process` that of the whole process until
everything is on disk or at the sink. Run: `make bench`, or `python benchmarks/overhead.py
[--rounds 7] [--turns 2000]`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ARMS = ("plain", "otel", "record", "governed", "exported")
CALLS_A_TURN = 4
WARM_UP_TURNS = 200
QUEUE_SPANS = 1 << 18
"""Room for every span of a run: the SDK's processor drops what does not fit, which would make it look cheap."""

POLICY = """\
apiVersion: agentguard/v1
kind: Policy
metadata: { name: bench, version: 1.0.0, title: Three rules that are read at each call }
defaults: { unmatched: allow, mode: enforce, timezone: UTC }
rules:
  - id: BEN-001
    title: Refunds over the limit
    at: tool.before
    when: "tool.name == 'refund' && args.amount_usd > 100.0"
    then: deny
    message: { agent: "Ask a person." }
  - id: BEN-002
    title: Runaway loops
    at: tool.before
    when: "tool.calls_5m > 100000000"
    then: deny
    message: { agent: "Stop." }
  - id: BEN-003
    title: Only known models
    at: model.before
    when: "!(model.name in ['gpt-5', 'gpt-5-mini'])"
    then: deny
    message: { agent: "Use a known model." }
"""

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


# The arms: each gives the function of one turn, and what brings everything to its place ------


def plain_arm(_: argparse.Namespace) -> tuple[Callable[[int], object], Callable[[], object]]:
    return turn_of(ask, refund), lambda: None


def turn_of(model: Callable[..., Any], tool: Callable[..., Any]) -> Callable[[int], object]:
    def turn(_: int) -> object:
        model("which order?")
        tool("o-17", amount_usd=12.5)
        return model("what now?")

    return turn


def otel_arm(options: argparse.Namespace) -> tuple[Callable[[int], object], Callable[[], object]]:
    """What an instrumentation of the conventions does, by hand and without detours."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import SpanKind

    provider = TracerProvider(resource=Resource.create({"service.name": "bench"}), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"{options.sink}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=QUEUE_SPANS))
    tracer = provider.get_tracer("bench", "1")

    def model(question: str) -> dict[str, Any]:
        started = {
            "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-5",
        }  # fmt: skip
        with tracer.start_as_current_span("chat gpt-5", kind=SpanKind.CLIENT, attributes=started) as span:
            answer = ask(question)
            usage = answer["usage"]
            span.set_attributes(
                {
                    "gen_ai.response.id": answer["id"],
                    "gen_ai.response.model": answer["model"],
                    "gen_ai.response.finish_reasons": [c["finish_reason"] for c in answer["choices"]],
                    "gen_ai.usage.input_tokens": usage["prompt_tokens"],
                    "gen_ai.usage.output_tokens": usage["completion_tokens"],
                    "gen_ai.usage.cache_read.input_tokens": usage["prompt_tokens_details"]["cached_tokens"],
                    "gen_ai.usage.reasoning.output_tokens": usage["completion_tokens_details"][
                        "reasoning_tokens"
                    ],
                    "gen_ai.agent.name": "support",
                }
            )
            return answer

    def tool(order_id: str, amount_usd: float) -> str:
        started = {
            "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "refund", "gen_ai.agent.name": "support",
        }  # fmt: skip
        with tracer.start_as_current_span("execute_tool refund", attributes=started):
            return refund(order_id, amount_usd)

    inner = turn_of(model, tool)

    def turn(_: int) -> object:
        started = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "support"}
        with tracer.start_as_current_span("invoke_agent support", attributes=started):
            return inner(0)

    return turn, provider.shutdown


def agentguard_arm(options: argparse.Namespace) -> tuple[Callable[[int], object], Callable[[], object]]:
    import agentguard

    folder = Path(options.folder)
    is_governed = options.arm != "record"
    if is_governed:
        (folder / "bench.yaml").write_text(POLICY, encoding="utf-8")
    agentguard.init(
        service="bench",
        store=folder / "store",
        key=f"file:{make_key(folder)}",
        policies=[folder / "bench.yaml"] if is_governed else None,
        export=options.sink if options.arm == "exported" else None,
        flush_timeout_s=60,
        drift_interval_s=0,
        queue_bytes_max=1 << 29,
    )
    inner = turn_of(
        agentguard.model(provider="openai", model="gpt-5")(ask), agentguard.tool(effect="write")(refund)
    )
    return agentguard.agent(name="support")(inner), lambda: agentguard.shutdown(60)


def make_key(folder: Path) -> Path:
    from agentguard.seal import create_key_file

    create_key_file(folder / "key")
    return folder / "key"


BUILDERS = {"plain": plain_arm, "otel": otel_arm}


def run_arm(options: argparse.Namespace) -> dict[str, float]:
    """Measure one arm in this process."""
    turn, finish = BUILDERS.get(options.arm, agentguard_arm)(options)
    for number in range(WARM_UP_TURNS):
        turn(number)
    time.sleep(0.5)
    calls = options.turns * CALLS_A_TURN
    process_s, wall_s, hot_s = time.process_time(), time.monotonic(), time.thread_time()
    for number in range(options.turns):
        turn(number)
    hot_s = time.thread_time() - hot_s
    wall_s = time.monotonic() - wall_s
    finish()
    return {
        "hot_us": hot_s / calls * 1e6,
        "process_us": (time.process_time() - process_s) / calls * 1e6,
        "wall_us": wall_s / calls * 1e6,
    }


# The sink and the table -----------------------------------------------------


class Sink:
    """Takes OTLP over HTTP in a process of its own, and counts spans."""

    def __init__(self) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        sink = self
        self.spans = 0
        self._lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                request = ExportTraceServiceRequest.FromString(body)
                count = sum(len(s.spans) for r in request.resource_spans for s in r.scope_spans)
                with sink._lock:
                    sink.spans += count
                self._answer(b"")

            def do_GET(self) -> None:
                self._answer(str(sink.spans).encode())

            def _answer(self, body: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@contextmanager
def sink_process() -> Iterator[str]:
    with subprocess.Popen(
        [sys.executable, __file__, "--arm", "sink"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


def spans_at(sink: str) -> int:
    import urllib.request

    with urllib.request.urlopen(sink) as response:
        return int(response.read())


def measure(arm: str, turns: int, sink: str) -> dict[str, float]:
    before = spans_at(sink)
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            __file__,
            "--arm",
            arm,
            "--turns",
            str(turns),
            "--sink",
            sink,
            "--folder",
            folder,
        ]
        environ = {
            name: value for name, value in os.environ.items() if not name.startswith(("AGENTGUARD_", "OTEL_"))
        }
        environ["PYTHONPATH"] = str(Path(__file__).parents[1])
        result = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=environ,
            cwd=folder,
            timeout=600,
            check=False,
        )
    if result.returncode:
        sys.exit(f"{arm}: {result.stderr}")
    figures: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    figures["at_sink"] = spans_at(sink) - before
    return figures


def main(options: argparse.Namespace) -> None:
    rounds: list[dict[str, dict[str, float]]] = []
    expected = (options.turns + WARM_UP_TURNS) * CALLS_A_TURN
    with sink_process() as sink:
        for number in range(options.rounds):
            order = list(ARMS)
            random.Random(number).shuffle(order)
            rounds.append({arm: measure(arm, options.turns, sink) for arm in order})
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
    print(
        f"{options.rounds} rounds of {options.turns} turns, {CALLS_A_TURN} calls a turn; µs of CPU a call, medians"
    )
    print(f"{'arm':<10}{'hot':>9}{'process':>10}{'hot / otel':>13}{'process / otel':>17}{'at the sink':>14}")
    for arm in ARMS:
        hot, process = (
            statistics.median(r[arm][f"{name}_us"] for r in rounds) for name in ("hot", "process")
        )
        hot_ratio, process_ratio = (ratio(rounds, arm, f"{name}_us") for name in ("hot", "process"))
        arrived = min(r[arm]["at_sink"] for r in rounds)
        print(
            f"{arm:<10}{hot:>9.2f}{process:>10.2f}{hot_ratio:>13}{process_ratio:>17}"
            f"{f'{arrived:.0f} / {expected}' if arm in ('otel', 'exported') else '':>14}"
        )


def ratio(rounds: list[dict[str, dict[str, float]]], arm: str, figure: str) -> str:
    """Median of the ratios to `otel` within the rounds, the plain functions taken off both sides."""
    if arm in ("plain", "otel"):
        return "1" if arm == "otel" else ""
    return f"{statistics.median((r[arm][figure] - r['plain'][figure]) / (r['otel'][figure] - r['plain'][figure]) for r in rounds):.2f}"


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--turns", type=int, default=2000)
    for internal in ("arm", "sink", "folder"):
        parser.add_argument(f"--{internal}", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    given = read_options()
    if given.arm == "sink":
        own = Sink()
        print(own.server.server_port, flush=True)
        own.server.serve_forever()
    elif given.arm:
        print(json.dumps(run_arm(given)))
    else:
        main(given)
