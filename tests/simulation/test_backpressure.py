"""A disk that stands still under ten times the load: memory is bounded, callers go on, every drop is counted."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.support.faulty_disk import FaultyDisk
from tests.support.spans import FinishedSpan, make_span
from tests.support.stores import new_store, new_writer

QUEUE_BYTES_MAX = 4 << 20


class StandingDisk(FaultyDisk):
    """Every write waits while the disk stands."""

    def __init__(self) -> None:
        super().__init__()
        self.goes = threading.Event()
        self.goes.set()

    def write(self, fd: int, data: bytes) -> None:
        self.goes.wait(60)
        super().write(fd, data)


def _rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def press(folder: Path, seconds: float) -> tuple[int, int, list[float]]:
    """Append from four threads while the disk stands; gives made, dropped, and how long each append took."""
    disk = StandingDisk()
    store = new_store(folder / "store", disk)
    writer = new_writer(store, lambda *_: None, queue_bytes_max=QUEUE_BYTES_MAX, is_sealing=False)
    # Each is different, and does not compress: a real load, of which little fits into the queue.
    spans = [make_span(i, attributes={"x": os.urandom(500).hex()}) for i in range(1000)]
    writer.append(FinishedSpan(spans[0]))
    assert writer.flush(10).is_complete
    before = _rss_bytes()
    disk.goes.clear()
    took: list[list[float]] = []
    taken = [0] * 4
    end = time.monotonic() + seconds

    def load(number: int) -> None:
        mine: list[float] = []
        took.append(mine)
        index = 0
        while time.monotonic() < end:
            began = time.perf_counter()
            taken[number] += writer.append(FinishedSpan(spans[index % 1000], 1500))
            mine.append(time.perf_counter() - began)
            index += 1
            time.sleep(0.0002)

    threads = [threading.Thread(target=load, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    grown = _rss_bytes() - before
    dropped = sum(writer.dropped.values())
    latencies = sorted(value for mine in took for value in mine)
    assert sum(taken) + dropped == len(latencies), "a drop was not counted"
    assert grown < QUEUE_BYTES_MAX + (24 << 20), f"grew by {grown / 2**20:.0f} MiB"
    disk.goes.set()
    result = writer.close(30)
    assert result.is_complete
    assert result.stored == sum(taken) + 1
    assert sum(gap.count for gap in store.query().gaps()) == dropped
    assert sum(1 for _ in store.query().spans()) == sum(taken) + 1
    return len(latencies), dropped, latencies


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self")
@pytest.mark.parametrize("seconds", [2.0, pytest.param(60.0, marks=pytest.mark.long)])
def test_a_disk_that_stands_still(tmp_path: Path, seconds: float) -> None:
    """Drops are as many as counted and as recorded; all but a few calls are not held up."""
    made, dropped, latencies = press(tmp_path, seconds)
    assert dropped > 0, "there was no pressure"
    assert latencies[int(made * 0.99)] < 0.01, f"p99 {latencies[int(made * 0.99)] * 1e3:.1f} ms"
    assert latencies[-1] < 1.5, "held up for longer than is stated"
