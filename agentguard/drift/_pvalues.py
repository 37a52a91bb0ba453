"""
Tail probabilities of the tests of this room, exact where that is cheap.

Pure functions on numbers. They need no SciPy, because a checker that lives in
somebody's agent should not cost forty megabytes; the tests hold them against SciPy.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from agentguard.drift._sample import Floats, Ints

NORMAL = NormalDist()
"""Standard normal distribution."""

PERMUTATIONS = 19_999
"""Draws of a Monte Carlo test; the smallest p-value it can give is 1 / (PERMUTATIONS + 1)."""


def normal_two_sided(z: float) -> float:
    """
    Return P(|Z| >= |z|) of a standard normal Z.

    Example:
        >>> round(normal_two_sided(1.96), 4)
        0.05
    """
    return math.erfc(abs(z) / math.sqrt(2.0))


def chi_square_tail(statistic: float, degrees: int) -> float:
    """
    Return P(X >= statistic) of a chi-square variable with whole degrees of freedom.

    The closed form: a Poisson sum for even degrees, erfc and a finite sum for odd ones.

    Example:
        >>> round(chi_square_tail(3.841, 1), 4), round(chi_square_tail(5.991, 2), 4)
        (0.05, 0.05)

    Source:
        M. Abramowitz, I. Stegun, Handbook of Mathematical Functions, 26.4.4 and 26.4.5.
    """
    if statistic <= 0.0 or degrees < 1:
        return 1.0
    half = statistic / 2.0
    if degrees % 2 == 0:
        logs = [-half + k * math.log(half) - math.lgamma(k + 1) for k in range(degrees // 2)]
        return min(1.0, math.fsum(math.exp(value) for value in logs))
    terms = [
        math.exp(-half + (k - 0.5) * math.log(half) - math.lgamma(k + 0.5))
        for k in range(1, (degrees - 1) // 2 + 1)
    ]
    return min(1.0, math.erfc(math.sqrt(half)) + math.fsum(terms))


def kolmogorov_tail(distance: float, *, n_reference: float, n_current: float) -> float:
    """
    Return the large-sample probability of a Kolmogorov-Smirnov distance at least this big.

    Uses Stephens' small-sample correction of the effective size; with ties it is conservative.

    Source:
        M. Stephens, Use of the Kolmogorov-Smirnov, Cramer-von Mises and related
        statistics without extensive tables, J. R. Statist. Soc. B 32 (1970).
    """
    if distance <= 0.0:
        return 1.0
    root = math.sqrt(n_reference * n_current / (n_reference + n_current))
    scaled = (root + 0.12 + 0.11 / root) * distance
    if scaled < 1.18:  # the dual series converges quickly where the usual one does not
        inner = math.fsum(math.exp(-((2 * k - 1) ** 2) * math.pi**2 / (8 * scaled**2)) for k in range(1, 20))
        return min(1.0, max(0.0, 1.0 - math.sqrt(2 * math.pi) / scaled * inner))
    series = math.fsum((-1) ** (k - 1) * math.exp(-2 * (k * scaled) ** 2) for k in range(1, 20))
    return min(1.0, 2.0 * series)


def kolmogorov_exact(distance: float, *, n_reference: int, n_current: int) -> float:
    """
    Return the exact probability of a distance at least this big, for samples without ties.

    Walks all orders of the pooled rows as lattice paths, one anti-diagonal at a time, and adds
    up what leaves the band: only positive terms, so tiny probabilities keep their digits.
    Takes (n_reference + n_current) steps over vectors of n_reference.

    Example:
        >>> round(kolmogorov_exact(1.0, n_reference=5, n_current=5), 6)  # 2 of 252 orders
        0.007937
    """
    total = n_reference + n_current
    rows = np.arange(n_reference + 1, dtype=np.float64)
    inside = np.zeros(n_reference + 1)
    inside[0] = 1.0
    outside = 0.0
    limit = distance - 1e-12
    for step in range(1, total + 1):
        # The chance that the next row is one of the reference is its share of what is left.
        left = n_reference - rows
        remaining = total - (step - 1)
        taken = inside * np.clip(left / remaining, 0.0, 1.0)
        inside = inside - taken
        inside[1:] += taken[:-1]
        columns = step - rows
        is_out = np.abs(rows / n_reference - columns / n_current) >= limit
        is_out &= (columns >= 0) & (columns <= n_current)
        outside += float(inside[is_out].sum())
        inside[is_out] = 0.0
    return min(1.0, outside)


def fisher_exact(*, hits_reference: int, n_reference: int, hits_current: int, n_current: int) -> float:
    """
    Return the two-sided p-value of Fisher's exact test for two shares.

    Sums the probabilities of all tables with the same margins that are no more likely than
    the one seen. Takes memory in proportion to all rows; see `share_p_value` for large ones.

    Example:
        >>> round(fisher_exact(hits_reference=1, n_reference=10, hits_current=9, n_current=10), 5)
        0.00109
    """
    total, hits = n_reference + n_current, hits_reference + hits_current
    low, high = max(0, hits - n_current), min(hits, n_reference)
    logs = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, total + 1, dtype=np.float64)))))
    support = np.arange(low, high + 1)
    weights = -(
        logs[support] + logs[n_reference - support] + logs[hits - support] + logs[n_current - hits + support]
    )
    weights -= weights.max()
    seen = weights[hits_reference - low]
    probabilities = np.exp(weights)
    # The tolerance is SciPy's and R's: tables tie in theory, their floating logs do not.
    extreme = probabilities[weights <= seen + 1e-7]
    return float(min(1.0, extreme.sum() / probabilities.sum()))


def share_p_value(
    *, hits_reference: int, n_reference: int, hits_current: int, n_current: int, dependence: float = 1.0
) -> tuple[float, float, str]:
    """
    Test whether two shares differ.

    Fisher's exact test up to 200,000 rows; beyond that, or where rows depend on each other, the
    score test with the number of rows divided by *dependence*.

    Returns:
        The z statistic of the score test (current minus reference), the two-sided p-value,
        and the name of the test that gave it.
    """
    pooled = (hits_reference + hits_current) / (n_reference + n_current)
    spread = math.sqrt(pooled * (1 - pooled) * (1 / n_reference + 1 / n_current) * dependence)
    gap = hits_current / n_current - hits_reference / n_reference
    z = gap / spread if spread > 0 else 0.0
    is_large = n_reference + n_current > 200_000
    if dependence > 1.0 or (is_large and min(pooled, 1 - pooled) * min(n_reference, n_current) > 100):
        return z, normal_two_sided(z), "score"
    p = fisher_exact(
        hits_reference=hits_reference, n_reference=n_reference, hits_current=hits_current, n_current=n_current
    )
    return z, p, "Fisher exact"


def permuted_tables(pooled: Ints, n_current: int, *, draws: int = PERMUTATIONS, seed: int = 0) -> Ints:
    """
    Draw the counts that the current window would have if rows were dealt out at random.

    Args:
        pooled:
            Rows of both windows per cell. Shape `(n_cells,)`.
        n_current:
            Rows of the current window.
        draws:
            Number of tables.
        seed:
            The same seed gives the same tables: a comparison repeated gives the same p-value.

    Returns:
        Shape `(draws, n_cells)`; each row sums to *n_current*.
    """
    rng = np.random.default_rng(seed)
    if pooled.sum() < 1_000_000_000:
        return rng.multivariate_hypergeometric(pooled, n_current, size=draws, method="marginals")
    # NumPy's sampler ends at 10^9 rows; with that many the multinomial is the same to six digits.
    return rng.multinomial(n_current, pooled / pooled.sum(), size=draws)


def monte_carlo_p(simulated: Floats, seen: float) -> float:
    """Return (1 + how many simulated are at least *seen*) / (1 + all): valid for any number of draws."""
    return float(
        (1 + np.count_nonzero(simulated >= seen - 1e-9 * max(1.0, abs(seen)))) / (1 + len(simulated))
    )


def holm(p_values: list[float]) -> list[float]:
    """
    Correct p-values so that the chance of even one false alarm among them stays below alpha.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]

    Source:
        S. Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6 (1979).
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    corrected = [1.0] * len(p_values)
    running = 0.0
    for place, index in enumerate(order):
        running = max(running, (len(p_values) - place) * p_values[index])
        corrected[index] = min(1.0, running)
    return corrected


def benjamini_hochberg(p_values: list[float]) -> list[float]:
    """
    Correct p-values so that, on average, at most a share alpha of the alarms is false.

    Example:
        >>> benjamini_hochberg([0.01, 0.04, 0.03])
        [0.03, 0.04, 0.04]

    Source:
        Y. Benjamini, Y. Hochberg, Controlling the false discovery rate, J. R. Statist. Soc. B 57 (1995).
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__, reverse=True)
    corrected = [1.0] * len(p_values)
    running = 1.0
    for place, index in enumerate(order):
        running = min(running, p_values[index] * len(p_values) / (len(p_values) - place))
        corrected[index] = running
    return corrected
