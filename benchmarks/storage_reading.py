"""The read path: one trace, all spans, one feature."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from storage_bench import ROUNDS, Bench, Row, at_least, at_most, new_store, new_writer, say, write
from storage_large import build_large
from storage_rivals import RowStore, in_processes
from storage_sample import cpu_us, make_spans, many_spans

from agentguard.store import Store


def measure_trace(bench: Bench) -> list[Row]:
    """One trace out of many spans."""
    with bench.place() as folder:
        store = build_large(new_store(folder), bench.large, say)
        query = store.query()
        sought = []
        for number, span in enumerate(query.spans()):
            if number % (bench.large // 300) == 0:
                sought.append(span.trace_id)
        times: list[float] = []
        spans = 0
        for trace_id in sought * 2:
            begin = time.perf_counter()
            spans += sum(1 for _ in store.query().spans(trace_id=trace_id))
            times.append((time.perf_counter() - begin) * 1e3)
        times = sorted(times[len(sought) :])  # The first lap warms up.
        note = f"p99 {times[int(len(times) * 0.99)]:.2f} ms, {spans / len(sought) / 2:.1f} spans a trace"
        return [
            at_most(
                f"one trace out of {bench.large:,} spans, warm, p50", times[len(times) // 2], "ms", 2.0, note
            )
        ]


def measure_decode(bench: Bench) -> list[Row]:
    """All spans read back, against SQLCipher; then those whose content is sealed for each conversation."""
    rows = []
    for has_conversation in (False, True):
        sample = make_spans(bench.spans, has_conversation=has_conversation)
        with bench.place() as folder:
            store = new_store(folder)
            writer = new_writer(store)
            write(writer, sample)()
            writer.close(60)
            store.seal_segments()
            rival = RowStore(folder / "rival.db", is_encrypted=True)
            rival.write(sample)
            ratios, ours, bare = [], [], []
            gc.freeze()
            for number in range(ROUNDS):
                say(f"decode: round {number + 1} of {ROUNDS}{', conversations' if has_conversation else ''}")
                ours.append(cpu_us(lambda: sum(1 for _ in store.query().spans()), bench.spans))  # noqa: B023
                ratios.append(cpu_us(lambda: sum(1 for _ in rival.read()), bench.spans) / ours[-1])  # noqa: B023
                bare.append(cpu_us(lambda: _rows(store), bench.spans))  # noqa: B023
            rival.close()
            gc.unfreeze()
        note = f"{1e6 / statistics.median(ours):,.0f} spans a second"
        if has_conversation:
            note += f"; {1e6 / statistics.median(bare):,.0f} where nobody asks for content"
        name = "the same, content opened for each conversation" if has_conversation else "all spans read back"
        rows.append(at_least(name, statistics.median(ratios), "x SQLCipher", 3, note))
    return rows


def _rows(store: Store) -> int:
    """Read the spans of all frames, and open no content."""
    return sum(len(batch.rows) for batch in store.query().batches())


def measure_features(bench: Bench) -> list[Row]:
    """One feature of all spans; memory of who scans."""
    with bench.place() as folder:
        store = new_store(folder)
        writer = new_writer(store, segment_spans_max=60_000)
        write(writer, list(many_spans(make_spans(bench.spans), 5 * bench.spans)))()
        writer.close(60)
        live = statistics.median(_scan_rate(store) for _ in range(ROUNDS))
        store.seal_segments()
        sealed = statistics.median(_scan_rate(store) for _ in range(ROUNDS))
    peaks = []
    with bench.place(on_disk=True) as folder:
        for store in (build_large(new_store(folder), 100_000, say), bench.huge_store()):
            say("features: a process scans a large store")
            (found,) = in_processes(1, lambda _, wait: _scan_alone(store, wait))  # noqa: B023
            peaks.append(json.loads(found))
    growth = peaks[1]["peak_mb"] - peaks[0]["peak_mb"]
    note = f"{peaks[0]['peak_mb']:.0f} MB, then {peaks[1]['peak_mb']:.0f} MB; {peaks[1]['rate']:,.0f} spans a second"
    return [
        at_least("one feature over sealed blocks", sealed, "spans a second", 2_000_000),
        at_least("one feature over live frames", live, "spans a second", 500_000),
        at_most(
            f"memory that a scan of {bench.huge:,} spans takes beyond one of 100,000", growth, "MB", 32, note
        ),
    ]


def _scan(store: Store) -> int:
    return sum(block.rows for block in store.query().features(["duration_ns"]))


def _scan_rate(store: Store) -> float:
    count = 0

    def work() -> None:
        nonlocal count
        count = _scan(store)

    cpu = cpu_us(work, 1)
    return count / cpu * 1e6


def _scan_alone(store: Store, wait: Callable[[], None]) -> None:
    """In a process of its own: scan, and say how much memory that took."""
    wait()
    _reset_peak()
    begin = time.process_time()
    count = _scan(store)
    rate = count / (time.process_time() - begin)
    os.write(1, json.dumps({"peak_mb": _peak_mb(), "rate": rate}).encode())


def _reset_peak() -> None:
    """Forget the peak that the parent had before the fork."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak_mb() -> float:
    """Most memory that the process held, since the peak was reset."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
