"""
How much rows depend on their neighbours: n rows may carry the evidence of far fewer.

A rolling mean over fifty calls, or latency under a slowly moving load, makes neighbouring rows
alike. Tests that count every row then alarm at nearly every look. The factor here divides the
number of rows.
"""

from __future__ import annotations

import numpy as np

from agentguard.drift._sample import Floats

ROWS_MAX = 200_000
"""Rows that are looked at; the first ones of a longer column."""


def dependence(numbers: Floats) -> float:
    """
    Estimate how many rows carry as much evidence as one independent row.

    Ranks are taken first, so that one outlier does not decide. The autocorrelations are added up
    while the sums of neighbouring pairs stay positive. Rows without order give 1.

    Args:
        numbers:
            Shape `(n_rows,)`, in the order of time, finite.

    Returns:
        At least 1. It is 1 unless the correlation of neighbours is beyond three standard errors,
        so that independent rows lose no power. It is not a model of seasons.

    Source:
        C. Geyer, Practical Markov chain Monte Carlo, Statist. Sci. 7 (1992): the initial positive
        sequence estimator.

    Example:
        >>> bool(dependence(np.random.default_rng(1).normal(size=500)) == 1.0)
        True
        >>> steady = np.convolve(np.random.default_rng(1).normal(size=2000), np.ones(50) / 50, "valid")
        >>> 20 < dependence(steady) < 150
        True
    """
    rows = numbers[:ROWS_MAX]
    n = len(rows)
    if n < 20:
        return 1.0
    _, places, counts = np.unique(rows, return_inverse=True, return_counts=True)
    # A column that only rises or only falls was sorted: its order is not that of time.
    steps = np.diff(rows)
    if len(counts) < 2 or not (steps < 0).any() or not (steps > 0).any():
        return 1.0
    ranks = (np.cumsum(counts) - (counts - 1) / 2.0)[places]
    centred = ranks - ranks.mean()
    variance = float(centred @ centred)
    first = float(centred[1:] @ centred[:-1]) / variance
    if first * np.sqrt(n) < 3.0:
        return 1.0
    size = 1 << (2 * n - 1).bit_length()
    spectrum = np.fft.rfft(centred, size)
    correlations = np.fft.irfft(spectrum * np.conj(spectrum), size)[: n // 2] / variance
    pairs = correlations[: len(correlations) // 2 * 2].reshape(-1, 2).sum(axis=1)
    stop = int(np.argmax(pairs <= 0)) if bool((pairs <= 0).any()) else len(pairs)
    factor = max(1.0, 2.0 * float(pairs[:stop].sum()) - 1.0)
    # The estimate is noisy and runs low where few independent rows are left: one standard error is added.
    return float(min(factor * (1.0 + np.sqrt(6.0 * factor / n)), n / 2.0))
