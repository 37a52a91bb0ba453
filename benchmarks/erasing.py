"""
What it costs that content can be erased: bytes and CPU of content that is sealed per conversation.

Three stores of the same spans in one run: without content; with content and nobody named,
so that it stays in the shared frames; with content of 16
conversations at a time, so that a frame of 100 has 16 groups.
Run by hand: `python benchmarks/erasing.py [--spans 20000] [--runs 5]`. Figures are CPU time of the
process, the best of the runs; ratios are to the store before it.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from storage_sample import Finished, SystemClock, make_spans

from agentguard.seal import create_key_file
from agentguard.store import CONVERSATION, Store, Subject, WriterConfig
from agentguard.values import SpanRecord


class Cost(NamedTuple):
    """What one store cost, for each span."""

    write_us: float
    live_bytes: float
    seal_us: float
    sealed_bytes: float
    decode_us: float


def variants(count: int) -> dict[str, list[SpanRecord]]:
    """The same spans three times."""
    named = make_spans(count, has_conversation=True)
    shared = make_spans(count)
    bare = [
        span._replace(attributes={k: v for k, v in span.attributes.items() if not k.endswith(".content")})
        for span in shared
    ]
    return {"no content": bare, "content of nobody": shared, "content per conversation": named}


def cpu_us(work: Callable[[], object], count: int) -> float:
    """CPU microseconds a span."""
    gc.collect()
    begin = time.process_time_ns()
    work()
    return (time.process_time_ns() - begin) / 1e3 / count


def measure(folder: Path, spans: Sequence[SpanRecord]) -> Cost:
    """Write, seal and read one store."""
    provider = create_key_file(folder / "key")
    store = Store.create(folder / "store", provider=provider, clock=SystemClock())

    def fail(where: str, error: BaseException) -> None:
        raise SystemExit(f"{where}: {error!r}")

    config = WriterConfig(queue_bytes_max=2**40, frame_bytes_max=2**30, frame_spans_max=100, is_sealing=False)
    writer = store.writer(resource={}, on_internal_error=fail, config=config)

    def write() -> None:
        for first in range(0, len(spans), 500):
            for span in spans[first : first + 500]:
                writer.append(Finished(span))
            writer.flush(600)
        writer.close(60)

    def size() -> float:
        files = [*store.segments.iterdir(), *store.folder.glob("keyring.agk")]
        return sum(path.stat().st_size for path in files) / len(spans)

    write_us = cpu_us(write, len(spans))
    live = size()
    seal_us = cpu_us(store.seal_segments, len(spans))
    return Cost(
        write_us, live, seal_us, size(), cpu_us(lambda: sum(1 for _ in store.query().spans()), len(spans))
    )


def erase_ms(folder: Path, keys: int) -> float:
    """Milliseconds of CPU to erase one of so many conversations."""
    provider = create_key_file(folder / "key")
    store = Store.create(folder / "store", provider=provider, clock=SystemClock())
    store.keyring.keys_for([Subject(CONVERSATION, str(i)) for i in range(keys)])
    return cpu_us(lambda: store.keyring.erase([Subject(CONVERSATION, "1")]), 1) / 1e3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--spans", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    costs: dict[str, list[Cost]] = {}
    for _ in range(arguments.runs):  # Alternating, so that a busy moment hits all alike.
        for name, spans in variants(arguments.spans).items():
            with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as base:
                costs.setdefault(name, []).append(measure(Path(base), spans))
    print(f"{'':26}" + "".join(f"{field:>14}" for field in Cost._fields))
    before: Cost | None = None
    for name, found in costs.items():
        best = Cost(*map(min, zip(*found, strict=True)))
        print(f"{name:26}" + "".join(f"{value:14.2f}" for value in best))
        if before is not None:
            print(f"{'':26}" + "".join(f"{a / b:13.2f}x" for a, b in zip(best, before, strict=True)))
        before = best
    for keys in (1_000, 100_000):
        with tempfile.TemporaryDirectory() as base:
            print(f"erase one of {keys:7,} keys    {erase_ms(Path(base), keys):10.1f} ms CPU")


if __name__ == "__main__":
    main()
