"""
What a governed call costs, beside an OpenTelemetry SDK span in the same run.

One turn is an agent call around two model calls and a tool call: four spans with the
same attributes in every arm. The arms run in processes of their own, one after the
other, in an order that changes from round to round; a figure is the median of the
ratios within the rounds, so that a busy machine slows both sides of each ratio.

    plain       the functions, undecorated
    off         decorated, with AGENTGUARD_ENABLED=0
    sketch      the least that keeps an encrypted trace: dict, ids, JSON, zstd-1, AES-256-GCM in the background
    otel        OpenTelemetry SDK, BatchSpanProcessor, OTLP over HTTP to a sink on this machine
    record      agentguard: sealed store, no policies, nothing exported
    governed    the same with a hundred rules, five of which could apply; admission and outcome chained and sealed
    exported    the same, and every span to the same sink
    beside      governed, in an application that has the provider of `otel`: what is above `otel` is ours

`hot` is the CPU time of the calling thread, `process` that of the whole process until
everything is on disk or at the sink. Run: `make bench`, or `python benchmarks/overhead.py
[--rounds 7] [--turns 2000] [--arms record,governed]`.
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
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ARMS = ("plain", "off", "sketch", "otel", "record", "governed", "exported", "beside")
CALLS_A_TURN = 4
WARM_UP_TURNS = 200
QUEUE_SPANS = 1 << 18
"""Room for every span of a run: the SDK's processor drops what does not fit, which would make it look cheap."""

RULES = 100
RELEVANT = 5


def policy() -> str:
    """A bundle of a hundred rules, of which five could apply to a call of the benchmark; none has a budget."""
    relevant = [
        ("tool.before", "tool.name == 'refund' && args.amount_usd > 100.0"),
        ("tool.before", "tool.effect != 'read' && run.tool_calls > 1000000000"),
        ("tool.before", "tool.calls_5m > 100000000"),
        ("model.before", "!(model.name in ['gpt-5', 'gpt-5-mini'])"),
        ("model.before", "run.model_calls > 1000000000"),
    ]
    others = [
        ("tool.before", f"tool.name == 'other_{number}' && args.amount_usd > {number}.5")
        for number in range(RULES - RELEVANT)
    ]
    rules = "".join(
        f"""\
  - id: BEN-{number:03}
    title: Rule {number}
    at: {point}
    when: "{condition}"
    then: deny
"""
        for number, (point, condition) in enumerate((*relevant, *others), 1)
    )
    return f"""\
apiVersion: agentguard/v1
kind: Policy
metadata: {{ name: bench, version: 1.0.0, title: A hundred rules }}
defaults: {{ unmatched: allow, mode: enforce, timezone: UTC }}
rules:
{rules}"""


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


