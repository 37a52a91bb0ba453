"""
Intervals: what the data can say about a share, a mean, a quantile, and about differences of two.

Pure functions. All intervals are two-sided. Differences are made from the intervals of
both sides (MOVER), which keeps them honest near the borders 0 and 1.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from agentguard.drift._pvalues import NORMAL, poisson_limits
from agentguard.drift._sample import Sample


class Interval(NamedTuple):
    """An estimate and where the truth may lie."""

    value: float
    low: float
    high: float


def z_of(confidence: float) -> float:
    """Return the two-sided normal quantile, 1.96 for 0.95."""
    return NORMAL.inv_cdf(0.5 + confidence / 2)


def wilson(hits: float, n: float, *, confidence: float = 0.95) -> Interval:
    """
    Return a share with its Wilson score interval.

    SciPy's takes whole numbers only, and tests a hypothesis first; here hits and rows may be fractions, where
    rows that depend on each other count as fewer.

    Args:
        hits:
            How many rows have the property.
        n:
            All rows; with 0 the interval is everything, [0, 1].
        confidence:
            How often such intervals hold the truth.

    Example:
        >>> low, high = wilson(0, 20)[1:]
        >>> round(low, 3), round(high, 3)
        (0.0, 0.161)

    Source:
        E. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927).
    """
    if n <= 0:
        return Interval(float("nan"), 0.0, 1.0)
    z = z_of(confidence)
    share = hits / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return Interval(share, max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)))


def quantile_interval(
    sample: Sample, q: float, *, dependence: float = 1.0, confidence: float = 0.95
) -> Interval:
    """
    Return a quantile with the interval between two order statistics: no assumption on the shape.

    Where the sample is too small to hold the border, the interval ends at the outermost value,
    and covers less than asked.
    """
    n = sample.n
    half = z_of(confidence) * math.sqrt(n * q * (1 - q) * dependence)
    low = sample.at_rank(math.floor(n * q - half))
    high = sample.at_rank(math.ceil(n * q + half) - (0 if half else 1))
    value = sample.quantile(q)
    return Interval(value, min(low, value), max(high, value))


def count_mean_interval(sample: Sample, *, dependence: float = 1.0, confidence: float = 0.95) -> Interval:
    """
    Return the mean of counts with an interval that also holds when all counts are zero.

    The counts are taken as Poisson with a dispersion estimated from the data, and the interval is
    the exact one of the scaled sum.
    """
    n, mean = sample.n, sample.mean
    variance = float(((sample.values - mean) ** 2) @ sample.counts) / max(1, n - 1)
    dispersion = max(1.0, variance / mean if mean > 0 else 1.0) * dependence
    events = mean * n / dispersion
    low, high = poisson_limits(events, confidence=confidence)
    return Interval(mean, low * dispersion / n, high * dispersion / n)


def mean_interval(sample: Sample, *, dependence: float = 1.0, confidence: float = 0.95) -> Interval:
    """Return the mean with its large-sample interval."""
    n, mean = sample.n, sample.mean
    variance = float(((sample.values - mean) ** 2) @ sample.counts) / max(1, n - 1)
    half = z_of(confidence) * math.sqrt(variance / n * dependence)
    return Interval(mean, mean - half, mean + half)


def difference(reference: Interval, current: Interval) -> Interval:
    """
    Return current minus reference, with an interval built from those of both sides.

    Source:
        G. Zou, A. Donner, Construction of confidence limits about effect measures, Statist. Med. 27
        (2008): the method of variance estimates recovery. For shares with Wilson limits it is
        R. Newcombe's hybrid score interval (Statist. Med. 17, 1998).
    """
    gap = current.value - reference.value
    low = gap - math.hypot(current.value - current.low, reference.high - reference.value)
    high = gap + math.hypot(current.high - current.value, reference.value - reference.low)
    return Interval(gap, low, high)
