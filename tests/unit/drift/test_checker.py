"""The watch over a store: references, verdicts, restart, late calls, small data."""

import json

import numpy as np
import pytest

from agentguard import drift
from agentguard.drift._simulate import HOUR_S, MONDAY_S, Change, simulate
from agentguard.errors import BaselineTooSmallError, DriftInputError
from agentguard.values import DriftStatus, Verdict
from tests.support.clock import FrozenClock
from tests.support.feature_store import MemoryStore, fill

DAY_S = 86_400
NS = 10**9


def minutes_of_calls(
    store: MemoryStore, *, start_s: int, n: int, latency_ms: float, seed: int, **columns
) -> None:
    """Add calls of some minutes, one a second."""
    rng = np.random.default_rng(seed)
    duration = (rng.lognormal(0, 0.4, n) * latency_ms * 1e6).astype(np.int64)
    store.add(
        start_unix_ns=(start_s + np.arange(n)) * NS - duration,
        duration_ns=duration,
        **{"input_tokens": rng.integers(100, 300, n), "output_tokens": rng.integers(10, 30, n), **columns},
    )


@pytest.fixture
def month() -> MemoryStore:
    """Four quiet weeks and three days, then a month in which latency is up by half from day 31 on."""
    store = MemoryStore()
    fill(store, simulate(3, days=40, change=Change(31 * 24, latency=1.5)), start_s=MONDAY_S)
    return store


def test_without_reference_nothing_is_known() -> None:
    """A checker without a reference says what to do."""
    seen: list[Verdict] = []
    verdict = drift.Checker(MemoryStore(), clock=FrozenClock(), publish=seen.append).check_once()
    assert seen == [verdict]
    assert verdict.status is DriftStatus.UNKNOWN
    assert "drift fit" in verdict.sentence


def test_a_short_reference_compares_two_windows() -> None:
    """Minutes of data carry a comparison of windows, and no promise over time."""
    store = MemoryStore()
    minutes_of_calls(store, start_s=MONDAY_S, n=200, latency_ms=400, seed=1)
    reference = drift.fit_reference(store)
    assert reference.incident is None
    assert "no rate of false alarms over time is promised" in reference.sentence
    drift.save_reference(store, reference)
    clock = FrozenClock(unix_ns=(MONDAY_S + 300) * NS)
    checker = drift.Checker(store, clock=clock, publish=lambda _: None)
    assert checker.check_once().status is DriftStatus.UNKNOWN
    minutes_of_calls(store, start_s=MONDAY_S + 310, n=100, latency_ms=400, seed=2)
    clock.advance(150)
    assert checker.check_once().status is DriftStatus.STABLE
    minutes_of_calls(store, start_s=MONDAY_S + 500, n=300, latency_ms=900, seed=3)
    clock.advance(400)
    verdict = checker.check_once()
    assert verdict.status is DriftStatus.DRIFT
    assert verdict.kind == "incident"
    assert verdict.drifted == ("model.response_latency_ms",)
    assert "ms" in verdict.sentence
    assert drift.last_verdict(store) == verdict


def test_a_short_reference_refuses_a_promise() -> None:
    """Asked to arm, a reference of minutes raises instead."""
    store = MemoryStore()
    minutes_of_calls(store, start_s=MONDAY_S, n=200, latency_ms=400, seed=1)
    with pytest.raises(BaselineTooSmallError, match="less than the 7 days"):
        drift.fit_reference(store, must_arm=True)
    with pytest.raises(BaselineTooSmallError, match="no calls"):
        drift.fit_reference(MemoryStore())
    with pytest.raises(DriftInputError, match="promise_per_year is 0"):
        drift.fit_reference(store, promise_per_year=0)
    with pytest.raises(DriftInputError, match="not after the beginning"):
        drift.fit_reference(store, since_unix_ns=5, until_unix_ns=5)
    few = MemoryStore()
    minutes_of_calls(few, start_s=MONDAY_S, n=7, latency_ms=400, seed=1)
    with pytest.raises(BaselineTooSmallError, match="got 7 calls, expected at least 30"):
        drift.fit_reference(few)


def test_bad_data_is_quality() -> None:
    """Usage that went missing and another shape of attributes are a quality verdict."""
    store = MemoryStore()
    minutes_of_calls(store, start_s=MONDAY_S, n=200, latency_ms=400, seed=1, schema="aa", model="m1")
    gone = np.full(100, -1)
    minutes_of_calls(
        store, start_s=MONDAY_S + 600, n=100, latency_ms=400, seed=2, schema="bb", model="m1",
        input_tokens=gone, output_tokens=gone, is_usage_missing=np.ones(100, dtype=int),
    )  # fmt: skip
    start = MONDAY_S * NS
    result = drift.check(
        store, reference=(start, start + 500 * NS), window=(start + 500 * NS, start + 800 * NS)
    )
    assert set(result.drifted) == {"model.token_count (missing)", "model.schema"}
    assert result.to_verdict().kind == "quality"


