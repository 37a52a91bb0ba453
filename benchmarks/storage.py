"""
What storing costs: every number that the store is held to, measured side by side in one run.

    python benchmarks/storage.py [--spans 14000] [--large 1000000] [--huge 10000000]
                                 [--only append,trace,…] [--format text|json] [--folder DIR] [--write]

Needs an environment with `requirements/bench-storage.txt` (orjson, SQLCipher). Costs are
CPU time of the process, all its threads; a ratio is the median over rounds in which both
sides take turns. Only what several processes or threads do at once is wall time. What runs,
by the name that `--only` takes:

* `append`: finished spans through the writer (columns, features, compression, seal, sync)
  in frames of 100, against the codec floor and against a row a span in SQLCipher; then
  sealing and compaction of the same spans. The floor: orjson, zstd-3 and AES-256-GCM over
  batches of 100 (see `storage_sample.py`). Once more where each span names its
  conversation, so that what was said is sealed for each conversation by itself. Bytes a
  span on disk, live and sealed, and against SQLCipher.
* `trace`: one trace out of `--large` spans, warm.
* `decode`: all spans read back, against SQLCipher; once more with content that is sealed
  for each conversation.
* `features`: one feature over live frames and over sealed blocks, spans a second; memory
  of a process that scans 100,000 spans, and of one that scans `--huge`.
* `grow`: what a write costs with `--huge` spans in the store, against 10,000.
* `processes`: four processes, durable batches of 50 spans, against SQLite in WAL mode.
* `decisions`: 32 threads of decisions that must be durable, counted by the sync.

Progress goes to standard error. `--write` puts the table into docs/explanation/storage.md.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import platform
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import decision_log
from storage_large import build_large
from storage_rivals import RowStore, in_processes, load_orjson, load_sqlcipher
from storage_sample import BATCH_SPANS, Finished, Floor, SystemClock, cpu_us, make_spans, many_spans

from agentguard.seal import create_key_file
from agentguard.store import SegmentWriter, Store, WriterConfig
from agentguard.values import RecordMode, SpanRecord

ROUNDS = 7
PAGE = Path(__file__).resolve().parent.parent / "docs" / "explanation" / "storage.md"
BEGIN, END = "<!-- results -->", "<!-- end of results -->"
_ALWAYS_AT_ONCE = 2**30


class Row(NamedTuple):
    """One line of the table."""

    name: str
    figure: float
    unit: str
    bar: str
    """At most or at least what; empty where nothing was promised."""
    is_held: bool | None = None
    note: str = ""


class Bench:
    """Where it runs, and how much."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.spans: int = arguments.spans
        self.large: int = arguments.large
        self.huge: int = arguments.huge
        self.folder: str | None = arguments.folder
        memory = Path("/dev/shm")  # CPU is what counts: without a disk there is less noise.
        self.memory: str | None = self.folder or (str(memory) if memory.is_dir() else None)
        self.dumps = load_orjson().dumps
        self._huge_store: Store | None = None
        self.held = contextlib.ExitStack()
        """Folders that last until the end."""

    def huge_store(self) -> Store:
        """The store with the most spans; made once."""
        if self._huge_store is None:
            folder = self.held.enter_context(self.place(on_disk=True))
            self._huge_store = build_large(new_store(folder), self.huge, say)
        return self._huge_store

    @contextlib.contextmanager
    def place(self, *, on_disk: bool = False) -> Iterator[Path]:
        """A folder that is gone afterwards."""
        with tempfile.TemporaryDirectory(dir=self.folder if on_disk else self.memory) as folder:
            yield Path(folder)


def at_most(name: str, figure: float, unit: str, bar: float, note: str = "") -> Row:
    """A line that is held where the figure is small enough."""
    return Row(name, figure, unit, f"≤ {bar:g}", figure <= bar, note)


def at_least(name: str, figure: float, unit: str, bar: float, note: str = "") -> Row:
    """A line that is held where the figure is large enough."""
    return Row(name, figure, unit, f"≥ {bar:,g}" if bar < 1e6 else f"≥ {bar:,.0f}", figure >= bar, note)


def say(text: str) -> None:
    """Tell who waits."""
    print(f"  {text}", file=sys.stderr, flush=True)


def new_store(folder: Path) -> Store:
    """An empty store."""
    folder.mkdir(mode=0o700, exist_ok=True)
    provider = create_key_file(folder / "key")
    return Store.create(folder / "store", provider=provider, clock=SystemClock())


