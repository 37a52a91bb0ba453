"""Laws of shared sums: whatever is added by whom in whatever order is there in the end, once."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentguard.state import MachineState, MemoryState
from tests.support.clock import FrozenClock
from tests.support.decisions import make_keystore, raise_it

# Newer Pythons warn of forks beside threads; what then happens is what these tests are about.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "add", "share", "wait"]),
        st.integers(0, 2),  # which process
        st.integers(0, 10**7),  # micro-dollars, or milliseconds
    ),
    max_size=30,
)


@settings(max_examples=40)
@given(STEPS)
def test_three_states_over_the_same_cells(steps: list[tuple[str, int, int]]) -> None:
    """Three processes over shared cells never see less than their own, never more than all, and agree in the end."""
    clock = FrozenClock()
    states = [MemoryState(clock) for _ in range(3)]
    for state in states[1:]:
        for mine, shared in (
            (state.rates._tally, states[0].rates._tally),
            (state.spend._tally, states[0].spend._tally),
        ):
            mine._cells = shared._cells
        state._cells = states[0]._cells
    total = [0, 0, 0]
    for what, who, amount in steps:
        if what == "add":
            states[who].spend.add(amount / 10**6, 1)
            total[who] += amount
        elif what == "share":
            states[who].flush()
        else:
            clock.advance(amount / 10**6)
        seen = round(states[who].spend.usd_today() * 10**6)
        assert total[who] <= seen <= sum(total)
    for _ in range(2):
        for state in states:
            state.flush()
    for state in states:
        assert round(state.spend.usd_today() * 10**6) == sum(total)


def test_four_processes_with_eight_threads(tmp_path: Path) -> None:
    """Nothing that 4 x 8 threads add is lost or counted twice."""
    clock = FrozenClock()
    store, keystore = make_keystore(tmp_path)
    MachineState.open(store, keystore, clock, on_internal_error=raise_it).close()
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                state = MachineState.open(store, keystore, clock, on_internal_error=raise_it)

                def work(state: MachineState = state) -> None:
                    for number in range(50):
                        state.spend.add(0.01, 1)
                        state.rates.record("search", number % 10 == 0)
                        if number % 10 == 0:
                            state.flush()

                threads = [threading.Thread(target=work) for _ in range(8)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                state.close()
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    state = MachineState.open(store, keystore, clock, on_internal_error=raise_it)
    assert (state.spend.usd_today(), state.spend.tokens_today()) == (16.0, 1600)
    assert state.rates.calls("search") == 1600
    assert state.rates.error_rate("search") == 0.1
    state.close()
