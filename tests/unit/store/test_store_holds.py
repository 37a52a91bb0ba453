"""Legal holds: what they keep, for how long, and what happens where they cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentguard.errors import StoreError, TamperedError
from agentguard.store import Hold, Store
from agentguard.values import attributes as names
from tests.support.spans import make_span
from tests.support.stores import fill, new_store

HOUR_NS = 3600 * 10**9


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Four sealed segments of one hour each, of two agents in turn; all of them hours old."""
    store = new_store(tmp_path / "s")
    now = store.clock.unix_ns()
    for hour in range(4):
        agent = ("billing", "support")[hour % 2]
        starts = [now - (10 - hour) * HOUR_NS + minute * 60 * 10**9 for minute in range(3)]
        spans = [
            make_span(10 * hour + i, start_unix_ns=start, attributes={names.AGENT_NAME: agent})
            for i, start in enumerate(starts)
        ]
        fill(store, spans, is_sealed=True)
    return store


def hold(store: Store, first: int | None = None, last: int | None = None, agent: str | None = None) -> Hold:
    """Hold the hours from *first* to before *last*."""
    now = store.clock.unix_ns()
    at = [None if hour is None else now - (10 - hour) * HOUR_NS for hour in (first, last)]
    return store.holds.add(
        reason="case 7", by="dana", now_unix_ns=now, since_unix_ns=at[0], until_unix_ns=at[1], agent=agent
    )


def hours_left(store: Store) -> list[int]:
    """Which hours still have spans."""
    now = store.clock.unix_ns()
    return sorted({10 - (now - span.start_unix_ns - 1) // HOUR_NS - 1 for span in store.query().spans()})


def test_a_hold_keeps_its_hours(store: Store) -> None:
    """What is held stays, by age and by size; the rest goes; once lifted, all goes."""
    kept = hold(store, 1, 3)
    removed = store.remove_old(age_s_max=3600)
    assert (removed.segments, removed.held_segments) == (2, 2)
    assert hours_left(store) == [1, 2]
    assert store.remove_old(size_bytes_max=1).segments == 0
    assert store.holds.remove(kept.hold_id[:5]) == kept
    assert store.remove_old(size_bytes_max=1).segments == 2


def test_a_hold_of_an_agent(store: Store) -> None:
    """Segments without the agent go, those with it stay; an agent that was never there holds nothing."""
    hold(store, agent="support")
    hold(store, agent="nobody")
    assert store.remove_old(age_s_max=3600).segments == 2
    assert hours_left(store) == [1, 3]


def test_an_open_hold_keeps_everything(store: Store) -> None:
    """Without a range and an agent all is kept."""
    hold(store)
    assert store.remove_old(age_s_max=1).segments == 0


def test_a_damaged_segment_may_hold_anything(store: Store) -> None:
    """Where the features of a segment cannot be read, a hold of an agent keeps it."""
    hold(store, agent="nobody")
    path = min(store.segments.iterdir())
    data = bytearray(path.read_bytes())
    data[140] ^= 255  # The resource frame.
    for place in range(len(data) // 2, len(data) - 400, 16):
        data[place] ^= 1
    path.write_bytes(bytes(data))
    removed = store.remove_old(age_s_max=3600)
    assert path.exists()
    assert removed.held_segments >= 1


def test_nothing_is_removed_where_holds_cannot_be_read(store: Store) -> None:
    """A file of holds that was altered stops retention, with an error."""
    hold(store, 1, 2)
    path = store.folder / "blobs" / "holds.agb"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(TamperedError):
        store.remove_old(age_s_max=1)
    assert hours_left(store) == [0, 1, 2, 3]


def test_list_and_refusals(store: Store) -> None:
    """Holds come back as they were made; empty reasons, empty ranges and unknown ids are refused."""
    first, second = hold(store, 1, 3, "billing"), hold(store)
    assert store.holds.list() == (first, second)
    assert store.holds.get(first.hold_id) == first
    for bad in ("", "zz", "0" * 9):
        with pytest.raises(StoreError, match="expected one"):
            store.holds.remove(bad)
    with pytest.raises(StoreError, match="no reason"):
        store.holds.add(reason=" ", by="x", now_unix_ns=0)
    with pytest.raises(StoreError, match="ends before"):
        store.holds.add(reason="x", by="x", now_unix_ns=0, since_unix_ns=5, until_unix_ns=5)


@given(st.tuples(*[st.integers(0, 20)] * 2), st.none() | st.integers(0, 20), st.none() | st.integers(0, 20))
def test_overlap(starts: tuple[int, int], since: int | None, until: int | None) -> None:
    """A hold overlaps a range exactly where some moment of the range lies in it, for ranges of one moment."""
    one = Hold(
        hold_id="0", kind="hold", reason="x", by="x", created_unix_ns=0,
        since_unix_ns=since, until_unix_ns=until,
    )  # fmt: skip
    first, last = sorted(starts)
    expected = any(
        (since is None or moment >= since) and (until is None or moment < until)
        for moment in range(first, last + 1)
    )
    if since is None or until is None or since < until:
        assert one.overlaps(first, last) == expected
