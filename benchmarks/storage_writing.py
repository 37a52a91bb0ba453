"""The write path: appending, sealing and compaction against the floor and SQLCipher; writing to a large store."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from storage_bench import ROUNDS, Bench, Row, at_most, new_store, new_writer, say, size_of, write
from storage_large import build_large
from storage_rivals import RowStore
from storage_sample import Finished, Floor, cpu_us, make_spans

from agentguard.values import SpanRecord


class _Round(NamedTuple):
    """CPU microseconds a span of one round."""

    floor: float
    live: float
    finish: float
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
                finish_us = 0.0 if has_conversation else _cost_of_finishing(folder / "finished", sample)
                live_bytes = size_of(store) / bench.spans
                seal_us = cpu_us(lambda: (store.seal_segments(), store.compact()), bench.spans)  # noqa: B023
                sealed_bytes = size_of(store) / bench.spans
                rival_us = 0.0
                if not has_conversation:
                    rival = RowStore(folder / "rival.db", is_encrypted=True)
                    rival_us = cpu_us(lambda: rival.write(sample), bench.spans)  # noqa: B023
                    rival_bytes = rival.bytes_per_span(bench.spans)
                    rival.close()
            rounds.append(_Round(floor_us, live_us, finish_us, seal_us, rival_us))
        rows += _append_rows(
            rounds, floor, (live_bytes, sealed_bytes, rival_bytes), is_whole=not has_conversation
        )
        gc.unfreeze()
    return rows


def _cost_of_finishing(folder: Path, sample: Sequence[SpanRecord]) -> float:
    """Microseconds a span for a writer to seal its file and close it."""
    writer = new_writer(new_store(folder), is_sealing=True)
    write(writer, sample)()
    return cpu_us(lambda: writer.close(60), len(sample))


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
    finish_ratio = _median(r.finish / r.floor for r in rounds)
    finish_cost = f"{_median(r.finish for r in rounds):.2f} us a span"
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
        at_most("sealing by the writer", finish_ratio, "x floor", 0.1, finish_cost),
        at_most("sealing by others, and compaction", seal_ratio, "x floor", 1.4, seal_cost),
        at_most("live, features included", live, "B a span", 225),
        at_most("sealed, features and footer included", sealed, "B a span", 250),
        at_most("sealed", sealed / rival, "x SQLCipher", 0.13, f"SQLCipher: {rival:,.0f} B a span"),
    ]  # fmt: skip


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
