"""The control arm: thirty quiet days, judged by the common recipe and by this watch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from agentguard.drift._pvalues import kolmogorov_tail
from agentguard.drift._reference import fit_tiers
from agentguard.drift._sample import Floats
from agentguard.drift._season import DAY_S
from agentguard.drift._simulate import DAY_HOURS, MONDAY_S, Telemetry, simulate, summary_of
from agentguard.drift._summary import coarsen
from agentguard.drift._tier import Alarm, begin, run

REFERENCE_DAYS = 28
QUIET_DAYS = 30
KS_REFERENCE_DAYS = 7


class QuietDays(NamedTuple):
    """How often each method cried wolf while nothing had changed."""

    days: int
    seed: int
    n_calls: int
    """Calls in the quiet days."""
    ks_alarms: int
    """Hours in which a Kolmogorov-Smirnov test at p < 0.05 alarmed on one of the four columns."""
    ks_hours: int
    """Hours tested."""
    our_alarms: int
    """Alarms of both tiers of the watch."""
    our_incidents: int
    our_drifts: int

    def __str__(self) -> str:
        """One line for people."""
        return (
            f"{self.days} quiet days, {self.n_calls:,} calls: Kolmogorov-Smirnov at p < 0.05 each hour alarmed in"
            f" {self.ks_alarms} of {self.ks_hours} hours, agentguard {self.our_alarms} times"
        )


def simulate_quiet_days(seed: int = 0) -> QuietDays:
    """
    Simulate 28 days of reference and 30 quiet days, and count the alarms of both methods.

    The simulated agent has a daily and weekly rhythm and a load that lingers; nothing about it changes.

    Args:
        seed:
            The same seed gives the same days.

    Example:
        >>> quiet = simulate_quiet_days(seed=1)
        >>> quiet.ks_alarms > 150, quiet.our_alarms
        (True, 0)
    """
    telemetry = simulate(seed, days=REFERENCE_DAYS + QUIET_DAYS)
    incidents, drifts = watch_simulated(telemetry, days=REFERENCE_DAYS + QUIET_DAYS, key=_key(seed))
    ks_alarms, ks_hours = naive_ks_hours(telemetry, first_hour=REFERENCE_DAYS * DAY_HOURS)
    return QuietDays(
        QUIET_DAYS,
        seed,
        int(np.count_nonzero(telemetry.hour >= REFERENCE_DAYS * DAY_HOURS)),
        ks_alarms,
        ks_hours,
        len(incidents) + len(drifts),
        len(incidents),
        len(drifts),
    )


def _key(seed: int) -> bytes:
    """Return the tie-breaking key of a simulation."""
    return seed.to_bytes(16, "big", signed=True)


def watch_simulated(
    telemetry: Telemetry,
    *,
    days: int,
    key: bytes,
    reference_days: int = REFERENCE_DAYS,
    promise_per_year: float = 1.0,
) -> tuple[list[Alarm], list[Alarm]]:
    """Fit both tiers on the first days of a simulation, run them over the rest, and return their alarms."""
    summary = summary_of(telemetry, start_s=MONDAY_S)
    border_s, end_s = MONDAY_S + reference_days * DAY_S, MONDAY_S + days * DAY_S
    hourly, daily = fit_tiers(
        summary, MONDAY_S * 10**9, border_s * 10**9, promise_per_year=promise_per_year, key=key
    )
    alarms: list[list[Alarm]] = []
    for model, windows in ((hourly, summary), (daily, coarsen(summary, DAY_S))):
        if model is None:
            alarms.append([])
            continue
        state = begin(model, border_s // model.window_s - 1)
        alarms.append(run(model, state, windows, until=end_s // model.window_s, key=key))
    return alarms[0], alarms[1]


def naive_ks_hours(telemetry: Telemetry, *, first_hour: int, alpha: float = 0.05) -> tuple[int, int]:
    """
    Count the hours in which the common recipe alarms.

    Each hour's latency, tokens, retries and errors are tested against the seven days before *first_hour*, each
    at *alpha*, as `scipy.stats.ks_2samp` would.

    Returns:
        Hours with at least one alarm, and hours tested.
    """
    in_reference = (telemetry.hour >= first_hour - KS_REFERENCE_DAYS * DAY_HOURS) & (
        telemetry.hour < first_hour
    )
    alarmed: set[int] = set()
    hours = np.unique(telemetry.hour[telemetry.hour >= first_hour])
    starts, ends = (
        np.searchsorted(telemetry.hour, hours),
        np.searchsorted(telemetry.hour, hours, side="right"),
    )
    for column in (telemetry.latency_ms, telemetry.tokens, telemetry.retries, telemetry.is_error):
        values = column.astype(np.float64)
        reference = np.sort(values[in_reference])
        for hour, start, end in zip(hours.tolist(), starts.tolist(), ends.tolist(), strict=True):
            if _naive_ks_p(reference, np.sort(values[start:end])) < alpha:
                alarmed.add(hour)
    return len(alarmed), len(hours)


def _naive_ks_p(reference: Floats, current: Floats) -> float:
    """Return the p-value of the usual test of an hour, both samples sorted."""
    n, m = len(reference), len(current)
    values = np.unique(current)
    ours_to = np.searchsorted(current, values, side="right") / m
    ours_before = np.searchsorted(current, values, side="left") / m
    to = np.searchsorted(reference, values, side="right") / n
    before = np.searchsorted(reference, values, side="left") / n
    distance = max(float(np.abs(ours_to - to).max()), float(np.abs(ours_before - before).max()))
    return kolmogorov_tail(distance, n_reference=n, n_current=m)
