"""
What a budgeted call waits for its budget: 4 processes of 8 threads on one machine.

    python benchmarks/budgets.py [--seconds N] [--processes N] [--threads N] [--folder DIR]

Three runs on one store. *Far from the limit*: 640 calls a second share a budget
that is large. *Near the limit*: the same calls, and the budget is used up on the
way. *Saturated*: all threads ask without a pause at a budget whose reservations
are all taken most of the time. Each says what was spent, and how long the
answers took; the disk that holds the folder decides much of it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from agentguard.runtime import SystemClock
from agentguard.seal import FileKey, create_key_file, create_keystore, open_keystore
from agentguard.state import MachineState, Used, answer_gates, settle_tickets
from agentguard.values import BudgetTerms, Decision, Effect, Mode, StateGate

RATE_HZ = 20.0
"""Calls of one thread in a second, in the runs with a pace."""


class Run(NamedTuple):
    """One of the three runs."""

    name: str
    limit: int
    """Tokens in the budget."""
    pause_s: float
    """From the beginning of one call of a thread to that of its next."""
    work_s: float
    """How long a call keeps what was set aside."""


def _work(store: Path, run: Run, threads: int, seconds: float, start_at: float) -> tuple[list[float], int]:
    """Make calls in this process; give how long each answer took, and what was used."""
    errors: list[str] = []
    state = MachineState.open(
        store, open_keystore(store, FileKey(store.parent / "key")), SystemClock(),
        on_internal_error=lambda where, error: errors.append(f"{where}: {error}"),
    )  # fmt: skip
    terms = BudgetTerms("tokens", run.limit, 86_400.0, "max", call_max=10)
    decision = Decision(
        Effect.ALLOW,
        gates=(StateGate(Effect.DENY, "bench", run.name, run.name, Mode.ENFORCE, (), terms),),
    )
    found: list[tuple[list[float], int]] = []

    def work(number: int) -> None:
        latencies: list[float] = []
        used = 0
        time.sleep(max(start_at + number * run.pause_s / threads - time.time(), 0))
        until = time.perf_counter() + seconds
        due = time.perf_counter()
        while (now := time.perf_counter()) < until:
            answer = answer_gates(state, decision, {})
            latencies.append(time.perf_counter() - now)
            if answer.tickets:
                if run.work_s:
                    time.sleep(run.work_s)
                used += 10
                settle_tickets(state, answer.tickets, Used(tokens=10), is_error=False)
            if run.pause_s:
                due += run.pause_s
                time.sleep(max(due - time.perf_counter(), 0))
        found.append((latencies, used))

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    state.close()
    for error in errors:
        print(error, file=sys.stderr)
    return [latency for latencies, _ in found for latency in latencies], sum(used for _, used in found)


def _child(pipe: Any, *arguments: Any) -> None:
    pipe.send(_work(*arguments))


def measure(store: Path, run: Run, *, processes: int, threads: int, seconds: float) -> None:
    """Do one run, and print its line."""
    context = multiprocessing.get_context("spawn")
    start_at = time.time() + 2.0
    running = []
    for _ in range(processes):
        mine, theirs = context.Pipe()
        child = context.Process(target=_child, args=(theirs, store, run, threads, seconds, start_at))
        child.start()
        running.append((mine, child))
    results = [mine.recv() for mine, _ in running]
    for _, child in running:
        child.join()
    latencies = sorted(latency for found, _ in results for latency in found)
    used = sum(spent for _, spent in results)
    shown = [
        f"{1000 * latencies[int(share * (len(latencies) - 1))]:9.3f}" for share in (0.5, 0.99, 0.999, 1.0)
    ]
    over = "" if used <= run.limit else "  MORE THAN THE LIMIT"
    print(f"{run.name:20} {len(latencies) / seconds:9.0f} {' '.join(shown)} {used:9} of {run.limit}{over}")


def main() -> None:
    """Do all three."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument(
        "--folder", type=Path, default=None, help="where the store is made; default: a temporary one"
    )
    given = parser.parse_args()
    workers = given.processes * given.threads
    expected = int(workers * RATE_HZ * given.seconds)
    runs = (
        Run("far from the limit", 1_000 * expected, 1 / RATE_HZ, 0.0),
        Run("near the limit", 5 * expected, 1 / RATE_HZ, 0.0),
        Run("saturated", 10 * workers // 2 + 10 * expected // 8, 0.0, 0.05),
    )
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        store = Path(folder) / "store"
        store.mkdir(mode=0o700)
        create_keystore(store, create_key_file(Path(folder) / "key"))
        print(
            f"{given.processes} processes of {given.threads} threads, {os.cpu_count()} processors; milliseconds"
        )
        print(f"{'':20} {'asked/s':>9} {'p50':>9} {'p99':>9} {'p99.9':>9} {'longest':>9} {'spent':>9}")
        for run in runs:
            measure(store, run, processes=given.processes, threads=given.threads, seconds=given.seconds)


if __name__ == "__main__":
    main()
