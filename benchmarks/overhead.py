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
everything is on disk or at the sink; an arm that drops anything fails. The SDK's processor has room
for every span of a run, since it would drop most of them; agentguard runs with its default queue.

    make bench, or python benchmarks/overhead.py [--rounds 7] [--turns 2000] [--arms record,governed]

Beside it: `overhead_shapes.py` (other shapes of calls), `overhead_install.py` (imports), `overhead_latency.py` (latency, losses,
memory), `overhead_growth.py` (curves), `overhead_peers.py` (other libraries), `overhead_stages.py` (where
the time goes), and `overhead_report.py`, which runs them all and writes the tables of
docs/explanation/overhead.md.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from overhead_parts import (
    RULES,
    Report,
    arrived,
    ask,
    median,
    parser_of,
    refund,
    say,
    sink_process,
    start_governed,
)
from overhead_parts import run_arm as arm_figures

ARMS = ("plain", "off", "sketch", "otel", "record", "governed", "exported", "beside")
CALLS_A_TURN = 4
WARM_UP_TURNS = 200
QUEUE_SPANS = 1 << 18
"""Room for every span of a run: the SDK's processor drops what does not fit, which would make it look cheap."""

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

    runtime = start_governed(
        Path(options.folder),
        rules=0 if options.arm == "record" else RULES,
        export=options.sink if options.arm == "exported" else None,
    )

    def finish() -> None:
        agentguard.shutdown(60)
        # What was dropped was not paid for.
        assert not runtime.sink.dropped
        assert not runtime.journal.dropped

    inner = turn_of(
        agentguard.model(provider="openai", model="gpt-5")(ask), agentguard.tool(effect="write")(refund)
    )
    return agentguard.agent(name="support")(inner), finish


BARS = (
    ("governed", "hot_us", "otel", 0.2, "calling thread, governed against the OpenTelemetry SDK"),
    ("governed", "process_us", "otel", 0.2, "whole process, governed against the OpenTelemetry SDK"),
    ("governed", "process_us", "sketch", 6.0, "whole process, governed against the bare sketch"),
)
BUILDERS = {
    "plain": plain_arm, "off": off_arm, "sketch": sketch_arm, "otel": otel_arm, "beside": beside_arm,
}  # fmt: skip


def run_arm(options: argparse.Namespace) -> dict[str, float]:
    """Measure one arm in this process."""
    turn, finish = BUILDERS.get(options.arm, agentguard_arm)(options)
    for number in range(WARM_UP_TURNS):
        turn(number)
    time.sleep(0.5)
    # What starting up has left is no call's: in every arm the collector begins with nothing to do.
    gc.collect()
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


# The table ---------------------------------------------------------------------


def measure(arm: str, turns: int, sink: str) -> dict[str, float]:
    """Run one arm in a process and a folder of its own."""
    before = arrived(sink)["spans"]
    with tempfile.TemporaryDirectory() as folder:
        figures: dict[str, float] = arm_figures(__file__, arm, turns=turns, sink=sink, folder=folder)
    figures["at_sink"] = arrived(sink)["spans"] - before
    return figures


def main(options: argparse.Namespace) -> None:
    report = Report("overhead", "python benchmarks/overhead.py")
    rounds: list[dict[str, dict[str, float]]] = []
    expected = (options.turns + WARM_UP_TURNS) * CALLS_A_TURN
    with sink_process() as sink:
        for number in range(options.rounds):
            order = list(options.arms)
            random.Random(number).shuffle(order)
            rounds.append({arm: measure(arm, options.turns, sink) for arm in order})
            say(f"round {number + 1} of {options.rounds}")
    rows = []
    for arm in options.arms:
        at_sink = min(round_[arm]["at_sink"] for round_ in rounds)
        rows.append([
            arm,
            *(median([round_[arm][f"{name}_us"] for round_ in rounds]) for name in ("hot", "process")),
            *(shown_ratio(ratio(rounds, arm, f"{name}_us", "otel")) for name in ("hot", "process")),
            shown_ratio(ratio(rounds, arm, "process_us", "sketch")),
            f"{at_sink:,.0f} of {expected:,}" if arm in ("otel", "exported", "beside") else "",
        ])  # fmt: skip
    report.table(
        f"{options.rounds} rounds of {options.turns} turns, {CALLS_A_TURN} calls a turn; us of CPU a call, medians",
        ("arm", "hot", "process", "hot / otel", "process / otel", "process / sketch", "at the sink"),
        rows,
        "Ratios: within a round, the plain functions taken off both sides.",
    )
    for arm, figure, below, at_most, what in BARS:
        found = ratio(rounds, arm, figure, below)
        if found is not None:
            report.bar(what, found, at_most, "x")
    if "beside" in options.arms:
        for name in ("hot", "process"):
            share = median([
                (r["beside"][f"{name}_us"] - r["otel"][f"{name}_us"]) / r["otel"][f"{name}_us"] for r in rounds
            ])  # fmt: skip
            report.bar(f"above the application's own SDK, {name}", share, 0.3, "x")
    report.print(options.format)


def ratio(rounds: list[dict[str, dict[str, float]]], arm: str, figure: str, below: str) -> float | None:
    """Median of the ratios to another arm within the rounds, the plain functions taken off both sides."""
    if arm == "plain" or below not in rounds[0] or arm not in rounds[0]:
        return None
    return median(
        [(r[arm][figure] - r["plain"][figure]) / (r[below][figure] - r["plain"][figure]) for r in rounds]
    )


def shown_ratio(value: float | None) -> str:
    """Two digits, or nothing."""
    return "" if value is None else f"{value:.2f}"


def read_options() -> argparse.Namespace:
    parser = parser_of(__doc__)
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
    for internal in ("sink", "folder"):
        parser.add_argument(f"--{internal}", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    given = read_options()
    if given.arm:
        print(json.dumps(run_arm(given)))
    else:
        main(given)