def test_check_of_times_without_calls_is_refused() -> None:
    """Empty windows and windows that end before they begin raise one sentence."""
    store = MemoryStore()
    minutes_of_calls(store, start_s=MONDAY_S, n=50, latency_ms=400, seed=1)
    here = (MONDAY_S * NS, (MONDAY_S + 60) * NS)
    with pytest.raises(DriftInputError, match="window: no call"):
        drift.check(store, reference=here, window=(0, 5))
    with pytest.raises(BaselineTooSmallError, match="reference: no call"):
        drift.check(store, reference=(0, 5), window=here)
    with pytest.raises(DriftInputError, match="window: the end is not after"):
        drift.check(store, reference=here, window=(5, 5))


def test_agents_are_kept_apart() -> None:
    """Only calls of the agent asked for are read."""
    store = MemoryStore()
    minutes_of_calls(store, start_s=MONDAY_S, n=60, latency_ms=400, seed=1, agent="a")
    minutes_of_calls(store, start_s=MONDAY_S, n=90, latency_ms=900, seed=1, agent="b")
    assert drift.fit_reference(store, agent="a").profile.n_calls == 60
    assert drift.fit_reference(store).profile.n_calls == 150
    with pytest.raises(BaselineTooSmallError, match="no calls of `c`"):
        drift.fit_reference(store, agent="c")


def test_a_month_is_armed_and_finds_the_change(month: MemoryStore) -> None:
    """Four weeks arm both tiers; latency up by half is an incident within days, later drift."""
    border = (MONDAY_S + 28 * DAY_S) * NS
    reference = drift.fit_reference(month, until_unix_ns=border, since_unix_ns=MONDAY_S * NS)
    assert reference.incident is not None
    assert reference.drift is not None
    drift.save_reference(month, reference)
    clock = FrozenClock(unix_ns=(MONDAY_S + 31 * DAY_S) * NS)
    checker = drift.Checker(month, clock=clock, publish=lambda _: None)
    assert checker.check_once().status is not DriftStatus.DRIFT
    clock.advance(9 * DAY_S + 600)
    verdict = checker.check_once()
    assert verdict.status is DriftStatus.DRIFT
    assert verdict.kind == "drift"
    assert "model.response_latency_ms" in verdict.drifted
    history = drift.alarm_history(month)
    assert history[0]["kind"] == "incident"
    delay_h = history[0]["time_unix_ns"] / NS / HOUR_S - (MONDAY_S / HOUR_S + 31 * 24)
    assert 0 < delay_h < 72
    first = next(f for f in verdict.features if f.feature == "model.response_latency_ms")
    assert first.effect_unit == "ms"
    assert 100 < first.effect < 400


def test_passes_may_come_at_any_time(month: MemoryStore) -> None:
    """One pass over ten days and a pass an hour with a new checker each time end in the same state."""
    border = (MONDAY_S + 28 * DAY_S) * NS
    reference = drift.fit_reference(month, until_unix_ns=border, since_unix_ns=MONDAY_S * NS)
    ends = []
    for step_h in (240, 7):
        store = MemoryStore()
        store.blocks = month.blocks
        drift.save_reference(store, reference)
        clock = FrozenClock(unix_ns=border + 600 * NS)
        for _ in range(step_h, 240, step_h):
            clock.advance(step_h * HOUR_S)
            drift.Checker(store, clock=clock, publish=lambda _: None).check_once()
        clock.set_unix_ns(border + 240 * HOUR_S * NS + 600 * NS)
        drift.Checker(store, clock=clock, publish=lambda _: None).check_once()
        ends.append((store.blobs["drift-state"].data, drift.alarm_history(store)))
    assert ends[0] == ends[1]


