"""A scalability bottleneck: latency under load, and a trace backend that hangs."""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import agentguard
from agentguard.cli.demo.brain import BUSY, TESTED
from agentguard.cli.demo.findings import Finding
from agentguard.cli.demo.stage import Stage

_LOADS = (1, 2, 4, 8)
_CUSTOMERS = 24
_REAL_CUSTOMERS = 8
_SLOWDOWN = 1.5
"""How much slower the highest load must be than the lowest to count as a bottleneck."""
_WAIT_MS_MAX = 250.0
"""A conversation that waited for the backend would have waited for seconds."""


def play(stage: Stage) -> Finding:
    """Ask from more and more threads, while the trace backend hangs; then let it go."""
    stage.server.behaviour = BUSY
    stage.receiver.stick()
    hung_from = time.monotonic()
    _load(stage)
    stage.server.behaviour = TESTED
    flush_from = time.monotonic()
    flushed = agentguard.flush(10)
    flush_s = time.monotonic() - flush_from

    by_load = {load: stage.latencies_ms("model", load) for load in _LOADS}
    latency_ms = {load: statistics.median(found.values()) for load, found in by_load.items()}
    # Each conversation is one model call: what the agent's span has more was not spent in the model.
    rest_ms = statistics.median(
        whole - by_load[load][trace]
        for load in _LOADS
        for trace, whole in stage.latencies_ms("agent", load).items()
    )
    stored = int(stage.number("select count(*) from spans"))
    arrived_before = len(stage.receiver.span_ids)
    hung_s = time.monotonic() - hung_from

    stage.receiver.unstick()
    began = time.monotonic()
    arrived = stage.wait_for_export(stored)
    curve = ", ".join(f"{load}: {latency_ms[load]:.0f} ms" for load in _LOADS)
    rise = latency_ms[_LOADS[-1]] / max(latency_ms[_LOADS[0]], 1e-9)
    return Finding(
        title="Scalability bottleneck",
        story="Eight customers at once on a backend with two seats, while the trace backend hangs.",
        without="answers come late and no figure says where the time goes; what the usual span processor "
        "loses stands below",
        with_guard=(
            f"median latency of the model by customers at once: {curve}",
            f"the trace backend hung for {hung_s:.1f} s: meanwhile a conversation spent {rest_ms:.1f} ms "
            f"outside its model call, {flushed.dropped} spans were dropped, the flush to disk took {flush_s:.2f} s",
            f"let go, it had {arrived} of {stored} spans after {time.monotonic() - began:.1f} s, "
            f"{arrived - arrived_before} more than before",
        ),
        command="agentguard stats",
        caught=rise > _SLOWDOWN
        and rest_ms < _WAIT_MS_MAX
        and flushed.is_complete
        and flushed.dropped == 0
        and arrived_before < stored <= arrived,
        short=f"{rise:.1f}x slower at 8; {max(0, stored - arrived)} spans lost",
        figures={
            "latency_ms": latency_ms,
            "outside_model_ms": rest_ms,
            "hung_s": hung_s,
            "flush_s": flush_s,
            "dropped": flushed.dropped,
            "stored": stored,
            "arrived_before": arrived_before,
            "arrived": arrived,
        },
    )


def _load(stage: Stage) -> None:
    """Let 1, 2, 4 and 8 customers ask at once, with streamed answers."""
    agent = stage.streaming_agent()
    customers = _REAL_CUSTOMERS if stage.is_real else _CUSTOMERS
    for load in _LOADS:

        def customer(_: int, load: int = load) -> None:
            with agentguard.run(principal="load-test", labels={"load": str(load)}):
                agent.answer("What are your opening hours?")

        with ThreadPoolExecutor(load) as pool:
            list(pool.map(customer, range(customers)))
