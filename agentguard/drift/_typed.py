"""
The right test for each type of feature, with an effect size in the feature's own unit.

Four types: `continuous` (latency, tokens), `count` (retries), `share` (errors, 0 or 1) and
`category` (finish reason). Each function takes two samples and returns one `Outcome`; nothing
here knows about tables, corrections or verdicts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from agentguard.drift._intervals import (
    Interval,
    count_mean_interval,
    difference,
    mean_interval,
    quantile_interval,
    wilson,
)
from agentguard.drift._pvalues import (
    chi_square,
    kolmogorov_exact,
    kolmogorov_tail,
    monte_carlo_p,
    normal_two_sided,
    permuted_tables,
    share_p_value,
)
from agentguard.drift._sample import Pair, Sample, pair_of


@dataclass(frozen=True, slots=True)
class Floors:
    """
    The smallest changes worth an alarm. A verdict of drift needs significance and one of these.

    With a million rows a shift of a tenth of a percent is significant; it is seldom worth waking up.
    """

    distance: float = 0.05
    """Continuous: largest gap between the two distribution functions, a share. 0.05 is about a tenth
    of a standard deviation, for latencies about 6 %."""
    tail: float = 0.02
    """Continuous: change of the share of rows above the reference's 95th percentile."""
    share: float = 0.01
    """Share: absolute change; 0.01 is one percentage point."""
    count: float = 0.05
    """Count: absolute change of the mean."""
    category: float = 0.05
    """Category: total variation, the share of rows that changed category."""


class Outcome(NamedTuple):
    """What one test said about one feature, not yet corrected for the others."""

    test: str
    statistic: float
    statistic_name: str
    p_value: float
    effect: Interval
    """Current minus reference, in the feature's unit."""
    effect_name: str
    """What the effect is a difference of: median, p95, mean, share, or share of a category."""
    before: float
    """That quantity in the reference."""
    after: float
    """That quantity in the current window."""
    relevance: float
    """How large the change is against its floor; from 1 on it is worth an alarm."""


def _distance(pair: Pair) -> float:
    """Return the largest gap between the two distribution functions."""
    gaps = np.cumsum(pair.current) / pair.n_current - np.cumsum(pair.reference) / pair.n_reference
    return float(np.abs(gaps).max())


def _distance_p(pair: Pair, distance: float, dependence: float) -> tuple[float, str]:
    """Return the p-value of a Kolmogorov-Smirnov distance and how it was got."""
    n, m = pair.n_reference, pair.n_current
    has_ties = bool(((pair.reference + pair.current) > 1).any())
    if dependence > 1.0:
        p = kolmogorov_tail(distance, n_reference=n / dependence, n_current=m / dependence)
        return p, "Kolmogorov-Smirnov (rows depend on each other)"
    if not has_ties and n + m <= 4_000:
        rows = (np.repeat(pair.values, pair.reference), np.repeat(pair.values, pair.current))
        return kolmogorov_exact(*rows), "Kolmogorov-Smirnov (exact)"
    asymptotic = kolmogorov_tail(distance, n_reference=n, n_current=m)
    if len(pair.values) > 64 or asymptotic < 1e-6 or asymptotic > 0.9:
        return asymptotic, "Kolmogorov-Smirnov"
    # With few distinct values the distribution above is far too wide: deal the rows out instead.
    tables = permuted_tables(pair.reference + pair.current, m)
    currents = np.cumsum(tables, axis=1)
    totals = np.cumsum(pair.reference + pair.current)
    gaps = np.abs(currents / m - (totals - currents) / n).max(axis=1)
    return monte_carlo_p(gaps, distance), "Kolmogorov-Smirnov (permutation)"


def compare_continuous(
    reference: Sample, current: Sample, *, floors: Floors, dependence: float = 1.0, confidence: float = 0.95
) -> Outcome:
    """
    Compare two samples of a continuous feature by Kolmogorov and Smirnov.

    The effect is the shift of the median; where only the upper tail moved, that of the 95th
    percentile.
    """
    pair = pair_of(reference, current)
    distance = _distance(pair)
    p, test = _distance_p(pair, distance, dependence)
    border = reference.quantile(0.95)
    tails = [float(s.counts[s.values > border].sum()) / s.n for s in (reference, current)]
    by_distance, by_tail = distance / floors.distance, abs(tails[1] - tails[0]) / floors.tail
    # With few rows the share above p95 jumps by chance; it counts only beyond its own noise.
    noise = math.sqrt(tails[0] * (1 - tails[0]) * (1 / reference.n + 1 / current.n) * dependence)
    if abs(tails[1] - tails[0]) < 2 * noise:
        by_tail = 0.0
    q, name = (0.95, "95th percentile") if by_tail > 1.0 > by_distance else (0.5, "median")
    sides = [
        quantile_interval(s, q, dependence=dependence, confidence=confidence) for s in (reference, current)
    ]
    return Outcome(
        test=test,
        statistic=distance,
        statistic_name="D",
        p_value=p,
        effect=difference(*sides),
        effect_name=name,
        before=sides[0].value,
        after=sides[1].value,
        relevance=max(by_distance, by_tail),
    )


