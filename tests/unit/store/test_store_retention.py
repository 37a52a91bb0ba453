"""Retention: the oldest sealed segments go, by age and by size."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentguard.store import Store
from tests.support.clock import START_UNIX_NS
from tests.support.faulty_disk import FaultyDisk
from tests.support.spans import FinishedSpan, make_span
from tests.support.stores import fill, new_store, new_writer, segment_files

HOUR_NS = 3600 * 10**9


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Five segments, one for each of the last five hours, and a live one that is the oldest of all."""
    store = new_store(tmp_path / "store", FaultyDisk())
    for hour in range(5):
        start = START_UNIX_NS - hour * HOUR_NS
        fill(store, [make_span(hour * 100 + i, start_unix_ns=start) for i in range(40)], is_sealed=True)
    writer = new_writer(store, is_sealing=False)
    writer.append(FinishedSpan(make_span(900, start_unix_ns=START_UNIX_NS - 100 * HOUR_NS)))
    writer.flush(5)
    return store


def _hours(store: Store) -> list[int]:
    return sorted({(START_UNIX_NS - s.start_unix_ns) // HOUR_NS for s in store.query().spans()})


def test_by_age(store: Store) -> None:
    """What is older than two and a half hours goes; a live segment never does."""
    removed = store.remove_old(age_s_max=2.5 * 3600)
    assert (removed.segments, removed.spans) == (2, 80)
    assert _hours(store) == [0, 1, 2, 100]
    assert store.remove_old(age_s_max=2.5 * 3600).segments == 0


def test_by_size(store: Store) -> None:
    """The oldest go until the rest fits."""
    sizes = sum(path.stat().st_size for path in segment_files(store))
    removed = store.remove_old(size_bytes_max=sizes // 2)
    assert removed.segments in {2, 3}
    assert sum(path.stat().st_size for path in segment_files(store)) <= sizes // 2
    assert 0 in _hours(store)


def test_nothing_asked_nothing_removed(store: Store) -> None:
    """Without a bound nothing goes."""
    assert store.remove_old().segments == 0


def test_works_on_a_full_disk(store: Store) -> None:
    """Removing needs no room."""
    disk = store._disk
    assert isinstance(disk, FaultyDisk)
    disk.room_bytes = 0
    assert store.remove_old(age_s_max=0.5 * 3600).segments == 4


def test_what_was_not_exported_is_counted(store: Store) -> None:
    """A cursor says which spans an export has taken."""
    cursor = {}
    for position in store.query().positions():
        if position.cursor[2] < 10:
            cursor[position.cursor[0]] = (position.cursor[1], position.cursor[2])
    removed = store.remove_old(age_s_max=3.5 * 3600, exported=cursor)
    assert (removed.spans, removed.unexported_spans) == (40, 30)
    removed = store.remove_old(age_s_max=2.5 * 3600, exported={})
    assert (removed.spans, removed.unexported_spans) == (40, 40)
