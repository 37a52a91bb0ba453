"""
What a budgeted call waits for its budget: 4 processes of 8 threads on one machine.

    python benchmarks/budgets.py [--seconds N] [--processes N] [--threads N] [--folder DIR]

Runs on one store. *Far from the limit*: 640 calls a second share a budget
that is large. *Near the limit*: the same calls, and the budget is used up on the
way. *Saturated*: all threads ask without a pause at a budget whose reservations
are all taken most of the time. Each says what was spent, how long the answers
took (the first second apart: *at first* is its longest), and how many of them
went to the disk themselves.

Two controls, since the machine decides much of it: *in memory* is the first run
with a budget of each process's own, and no disk, so what it waits for is the
processor; and beside each run one process writes and syncs 4 KiB twenty times a
second, in the same folder. The ratios compare the 99.9th percentile of the first
run with that of both.
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
from agentguard.state import MachineState, MemoryState, Used, answer_gates, settle_tickets
from agentguard.values import BudgetTerms, Decision, Effect, Mode, StateGate

RATE_HZ = 20.0
"""Calls of one thread in a second, in the runs with a pace."""
FIRST_S = 1.0
"""The beginning of a run, which is told apart: each process must go to the disk once before it has leased anything."""


class Run(NamedTuple):
    """One of the three runs."""

    name: str
    limit: int
    """Tokens in the budget."""
    pause_s: float
    """From the beginning of one call of a thread to that of its next."""
    work_s: float
    """How long a call keeps what was set aside."""
    is_memory: bool = False
    """Without the machine's state: a control."""


class Result(NamedTuple):
    """What one process saw."""

    latencies_s: list[float]
    used: int
    waited: int
    """Answers that waited for an exchange with the disk."""
    first_s: list[float]
    """How long answers took in the first second, when nothing is leased yet; not in *latencies_s*."""


def _work(store: Path, run: Run, threads: int, seconds: float, start_at: float) -> Result:
    """Make calls in this process; give how long each answer took, and what was used."""
    errors: list[str] = []
    state: MachineState | MemoryState
    if run.is_memory:
        state = MemoryState(SystemClock())
    else:
        state = MachineState.open(
            store, open_keystore(store, FileKey(store.parent / "key")), SystemClock(),
            on_internal_error=lambda where, error: errors.append(f"{where}: {error}"),
        )  # fmt: skip
    waited = 0
    exchange = state.ledger._exchange  # noqa: SLF001 - a measurement

    def counted(*arguments: Any, **options: Any) -> None:
        nonlocal waited
        waited += not threading.current_thread().name.startswith("agentguard")
        exchange(*arguments, **options)

    state.ledger._exchange = counted  # type: ignore[method-assign]  # noqa: SLF001 - as above
    terms = BudgetTerms("tokens", run.limit, 86_400.0, "max", call_max=10)
    decision = Decision(
        Effect.ALLOW,
        gates=(StateGate(Effect.DENY, "bench", run.name, run.name, Mode.ENFORCE, (), terms),),
    )
    found: list[tuple[list[float], int]] = []
    first: list[float] = []

    def work(number: int) -> None:
        latencies: list[float] = []
        used = 0
        time.sleep(max(start_at + number * run.pause_s / threads - time.time(), 0))
        until = time.perf_counter() + seconds + FIRST_S
        due = time.perf_counter()
        measured_from = due + FIRST_S
        while (now := time.perf_counter()) < until:
            answer = answer_gates(state, decision, {})
            (latencies if now >= measured_from else first).append(time.perf_counter() - now)
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
    latencies = [latency for some, _ in found for latency in some]
    return Result(latencies, sum(used for _, used in found), waited, first)


def _sync(folder: Path, seconds: float, start_at: float) -> list[float]:
    """Write and sync 4 KiB twenty times a second; give how long each took."""
    time.sleep(max(start_at - time.time(), 0))
    found: list[float] = []
    fd = os.open(folder / "control", os.O_RDWR | os.O_CREAT, 0o600)
    until = time.perf_counter() + seconds
    while (now := time.perf_counter()) < until:
        os.pwrite(fd, os.urandom(4096), 0)
        os.fdatasync(fd)
        found.append(time.perf_counter() - now)
        time.sleep(0.05)
    os.close(fd)
    return found


def _child(pipe: Any, work: Any, *arguments: Any) -> None:
    pipe.send(work(*arguments))


def percentile(values: list[float], share: float) -> float:
    """Give one percentile, in milliseconds."""
    ordered = sorted(values)
    return 1000 * ordered[int(share * (len(ordered) - 1))]


def measure(store: Path, run: Run, *, processes: int, threads: int, seconds: float) -> tuple[float, float]:
    """Do one run and print its line; give its 99.9th percentile and that of the syncs beside it."""
    context = multiprocessing.get_context("spawn")
    start_at = time.time() + 2.0
    running = []
    jobs = [(_work, store, run, threads, seconds, start_at)] * processes
    for job in (*jobs, (_sync, store.parent, seconds, start_at)):
        mine, theirs = context.Pipe()
        child = context.Process(target=_child, args=(theirs, *job))
        child.start()
        running.append((mine, child))
    *results, syncs = [mine.recv() for mine, _ in running]
    for _, child in running:
        child.join()
    latencies = [latency for found in results for latency in found.latencies_s]
    used, waited = sum(found.used for found in results), sum(found.waited for found in results)
    shown = " ".join(f"{percentile(latencies, share):9.3f}" for share in (0.5, 0.99, 0.999, 1.0))
    over = "" if run.is_memory or used <= run.limit else "  MORE THAN THE LIMIT"
    sync_ms = percentile(syncs, 0.999)
    first_ms = percentile([one for found in results for one in found.first_s], 1.0)
    print(
        f"{run.name:20} {len(latencies) / seconds:9.0f} {shown} {first_ms:9.3f} {waited:7} "
        f"{sync_ms:9.3f} "
        f"{used:9} of {run.limit}{over}"
    )
    return percentile(latencies, 0.999), sync_ms


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
    expected = int(workers * RATE_HZ * (given.seconds + FIRST_S))
    runs = (
        Run("in memory", 1_000 * expected, 1 / RATE_HZ, 0.0, is_memory=True),
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
        print(
            f"{'':20} {'asked/s':>9} {'p50':>9} {'p99':>9} {'p99.9':>9} {'longest':>9} {'at first':>9} {'on disk':>7} "
            f"{'sync':>9} {'spent':>9}"
        )
        found = [
            measure(store, run, processes=given.processes, threads=given.threads, seconds=given.seconds)
            for run in runs
        ]
        (memory_ms, _), (far_ms, sync_ms) = found[:2]
        print(
            f"far from the limit, p99.9: {far_ms / memory_ms:.2f} times that without a disk, "
            f"{far_ms / sync_ms:.2f} times that of one sync beside it"
        )


if __name__ == "__main__":
    main()
