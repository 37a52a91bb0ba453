"""
How late a governed call is, what is lost under load, and what memory it takes.

    python benchmarks/overhead_latency.py [--seconds 30] [--calls 1000000] [--only latency,losses] [--quick]

latency  2,000 calls a second for half a minute, evenly paced, while the writer closes and seals
         segments, the housekeeper packs a thousand small ones, and every span goes to a sink on this
         machine. Three controls, each a process of its own: `plain` (the bare functions: the clock and the
         machine), `busy` (a bare function that takes as much CPU as a governed call: what the machine
         does to anything that long), and `otel` (the SDK with its batch processor and OTLP exporter).
         Wall time tells what a caller waits; CPU of the calling thread tells what we make it do, and
         does not depend on how busy the machine is.
losses   a million calls with nothing between them: half in one thread, half in eight. Spans are counted
         again by reading the store from the disk. A counted drop is a loss.

Both say how much memory the process had at its peak, shutdown included, above that of a process that calls
the bare functions the same way, and whether scipy was in it; `drift` is the paced run with the drift
checker at work. The bare process is not an empty interpreter: it has loaded what this benchmark needs,
some ten megabytes, among it the standard library's HTTP and TLS, as an application that asks a model has too.
Its own peak is in the table. `--quick` takes a minute; its figures of memory are lower by a few megabytes, since holes
in the heap grow with time.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

from overhead_parts import (
    Report,
    arrived,
    ask,
    median,
    parser_of,
    percentile,
    refund,
    run_arm,
    say,
    sink_process,
    start_governed,
)

CALLS_A_SECOND = 2_000
CALLS_A_RUN = 40
SMALL_SEGMENTS = 1_000
THREADS = 8
QUICK_S, QUICK_CALLS = 8.0, 400_000
P999_BAR_MS, MEMORY_BAR_MIB = 1.0, 8 + 40


def peak_mib() -> float:
    """The most memory that this process has had."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


# The programs that are measured -------------------------------------------------


class Program:
    """A model and a tool, however they are watched, and what ends it."""

    def __init__(self, model: Callable[..., Any], tool: Callable[..., Any]) -> None:
        self.model = model
        self.tool = tool

    def new_run(self) -> None:
        """Begin another run of the agent."""

    def finish(self) -> dict[str, Any]:
        """Bring everything to its place, and count it."""
        return {}


class Busy(Program):
    """Bare functions that burn as much CPU as they are told."""

    def __init__(self, busy_us: float) -> None:
        def spin(turns: int) -> None:
            for _ in range(turns):
                pass

        started = time.thread_time_ns()
        spin(1_000_000)
        turns = int(busy_us * 1e3 / max((time.thread_time_ns() - started) / 1e6, 1e-3))
        super().__init__(lambda _: spin(turns), lambda *_: spin(turns))