def new_writer(store: Store, **settings: Any) -> SegmentWriter:
    """A writer whose frames are as long as the floor's batches."""

    def fail(where: str, error: BaseException) -> None:
        raise SystemExit(f"storage: {where}: {error!r}")

    settings = {
        "frame_spans_max": BATCH_SPANS,
        "frame_bytes_max": _ALWAYS_AT_ONCE,
        "is_sealing": False,
    } | settings
    return store.writer(resource={}, on_internal_error=fail, config=WriterConfig(**settings))


def write(writer: SegmentWriter, spans: Sequence[SpanRecord]) -> Callable[[], None]:
    """All that writing takes, from the call that ends a span to the sync."""
    sources = [Finished(span) for span in spans]

    def work() -> None:
        # Seven batches at a time: with eight in the queue frames would be longer.
        for first in range(0, len(sources), 7 * BATCH_SPANS):
            for source in sources[first : first + 7 * BATCH_SPANS]:
                writer.append(source)
            result = writer.flush(600)
            if not result.is_complete or result.dropped:
                raise SystemExit(f"storage: got {result}, expected all spans on disk")

    return work


def size_of(store: Store) -> int:
    """Bytes of all segments and packs."""
    return sum(path.stat().st_size for path in store.segments.iterdir())


# The write path ------------------------------------------------------------------


class _Round(NamedTuple):
    """CPU microseconds a span of one round."""

    floor: float
    live: float
    seal: float
    rival: float


def measure_append(bench: Bench) -> list[Row]:
    """The live append, sealing and compaction, against the floor and SQLCipher; bytes a span."""
    rows = []
    for has_conversation in (False, True):
        sample = make_spans(bench.spans, has_conversation=has_conversation)
        floor = Floor(bench.dumps, sample)
        gc.freeze()  # The sample is no garbage of the store.
        rounds, live_bytes, sealed_bytes, rival_bytes = [], 0.0, 0.0, 0.0
        for number in range(ROUNDS):
            say(f"append: round {number + 1} of {ROUNDS}{', conversations' if has_conversation else ''}")
            floor_us = cpu_us(floor.run, bench.spans)
            with bench.place() as folder:
                store = new_store(folder / "ours")
                writer = new_writer(store)
                writer.append(Finished(sample[0]))
                writer.flush(60)
                live_us = cpu_us(write(writer, sample), bench.spans)
                writer.close(60)
                live_bytes = size_of(store) / bench.spans
                seal_us = cpu_us(lambda: (store.seal_segments(), store.compact()), bench.spans)  # noqa: B023
                sealed_bytes = size_of(store) / bench.spans
                rival_us = 0.0
                if not has_conversation:
                    rival = RowStore(folder / "rival.db", is_encrypted=True)
                    rival_us = cpu_us(lambda: rival.write(sample), bench.spans)  # noqa: B023
                    rival_bytes = rival.bytes_per_span(bench.spans)
                    rival.close()
            rounds.append(_Round(floor_us, live_us, seal_us, rival_us))
        rows += _append_rows(
            rounds, floor, (live_bytes, sealed_bytes, rival_bytes), is_whole=not has_conversation
        )
        gc.unfreeze()
    return rows


def _median(values: Iterator[float]) -> float:
    return statistics.median(values)


def _append_rows(
    rounds: Sequence[_Round], floor: Floor, sizes: tuple[float, float, float], *, is_whole: bool
) -> list[Row]:
    live, sealed, rival = sizes
    cost = f"{_median(r.live for r in rounds):.2f} us a span"
    live_ratio = _median(r.live / r.floor for r in rounds)
    seal_ratio = _median(r.seal / r.floor for r in rounds)
    seal_cost = f"{_median(r.seal for r in rounds):.2f} us a span"
    if not is_whole:
        return [
            at_most(
                "live append, what was said sealed for each conversation", live_ratio, "x floor", 1.4, cost
            ),
            at_most("sealing and compaction, the same", seal_ratio, "x floor", 1.4, seal_cost),
            at_most("live, the same", live, "B a span", 235),
            at_most("sealed, the same", sealed, "B a span", 236),
        ]
    floor_us = _median(r.floor for r in rounds)
    rival_cost = f"SQLCipher: {_median(r.rival for r in rounds):.1f} us a span"
    return [
        Row("codec floor", floor_us, "us a span", "", None, f"{floor.bytes / len(floor):.0f} B of {floor.json_bytes:,.0f} B of JSON"),
        at_most("live append, features and sync included", live_ratio, "x floor", 1.4, cost),
        at_most("live append", _median(r.live / r.rival for r in rounds), "x SQLCipher", 0.3, rival_cost),
        at_most("sealing and compaction", seal_ratio, "x floor", 1.4, seal_cost),
        at_most("live, features included", live, "B a span", 225),
        at_most("sealed, features and footer included", sealed, "B a span", 250),
        at_most("sealed", sealed / rival, "x SQLCipher", 0.13, f"SQLCipher: {rival:,.0f} B a span"),
    ]  # fmt: skip


