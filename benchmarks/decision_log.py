"""
What the decision log costs: CPU a record, records a sync, records verified a second.

`python benchmarks/decision_log.py [FOLDER]`; the folder's file system is what is measured.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import tempfile
import threading
import time
from pathlib import Path

from agentguard.audit import DecisionJournal, NoteKey, check_proof, prove, verify
from agentguard.runtime import SystemClock
from agentguard.seal import Keystore, create_key_file, create_keystore
from agentguard.values import Decision, DecisionRecord, Effect, MatchedRule, Mode, RecordMode

RECORDS = 40_000
THREADS, EACH = 32, 50


def main() -> None:
    """Measure, and print one line a figure."""
    parent = sys.argv[1] if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        _cpu(*new_store(Path(folder) / "a"))
        _group_commit(*new_store(Path(folder) / "b"))
        _event_loop(*new_store(Path(folder) / "c"))


def new_store(folder: Path) -> tuple[Path, Keystore]:
    folder.mkdir(mode=0o700)
    store = folder / "store"
    store.mkdir(mode=0o700)
    return store, create_keystore(store, create_key_file(folder / "key"))


def open_journal(store: Path, keystore: Keystore) -> DecisionJournal:
    return DecisionJournal.open(
        store,
        keystore=keystore,
        clock=SystemClock(),
        on_internal_error=print,
    )


def make_record(number: int, mode: RecordMode) -> DecisionRecord:
    return DecisionRecord(
        decision_id=f"{number:016x}",
        time_unix_ns=1_767_225_600_000_000_000 + number,
        point="tool.before",
        decision=_DECISIONS[mode],
        bundle="ab" * 32,
        call_id=f"{number:016x}",
        trace_id=f"{number:032x}",
        run_id="run",
        agent="support",
        tool="refund",
        evaluation_ns=4000,
    )


_RULE = MatchedRule("payments", "PAY-1", "Refunds are recorded", Effect.ALLOW, Mode.ENFORCE)
_DECISIONS = {
    mode: Decision(
        Effect.ALLOW, "PAY-1", "payments", reason="allowed by PAY-1", matched=(_RULE,), record=mode
    )
    for mode in RecordMode
}


def _cpu(store: Path, keystore: Keystore) -> None:
    """Append, encode, chain, seal, checkpoint: all CPU of the process, by the record."""
    records = [make_record(number, RecordMode.ASYNC) for number in range(RECORDS)]
    journal = open_journal(store, keystore)
    journal.append(records[0])
    journal.flush(30)
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    for record in records[1:]:
        journal.append(record)
    appended = time.perf_counter() - wall
    journal.flush(60)
    cpu = time.process_time() - cpu
    journal.close(30)
    size = sum(path.stat().st_size for path in (store / "dec").iterdir())
    print(
        f"async: {cpu / RECORDS * 1e6:.2f} us CPU a record in all, {appended / RECORDS * 1e6:.2f} us in the caller"
    )
    print(f"async: {size / RECORDS:.0f} bytes a record, lost: {dict(journal.dropped)}")
    cpu = time.process_time()
    report = verify(store, keystore)
    cpu = time.process_time() - cpu
    print(f"verify: {report.records / cpu * 60 / 1e6:.1f} million records a minute, good: {report.is_good}")
    start = time.perf_counter()
    proof = prove(store, keystore, f"{RECORDS // 2:016x}")
    made = time.perf_counter()
    check_proof(proof, NoteKey.parse(report.verifier_key))
    print(f"proof: made in {made - start:.3f} s, checked in {(time.perf_counter() - made) * 1e3:.2f} ms")


def _group_commit(store: Path, keystore: Keystore) -> None:
    """Thirty-two threads of required records."""
    journal = open_journal(store, keystore)
    journal.append(make_record(0, RecordMode.REQUIRED))
    stored, syncs = journal.stored, journal.syncs
    waits: list[float] = []

    def work(thread: int) -> None:
        for number in range(EACH):
            before = time.perf_counter()
            journal.append(make_record(thread * EACH + number, RecordMode.REQUIRED))
            waits.append(time.perf_counter() - before)

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(THREADS)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - start
    stored, syncs = journal.stored - stored, journal.syncs - syncs
    waits.sort()
    print(
        f"required, {THREADS} threads: {stored / syncs:.1f} records a sync, {stored / took:.0f} a second, "
        f"p50 {waits[len(waits) // 2] * 1e3:.2f} ms, p99 {waits[int(len(waits) * 0.99)] * 1e3:.2f} ms"
    )
    journal.close(30)


def _event_loop(store: Path, keystore: Keystore) -> None:
    """Required records of two hundred tasks; how long the loop is held."""
    journal = open_journal(store, keystore)
    journal.append(make_record(0, RecordMode.REQUIRED))
    worst = 0.0

    async def watch() -> None:
        nonlocal worst
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0)
            worst = max(worst, time.perf_counter() - before)

    async def measure() -> float:
        watching = asyncio.create_task(watch())
        start = time.perf_counter()
        for _ in range(5):
            await asyncio.gather(
                *(journal.append_async(make_record(number, RecordMode.REQUIRED)) for number in range(200))
            )
        watching.cancel()
        return time.perf_counter() - start

    took = asyncio.run(measure())
    print(f"required, 200 tasks: {1000 / took:.0f} a second, the loop is held {worst * 1e3:.1f} ms at worst")
    journal.close(30)


if __name__ == "__main__":
    main()
