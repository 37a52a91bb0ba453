"""A day's worth of spans and a million calls, compressed: memory and files stay as they are, every span is accounted for."""

from __future__ import annotations

import contextlib
import gc
import os
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

import pytest

import agentguard
from agentguard.runtime.active import ACTIVE
from agentguard.store import Housekeeper, SegmentWriter, Store
from tests.support.clock import FrozenClock
from tests.support.spans import FinishedSpan, make_span
from tests.support.stores import KnownKey, new_writer

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self")

_SPANS_PER_S = 50
_THREADS = 4


class Sample(NamedTuple):
    """What the process held at one moment, with nothing waiting to be written."""

    done: int
    rss_bytes: int
    files: int
    store_bytes: int


class Soaked(NamedTuple):
    """How it went."""

    made: int
    stored: int
    dropped: int
    found: int
    removed: int
    gaps: int
    samples: list[Sample]

    @property
    def slope_bytes(self) -> float:
        """Growth over the second half of the run: medians of its quarters, so that one sample says nothing."""
        half = self.samples[len(self.samples) // 2 :]
        middle = len(half) // 2
        return statistics.median(s.rss_bytes for s in half[middle:]) - statistics.median(
            s.rss_bytes for s in half[:middle]
        )

    @property
    def more_files(self) -> int:
        """How many more files are open when none is being sealed, over the second half."""
        half = self.samples[len(self.samples) // 2 :]
        middle = len(half) // 2
        return min(one.files for one in half[middle:]) - min(one.files for one in half[:middle])

    def check(self, *, slope_bytes_max: int = 1 << 20) -> None:
        """Hold what a soak promises."""
        assert self.made == self.stored + self.dropped, "spans in are not spans stored and counted drops"
        assert self.found + self.removed == self.stored, "what was stored is not there"
        assert self.gaps == self.dropped, "drops without a record of the gap"
        # In a flood one is being sealed at nearly every look; a leak would add one for each segment.
        assert self.more_files <= 1, f"{self.more_files} more open files"
        assert self.slope_bytes < slope_bytes_max, f"grew by {self.slope_bytes / 2**20:.2f} MiB"


def _rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _settle(writer: SegmentWriter) -> None:
    """Wait until nothing is sealed in the background: on a busy machine that takes its time."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not writer._sealing.is_idle:
        time.sleep(0.002)


def _open_files(folder: Path) -> int:
    """How many files of a store are open; those of other tests are not its own."""
    own = os.path.realpath(folder.parent)
    count = 0
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - links that may be gone
        with contextlib.suppress(FileNotFoundError):
            count += os.readlink(f"/proc/self/fd/{name}").startswith(own)  # noqa: PTH115 - the same
    return count


def _files_kept_open(folder: Path) -> int:
    """How many stay open: what writes a checkpoint at this moment, say, closes what it has opened."""
    fewest = _open_files(folder)
    for _ in range(10):
        time.sleep(0.003)
        fewest = min(fewest, _open_files(folder))
    return fewest


def _sample(done: int, folder: Path, writer: SegmentWriter) -> Sample:
    _settle(writer)
    gc.collect()
    size = 0
    for path in (folder / "seg").glob("*"):
        with contextlib.suppress(FileNotFoundError):  # Sealing renames.
            size += path.stat().st_size
    return Sample(done, _rss_bytes(), _files_kept_open(folder), size)


def soak_day(folder: Path, spans: int, *, samples: int = 40) -> Soaked:
    """
    Write *spans* at 50 a second by the clock, with rotation, sealing, packing and retention by size.

    Args:
        folder: Where the store is made.
        spans: 4,320,000 are a day.
        samples: How often is looked; a housekeeper passes each time.
    """
    clock = FrozenClock()
    store = Store.create(folder / "store", provider=KnownKey(), clock=clock)
    size_bytes_max = max(spans * 10, 256 << 10)  # About a third of it.
    keeper = Housekeeper(
        store, age_s_max=None, size_bytes_max=size_bytes_max, decode_cursor=lambda _: {}, interval_s=0.0
    )
    writer = new_writer(store, segment_spans_max=max(min(20_000, spans // samples // 2), 500))
    taken: list[Sample] = []
    removed = 0
    step = spans // samples
    for number in range(spans):
        clock.advance(1 / _SPANS_PER_S)
        writer.append(FinishedSpan(make_span(number, start_unix_ns=clock.unix_ns())))
        if (number + 1) % step == 0:
            assert writer.flush(60).is_complete
            _settle(writer)
            gone = keeper.run_once()
            removed += gone.spans if gone is not None else 0
            taken.append(_sample(number + 1, store.folder, writer))
    result = writer.close(60)
    query = store.query()
    found = sum(info.spans for info in query.segments())
    gaps = sum(gap.count for gap in store.query().gaps())
    assert removed, "retention had nothing to do"
    # Each look comes right after a pass; a segment that is being written is not removed.
    assert max(one.store_bytes for one in taken) <= size_bytes_max * 1.1, "the store outgrew its bound"
    return Soaked(spans, result.stored, result.dropped, found, removed, gaps, taken)


@agentguard.tool
def work(number: int) -> int:
    """Do nothing."""
    return number


def soak_calls(folder: Path, calls: int, *, samples: int = 40) -> Soaked:
    """Make so many decorated calls from four threads, as fast as they come."""
    runtime = agentguard.init(store=folder / "store", drift_interval_s=0, store_bytes_max=0)
    assert runtime is not None
    taken: list[Sample] = []
    each = calls // samples // _THREADS
    for part in range(samples):
        threads = [
            threading.Thread(target=lambda: [work(number) for number in range(each)]) for _ in range(_THREADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert runtime.flush(60).is_complete
        taken.append(_sample((part + 1) * each * _THREADS, runtime.store.folder, runtime.sink))
    result = agentguard.shutdown(60)
    ACTIVE.runtime = None
    query = runtime.store.query()
    found = sum(info.spans for info in query.segments())
    gaps = sum(gap.count for gap in runtime.store.query().gaps())
    return Soaked(each * _THREADS * samples, result.stored, result.dropped, found, 0, gaps, taken)


def test_a_quarter_of_an_hour(tmp_path: Path) -> None:
    """45,000 spans, with all that happens in a day; memory is held more loosely for so short a run."""
    soak_day(tmp_path, 45_000, samples=20).check(slope_bytes_max=4 << 20)


def test_forty_thousand_calls(tmp_path: Path) -> None:
    """Decorated, from four threads."""
    soak_calls(tmp_path, 40_000, samples=10).check(slope_bytes_max=4 << 20)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_day(tmp_path: Path) -> None:
    """4.3 million spans."""
    soak_day(tmp_path, 4_320_000).check()


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_million_calls(tmp_path: Path) -> None:
    """Decorated, from four threads."""
    soak_calls(tmp_path, 1_000_000).check()
