"""Laws of counting without a lock: rates and spend are those of a plain list of all events, at any moment."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agentguard.state import MachineState, MemoryState
from agentguard.state._state import _machines
from agentguard.state.rates import BUCKET_S
from tests.support.clock import FrozenClock
from tests.support.decisions import make_keystore, raise_it

# Newer Pythons warn of forks beside threads; what then happens is what these tests are about.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

BUCKET_NS = BUCKET_S * 10**9
DAY_NS = 86_400 * 10**9
WINDOWS_S = (1.0, 5.0, 7.5, 300.0, 900.0)


class PlainMachine:
    """What processes of a machine should answer: every event is kept, and all are gone through at each question."""

    def __init__(self, processes: int) -> None:
        self.own: list[list[tuple[str, int, bool]]] = [[] for _ in range(processes)]
        """By process: tool, bucket and outcome of what it has not shared."""
        self.shared: dict[str, list[tuple[int, bool]]] = {}
        self.seen: list[dict[str, list[tuple[int, bool]]]] = [{} for _ in range(processes)]
        """By process: what was shared when it last looked."""
        self.spent: list[list[tuple[int, int, int]]] = [[] for _ in range(processes)]
        """By process: day, billionths of a dollar and tokens of all it ever added."""
        self.spent_seen = [[0] * processes for _ in range(processes)]
        """By process: how many items of the others it has seen."""
        self.spent_shared = [0] * processes

    def flush(self, who: int, now_ns: int) -> None:
        """Share what a process has counted, and let it see what the others shared."""
        for tool in {tool for tool, _, _ in self.own[who]}:
            self.shared[tool] = [
                (bucket, is_error)
                for bucket, is_error in self.shared.get(tool, [])
                # What no window can ask for any more goes with the next change.
                if bucket * BUCKET_S >= now_ns // 10**9 - 900 - BUCKET_S
            ] + [(bucket, is_error) for its, bucket, is_error in self.own[who] if its == tool]
        self.own[who] = []
        self.seen[who] = {tool: list(events) for tool, events in self.shared.items()}
        self.spent_shared[who] = len(self.spent[who])
        self.spent_seen[who] = list(self.spent_shared)

    def rates(self, who: int, tool: str, window_s: float, now_ns: int) -> tuple[int, int]:
        """Calls and errors as a process knows them."""
        first = (now_ns - int(window_s * 1e9)) // BUCKET_NS
        events = self.seen[who].get(tool, []) + [
            (bucket, is_error) for its, bucket, is_error in self.own[who] if its == tool
        ]
        counted = [is_error for bucket, is_error in events if bucket >= first]
        return len(counted), sum(counted)

    def spend(self, who: int, now_ns: int) -> tuple[int, int]:
        """Billionths of a dollar and tokens of the day, as a process knows them."""
        known = list(self.spent[who])
        for other, items in enumerate(self.spent):
            if other != who:
                known += items[: self.spent_seen[who][other]]
        today = [item for item in known if item[0] == now_ns // DAY_NS]
        return sum(item[1] for item in today), sum(item[2] for item in today)


WHO = st.integers(0, 1)
TOOL = st.sampled_from(["pay", "find"])
STEP = st.one_of(
    # Twice: the first call of a slice takes another way than those that follow.
    st.tuples(st.just("record"), WHO, TOOL, st.booleans(), st.just(0), st.integers(1, 3)),
    # Whoever ended a little before the clock was asked, or whose clock was set since.
    st.tuples(
        st.just("record"),
        WHO,
        TOOL,
        st.booleans(),
        st.sampled_from([1, 10**9, BUCKET_NS, 10**12]),
        st.just(1),
    ),
    st.tuples(st.just("spend"), WHO, st.integers(0, 10**12), st.integers(0, 10**6), st.integers(1, 3)),
    st.tuples(st.just("gather"), WHO),
    st.tuples(st.just("flush"), WHO),
    st.tuples(st.just("step"), st.sampled_from([10**8, 10**9, BUCKET_NS, 3 * 10**11, 10**12, DAY_NS])),
    st.tuples(st.just("back"), st.sampled_from([10**8, 10**9, BUCKET_NS, 3 * 10**11, 10**12, DAY_NS])),
)


@settings(max_examples=200, deadline=None)
@example(
    # What lies in a tray that turns to the next slice stays in its own.
    [
        ("record", 0, "pay", False, 0, 3),
        ("step", BUCKET_NS),
        ("record", 0, "pay", True, 0, 1),
        ("step", 10**9),
    ]
)
@example(
    # And so does what lies there at midnight.
    [("step", DAY_NS - 1), ("spend", 0, 1, 1, 3), ("step", 1), ("spend", 0, 1, 1, 1)]
)
@given(st.lists(STEP, min_size=5, max_size=40))
def test_the_answers_are_those_of_a_plain_list(steps: list[tuple[object, ...]]) -> None:
    """Over calls, late calls, merges of two processes, and a clock that is set forward and back."""
    clock, plain = FrozenClock(), PlainMachine(2)
    states = [MemoryState(clock) for _ in range(2)]
    for mine, shared in zip(states[1]._tallies, states[0]._tallies, strict=True):
        mine._cells = shared._cells
    states[1]._cells = states[0]._cells
    for what, *rest in steps:
        now_ns = clock.unix_ns()
        if what == "record":
            who, tool, is_error, late_ns, times = rest
            for _ in range(times):
                states[who].rates.of(tool).record(is_error, now_ns - late_ns)
                plain.own[who].append((tool, (now_ns - late_ns) // BUCKET_NS, is_error))
        elif what == "spend":
            who, units, tokens, times = rest
            for _ in range(times):
                states[who].spend.add_at(units / 10**9, tokens, now_ns)
                plain.spent[who].append((now_ns // DAY_NS, units, tokens))
        elif what == "gather":
            states[rest[0]]._tallies[0].gather()
            states[rest[0]]._tallies[1].gather()
        elif what == "flush":
            states[rest[0]].flush()
            plain.flush(rest[0], now_ns)
        else:
            # The wall clock alone: a state that is asked a minute later shares by itself.
            clock.set_unix_ns(now_ns + (rest[0] if what == "step" else -rest[0]))
        now_ns = clock.unix_ns()
        for who, state in enumerate(states):
            for tool in ("pay", "find"):
                for window_s in WINDOWS_S:
                    calls, errors = plain.rates(who, tool, window_s, now_ns)
                    window = state.rates.of(tool).window(window_s)
                    assert window.calls(now_ns) == state.rates.calls(tool, window_s) == calls
                    assert window.error_rate(now_ns) == (errors / calls if calls else 0.0)
            units, tokens = plain.spend(who, now_ns)
            assert (state.spend.usd_today(), state.spend.tokens_today()) == (units / 10**9, tokens)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.integers(1, 3), st.sampled_from(["", "", "gather", "flush"])),
        min_size=4,
        max_size=20,
    )
)
def test_names_beyond_the_limit_share_one_counter(calls: list[tuple[str, int, str]]) -> None:
    """With more tools than are told apart each says its own, or what all of those beyond have together."""
    state = MemoryState(FrozenClock())
    tally, own, apart = state.rates._tally, dict.fromkeys("abcd", 0), set()
    tally._keys_max = 2
    for tool, times, then in calls:
        if tally.is_told_apart(tool) and not own[tool]:
            apart.add(tool)
        for _ in range(times):
            state.rates.record(tool, False)
        own[tool] += times
        if then == "gather":
            tally.gather()
        elif then == "flush":
            state.flush()
        beyond = sum(count for name, count in own.items() if name not in apart)
        for name, count in own.items():
            is_apart = name in apart or (not count and tally.is_told_apart(name))
            assert state.rates.calls(name) == (count if is_apart else beyond)


def test_a_late_call_does_not_turn_the_tray() -> None:
    """Whoever ended just before a slice began is counted there, and the others count on without a lock."""
    clock = FrozenClock()
    state = MemoryState(clock)
    tool, now_ns = state.rates.of("search"), clock.unix_ns()
    tool.record(False, now_ns)
    tool.record(True, now_ns - 1)
    assert tool.number == now_ns // BUCKET_NS
    assert {field for field, _ in state.rates._tally.shared_and_recent("search")[1]} == {
        tool.number,
        tool.number - 1,
    }


class _Interrupted(list[None]):
    """A list before whose next append somebody merges."""

    def __init__(self, merge: Callable[[], object]) -> None:
        super().__init__()
        self._merge = merge

    def append(self, item: None) -> None:
        """Merge, then append."""
        self._merge()
        super().append(item)


def test_a_call_that_counts_while_its_tray_goes_to_rest() -> None:
    """It has found the tray open, and appends when nobody waits for it any more: it says so, and is merged."""
    clock = FrozenClock()
    state = MemoryState(clock)
    told = []
    tally, tool = state.rates._tally, state.rates.of("search")
    tool.record(False, clock.unix_ns())
    tally.added = lambda: told.append(len(tool.ended))
    tool.ended = _Interrupted(tally.gather)
    tool.record(False, clock.unix_ns())
    assert (told, list(tally.trays)) == ([1], [tool])
    state.flush()
    assert len(tool.ended) == 0
    assert state.rates.calls("search") == 2


@pytest.fixture
def often() -> object:
    """Threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("often")
