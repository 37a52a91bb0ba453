"""
Tail probabilities of the tests of this room.

The standard tests are SciPy's. It is loaded when the first comparison needs it, and by nothing else:
stepping the watch over windows takes `statistics.NormalDist` alone, and a watch that lives in somebody's
agent should not cost forty megabytes. Own code is left where SciPy has nothing: samples as values with
counts, rows that depend on each other, permutation by drawing tables, Holm's correction.
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


def kolmogorov_tail(distance: float, *, n_reference: float, n_current: float) -> float:
    """
    Return the probability of a Kolmogorov-Smirnov distance at least this big, for samples of any size.

    What `scipy.stats.ks_2samp(method="asymp")` gives; sizes may be fractions, where rows that depend on each
    other count as fewer. With ties it is conservative.

    Example:
        >>> round(kolmogorov_tail(0.1, n_reference=1000, n_current=500), 5)
        0.00237
    """
    from scipy import stats  # heavy; only a comparison needs it

    size = max(1, round(n_reference * n_current / (n_reference + n_current)))
    return float(min(1.0, max(0.0, stats.kstwo.sf(distance, size))))


def kolmogorov_exact(reference: Floats, current: Floats) -> float:
    """
    Return the exact p-value of Kolmogorov and Smirnov for two samples without ties.

    Example:
        >>> round(kolmogorov_exact(np.arange(5.0), np.arange(5.0) + 10), 6)  # 2 of 252 orders
        0.007937
    """
    from scipy import stats  # heavy; only a comparison needs it

    return float(stats.ks_2samp(reference, current, method="exact").pvalue)


def chi_square(observed: Ints) -> tuple[float, float, Floats]:
    """
    Return Pearson's statistic, its p-value and the expected counts of a table.

    Args:
        observed:
            Shape `(2, n_categories)`, no column of zeros.
    """
    from scipy import stats  # heavy; only a comparison needs it

    found = stats.chi2_contingency(observed, correction=False)
    return float(found.statistic), float(found.pvalue), found.expected_freq


def fisher_exact(*, hits_reference: int, n_reference: int, hits_current: int, n_current: int) -> float:
    """
    Return the two-sided p-value of Fisher's exact test for two shares.

    Example:
        >>> round(fisher_exact(hits_reference=1, n_reference=10, hits_current=9, n_current=10), 5)
        0.00109
    """
    from scipy import stats  # heavy; only a comparison needs it

    table = [[hits_reference, n_reference - hits_reference], [hits_current, n_current - hits_current]]
    return float(min(1.0, stats.fisher_exact(table).pvalue))


def poisson_limits(events: float, *, confidence: float) -> tuple[float, float]:
    """
    Return the exact limits of a Poisson mean of which so many events were seen; a fraction will do.

    Source:
        F. Garwood, Fiducial limits for the Poisson distribution, Biometrika 28 (1936).

    Example:
        >>> [round(limit, 2) for limit in poisson_limits(0, confidence=0.95)]
        [0.0, 3.69]
    """
    from scipy import special  # heavy; only a comparison needs it

    tail = (1 - confidence) / 2
    low = float(special.gammaincinv(events, tail)) if events > 0 else 0.0
    return low, float(special.gammaincinv(events + 1, 1 - tail))


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
    from scipy import stats  # heavy; only a comparison needs it

    return [float(p) for p in stats.false_discovery_control(p_values)] if p_values else []
