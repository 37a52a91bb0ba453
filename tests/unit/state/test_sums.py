"""Rates and spend: windows, days, several processes, forks, bounds."""

from __future__ import annotations

import math
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agentguard.errors import StoreError
from agentguard.seal import Keystore
from agentguard.state import MachineState, MemoryState
from agentguard.state.tally import OVERFLOW_KEY
from tests.support.clock import FrozenClock
from tests.support.decisions import raise_it

AnyState = MachineState | MemoryState

# Newer Pythons warn of forks beside threads; what then happens is what these tests are about.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
Open = Callable[..., MachineState]


def test_calls_and_errors(state: AnyState) -> None:
    """A process sees its own calls at once."""
    for number in range(10):
        state.rates.record("search", number % 5 == 0)
    assert state.rates.calls("search") == 10
    assert state.rates.error_rate("search") == 0.2
    assert state.rates.calls("other") == 0
    assert state.rates.error_rate("other") == 0.0


def test_the_window_moves(state: AnyState, clock: FrozenClock) -> None:
    """Calls leave the window after its length, and at most one bucket later."""
    state.rates.record("search", False)
    clock.advance(299)
    state.rates.record("search", True)
    assert state.rates.calls("search", 300.0) == 2
    state.flush()
    clock.advance(7)
    assert state.rates.calls("search", 300.0) == 1
    assert state.rates.error_rate("search", 300.0) == 1.0
    clock.advance(300)
    assert state.rates.calls("search", 300.0) == 0


def test_the_clock_set_back(state: AnyState, clock: FrozenClock) -> None:
    """Calls of the future, as they seem after the clock was set back, count on."""
    state.rates.record("search", False)
    clock.set_unix_ns(clock.unix_ns() - 3600 * 10**9)
    assert state.rates.calls("search") == 1


@pytest.mark.parametrize("window_s", [0, -1, 901, math.nan, math.inf])
def test_windows_that_cannot_be_asked(state: AnyState, window_s: float) -> None:
    """A window that is not kept is refused, not answered with too little."""
    with pytest.raises(StoreError, match="window"):
        state.rates.calls("search", window_s)


def test_spend_of_the_day(state: AnyState, clock: FrozenClock) -> None:
    """Ten times ten cents are one dollar, and midnight UTC begins anew."""
    for _ in range(10):
        state.spend.add(0.1, 7)
    assert (state.spend.usd_today(), state.spend.tokens_today()) == (1.0, 70)
    state.flush()
    assert (state.spend.usd_today(), state.spend.tokens_today()) == (1.0, 70)
    clock.advance(86_400)
    assert (state.spend.usd_today(), state.spend.tokens_today()) == (0.0, 0)


@pytest.mark.parametrize(("usd", "tokens"), [(math.nan, 0), (math.inf, 0), (-0.1, 0), (0.0, -1)])
def test_spend_that_would_open_limits(state: AnyState, usd: float, tokens: int) -> None:
    """Neither NaN nor infinity nor a negative amount is added."""
    with pytest.raises(StoreError, match="expected finite"):
        state.spend.add(usd, tokens)
    assert state.spend.usd_today() == 0.0


def test_two_processes_see_each_other(open_machine: Open, clock: FrozenClock) -> None:
    """What one shared, the other sees once its cache is a second old."""
    first, second = open_machine(), open_machine()
    first.rates.record("search", True)
    first.spend.add(2.5, 100)
    second.rates.record("search", False)
    assert second.rates.calls("search") == 1
    first.flush()
    clock.advance(1.1)
    assert second.rates.calls("search") == 2
    assert second.spend.usd_today() == 2.5
    second.flush()
    clock.advance(1.1)
    assert first.rates.error_rate("search") == 0.5


def test_sums_outlive_the_process(open_machine: Open) -> None:
    """After a restart the machine still knows."""
    first = open_machine()
    first.spend.add(1.25, 10)
    first.close()
    assert open_machine().spend.usd_today() == 1.25