def provider_of(options: argparse.Namespace) -> Any:
    """The SDK's provider, with the batch processor and the exporter that everybody sets."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": "bench"}), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"{options.sink}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=QUEUE_SPANS))
    return provider


def otel_arm(options: argparse.Namespace) -> tuple[Callable[[int], object], Callable[[], object]]:
    """What an instrumentation of the conventions does, by hand and without detours."""
    from opentelemetry.trace import SpanKind

    provider = provider_of(options)
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


def sketch_arm(options: argparse.Namespace) -> tuple[Callable[[int], object], Callable[[], object]]:
    """The floor of any encrypted trace: no policy, no conventions beyond names, no features, no proof."""
    import msgspec
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    from agentguard.store._codec import zstd

    encode = msgspec.json.encode  # In C, as orjson is; and installed with agentguard.
    finished: deque[dict[str, Any]] = deque()
    bits, current = random.Random().getrandbits, [(0, 0)]
    key, is_ended = AESGCM(os.urandom(32)), threading.Event()

    def spanned(name: str, kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            above = current[0]
            own = (above[0] or bits(128), bits(64))
            current[0] = own
            start = time.time_ns()
            try:
                answer = function(*args, **kwargs)
            finally:
                current[0] = above
            span = {
                "trace": f"{own[0]:032x}", "id": f"{own[1]:016x}", "parent": f"{above[1]:016x}", "name": name,
                "start": start, "duration": time.time_ns() - start, "gen_ai.operation.name": kind,
                "gen_ai.agent.name": "support",
            }  # fmt: skip
            if kind == "chat":
                usage = answer["usage"]
                span["gen_ai.response.id"] = answer["id"]
                span["gen_ai.response.model"] = answer["model"]
                span["gen_ai.usage.input_tokens"] = usage["prompt_tokens"]
                span["gen_ai.usage.output_tokens"] = usage["completion_tokens"]
            finished.append(span)
            return answer

        return call

    def write() -> None:
        with (Path(options.folder) / "sketch").open("ab") as file:
            while not (is_ended.wait(0.2) and not finished):
                while finished:
                    batch = [finished.popleft() for _ in range(min(100, len(finished)))]
                    nonce = os.urandom(12)
                    sealed = key.encrypt(nonce, zstd.compress(encode(batch), 1), None)
                    file.write(len(sealed).to_bytes(4, "little") + nonce + sealed)
                file.flush()
                os.fdatasync(file.fileno())

    writer = threading.Thread(target=write)
    writer.start()

    def finish() -> None:
        is_ended.set()
        writer.join()

    turn = turn_of(spanned("chat gpt-5", "chat", ask), spanned("execute_tool refund", "execute_tool", refund))
    return spanned("invoke_agent support", "invoke_agent", turn), finish


def off_arm(options: argparse.Namespace) -> tuple[Callable[[int], object], Callable[[], object]]:
    os.environ["AGENTGUARD_ENABLED"] = "0"
    import agentguard

    agentguard.init(store=Path(options.folder) / "store")
    inner = turn_of(
        agentguard.model(provider="openai", model="gpt-5")(ask), agentguard.tool(effect="write")(refund)
    )
    return agentguard.agent(name="support")(inner), lambda: None


def beside_arm(options: argparse.Namespace) -> tuple[Callable[[int], object], Callable[[], object]]:
    from opentelemetry import trace

    provider = provider_of(options)
    trace.set_tracer_provider(provider)
    turn, finish = agentguard_arm(options)

    def finish_both() -> None:
        finish()
        provider.shutdown()

    return turn, finish_both


def agentguard_arm(options: argparse.Namespace) -> tuple[Callable[[int], object], Callable[[], object]]:
    import agentguard

    folder = Path(options.folder)
    is_governed = options.arm != "record"
    if is_governed:
        (folder / "bench.yaml").write_text(policy(), encoding="utf-8")
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


BUILDERS = {
    "plain": plain_arm, "off": off_arm, "sketch": sketch_arm, "otel": otel_arm, "beside": beside_arm,
}  # fmt: skip


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
            order = list(options.arms)
            random.Random(number).shuffle(order)
            rounds.append({arm: measure(arm, options.turns, sink) for arm in order})
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
    for name in ("hot", "process"):
        share = (
            statistics.median(
                (r["beside"][f"{name}_us"] - r["otel"][f"{name}_us"]) / r["otel"][f"{name}_us"]
                for r in rounds
            )
            if "beside" in options.arms
            else None
        )
        if share is not None:
            print(f"above the application's own SDK, {name}: {share:.2f} of what it costs")
    print(
        f"{options.rounds} rounds of {options.turns} turns, {CALLS_A_TURN} calls a turn; µs of CPU a call, medians"
    )
    print(f"{'arm':<10}{'hot':>9}{'process':>10}{'hot / otel':>13}{'process / otel':>17}{'at the sink':>14}")
    for arm in options.arms:
        hot, process = (
            statistics.median(r[arm][f"{name}_us"] for r in rounds) for name in ("hot", "process")
        )
        hot_ratio, process_ratio = (ratio(rounds, arm, f"{name}_us") for name in ("hot", "process"))
        arrived = min(r[arm]["at_sink"] for r in rounds)
        print(
            f"{arm:<10}{hot:>9.2f}{process:>10.2f}{hot_ratio:>13}{process_ratio:>17}"
            f"{f'{arrived:.0f} / {expected}' if arm in ('otel', 'exported', 'beside') else '':>14}"
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
    parser.add_argument(
        "--arms",
        type=lambda text: [
            "plain",
            "otel",
            *(arm for arm in ARMS if arm in text.split(",") and arm not in ("plain", "otel")),
        ],
        default=list(ARMS),
        help=f"some of {','.join(ARMS)}; plain and otel are always there",
    )
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
