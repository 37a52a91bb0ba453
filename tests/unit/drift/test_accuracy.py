"""Accuracy on labels as they arrive: intervals that may be looked at always, and an alarm that keeps its word."""

import numpy as np
import pytest

from agentguard import drift
from agentguard.drift._simulate import MONDAY_S, simulate
from agentguard.values import DriftStatus, OutcomeRecord, Verdict
from tests.support.clock import FrozenClock
from tests.support.feature_store import MemoryStore, fill

NS = 10**9


def test_the_interval_seldom_ever_leaves_the_truth_out() -> None:
    """Looked at after each of three hundred labels, it held the truth all the time in nearly all of a hundred runs."""
    rng, missed, widths = np.random.default_rng(1), 0, []
    for _ in range(100):
        losses = (rng.random(300) < 0.15).astype(float)
        looks = [drift.betting_interval(losses[:n]) for n in range(20, 301, 40)]
        missed += not all(look.low <= 0.15 <= look.high for look in looks)
        widths.append(looks[-1].high - looks[-1].low)
    assert missed <= 8
    assert np.mean(widths) < 0.14


@pytest.mark.parametrize(("after", "least", "most"), [(0.9, 0, 3), (0.7, 58, 60)])
def test_the_alarm(after: float, least: int, most: int) -> None:
    """Accuracy that stays seldom alarms in a thousand labels; twenty points less is found in all runs."""
    rng, found = np.random.default_rng(2), []
    for _ in range(60):
        state = drift.accuracy_state(rng.random(400) < 0.9, rng.random(1_000) < after)
        found.append(state.alarm_at)
        assert state.current.low <= state.current.value <= state.current.high
    assert least <= np.count_nonzero(found) <= most
    if least:
        assert np.median([n for n in found if n]) < 300


def test_few_labels_never_alarm() -> None:
    """Without fifty labels of reference there is an interval and no alarm; without any, everything is possible."""
    state = drift.accuracy_state([True] * 30, [False] * 200)
    assert not state.is_alarm
    assert state.current.high < 0.1
    empty = drift.accuracy_state([], [])
    assert (empty.current.low, empty.current.high) == (0.0, 1.0)


class LabelledStore(MemoryStore):
    """A store with outcomes."""

    def __init__(self) -> None:
        super().__init__()
        self.labels: list[OutcomeRecord] = []

    def outcomes(self) -> list[OutcomeRecord]:
        """Outcomes in the order of arrival."""
        return self.labels


def test_labels_that_arrive_later_become_an_alarm() -> None:
    """Outcomes joined by call: the checker alarms on accuracy alone, and its lower end is in the verdict."""
    store = LabelledStore()
    fill(store, simulate(3, days=2), start_s=MONDAY_S)
    rng = np.random.default_rng(1)
    border = (MONDAY_S + 86_400) * NS
    for i in range(600):
        is_right = rng.random() < (0.95 if i < 200 else 0.6)
        when = border + (i - 200) * NS
        store.labels.append(OutcomeRecord(f"{i:016x}", when, "a", None, None))
        store.labels.append(OutcomeRecord(f"{i:016x}", when, "a", "a" if is_right else "b", None))
    drift.save_reference(store, drift.fit_reference(store, until_unix_ns=border))
    seen: list[Verdict] = []
    clock = FrozenClock(unix_ns=(MONDAY_S + 2 * 86_400) * NS)
    drift.Checker(store, clock=clock, publish=seen.append).check_once()
    (verdict,) = seen
    assert (verdict.status, verdict.kind) == (DriftStatus.DRIFT, "accuracy")
    assert 0.45 < verdict.accuracy_lower < 0.6
    assert "sure after" in verdict.sentence
    assert "n = 200 and 400" in verdict.sentence
    assert drift.last_verdict(store) == verdict


def test_what_policies_read_of_the_data() -> None:
    """Only features about the data themselves are quality."""
    from agentguard.values import FeatureVerdict

    rows = tuple(
        FeatureVerdict(
            name, 1.0, 0.0, 1.0, "share", "t", is_drift=True, n_reference=9, n_current=9, sentence="s"
        )
        for name in ("model.token_count (missing)", "model.schema", "model.error_rate", "model.usage_missing")
    )
    verdict = Verdict(DriftStatus.DRIFT, features=rows)
    assert verdict.drifted_data == ("model.token_count (missing)", "model.schema", "model.usage_missing")