def test_threads_whose_trays_are_sent_to_rest(tmp_path: Path) -> None:
    """Four threads count while the clock steps to and fro and trays are emptied and put to rest: each call is there once."""
    clock = FrozenClock()
    store, keystore = make_keystore(tmp_path)
    state = MachineState.open(store, keystore, clock, on_internal_error=raise_it)
    begin_ns, counts = clock.unix_ns(), 20_000

    def work() -> None:
        tool = state.rates.of("search")
        for number in range(counts):
            tool.record(number % 4 == 0, clock.unix_ns())
            state.spend.add_at(0.001, 2, clock.unix_ns())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    number = seen = 0
    window = state.rates.of("search").window(900.0)
    while any(thread.is_alive() for thread in threads):
        number += 1
        state._gather()
        if number % 8 == 0:
            clock.set_unix_ns(begin_ns + number % 24 * 10**9)
        if number % 64 == 0:
            state.flush()
        calls = window.calls(clock.unix_ns())
        assert seen <= calls <= 4 * counts
        assert window.error_rate(clock.unix_ns()) <= 1.0
        seen = calls
    for thread in threads:
        thread.join()
    assert window.calls(clock.unix_ns()) == 4 * counts
    assert window.error_rate(clock.unix_ns()) == 0.25
    # Whatever was counted while a tray went to rest is known to whoever merges.
    state.flush()
    other = MachineState.open(store, keystore, clock, on_internal_error=raise_it)
    assert other.rates.calls("search", 900.0) == 4 * counts
    assert other.rates.error_rate("search", 900.0) == 0.25
    assert (other.spend.usd_today(), other.spend.tokens_today()) == (4.0 * counts / 1000, 8 * counts)
    other.close()
    state.close()