# The read path -------------------------------------------------------------------


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


def measure_grow(bench: Bench) -> list[Row]:
    """What a write costs in a large store, against a small one; with what runs in the background."""
    sample = make_spans(bench.spans)
    with bench.place(on_disk=True) as folder:
        stores = [build_large(new_store(folder), 10_000, say), bench.huge_store()]
        gc.freeze()
        writers = [new_writer(store, is_sealing=True) for store in stores]
        costs: list[list[float]] = [[], []]
        for number in range(ROUNDS):
            say(f"grow: round {number + 1} of {ROUNDS}")
            for place in (0, 1) if number % 2 else (1, 0):
                costs[place].append(cpu_us(write(writers[place], sample), bench.spans))
        for writer in writers:
            writer.close(60)
        gc.unfreeze()
    ratio = statistics.median(large / small for small, large in zip(*costs, strict=True))
    note = f"{statistics.median(costs[0]):.2f} us, then {statistics.median(costs[1]):.2f} us a span"
    return [at_most(f"a write with {bench.huge:,} spans in the store", ratio, "x with 10,000", 1.1, note)]


# Many at once --------------------------------------------------------------------


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


MEASURES: dict[str, Callable[[Bench], list[Row]]] = {
    "append": measure_append, "trace": measure_trace, "decode": measure_decode, "features": measure_features,
    "grow": measure_grow, "processes": measure_processes, "decisions": measure_decisions,
}  # fmt: skip


# What is made of it ----------------------------------------------------------------


def as_text(rows: Sequence[Row]) -> str:
    """A table for a terminal."""
    lines = []
    for row in rows:
        held = "" if row.is_held is None else "holds" if row.is_held else "MISSED"
        figure = f"{row.figure:,.0f}" if row.figure >= 1000 else f"{row.figure:.2f}"
        lines.append(f"{row.name:66} {figure:>12} {row.unit:15} {row.bar:>12} {held:7} {row.note}".rstrip())
    return "\n".join(lines)


def as_page(rows: Sequence[Row], command: str) -> str:
    """The same as Markdown, with what it was measured on."""
    lines = ["| what | measured | bar | |", "|---|---|---|---|"]
    for row in rows:
        figure = f"{row.figure:,.0f}" if row.figure >= 100 else f"{row.figure:.2f}"
        held = "" if row.is_held is None else "holds" if row.is_held else "**missed**"
        note = f" ({row.note})" if row.note else ""
        lines.append(f"| {row.name} | {figure} {row.unit}{note} | {row.bar} | {held} |")
    lines += [
        "",
        f"Measured with `{command}` on {platform.machine()}, {os.cpu_count()} cores shared with other work, "
        f"{platform.system()} {platform.release().split('-')[0]}, Python {platform.python_version()}.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--spans", type=int, default=14_000, help="spans a round")
    parser.add_argument("--large", type=int, default=1_000_000, help="spans in the store of `trace`")
    parser.add_argument("--huge", type=int, default=10_000_000, help="spans in that of `features` and `grow`")
    parser.add_argument("--only", default=",".join(MEASURES), help="names, with commas between them")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.add_argument("--folder", help="where stores are made; its file system is what is measured")
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    arguments = parser.parse_args()
    names = arguments.only.split(",")
    unknown = [name for name in names if name not in MEASURES]
    if unknown:
        parser.error(f"--only: got `{unknown[0]}`, expected some of {', '.join(MEASURES)}")
    load_sqlcipher()
    bench = Bench(arguments)
    with bench.held:
        rows = [row for name in names for row in MEASURES[name](bench)]
    if arguments.format == "json":
        print(json.dumps([row._asdict() for row in rows], indent=1))
    else:
        print(as_text(rows))
    if arguments.write:
        text = PAGE.read_text(encoding="utf-8")
        before, _, rest = text.partition(BEGIN)
        _, _, after = rest.partition(END)
        table = as_page(rows, " ".join(["python", "benchmarks/storage.py", *sys.argv[1:]]))
        PAGE.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
