"""`drift check` on days that nothing happened to: its promise is kept with rhythm, load and rare events."""

import numpy as np
import pytest

from agentguard import drift
from agentguard.drift._simulate import MONDAY_S, Change, simulate
from tests.support.feature_store import MemoryStore, fill

NS, DAY_S = 10**9, 86_400


def span(first_day: float, end_day: float) -> tuple[int, int]:
    """A stretch of simulated time, in nanoseconds."""
    return int((MONDAY_S + first_day * DAY_S) * NS), int((MONDAY_S + end_day * DAY_S) * NS)


def looks(seed: int, change: Change | None = None) -> list[drift.Comparison]:
    """Monday against Monday, and one hour of each quarter of a day against the stored reference."""
    store = MemoryStore()
    fill(store, simulate(seed, days=9, change=change), start_s=MONDAY_S)
    since, until = span(0, 7)
    reference = drift.fit_reference(store, since_unix_ns=since, until_unix_ns=until)
    hours = [span(7 + h / 24, 7 + (h + 1) / 24) for h in (3, 15)]
    return [
        drift.check(store, reference=span(0, 1), window=span(7, 8)),
        *(drift.check(store, reference=reference, window=hour) for hour in hours),
    ]


def alarmed(seeds: range, change: Change | None = None) -> np.ndarray:
    """Whether each look alarmed. Shape `(n_seeds, 3)`."""
    return np.array([[bool(one.drifted) for one in looks(seed, change)] for seed in seeds])


def test_quiet_days_are_quiet() -> None:
    """Thirty-six looks at five percent: more than five alarms would come up by chance once in forty times."""
    assert alarmed(range(200, 212)).sum() <= 5


def test_a_real_change_is_still_found() -> None:
    """The control arm: latency and retries doubled, six points more errors."""
    change = Change(7 * 24, latency=2.0, retries=2.0, errors=0.06)
    found = alarmed(range(300, 306), change)
    assert found[:, 0].all()
    assert found[:, 2].mean() >= 0.5  # at three in the morning there are too few calls to tell


@pytest.mark.long
def test_quiet_days_are_quiet_at_length() -> None:
    """Four hundred and eighty looks: at most the promise and two standard errors, 34."""
    assert alarmed(range(1_000, 1_160)).sum() <= 34