@pytest.mark.parametrize("is_seen", [True, False])
@pytest.mark.parametrize("reads_first", [False, True])
def test_a_child_keeps_what_it_was_handed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_seen: bool, reads_first: bool
) -> None:
    """Objects of the parent count the child's calls, and not again what the parent has not yet shared."""
    clock = FrozenClock()
    store, keystore = make_keystore(tmp_path)
    state = MachineState.open(store, keystore, clock, on_internal_error=raise_it)
    # No thread that could be in the midst of something when this process forks.
    monkeypatch.setattr(state, "_wake", lambda: None)
    if not is_seen:
        # As where a server written in C forks: no hook of Python runs.
        _machines.discard(state)
    tool = state.rates.of("search")
    window, now_ns = tool.window(300.0), clock.unix_ns()
    for _ in range(3):
        tool.record(True, now_ns)
        state.spend.add_at(0.25, 10, now_ns)
    assert window.calls(now_ns) == 3
    # Held by a thread that does not live in the child.
    with state.rates._tally.lock, state.spend._tally.lock:
        child = os.fork()
    if child == 0:
        status = 1
        try:
            begins = window.calls(now_ns) if reads_first else 0
            tool.record(False, now_ns)
            state.spend.add_at(0.5, 1, now_ns)
            tool.record(False, now_ns)
            seen = window.calls(now_ns), window.error_rate(now_ns), state.spend.usd_at(now_ns)
            state.flush()
            status = 0 if (begins, *seen) == (0, 2, 0.0, 0.5) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    state.flush()
    assert (window.calls(now_ns), window.error_rate(now_ns)) == (5, 0.6)
    assert (state.spend.usd_at(now_ns), state.spend.tokens_at(now_ns)) == (1.25, 31)
    state.close()
