"""Many at once: processes that write to one store, threads whose decisions must be durable."""

from __future__ import annotations

import gc
import json
import os
import statistics
import threading
import time
from collections.abc import Callable, Sequence

import decision_log
from storage_bench import Bench, Row, at_least, at_most, new_store, new_writer, say
from storage_rivals import RowStore, in_processes
from storage_sample import Finished, make_spans

from agentguard.values import RecordMode, SpanRecord


def measure_processes(bench: Bench) -> list[Row]:
    """Four processes that write durable batches at once."""
    batches, ratios, stalls, rates = 60, [], [], []
    samples = [make_spans(50 * batches, seed=10 + number) for number in range(4)]
    for turn in range(3):
        say(f"processes: round {turn + 1} of 3")
        with bench.place(on_disk=True) as folder:
            store = new_store(folder)

            def ours(number: int, wait: Callable[[], None]) -> None:
                writer = new_writer(store, is_sealing=False)  # noqa: B023

                def batch(spans: Sequence[SpanRecord]) -> None:
                    for span in spans:
                        writer.append(Finished(span))
                    assert writer.flush(60).is_complete

                _durably(samples[number], batch, wait)

            def theirs(number: int, wait: Callable[[], None]) -> None:
                shared = RowStore(folder / "shared.db", is_encrypted=False, is_new=False)
                _durably(samples[number], shared.write_batch, wait)

            RowStore(folder / "shared.db", is_encrypted=False).close()
            rate, stall = _together(in_processes(4, ours))
            rival_rate, rival_stall = _together(in_processes(4, theirs))
        rates.append(f"{rate:,.0f} spans a second; WAL: {rival_rate:,.0f}, worst stall {rival_stall:.0f} ms")
        ratios.append(rate / rival_rate)
        stalls.append(stall)
    middle = sorted(range(3), key=lambda i: ratios[i])[1]
    return [
        at_least("four processes, durable batches of 50", ratios[middle], "x shared WAL", 3, rates[middle]),
        at_most("worst stall of a batch", statistics.median(stalls), "ms", 100),
    ]


def _durably(
    sample: Sequence[SpanRecord], batch: Callable[[Sequence[SpanRecord]], None], wait: Callable[[], None]
) -> None:
    """Write batch after batch, and say when that began, when it ended, and the longest of them."""
    batch(sample[:50])
    gc.freeze()
    wait()
    begin, worst = time.monotonic(), 0.0
    for first in range(50, len(sample), 50):
        before = time.monotonic()
        batch(sample[first : first + 50])
        worst = max(worst, time.monotonic() - before)
    os.write(1, json.dumps([begin, time.monotonic(), worst, len(sample) - 50]).encode())


def _together(found: Sequence[bytes]) -> tuple[float, float]:
    """Spans a second of all processes, and the worst stall of any in milliseconds."""
    begins, ends, worst, counts = zip(*map(json.loads, found), strict=True)
    return sum(counts) / (max(ends) - min(begins)), max(worst) * 1e3


def measure_decisions(bench: Bench) -> list[Row]:
    """Thirty-two threads that each wait for their decision to be durable."""
    say("decisions: 32 threads")
    real, syncs = os.fdatasync, 0

    def counting(fd: int) -> None:
        nonlocal syncs
        syncs += 1
        real(fd)

    with bench.place(on_disk=True) as folder:
        journal = decision_log.open_journal(*decision_log.new_store(folder / "log"))
        journal.append(decision_log.make_record(0, RecordMode.REQUIRED))

        def work(thread: int) -> None:
            for number in range(100):
                journal.append(decision_log.make_record(thread * 100 + number, RecordMode.REQUIRED))

        threads = [threading.Thread(target=work, args=(thread,)) for thread in range(32)]
        os.fdatasync = counting
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            os.fdatasync = real
        journal.close(30)
    return [
        at_least("required decisions of 32 threads", 3200 / syncs, "records a sync", 10, f"{syncs} syncs")
    ]