def compare_count(
    reference: Sample, current: Sample, *, floors: Floors, dependence: float = 1.0, confidence: float = 0.95
) -> Outcome:
    """
    Compare the means of small counts by a permutation test.

    Values above the pooled 99.5th percentile (at least 5) are counted as that, so that a single
    runaway call is not a drift. Where events are rare the rows are dealt out at random; else the
    normal limit of the same distribution is used.
    """
    pair = pair_of(reference, current)
    pooled = pair.reference + pair.current
    n, m = pair.n_reference, pair.n_current
    cap = max(5.0, Sample(pair.values, pooled).quantile(0.995))
    capped = np.minimum(pair.values, cap)
    mean = float(capped @ pooled) / (n + m)
    variance = float(((capped - mean) ** 2) @ pooled) / (n + m - 1)
    gap = float(capped @ pair.current) / m - float(capped @ pair.reference) / n
    spread = math.sqrt(variance * (1 / n + 1 / m) * dependence)
    z = gap / spread if spread > 0 else 0.0
    rare = int(pooled.sum() - pooled.max()) * min(n, m) / (n + m)
    test, p = "permutation of means", normal_two_sided(z)
    if dependence > 1.0:
        test = "score (rows depend on each other)"
    elif spread > 0 and rare < 200 and len(pooled) <= 64 and p > 1e-9:
        tables = permuted_tables(pooled, m)
        sums = tables @ capped
        gaps = sums / m - (float(capped @ pooled) - sums) / n
        p, test = monte_carlo_p(np.abs(gaps), abs(gap)), "permutation of means (dealt out)"
    sides = [
        count_mean_interval(s, dependence=dependence, confidence=confidence) for s in (reference, current)
    ]
    effect = difference(*sides)
    return Outcome(test, z, "z", p, effect, "mean", sides[0].value, sides[1].value, abs(gap) / floors.count)


def compare_share(
    reference: Sample, current: Sample, *, floors: Floors, dependence: float = 1.0, confidence: float = 0.95
) -> Outcome:
    """
    Compare two shares: Fisher's exact test for rows of 0 and 1, a score test for fractions.

    Rows with fractions are shares of something already summed up, such as an error rate over the
    last fifty calls; their dependence must be handed in.
    """
    is_binary = all(bool(np.isin(s.values, (0.0, 1.0)).all()) for s in (reference, current))
    if is_binary:
        hits = [round(s.mean * s.n) for s in (reference, current)]
        z, p, test = share_p_value(
            hits_reference=hits[0],
            n_reference=reference.n,
            hits_current=hits[1],
            n_current=current.n,
            dependence=dependence,
        )
        sides = [
            wilson(h / dependence, s.n / dependence, confidence=confidence)
            for h, s in zip(hits, (reference, current), strict=True)
        ]
    else:
        sides = [mean_interval(s, dependence=dependence, confidence=confidence) for s in (reference, current)]
        pair = pair_of(reference, current)
        pooled = Sample(pair.values, pair.reference + pair.current)
        variance = float(((pooled.values - pooled.mean) ** 2) @ pooled.counts) / max(1, pooled.n - 1)
        spread = math.sqrt(variance * (1 / reference.n + 1 / current.n) * dependence)
        z = (current.mean - reference.mean) / spread if spread > 0 else 0.0
        p, test = normal_two_sided(z), "score"
    effect = difference(*sides)
    relevance = abs(effect.value) / floors.share
    return Outcome(test, z, "z", p, effect, "share", sides[0].value, sides[1].value, relevance)


CATEGORIES_MAX = 200
"""Categories tested one by one; rarer ones are taken together as one."""

REST = "(all others)"


def compare_category(
    reference: Mapping[str, int], current: Mapping[str, int], *, floors: Floors, confidence: float = 0.95
) -> tuple[Outcome, str]:
    """
    Compare how often each category occurs by Pearson's chi-square.

    With small cells (fewer than five rows expected) the distribution is drawn by dealing the rows
    out at random. The effect is the change of the category that moved most.

    Returns:
        The outcome, and the name of the category that moved most.
    """
    pooled = {name: reference.get(name, 0) + current.get(name, 0) for name in {*reference, *current}}
    names = sorted(pooled, key=lambda name: (-pooled[name], name))
    kept = names[:CATEGORIES_MAX]
    left = [reference.get(name, 0) for name in kept]
    right = [current.get(name, 0) for name in kept]
    if len(names) > CATEGORIES_MAX:
        kept = [*kept, REST]
        left.append(sum(reference.values()) - sum(left))
        right.append(sum(current.values()) - sum(right))
    observed = np.array([left, right], dtype=np.int64)
    n, m = int(observed[0].sum()), int(observed[1].sum())
    totals = observed.sum(axis=0)
    degrees = len(kept) - 1
    statistic, p, test = 0.0, 1.0, "chi-square"
    if degrees:
        statistic, p, both_expected = chi_square(observed)
        expected = both_expected[1]
    smallest = float(totals.min()) * min(n, m) / (n + m)
    if degrees and smallest < 5.0 and p > 1e-12:
        tables = permuted_tables(totals, m)
        scale = (n + m) / n  # with both margins fixed the statistic depends on the current row alone
        p = monte_carlo_p((((tables - expected) ** 2) / expected).sum(axis=1) * scale, statistic)
        test = "chi-square (permutation)"
    shifts = observed[1] / m - observed[0] / n
    top = int(np.abs(shifts).argmax())
    # The most moved of several categories was picked after looking: its interval pays for that.
    level = 1 - (1 - confidence) / max(1, min(len(kept), 20))
    sides = [wilson(int(observed[i, top]), total, confidence=level) for i, total in enumerate((n, m))]
    relevance = float(np.abs(shifts).sum() / 2) / floors.category
    outcome = Outcome(
        test=test,
        statistic=statistic,
        statistic_name="chi2",
        p_value=p,
        effect=difference(*sides),
        effect_name="share",
        before=sides[0].value,
        after=sides[1].value,
        relevance=relevance,
    )
    return outcome, kept[top]
