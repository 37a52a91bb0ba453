"""States that a disk may be in after a cut, by the thousand: nothing acknowledged is lost, nothing is invented."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentguard.store import Disk, Query, Store, _compaction
from agentguard.store._cache import FooterCache
from agentguard.store._layout import State, unpack_header
from agentguard.store._sealing import Sealer
from tests.support.sim_disk import SimDisk, Step, crash_state, write_state
from tests.support.spans import FinishedSpan, make_span
from tests.support.stores import new_store, new_writer

SPANS = [make_span(i) for i in range(220)]
BY_ID = {span.span_id: span for span in SPANS}


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory, where there is one."""
    base = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=base if base.is_dir() else None))
    yield folder
    shutil.rmtree(folder)


def record(folder: Path) -> tuple[Store, SimDisk]:
    """Write with rotation and sealing, acknowledge after each flush, and keep the record."""
    disk = SimDisk()
    store = new_store(folder / "store", disk)
    writer = new_writer(store, is_sealing=False, segment_spans_max=40, frame_spans_max=8)
    sealer = Sealer(store.segments, store.keystore, store.clock, disk)
    for first in range(0, 220, 11):
        for span in SPANS[first : first + 11]:
            writer.append(FinishedSpan(span))
        if first % 3:
            assert writer.flush(10).is_complete
            disk.acknowledge(first + 10)
        if first % 5 == 0:
            sealer.seal_all()
    assert writer.close(10).is_complete
    disk.acknowledge(219)
    sealer.seal_all()
    return store, disk


def record_packing(folder: Path) -> tuple[Store, SimDisk]:
    """Write as many short processes, and pack what they left again and again."""
    disk = SimDisk()
    store = new_store(folder / "store", disk)
    for first in range(0, 220, 11):
        writer = new_writer(store, is_sealing=False, frame_spans_max=8)
        for span in SPANS[first : first + 11]:
            writer.append(FinishedSpan(span))
        assert writer.close(10).is_complete
        disk.acknowledge(first + 10)
        store.seal_segments()
        if first % 4 == 0:
            store.compact()
    return store, disk


def record_finishing(folder: Path) -> tuple[Store, SimDisk]:
    """Write long frames, whose files their writer seals where they lie."""
    disk = SimDisk()
    store = new_store(folder / "store", disk)
    writer = new_writer(store, segment_spans_max=40, frame_bytes_max=2**30)
    for first in range(0, 220, 22):
        for span in SPANS[first : first + 22]:
            writer.append(FinishedSpan(span, bytes_estimate=100))
        assert writer.flush(10).is_complete
        disk.acknowledge(first + 21)
    assert writer.close(10).is_complete
    headers = [unpack_header(path.read_bytes()) for path in store.segments.iterdir()]
    assert {header and header.state for header in headers} == {State.FINISHED}
    return store, disk


Recorder = Callable[[Path], tuple[Store, SimDisk]]


def explore(
    folder: Path, states: int, seed: int = 0, recorder: Recorder = record, *, is_sealed_again: bool = False
) -> Counter[str]:
    """
    Look at so many states, as they are or once the next process has sealed them; returns what kinds of damage were
    reported how often.
    """
    store, disk = recorder(folder)
    steps: list[Step] = disk.steps
    chance = random.Random(seed)
    seen: Counter[str] = Counter()
    for _ in range(states):
        cut = chance.randint(0, len(steps))
        files, acknowledged = crash_state(steps, cut, chance)
        write_state(store.segments, files)
        if is_sealed_again:
            Sealer(store.segments, store.keystore, store.clock, Disk()).seal_all()
        query = Query(store.segments, store.keystore, FooterCache())
        found = list(query.spans())
        ids = [span.span_id for span in found]
        assert len(set(ids)) == len(ids), "a span is there twice"
        assert all(BY_ID[span.span_id] == span for span in found), "a span that nobody wrote"
        missing = [span for span in SPANS[: acknowledged + 1] if span.span_id not in set(ids)]
        assert not missing, f"acknowledged and lost: {len(missing)}, cut behind step {cut} of {len(steps)}"
        assert set(query.damage.counts) <= {"torn", "damaged", "header", "missing"}, query.damage.first
        seen.update(query.damage.counts.keys())
        seen["states"] += 1
    return seen


def test_crash_states(memory: Path) -> None:
    """Two thousand of them in the core suite, and the torn ones are among them."""
    seen = explore(memory, 2000)
    assert seen["states"] == 2000
    assert seen["torn"] > 0


@pytest.mark.parametrize("is_sealed_again", [False, True])
def test_crash_states_of_finishing(memory: Path, *, is_sealed_again: bool) -> None:
    """The same where files are sealed where they lie: none says that it is and has no footer, or misses a frame."""
    seen = explore(memory, 400, recorder=record_finishing, is_sealed_again=is_sealed_again)
    assert seen["states"] == 400
    assert not seen["missing"]


def test_crash_states_of_packing(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same while small segments are packed, and packs are packed again; nothing is damaged by it."""
    monkeypatch.setattr(_compaction, "FILES_MIN", 2)
    assert explore(memory, 600, recorder=record_packing)["states"] == 600


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_many_crash_states_of_packing(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred thousand."""
    monkeypatch.setattr(_compaction, "FILES_MIN", 2)
    assert explore(memory, 100_000, seed=1, recorder=record_packing)["states"] == 100_000


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_many_crash_states(memory: Path) -> None:
    """A million."""
    assert explore(memory, 1_000_000, seed=1)["states"] == 1_000_000


@pytest.mark.parametrize("recorder", [record, record_packing])
@pytest.mark.parametrize("step", ["sync", "sync_folder"])
def test_without_syncs_acknowledged_spans_are_lost(
    memory: Path, monkeypatch: pytest.MonkeyPatch, step: str, recorder: Recorder
) -> None:
    """The control arms: were nothing lost here, the simulation would lose nothing."""
    monkeypatch.setattr(_compaction, "FILES_MIN", 2)
    monkeypatch.setattr(SimDisk, step, lambda *_: None)
    with pytest.raises(AssertionError, match="acknowledged and lost"):
        explore(memory, 300, recorder=recorder)
