"""
Writers, sealing, packing, retention and readers, interleaved as a seed says.

Whatever touches the disk gives way to the others at every step: a reader that is in
the middle of its answer meets a file that was just replaced. Each schedule ends
with a cut of the power; a seed that fails is printed and can be run again.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from agentguard.store import Query, SegmentWriter, Store
from agentguard.values import SpanRecord
from tests.support.sim_disk import SimDisk, crash_state, write_state
from tests.support.spans import FinishedSpan, make_span
from tests.support.stores import new_store, new_writer, open_store

SPANS = [make_span(i) for i in range(160)]
BY_ID = {span.span_id: span for span in SPANS}
_READERS_MAX = 3


class SteppingDisk(SimDisk):
    """Lets somebody else go on before each of its operations."""

    def __init__(self) -> None:
        super().__init__()
        self.give_way: Callable[[], None] = lambda: None

    def write(self, fd: int, data: bytes) -> None:
        self.give_way()
        super().write(fd, data)

    def sync(self, fd: int) -> None:
        self.give_way()
        super().sync(fd)

    def rename(self, source: Path, target: Path) -> None:
        self.give_way()
        super().rename(source, target)
        self.give_way()

    def unlink(self, path: Path) -> None:
        self.give_way()
        super().unlink(path)
        self.give_way()


class Schedule:
    """One life of a store, as a seed says."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._chance = random.Random(seed)
        self.disk = SteppingDisk()
        self.store: Store = new_store(folder / "store", self.disk)
        self.disk.give_way = self._give_way
        self._depth = 0
        self._next = 0
        self.safe: set[str] = set()
        self.acknowledged: list[set[str]] = []
        """What was safe after each acknowledgement."""
        self._waiting: dict[SegmentWriter, list[SpanRecord]] = {}
        self._reading: list[tuple[Iterator[SpanRecord], Query, set[str], set[str]]] = []

    def run(self, steps: int) -> None:
        """Take so many steps, then let all that was begun come to its end."""
        for _ in range(steps):
            self._act(self._chance.choice([self._write, self._write, self._seal, self._pack, self._read]))
        for writer in list(self._waiting):
            self._act(partial(self._close, writer))
        while self._reading:
            self._read_on(len(self._reading) - 1, 10_000)
        self.disk.give_way = lambda: None
        # Liveness: what was begun can be finished, and nothing is left to do.
        self.store.seal_segments()
        self.store.compact()
        assert self.store.info().live_segments == 0
        query = self.store.query()
        found = [span.span_id for span in query.spans()]
        assert sorted(found) == sorted(span.span_id for span in SPANS[: self._next])
        assert not query.damage, query.damage.first

    def _act(self, action: Callable[[], None]) -> None:
        self._depth += 1
        try:
            action()
        finally:
            self._depth -= 1

    def _give_way(self) -> None:
        """In the middle of an operation: readers go on, and now and then a second writer."""
        if self._depth > 2:
            return
        if self._chance.random() < 0.3:
            self._act(self._read)
        elif self._chance.random() < 0.05:
            self._act(self._write)

    def _write(self) -> None:
        writers = list(self._waiting)
        if self._depth > 1 or (len(writers) < 2 and self._chance.random() < 0.3):
            writer = new_writer(
                self.store, is_sealing=False, segment_spans_max=12, frame_spans_max=4, sync_interval_s=1e-6
            )
            self._waiting[writer] = []
        elif writers:
            writer = self._chance.choice(writers)
        else:
            return
        for span in SPANS[self._next : self._next + self._chance.randint(1, 6)]:
            self._next += 1
            assert writer.append(FinishedSpan(span))
            self._waiting[writer].append(span)
        if self._depth > 1 or self._chance.random() < 0.2:
            self._close(writer)
        elif self._chance.random() < 0.5:
            assert writer.flush(10).is_complete
            self._acknowledge(writer)

    def _close(self, writer: SegmentWriter) -> None:
        assert writer.close(10).is_complete
        self._acknowledge(writer)
        del self._waiting[writer]

    def _acknowledge(self, writer: SegmentWriter) -> None:
        self.safe |= {span.span_id for span in self._waiting[writer]}
        self._waiting[writer] = []
        self.acknowledged.append(set(self.safe))
        self.disk.acknowledge(len(self.acknowledged) - 1)

    def _seal(self) -> None:
        self.store.seal_segments()

    def _pack(self) -> None:
        self.store.compact()

    def _read(self) -> None:
        if len(self._reading) < _READERS_MAX and self._chance.random() < 0.3:
            query = self.store.query()
            self._reading.append((query.spans(), query, set(self.safe), set()))
        elif self._reading:
            self._read_on(self._chance.randrange(len(self._reading)), self._chance.randint(1, 40))

    def _read_on(self, number: int, count: int) -> None:
        """Safety: a reader sees what was safe when it began, once, as it was written."""
        spans, query, safe, seen = self._reading.pop(number)
        for _ in range(count):
            span = next(spans, None)
            if span is None:
                assert safe <= seen, f"a reader missed {len(safe - seen)} spans"
                assert set(query.damage.counts) <= {"torn"}, query.damage.first
                return
            assert span.span_id not in seen, "a reader met a span twice"
            assert BY_ID[span.span_id] == span, "a reader met a span that nobody wrote"
            seen.add(span.span_id)
        self._reading.append((spans, query, safe, seen))


def run_schedules(seeds: range, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a schedule for each seed, without any thread: everything happens as the seed says."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    for seed in seeds:
        place = folder / str(seed)
        place.mkdir()
        # Writer ids decide in which order files are read: they too come from the seed.
        monkeypatch.setattr(os, "urandom", random.Random(seed).randbytes)
        try:
            schedule = Schedule(place, seed)
            schedule.run(steps=24)
            chance = random.Random(seed)
            files, number = crash_state(
                schedule.disk.steps, chance.randint(0, len(schedule.disk.steps)), chance
            )
            write_state(schedule.store.segments, files)
            ids = [span.span_id for span in open_store(place / "store").query().spans()]
            assert len(ids) == len(set(ids)), "a span is there twice after the cut"
            if number >= 0:
                missing = schedule.acknowledged[number] - set(ids)
                assert not missing, f"{len(missing)} acknowledged spans are lost after the cut"
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
        shutil.rmtree(place)


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory, where there is one."""
    base = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=base if base.is_dir() else None))
    yield folder
    shutil.rmtree(folder)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seeds", [300, pytest.param(100_000, marks=pytest.mark.long)])
def test_schedules(memory: Path, monkeypatch: pytest.MonkeyPatch, seeds: int) -> None:
    """Some in the core suite; each is another interleaving."""
    run_schedules(range(seeds), memory, monkeypatch)


def test_a_reader_that_a_replaced_file_misleads_is_seen(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control arm: where sealing forgets the last span of a file, some schedule notices."""
    real = SimDisk.unlink

    def forget(self: SimDisk, path: Path) -> None:
        real(self, path)
        victims = [other for other in path.parent.glob("*.ags") if other != path]
        if victims and path.suffix == ".ags":
            real(self, victims[0])

    monkeypatch.setattr(SimDisk, "unlink", forget)
    with pytest.raises(AssertionError, match=r"missed|== sorted"):
        run_schedules(range(300), memory, monkeypatch)
