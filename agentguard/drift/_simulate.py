"""
An agent's telemetry, simulated from a seed: a quiet one, or one that something happens to.

Sixty calls an hour on the mean, fewer at night and at weekends; latencies with a daily rhythm and
a load that lingers for hours; errors and retries that follow the load. It is an assumption about
the world, published so that anyone can disagree with it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from agentguard.drift._sample import Floats, Ints
from agentguard.drift._source import Rows, summarise_rows
from agentguard.drift._summary import KINDS, Summary

HOUR_S = 3600
DAY_HOURS = 24


class Change(NamedTuple):
    """What happens from one hour on."""

    at_hour: int
    latency: float = 1.0
    """Factor on every call's latency."""
    tail: float = 1.0
    """Factor on the latency of five percent of the calls."""
    tokens: float = 1.0
    errors: float = 0.0
    """Added to the share of errors."""
    retries: float = 1.0


class Telemetry(NamedTuple):
    """Calls in the order of time."""

    hour: Ints
    """Hour since the beginning of each call."""
    latency_ms: Floats
    tokens: Ints
    retries: Ints
    is_error: Ints


def simulate(
    seed: int, *, days: int, with_season: bool = True, with_load: bool = True, change: Change | None = None
) -> Telemetry:
    """
    Simulate an agent.

    Args:
        seed:
            The same seed gives the same calls.
        days:
            How many, from a Monday on.
        with_season:
            Whether days and weeks have a rhythm.
        with_load:
            Whether load lingers: a first-order autoregression with standard deviation 12 % and a
            time constant of four hours.
        change:
            What happens, or None for quiet days.
    """
    rng = np.random.default_rng(seed)
    hours = np.arange(days * DAY_HOURS)
    angle = 2 * np.pi * (hours % DAY_HOURS) / DAY_HOURS
    is_weekend = (hours // DAY_HOURS) % 7 >= 5
    rate = np.full(len(hours), 60.0)
    wave = np.zeros(len(hours))
    if with_season:
        rate = np.maximum(15.0, 70.0 - 55.0 * np.cos(angle - 0.6)) * np.where(is_weekend, 0.5, 1.0)
        rate *= 60.0 / rate.mean()
        wave = np.sin(angle - 1.0)
    load = np.zeros(len(hours))
    if with_load:
        phi = float(np.exp(-1 / 4))
        shocks = rng.normal(0.0, 0.12 * np.sqrt(1 - phi**2), len(hours))
        load[0] = rng.normal(0.0, 0.12)
        for t in range(1, len(hours)):
            load[t] = phi * load[t - 1] + shocks[t]
    counts = rng.poisson(rate)
    hour = np.repeat(hours, counts)
    n = len(hour)
    is_changed = np.zeros(n, dtype=bool) if change is None else hour >= change.at_hour
    what = Change(0) if change is None else change
    is_long = rng.random(n) < 0.35 + 0.1 * wave[hour]
    level = np.where(is_long, 900.0, 400.0) * (1 + 0.2 * wave[hour]) * np.exp(load[hour])
    latency = level * rng.lognormal(0.0, 0.55, n)
    latency *= np.where(is_changed, what.latency, 1.0)
    latency *= np.where(is_changed & (rng.random(n) < 0.05), what.tail, 1.0)
    tokens = rng.poisson(
        rng.gamma(4.0, np.where(is_long, 225.0, 90.0)) * np.where(is_changed, what.tokens, 1.0)
    )
    swing = np.exp(2 * load[hour])
    is_error = rng.random(n) < np.minimum(1.0, 0.02 * swing + np.where(is_changed, what.errors, 0.0))
    retry_mean = 0.12 * swing * np.where(is_changed, what.retries, 1.0) + 0.5 * is_error
    return Telemetry(
        hour, latency, tokens.astype(np.int64), rng.poisson(retry_mean), is_error.astype(np.int64)
    )


def summary_of(telemetry: Telemetry, *, start_s: int, window_s: int = HOUR_S) -> Summary:
    """Summarise simulated calls, as if they had been model calls recorded by a store."""
    n = len(telemetry.hour)
    end_s = start_s + telemetry.hour * HOUR_S + HOUR_S // 2
    rows = Rows(
        end_unix_ns=end_s.astype(np.int64) * 10**9,
        kind=np.full(n, KINDS.index("model"), dtype=np.int64),
        duration_ns=(telemetry.latency_ms * 1e6).astype(np.int64),
        first_chunk_ns=np.full(n, -1, dtype=np.int64),
        tokens=telemetry.tokens,
        retries=telemetry.retries,
        is_error=telemetry.is_error,
        is_usage_missing=np.zeros(n, dtype=np.int64),
    )
    return summarise_rows(rows, window_s)


MONDAY_S = 4 * 86_400
"""1970-01-05 00:00 UTC was a Monday."""
