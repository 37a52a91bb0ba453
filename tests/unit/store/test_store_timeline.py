"""A clock that jumped ahead makes nothing old."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentguard.export import decode_cursor
from agentguard.store import Housekeeper, Store
from agentguard.store._timeline import believed_now
from tests.support.clock import START_UNIX_NS, FrozenClock
from tests.support.spans import make_span
from tests.support.stores import KnownKey, fill, new_store

DAY_NS = 86_400 * 10**9
DAY_S = 86_400.0


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A segment on each of forty days, the last of them today."""
    store = new_store(tmp_path / "store")
    for day in range(40):
        fill(store, [make_span(day, start_unix_ns=START_UNIX_NS - day * DAY_NS)], is_sealed=True)
    store.seal_segments()
    return store


def _reopened(store: Store, clock: FrozenClock) -> Store:
    return Store.open(store.folder, provider=KnownKey(), clock=clock)


def test_a_year_ahead(store: Store) -> None:
    """Nothing more goes than would have gone when the last span began, and what the clock asks for is told."""
    clock = FrozenClock(START_UNIX_NS + 365 * DAY_NS)
    removed = _reopened(store, clock).remove_old(age_s_max=30 * DAY_S)
    assert (removed.segments, removed.doubted_segments) == (9, 31)
    again = _reopened(store, clock).remove_old(age_s_max=30 * DAY_S)
    assert (again.segments, again.doubted_segments) == (0, 31)


def test_without_the_guard_everything_would_go(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control arm: believing the clock empties the store."""
    monkeypatch.setattr(
        "agentguard.store._retention.believed_now", lambda _, *, now_unix_ns, witnessed_s: now_unix_ns
    )
    clock = FrozenClock(START_UNIX_NS + 365 * DAY_NS)
    assert _reopened(store, clock).remove_old(age_s_max=30 * DAY_S).segments == 40


def test_a_jump_while_the_process_runs(store: Store) -> None:
    """What the monotonic clock did not see is not believed."""
    clock = FrozenClock()
    opened = _reopened(store, clock)
    keeper = Housekeeper(
        opened, age_s_max=30 * DAY_S, size_bytes_max=None, decode_cursor=decode_cursor, interval_s=0
    )
    clock.advance(3600)
    first = keeper.run_once()
    assert first is not None
    assert (first.segments, first.doubted_segments) == (10, 0)
    clock.set_unix_ns(clock.unix_ns() + 365 * DAY_NS)
    second = keeper.run_once()
    assert second is not None
    assert (second.segments, second.doubted_segments) == (0, 30)


def test_a_long_rest_that_was_witnessed(store: Store) -> None:
    """A process that saw forty days pass without a span knows that they did."""
    clock = FrozenClock()
    keeper = Housekeeper(
        _reopened(store, clock), age_s_max=30 * DAY_S, size_bytes_max=None, decode_cursor=decode_cursor
    )
    clock.advance(40 * DAY_S)
    removed = keeper.run_once()
    assert removed is not None
    assert (removed.segments, removed.doubted_segments) == (40, 0)


def test_three_days_behind_a_rest(store: Store) -> None:
    """Once spans began on three days behind a hole, it was a rest."""
    clock = FrozenClock(START_UNIX_NS + 100 * DAY_NS)
    for day in range(3):
        assert _reopened(store, clock).remove_old(age_s_max=35 * DAY_S).doubted_segments > 0
        start = START_UNIX_NS + (98 + day) * DAY_NS
        fill(store, [make_span(1000 + day, start_unix_ns=start)], is_sealed=True)
    store.seal_segments()
    removed = _reopened(store, clock).remove_old(age_s_max=35 * DAY_S)
    assert removed.doubted_segments == 0
    assert {span.start_unix_ns for span in store.query().spans()} == {
        START_UNIX_NS + (98 + day) * DAY_NS for day in range(3)
    }


@given(
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 3)), max_size=12),
    st.integers(0, 900),
    st.floats(0, 50),
)
def test_never_later_than_the_clock(days: list[tuple[int, int]], now: int, witnessed_days: float) -> None:
    """What is believed is never later than the clock, and the clock itself where there is no long hole."""
    ranges = [(day * DAY_NS, (day + length) * DAY_NS) for day, length in days]
    believed = believed_now(ranges, now_unix_ns=now * DAY_NS, witnessed_s=witnessed_days * DAY_S)
    assert believed <= now * DAY_NS
    no_hole = [(day * DAY_NS, day * DAY_NS) for day in range(now + 1)]
    assert believed_now(no_hole, now_unix_ns=now * DAY_NS) == now * DAY_NS