@pytest.mark.parametrize("pause_h", [1, 60, 400])
def test_late_calls_are_counted_and_never_judged(month: MemoryStore, pause_h: int) -> None:
    """Calls that reach a closed window are counted once, after a long pause too; the hours' evidence stays the same."""
    border = (MONDAY_S + 28 * DAY_S) * NS
    reference = drift.fit_reference(month, until_unix_ns=border, since_unix_ns=MONDAY_S * NS)
    everything, ends = month.blocks, []
    for n_late in (0, 11):
        store, told = MemoryStore(), list[int]()
        store.blocks = list(everything)
        drift.save_reference(store, reference)
        clock = FrozenClock(unix_ns=border + (9 * HOUR_S + 600) * NS)
        checker = drift.Checker(store, clock=clock, publish=lambda _: None, on_late=told.append)
        assert checker.check_once().late_calls == 0
        # An hour and eight hours late: into windows that the hourly tier has judged.
        for hour in (8, 1) if n_late else ():
            minutes_of_calls(
                store, start_s=MONDAY_S + 28 * DAY_S + hour * HOUR_S + 60, n=n_late, latency_ms=9e5, seed=1
            )
        clock.advance(pause_h * HOUR_S)
        assert checker.check_once().late_calls == 2 * n_late
        assert drift.last_verdict(store).late_calls == 2 * n_late
        clock.advance(HOUR_S)
        assert checker.check_once().late_calls == 2 * n_late
        assert told == [2 * n_late] * bool(n_late)
        state = json.loads(store.blobs["drift-state"].data)
        ends.append(state["incident"])
    assert ends[0] == ends[1]


def test_a_clock_that_jumps_ahead_loses_nothing(month: MemoryStore) -> None:
    """Ten years ahead and back: no window is closed that had no call yet, and the watch goes on."""
    border = (MONDAY_S + 28 * DAY_S) * NS
    drift.save_reference(month, drift.fit_reference(month, until_unix_ns=border, since_unix_ns=MONDAY_S * NS))
    everything, month.blocks = month.blocks, month.blocks[: 30 * 24]
    clock = FrozenClock(unix_ns=border + 3650 * DAY_S * NS)
    checker = drift.Checker(month, clock=clock, publish=lambda _: None)
    assert checker.check_once().status is not DriftStatus.DRIFT
    month.blocks = everything
    clock.set_unix_ns(border + 12 * DAY_S * NS)
    assert checker.check_once().status is DriftStatus.DRIFT


def test_features_that_never_change_and_then_do() -> None:
    """A week of constant latency and no error carries a watch; another constant is an alarm."""
    store = MemoryStore()
    hours = np.repeat(np.arange(10 * 24), 20)
    end = (MONDAY_S + hours * HOUR_S + 1800) * NS
    duration = np.where(hours < 9 * 24, 400, 500) * 10**6
    store.add(start_unix_ns=end - duration, duration_ns=duration)
    border = (MONDAY_S + 8 * DAY_S) * NS
    reference = drift.fit_reference(store, since_unix_ns=MONDAY_S * NS, until_unix_ns=border)
    assert reference.incident is not None
    drift.save_reference(store, reference)
    clock = FrozenClock(unix_ns=border + DAY_S * NS)
    checker = drift.Checker(store, clock=clock, publish=lambda _: None)
    assert checker.check_once().status is DriftStatus.STABLE
    clock.advance(DAY_S)
    verdict = checker.check_once()
    assert verdict.status is DriftStatus.DRIFT
    assert verdict.drifted[0].startswith("model.response_latency_ms")


def test_silence_is_no_evidence(month: MemoryStore) -> None:
    """Days without a call leave verdict and evidence as they were."""
    border = (MONDAY_S + 28 * DAY_S) * NS
    drift.save_reference(month, drift.fit_reference(month, until_unix_ns=border, since_unix_ns=MONDAY_S * NS))
    month.blocks = month.blocks[: 29 * 24]
    clock = FrozenClock(unix_ns=border + DAY_S * NS + 600 * NS)
    checker = drift.Checker(month, clock=clock, publish=lambda _: None)
    checker.check_once()
    state = month.blobs["drift-state"].data
    clock.advance(5 * DAY_S)
    assert checker.check_once().status is not DriftStatus.DRIFT
    assert month.blobs["drift-state"].data == state


def test_another_process_at_work_is_not_disturbed(month: MemoryStore) -> None:
    """While another process holds the state, its last verdict is published."""
    drift.save_reference(month, drift.fit_reference(month, until_unix_ns=(MONDAY_S + 28 * DAY_S) * NS))
    month.sealed_blob("drift-state").is_locked = True
    seen: list[Verdict] = []
    drift.Checker(month, clock=FrozenClock(), publish=seen.append).check_once()
    assert seen[0].status is DriftStatus.UNKNOWN
    assert month.blobs["drift-state"].writes == 0


