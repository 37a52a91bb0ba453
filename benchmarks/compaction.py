"""
What many short processes cost, before and after their segments are packed, and what reading a large store costs.

Run by hand: `python benchmarks/compaction.py [--processes 10000] [--spans 1000000]`. Figures are CPU time of this process.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import random
import resource
import statistics
import tempfile
import time
import tracemalloc
from pathlib import Path

from storage_sample import Finished, SystemClock, make_spans

from agentguard.seal import create_key_file
from agentguard.store import Disk, Store, WriterConfig
from agentguard.values import KeyProvider


class _Unsynced(Disk):
    """Making the files is not what is measured."""

    def sync(self, fd: int) -> None:
        """Nothing."""

    def sync_folder(self, folder: Path) -> None:
        """Nothing."""


def cpu_ms(begin_ns: int) -> float:
    """CPU milliseconds since."""
    return (time.process_time_ns() - begin_ns) / 1e6


def fail(where: str, error: BaseException) -> None:
    raise SystemExit(f"{where}: {error!r}")


def report(folder: Path, provider: KeyProvider, ids: list[str], what: str) -> None:
    """Say what a look-up costs, cold and warm, and what the footers take in memory."""

    def opened() -> Store:
        return Store.open(folder, provider=provider, clock=SystemClock())

    store = opened()
    gc.collect()
    tracemalloc.start()
    list(store.query().spans(trace_id="0" * 32))
    gc.collect()
    footers = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    begin = time.process_time_ns()
    store = opened()
    assert list(store.query().spans(trace_id=ids[0]))
    cold = cpu_ms(begin)
    times = []
    for trace_id in ids[:200]:
        begin = time.process_time_ns()
        assert list(store.query().spans(trace_id=trace_id))
        times.append(cpu_ms(begin))
    files = [path.stat().st_size for path in store.segments.iterdir()]
    begin = time.process_time_ns()
    rows = sum(block.rows for block in store.query().features(["duration_ns"]))
    scan = cpu_ms(begin) / rows * 1e3
    print(
        f"{what:22} {len(files):6} files {sum(files) / rows:6.0f} B/span   open and one trace {cold:7.1f} ms   "
        f"one trace p50 {statistics.median(times):6.2f} ms p99 {sorted(times)[int(len(times) * 0.99) - 1]:6.2f} ms   "
        f"one feature {scan:5.2f} us/span   footers {footers / 1e6:5.2f} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--processes", type=int, default=10_000)
    parser.add_argument("--spans", type=int, default=1_000_000)
    arguments = parser.parse_args()
    sample = make_spans(20_000)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as base:
        provider = create_key_file(Path(base) / "key")
        folder = Path(base) / "short"
        store = Store.create(folder, provider=provider, clock=SystemClock(), disk=_Unsynced())
        spans = list(itertools.islice(itertools.cycle(sample), arguments.processes))
        for number, span in enumerate(spans):
            about = {"service.name": "job", "process.pid": str(number), "host.name": "a"}
            config = WriterConfig(is_sealing=False)
            writer = store.writer(resource=about, on_internal_error=fail, config=config)
            writer.append(Finished(span))
            writer.close(60)
        store.seal_segments()
        ids = [span.trace_id for span in random.Random(1).sample(spans, min(200, len(spans)))]
        report(folder, provider, ids, f"{arguments.processes:,} processes")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begin = time.process_time_ns()
        store.compact()
        took = cpu_ms(begin)
        more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        print(f"packing: {took / arguments.processes * 1e3:.0f} us a segment, {more:.0f} MB more memory")
        report(folder, provider, ids, "packed")

        folder = Path(base) / "large"
        store = Store.create(folder, provider=provider, clock=SystemClock(), disk=_Unsynced())
        config = WriterConfig(queue_bytes_max=2**40, frame_bytes_max=2**30)
        writer = store.writer(resource={}, on_internal_error=fail, config=config)
        for number, span in zip(range(arguments.spans), itertools.cycle(sample), strict=False):
            lap = number // len(sample)
            writer.append(Finished(span._replace(trace_id=f"{lap:08x}{span.trace_id[8:]}")))
            if number % 5000 == 4999:
                writer.flush(600)
        writer.close(600)
        store.seal_segments()
        ids = [
            f"{0:08x}{span.trace_id[8:]}" for span in random.Random(1).sample(sample[: arguments.spans], 200)
        ]
        report(folder, provider, ids, f"{arguments.spans:,} spans")


if __name__ == "__main__":
    main()