class Watched(Program):
    """The OpenTelemetry SDK."""

    def __init__(self, sink: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self._provider = TracerProvider(shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{sink}/v1/traces")))
        tracer = self._provider.get_tracer("bench", "1")

        def model(question: str) -> Any:
            with tracer.start_as_current_span("chat gpt-5") as span:
                answer = ask(question)
                usage = answer["usage"]
                span.set_attributes(
                    {
                        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai",
                        "gen_ai.request.model": "gpt-5", "gen_ai.response.id": answer["id"],
                        "gen_ai.response.model": answer["model"],
                        "gen_ai.usage.input_tokens": usage["prompt_tokens"],
                        "gen_ai.usage.output_tokens": usage["completion_tokens"], "gen_ai.agent.name": "support",
                    }
                )  # fmt: skip
                return answer

        def tool(order_id: str, amount_usd: float) -> str:
            started = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "refund"}
            with tracer.start_as_current_span("execute_tool refund", attributes=started):
                return refund(order_id, amount_usd)

        super().__init__(model, tool)

    def finish(self) -> dict[str, Any]:
        """Export the rest."""
        self._provider.shutdown()
        return {}


class Governed(Program):
    """agentguard as it is by default, with a hundred rules."""

    def __init__(
        self, folder: Path, *, sink: str = "", is_drifting: bool = False, small_segments: int = 0
    ) -> None:
        import agentguard

        self._guard = agentguard
        if small_segments:
            # In a process of its own: what it needs in memory is not ours.
            run_arm(__file__, "prepare", folder=folder, small_segments=small_segments)
        self.runtime = start_governed(
            folder, export=sink or None, drift_interval_s=1 if is_drifting else 0, drift_cpu_share=1,
            flush_timeout_s=60,
        )  # fmt: skip
        self._segments_before = len(list(self.runtime.store.segments.iterdir()))
        self._run: Any = None
        super().__init__(
            agentguard.model(provider="openai", model="gpt-5")(ask),
            agentguard.tool(effect="write", name="refund")(refund),
        )

    def new_run(self) -> None:
        """End the run before, if there was one."""
        self.end_run()
        self._run = self._guard.run()
        self._run.__enter__()

    def end_run(self) -> None:
        """End the run."""
        if self._run is not None:
            self._run.__exit__(None, None, None)
            self._run = None

    def finish(self) -> dict[str, Any]:
        """Flush, close, and read the store again."""
        self.end_run()
        runtime, peak = self.runtime, peak_mib()
        has_scipy = "scipy" in sys.modules
        self._guard.shutdown(120)
        segments = len(list(runtime.store.segments.iterdir()))
        return {
            "peak_mib": max(peak, peak_mib()),
            "has_scipy": has_scipy,
            "has_numpy": "numpy" in sys.modules,
            "spans_dropped": sum(runtime.sink.dropped.values()),
            "spans_pending": runtime.sink.pending,
            "records_stored": runtime.journal.stored,
            "records_dropped": sum(runtime.journal.dropped.values()),
            "internal_errors": dict(runtime.health.counts),
            "segments_before": self._segments_before,
            "segments_after": segments,
            # Read back from the disk, by the store and not by the writer's own counters.
            "spans_read": sum(block.rows for block in runtime.store.query().features(["duration_ns"])),
        }


def prepare_arm(options: argparse.Namespace) -> dict[str, Any]:
    """Leave what short processes leave: small sealed segments, to be packed by the housekeeper."""
    from storage_sample import Finished, SystemClock, make_spans

    from agentguard.seal import create_key_file
    from agentguard.store import Disk, Store, WriterConfig

    class Unsynced(Disk):
        """Making the files is not what is measured."""

        def sync(self, fd: int) -> None:
            """Nothing."""

        def sync_folder(self, folder: Path) -> None:
            """Nothing."""

    def fail(where: str, error: BaseException) -> None:
        raise SystemExit(f"{where}: {error!r}")

    folder = Path(options.folder)
    store = Store.create(
        folder / "store", provider=create_key_file(folder / "key"), clock=SystemClock(), disk=Unsynced()
    )
    for number, span in enumerate(make_spans(options.small_segments)):
        resource = {"service.name": "job", "process.pid": str(number)}
        writer = store.writer(
            resource=resource, on_internal_error=fail, config=WriterConfig(is_sealing=False)
        )
        writer.append(Finished(span))
        writer.close(60)
    return {"sealed": store.seal_segments()}


def program_of(options: argparse.Namespace, folder: Path) -> Program:
    """Make what this arm runs."""
    if options.program == "plain":
        return Program(ask, refund)
    if options.program == "busy":
        return Busy(options.busy_us)
    if options.program == "otel":
        return Watched(options.sink)
    return Governed(
        folder,
        sink=options.sink,
        is_drifting=options.program == "drift",
        small_segments=options.small_segments,
    )


# Latency ------------------------------------------------------------------------


def pace_arm(options: argparse.Namespace) -> dict[str, Any]:
    """Call at an even pace; latency of each call, in microseconds."""
    with tempfile.TemporaryDirectory() as folder:
        program = program_of(options, Path(folder))
        for _ in range(500):
            program.model("which order?")
            program.tool("o-17", 12.5)
        count = int(options.seconds * options.rate)
        wall, cpu = array("q"), array("q")
        start = time.perf_counter_ns() + 100_000_000
        for number in range(count):
            if number % CALLS_A_RUN == 0:
                program.new_run()
            due_s = (start + number * 1_000_000_000 // options.rate - time.perf_counter_ns()) / 1e9
            if due_s > 0:
                time.sleep(due_s)
            if number & 1:
                wall_ns, cpu_ns = time.perf_counter_ns(), time.thread_time_ns()
                program.tool("o-17", 12.5)
            else:
                wall_ns, cpu_ns = time.perf_counter_ns(), time.thread_time_ns()
                program.model("which order?")
            cpu.append(time.thread_time_ns() - cpu_ns)
            wall.append(time.perf_counter_ns() - wall_ns)
        took_s = (time.perf_counter_ns() - start) / 1e9
        found: dict[str, Any] = {"calls": count + 1000, "calls_a_second": count / took_s}
        # Before the percentiles, whose sorted copies are this benchmark's and not the program's.
        found |= program.finish()
        found.setdefault("peak_mib", peak_mib())
        for name, values in (("wall", wall), ("cpu", cpu)):
            for share, mark in ((0.5, "p50"), (0.99, "p99"), (0.999, "p999"), (1.0, "max")):
                found[f"{name}_{mark}_us"] = percentile(values, share) / 1e3
        return found


def report_latency(report: Report, options: argparse.Namespace, sink: str) -> None:
    """Latency of every program, and its memory."""
    rounds: list[dict[str, dict[str, Any]]] = []
    for number in range(options.rounds):
        found: dict[str, dict[str, Any]] = {}
        paced = {"seconds": options.seconds, "rate": CALLS_A_SECOND}
        before = arrived(sink)["spans"]
        found["governed"] = run_arm(
            __file__, "pace", program="governed", sink=sink, small_segments=SMALL_SEGMENTS, **paced
        )
        found["governed"]["exported"] = arrived(sink)["spans"] - before
        busy_us = found["governed"]["cpu_p50_us"]
        for name in ("plain", "busy", "otel"):
            more = {"busy_us": busy_us} if name == "busy" else {"sink": sink} if name == "otel" else {}
            found[name] = run_arm(__file__, "pace", program=name, **more, **paced)
        found["drift"] = run_arm(__file__, "pace", program="drift", **paced)
        rounds.append(found)
        say(f"latency: round {number + 1} of {options.rounds}")

    def value(name: str, key: str) -> float:
        return median([round_[name][key] for round_ in rounds])

    names = ("plain", "busy", "otel", "governed")
    marks = ("p50", "p99", "p999", "max")
    report.table(
        f"Latency of a call at {CALLS_A_SECOND:,} calls a second for {options.seconds:g} s, microseconds",
        ("program", *(f"wall {mark.replace('999', '99.9')}" for mark in marks),
         *(f"CPU {mark.replace('999', '99.9')}" for mark in marks)),
        [[name, *(value(name, f"{kind}_{mark}_us") for kind in ("wall", "cpu") for mark in marks)] for name in names],
        "CPU is that of the calling thread. `busy` burns the median CPU of a governed call and nothing else.",
    )  # fmt: skip
    last = rounds[-1]["governed"]
    report.notes.append(
        f"Meanwhile, in the last round: {last['calls']:,} calls, {last['exported']:,} spans exported, "
        f"{last['segments_before']:,} segments before and {last['segments_after']:,} after; "
        f"{last['spans_read'] - SMALL_SEGMENTS:,} spans read back, {last['spans_dropped']:,} dropped, "
        f"internal errors: {last['internal_errors'] or 'none'}."
    )
    added_ms = (value("governed", "wall_p999_us") - value("plain", "wall_p999_us")) / 1e3
    report.bar("p99.9 of the added latency, wall", added_ms, P999_BAR_MS, "ms")
    report.bar(
        "p99.9 of the added CPU of the calling thread",
        (value("governed", "cpu_p999_us") - value("plain", "cpu_p999_us")) / 1e3,
        P999_BAR_MS,
        "ms",
    )
    own_ms = (value("busy", "wall_p999_us") - value("plain", "wall_p999_us")) / 1e3
    report.notes.append(
        f"The machine's own: p99.9 of `busy` is {own_ms:.2f} ms above `plain`; that of the SDK "
        f"{(value('otel', 'wall_p999_us') - value('plain', 'wall_p999_us')) / 1e3:.2f} ms."
    )
    report.table(
        "Memory at its peak, MiB above the bare functions at the same pace",
        ("program", "MiB", "in all", "numpy in it", "scipy in it"),
        [
            [name, value(name, "peak_mib") - value("plain", "peak_mib"), value(name, "peak_mib"),
             rounds[-1][name].get("has_numpy", False), rounds[-1][name].get("has_scipy", False)]
            for name in ("otel", "governed", "drift")
        ],
        "governed: sealing, packing and exporting; drift: with the drift checker every second, without export. "
        f"The bare functions: {value('plain', 'peak_mib'):.1f} in all.",
    )  # fmt: skip
    for name in ("governed", "drift"):
        memory = value(name, "peak_mib") - value("plain", "peak_mib")
        report.bar(f"memory at {CALLS_A_SECOND:,} calls a second, {name}", memory, MEMORY_BAR_MIB, "MiB")
        report.bar(f"scipy in the process, {name}", float(rounds[-1][name]["has_scipy"]), 0, "")


# Losses -------------------------------------------------------------------------


def flood_arm(options: argparse.Namespace) -> dict[str, Any]:
    """Call as fast as can be, in one thread or several."""
    with tempfile.TemporaryDirectory() as folder:
        program = program_of(options, Path(folder))
        each = options.calls // options.threads // 2
        cpu_ns = [0] * options.threads

        def work(place: int) -> None:
            started = time.thread_time_ns()
            for _ in range(each):
                program.model("which order?")
                program.tool("o-17", 12.5)
            cpu_ns[place] = time.thread_time_ns() - started

        started = time.process_time_ns()
        if options.threads == 1:
            work(0)
        else:
            threads = [threading.Thread(target=work, args=(place,)) for place in range(options.threads)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        calls = each * 2 * options.threads
        found = {"calls": calls, "hot_us": sum(cpu_ns) / calls / 1e3, "peak_mib": peak_mib()}
        found |= program.finish()
        found["process_us"] = (time.process_time_ns() - started) / calls / 1e3
        return found


def report_losses(report: Report, options: argparse.Namespace, _: str) -> None:
    """A million calls, and what became of them."""
    rows, lost_spans, lost_records, memory, has_scipy = [], 0, 0, 0.0, False
    for threads in (1, THREADS):
        calls = options.calls // 2
        plain = run_arm(__file__, "flood", program="plain", calls=calls, threads=threads)
        found = run_arm(__file__, "flood", program="governed", calls=calls, threads=threads, timeout_s=3600)
        missing = found["calls"] - found["spans_read"]
        # Admission and outcome of each call, in one record or two; the log's own events come on top.
        missing_records = max(found["calls"] - found["records_stored"], found["records_dropped"])
        more = found["peak_mib"] - plain["peak_mib"]
        rows.append([
            "one thread" if threads == 1 else f"{threads} threads", found["calls"], found["spans_read"],
            found["spans_dropped"], missing - found["spans_dropped"], found["records_stored"],
            found["records_dropped"], more, found["hot_us"], found["process_us"],
        ])  # fmt: skip
        lost_spans += missing
        lost_records += missing_records
        memory, has_scipy = max(memory, more), has_scipy or found["has_scipy"]
        say(f"losses: {threads} threads; internal errors: {found['internal_errors'] or 'none'}")
    report.table(
        "Calls with nothing between them",
        ("how", "calls", "spans read back", "dropped and counted", "lost and not counted", "records in the log",
         "records dropped", "memory, MiB above bare", "us hot", "us process"),
        rows,
    )  # fmt: skip
    report.bar("spans lost, counted drops included", lost_spans, 0, "")
    report.bar("records of the decision log lost", lost_records, 0, "")
    report.bar("memory in a flood", memory, MEMORY_BAR_MIB, "MiB")
    report.bar("scipy in the process, flood", float(has_scipy), 0, "")


def main(options: argparse.Namespace) -> None:
    report = Report("latency", "python benchmarks/overhead_latency.py" + " --quick" * options.quick)
    with sink_process() as sink:
        if "latency" in options.only:
            report_latency(report, options, sink)
        if "losses" in options.only:
            report_losses(report, options, sink)
    report.print(options.format)


def read_options() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--seconds", type=float, default=30, help="of each paced program (default 30)")
    parser.add_argument("--rounds", type=int, default=1, help="of the paced programs (default 1)")
    parser.add_argument("--calls", type=int, default=1_000_000, help="of the flood, both halves together")
    parser.add_argument("--only", type=lambda text: text.split(","), default=["latency", "losses"],
                        help="one of latency,losses")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="8 seconds, and 400,000 calls in the flood")
    for name, kind, default in (
        ("program", str, ""), ("sink", str, ""), ("folder", str, ""), ("rate", int, CALLS_A_SECOND), ("busy-us", float, 25.0),
        ("small-segments", int, 0), ("threads", int, 1),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=kind, default=default, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.seconds, options.calls = min(options.seconds, QUICK_S), min(options.calls, QUICK_CALLS)
    return options


if __name__ == "__main__":
    given = read_options()
    if given.arm:
        print(json.dumps({"pace": pace_arm, "flood": flood_arm, "prepare": prepare_arm}[given.arm](given)))
    else:
        main(given)