def test_the_thread_shares_by_itself(place: tuple[Path, Keystore]) -> None:
    """Within about a second others see what this process counted, without a flush."""
    from agentguard.runtime.clock import SystemClock

    states = [
        MachineState.open(place[0], place[1], SystemClock(), on_internal_error=raise_it) for _ in range(2)
    ]
    states[0].spend.add(1.0, 1)
    deadline = time.monotonic() + 5
    while states[1].spend.usd_today() != 1.0 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert states[1].spend.usd_today() == 1.0
    for state in states:
        state.close()


def test_threads_lose_nothing(open_machine: Open) -> None:
    """Eight threads count while sums are shared again and again."""
    state = open_machine()

    def work() -> None:
        for _ in range(500):
            state.rates.record("search", False)
            state.spend.add(0.001, 1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        state.flush()
    for thread in threads:
        thread.join()
    state.flush()
    assert state.rates.calls("search") == 4000
    assert (state.spend.usd_today(), state.spend.tokens_today()) == (4.0, 4000)


def test_calls_count_while_somebody_holds_the_lock(state: AnyState, clock: FrozenClock) -> None:
    """Whoever merges or reads, and is not given the processor meanwhile, holds no call up."""
    tool, now_ns = state.rates.of("search"), clock.unix_ns()
    tool.record(False, now_ns)
    state.spend.add_at(0.5, 7, now_ns)
    with state.rates._tally.lock, state.spend._tally.lock:
        tool.record(True, now_ns)
        state.spend.add_at(0.25, 3, now_ns)
    assert (tool.window(300.0).calls(now_ns), tool.window(300.0).error_rate(now_ns)) == (2, 0.5)
    assert (state.spend.usd_at(now_ns), state.spend.tokens_at(now_ns)) == (0.75, 10)


def test_a_fork_counts_nothing_twice(open_machine: Open, clock: FrozenClock) -> None:
    """What was not yet shared is the parent's; the child adds its own."""
    state = open_machine()
    state.rates.record("search", False)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            state.rates.record("search", False)
            state.flush()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    state.flush()
    clock.advance(1.1)
    assert state.rates.calls("search") == 2


def test_names_are_bounded(clock: FrozenClock) -> None:
    """Names beyond the limit share one counter, which never says less."""
    state = MemoryState(clock)
    state.rates._tally._keys_max = 3
    for name in ("a", "b", "c", "d", "e"):
        state.rates.record(name, False)
    assert state.rates.calls("a") == 1
    assert state.rates.calls("e") == 2
    assert set(state.rates._tally._pending) == {"a", "b", "c", OVERFLOW_KEY}


def test_a_replayed_year_stays_small(clock: FrozenClock) -> None:
    """Old buckets go, so that memory does not grow with time."""
    state = MemoryState(clock)
    for _ in range(2000):
        clock.advance(4000)
        state.rates.record("search", False)
        state.rates.calls("search")
    assert sum(map(len, state.rates._tally.shared_and_recent("search"))) < 10


def test_adding_while_merging(open_machine: Open) -> None:
    """An addition is in what a merge takes, or in the next: none is lost, none counted twice."""
    state = open_machine()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [
            threading.Thread(target=lambda: [state.rates.record("search", False) for _ in range(3000)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            state.flush()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert state.rates.calls("search") == 12_000
    state.flush()
    assert state.rates.calls("search") == 12_000


def test_a_full_disk_loses_nothing(open_machine: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums that cannot be written are kept, still counted, and written with the next."""
    state = open_machine()
    state.spend.add(1.0, 1)
    run = state._sqlite._run

    def fail(connection: sqlite3.Connection, sql: str, values: tuple[object, ...] = ()) -> None:
        if sql == "COMMIT":
            raise state._sqlite._failed(sqlite3.OperationalError("database or disk is full"))
        run(connection, sql, values)

    monkeypatch.setattr(state._sqlite, "_run", fail)
    with pytest.raises(StoreError, match="full"):
        state.flush()
    assert state.spend.usd_today() == 1.0
    monkeypatch.undo()
    state.spend.add(1.0, 1)
    state.flush()
    assert state.spend.usd_today() == 2.0
    state.close()
    assert open_machine().spend.usd_today() == 2.0
