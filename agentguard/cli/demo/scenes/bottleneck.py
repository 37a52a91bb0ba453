"""A scalability bottleneck: latency under load, and an exporter that is stuck."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import agentguard
from agentguard.cli.demo.brain import BUSY, TESTED
from agentguard.cli.demo.findings import Finding
from agentguard.cli.demo.stage import Stage

_LOADS = (1, 2, 4, 8)
_CALLS = 24
_SLOWDOWN = 1.5
"""How much slower the highest load must be than the lowest to count as a bottleneck."""


def play(stage: Stage) -> Finding:
    """Ask from more and more threads, while the exporter hangs; then let the exporter go."""
    agent = stage.streaming_agent()
    stage.server.behaviour = BUSY
    hung = stage.receiver.requests
    for load in _LOADS:

        def customer(_: int, load: int = load) -> None:
            with agentguard.run(principal="load-test", labels={"load": str(load)}):
                agent.answer("What are your opening hours?")

        with ThreadPoolExecutor(load) as pool:
            list(pool.map(customer, range(_CALLS if not stage.is_real else 8)))
    stage.server.behaviour = TESTED
    flushed = agentguard.flush(10)
    latency_ms = {load: stage.median_latency_ms(load) for load in _LOADS}
    stored = int(stage.number("select count(*) from spans"))
    arrived_before = len(stage.receiver.span_ids)

    stage.receiver.unstick()
    began = time.monotonic()
    arrived = stage.wait_for_export(stored)
    curve = "  ".join(f"{load}: {latency_ms[load]:.0f} ms" for load in _LOADS)
    rise = latency_ms[_LOADS[-1]] / max(latency_ms[_LOADS[0]], 1e-9)
    return Finding(
        title="Scalability bottleneck",
        story="Eight customers at once on a backend with two seats, while the trace backend hangs.",
        without="answers come late and no figure says where the time goes; see below for what the usual "
        "span processor loses",
        with_guard=(
            f"median latency of the model by customers at once: {curve}",
            (
                f"exporter stuck since the start ({hung} requests unanswered), {flushed.dropped} spans dropped, "
                f"{stored} on disk"
            ),
            (
                f"backend let go: {arrived} of {stored} spans arrived in {time.monotonic() - began:.1f} s, "
                f"{arrived_before} before"
            ),
        ),
        command="agentguard stats",
        caught=rise > _SLOWDOWN and flushed.is_complete and flushed.dropped == 0 and arrived >= stored > 0,
        short=f"{rise:.1f}x slower at 8; {stored - arrived} spans lost",
        figures={
            "latency_ms": latency_ms,
            "dropped": flushed.dropped,
            "stored": stored,
            "arrived_before": arrived_before,
            "arrived": arrived,
        },
    )