def test_a_reference_survives_the_way_to_disk(month: MemoryStore) -> None:
    """A reference read back is the one written; other bytes and newer versions are refused."""
    reference = drift.fit_reference(month, until_unix_ns=(MONDAY_S + 28 * DAY_S) * NS)
    data = reference.to_bytes()
    again = drift.Reference.from_bytes(data)
    assert again.to_bytes() == data
    assert again.reference_id == reference.reference_id
    with pytest.raises(DriftInputError, match="not a reference"):
        drift.Reference.from_bytes(b"{}")
    with pytest.raises(DriftInputError, match="not a reference"):
        drift.Reference.from_bytes(b"\x00\xff")
    with pytest.raises(DriftInputError, match="version 99"):
        drift.Reference.from_bytes(data.replace(b'"version":4', b'"version":99', 1))


def test_a_damaged_state_is_one_error(month: MemoryStore) -> None:
    """A state that does not decode raises with the way out; a damaged verdict is unknown."""
    drift.save_reference(month, drift.fit_reference(month, until_unix_ns=(MONDAY_S + 28 * DAY_S) * NS))
    month.sealed_blob("drift-state").write(b"{")
    with pytest.raises(DriftInputError, match="not a state"):
        drift.Checker(month, clock=FrozenClock(), publish=lambda _: None).check_once()
    month.sealed_blob("drift-verdict").write(b"[]")
    assert drift.last_verdict(month).status is DriftStatus.UNKNOWN


def test_the_thread_reports_its_errors() -> None:
    """A failing pass is told to the hook, and the thread goes on until it is stopped."""
    import threading

    store, told = MemoryStore(), threading.Event()
    store.sealed_blob("drift-reference").write(b"{}")
    checker = drift.Checker(
        store, clock=FrozenClock(), publish=lambda _: None, on_internal_error=lambda where, error: told.set()
    )
    checker.start(0.01)
    checker.start(0.01)
    assert told.wait(5)
    checker.stop(5)


def test_timeline_cuts_time_into_parts() -> None:
    """Series have a value per part with calls and NaN for parts without."""
    store = MemoryStore()
    minutes_of_calls(store, start_s=MONDAY_S, n=120, latency_ms=400, seed=1)
    series = drift.timeline(store, since_unix_ns=MONDAY_S * NS, until_unix_ns=(MONDAY_S + 240) * NS, points=4)
    latency = next(one for one in series if one.name == "model.response_latency_ms")
    assert latency.calls == (60, 60, 0, 0)
    assert 300 < latency.values[0] < 500
    assert np.isnan(latency.values[3])


def test_a_lingering_load_is_not_taken_for_drift() -> None:
    """Quiet Mondays compared with quiet Mondays: latency seldom alarms, doubled latency always does."""
    day, alarms, finds = DAY_S * NS, 0, 0
    start = MONDAY_S * NS
    spans = {"reference": (start, start + day), "window": (start + 7 * day, start + 8 * day)}
    for seed in range(8):
        for change in (None, Change(7 * 24, latency=2.0)):
            store = MemoryStore()
            fill(store, simulate(seed, days=8, change=change), start_s=MONDAY_S, seed=seed)
            found = "model.response_latency_ms" in drift.check(store, **spans).drifted
            alarms, finds = alarms + (found and change is None), finds + (found and change is not None)
    assert alarms <= 1
    assert finds == 8


def test_the_promise_is_rehearsed_on_ones_own_days(month: MemoryStore) -> None:
    """Three months of days drawn from the reference give at most one alarm of each kind, the same each time."""
    reference = drift.fit_reference(month, until_unix_ns=(MONDAY_S + 28 * DAY_S) * NS)
    result = drift.rehearse(month, reference, years=0.25)
    assert result == drift.rehearse(month, reference, years=0.25)
    assert result.incidents_per_year <= 4
    assert result.drifts_per_year is not None
    assert result.drifts_per_year <= 1
    assert result.quality_per_year is not None
    assert result.quality_per_year <= 4
    assert result.is_kept == (max(result[2:]) <= 1)
    assert not result._replace(quality_per_year=1.5).is_kept
    assert result._replace(drifts_per_year=None, incidents_per_year=0, quality_per_year=0).is_kept
    assert "0.25 years of days" in str(result)
    assert "alarms about the data" in str(result)
    with pytest.raises(DriftInputError, match="years is 0"):
        drift.rehearse(month, reference, years=0)
    with pytest.raises(BaselineTooSmallError, match="no longer in the store"):
        drift.rehearse(MemoryStore(), reference)
    short = drift.fit_reference(month, until_unix_ns=(MONDAY_S + DAY_S) * NS)
    with pytest.raises(BaselineTooSmallError, match="less than the 7 days"):
        drift.rehearse(month, short)
