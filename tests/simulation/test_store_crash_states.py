"""States that a disk may be in after a cut, by the thousand: nothing acknowledged is lost, nothing is invented."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentguard.store import Query, Store
from agentguard.store._cache import FooterCache
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


def explore(folder: Path, states: int, seed: int = 0) -> Counter[str]:
    """Look at so many states; returns what kinds of damage were reported how often."""
    store, disk = record(folder)
    steps: list[Step] = disk.steps
    chance = random.Random(seed)
    seen: Counter[str] = Counter()
    for _ in range(states):
        cut = chance.randint(0, len(steps))
        files, acknowledged = crash_state(steps, cut, chance)
        write_state(store.segments, files)
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


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_many_crash_states(memory: Path) -> None:
    """A million."""
    assert explore(memory, 1_000_000, seed=1)["states"] == 1_000_000


@pytest.mark.parametrize("step", ["sync", "sync_folder"])
def test_without_syncs_acknowledged_spans_are_lost(
    memory: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The control arms: were nothing lost here, the simulation would lose nothing."""
    monkeypatch.setattr(SimDisk, step, lambda *_: None)
    with pytest.raises(AssertionError, match="acknowledged and lost"):
        explore(memory, 300)
