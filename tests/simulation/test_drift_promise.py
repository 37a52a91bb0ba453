"""Promises of the drift watch, simulated: few false alarms, quick detection; small in the core suite."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from agentguard import drift
from agentguard.drift._evidence import add, log_mean, no_sums, normal_score, stream_evidence
from agentguard.drift._quiet import _key, naive_ks_hours, watch_simulated
from agentguard.drift._simulate import DAY_HOURS, HOUR_S, MONDAY_S, Change, simulate

STREAMS = 5
NULLS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "cauchy": lambda rng, shape: rng.standard_cauchy(shape),
    "tied poisson": lambda rng, shape: rng.poisson(0.5, shape).astype(float),
}


def run_length(null: str, *, target: float, seed: int, reference: int) -> int:
    """Windows until the first false alarm of five independent streams of exchangeable windows."""
    rng = np.random.default_rng(seed)
    draw = NULLS[null]
    earlier = [sorted(column) for column in draw(rng, (reference, STREAMS)).T.tolist()]
    sums = no_sums(STREAMS, -1)
    sided = np.array([True, False, True, False, False])
    longest = int(target * 12)
    values, breakers = draw(rng, (longest, STREAMS)), rng.random((longest, STREAMS))
    for t in range(longest):
        scores = np.array(
            [normal_score(e, v, u) for e, v, u in zip(earlier, values[t], breakers[t], strict=True)]
        )
        ones, pool = np.ones(STREAMS), np.full(STREAMS, float(reference + t))
        sums = add(sums, normal_scores=scores, distance=scores, rows=ones, pace=ones, pool=pool, window=t)
        if log_mean(stream_evidence(sums, sided)) >= math.log(target):
            return t + 1
    return longest


def assert_run_length(null: str, *, target: float, runs: int, reference: int) -> None:
    """The mean run length is at least the promise, within two standard errors."""
    lengths = np.array(
        [run_length(null, target=target, seed=seed, reference=reference) for seed in range(runs)]
    )
    assert lengths.mean() >= target - 2 * lengths.std() / math.sqrt(runs)


@pytest.mark.parametrize("null", NULLS)
def test_mean_time_to_a_false_alarm_is_the_promised_one(null: str) -> None:
    """Whatever the distribution, with heavy ties too, false alarms come no sooner than promised."""
    assert_run_length(null, target=60, runs=40, reference=200)


def test_a_short_reference_keeps_the_promise() -> None:
    """Sixty windows of reference keep it as well."""
    assert_run_length("normal", target=60, runs=40, reference=60)


@pytest.mark.long
@pytest.mark.parametrize("null", NULLS)
@pytest.mark.parametrize("reference", [60, 336])
def test_mean_time_to_a_false_alarm_at_length(null: str, reference: int) -> None:
    """The same at five hundred windows, sixty runs."""
    assert_run_length(null, target=500, runs=60, reference=reference)


def quiet_alarms(seeds: range) -> tuple[int, int]:
    """Alarms of both tiers over thirty quiet days for each seed."""
    found = [watch_simulated(simulate(seed, days=58), days=58, key=_key(seed)) for seed in seeds]
    return sum(len(hourly) for hourly, _ in found), sum(len(daily) for _, daily in found)


def test_quiet_days_with_season_and_load() -> None:
    """Twelve times thirty quiet days: about a year, in which the common recipe alarms thousands of times."""
    incidents, drifts = quiet_alarms(range(100, 112))
    assert incidents <= 4  # at two a year more come up by chance once in nineteen times
    assert drifts <= 2
    alarmed, hours = naive_ks_hours(simulate(100, days=58), first_hour=28 * DAY_HOURS)
    assert hours == 720
    assert alarmed > 150


@pytest.mark.long
@pytest.mark.timeout(900)
def test_twenty_quiet_years() -> None:
    """Over 20 years the daily tier stays below one alarm a year, the hourly one below two by an exact bound."""
    from scipy import stats

    runs = 244
    incidents, drifts = quiet_alarms(range(5_000, 5_000 + runs))
    years = runs * 30 / 365
    assert drifts / years <= 1.0
    assert stats.chi2.ppf(0.95, 2 * (incidents + 1)) / 2 / years <= 2.0


CHANGES = {
    # change, hours within which most of the runs must find it
    "latency doubled": (Change(31 * DAY_HOURS, latency=2.0), 12),
    "errors 2 to 12 percent": (Change(31 * DAY_HOURS, errors=0.10), 14),
    "tokens up by 30 percent": (Change(31 * DAY_HOURS, tokens=1.3), 16),
    "outage": (Change(31 * DAY_HOURS, errors=0.48), 7),
}


def delays(change: Change, seeds: range, *, days: int = 7) -> np.ndarray:
    """Hours from the change to the first hourly alarm, infinite where none came within the days."""
    found = []
    for seed in seeds:
        telemetry = simulate(seed, days=31 + days, change=change)
        hourly, _ = watch_simulated(telemetry, days=31 + days, key=_key(seed))
        hours = [alarm.window + 1 - MONDAY_S // HOUR_S - change.at_hour for alarm in hourly]
        found.append(min((h for h in hours if h > 0), default=math.inf))
    return np.array(found)


@pytest.mark.parametrize("name", CHANGES)
def test_changes_are_found(name: str) -> None:
    """What matters is found in all of six runs, and within hours in most."""
    change, hours = CHANGES[name]
    found = delays(change, range(700, 706))
    assert np.isfinite(found).all()
    assert np.median(found) <= hours


def test_the_quiet_control_arm() -> None:
    """The function that the demo prints: hundreds of false alarms against none or one, and quick."""
    quiet = drift.simulate_quiet_days(seed=1)
    assert quiet == drift.simulate_quiet_days(seed=1)
    assert quiet.ks_alarms > 150
    assert quiet.our_alarms == quiet.our_incidents + quiet.our_drifts <= 1
    assert str(quiet.ks_alarms) in str(quiet)
