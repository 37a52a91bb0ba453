"""
Evidence that adds up over windows with a promised rate of false alarms.

Each innovation gets a conformal p-value among all earlier ones of its stream: whatever their
distribution, the normal scores made of it are independent standard normals as long as nothing
changes. Shiryaev-Roberts sums of likelihood ratios of these scores, averaged over several bets, over both
directions and over all streams, have the expectation t after t windows; so the mean time to a false
alarm at threshold A is at least A windows.

The bets are sizes of change, and one on records. A score made of a rank is never larger than its pool allows, and
each window since a change makes the pool more like the changed ones: of twenty-eight days the
sixth worst ever is less news than the first. The bet on records knows that, and says after j windows "this
one is among the j + 1 most extreme".

Source:
    V. Vovk, Testing randomness online, Statist. Sci. 36 (2021); J. Shin, A. Ramdas, A. Rinaldo,
    E-detectors, New Engl. J. Statist. Data Sci. 2 (2024); M. Pollak, Optimal detection of a change
    in distribution, Ann. Statist. 13 (1985).
"""

from __future__ import annotations

import hashlib
import struct
from bisect import bisect_left, bisect_right, insort
from typing import NamedTuple

import numpy as np

from agentguard.drift._pvalues import NORMAL
from agentguard.drift._sample import Floats, Ints

SIZES = np.array([0.15, 0.3, 0.6, 1.2, 2.4])
"""Sizes of change that evidence is gathered for, in standard deviations of an innovation."""

RECORD = 0.8
"""Stake of the bet on records."""
_BETS = len(SIZES) + 1

INNOVATIONS_MAX = 24 * 366
"""Innovations kept of one stream; beyond that none is added any more."""


def uniforms(key: bytes, stream: str, window: int) -> tuple[float, float]:
    """
    Return two numbers in (0, 1) that depend on nothing but the arguments.

    A tie must be broken at random for the promise to hold, and in the same way on each machine and
    after each restart.
    """
    digest = hashlib.blake2b(f"{stream}\0{window}".encode(), key=key[:64], digest_size=16).digest()
    first, second = struct.unpack("<QQ", digest)
    return (first + 0.5) / 2**64, (second + 0.5) / 2**64


def normal_score(earlier: list[float], innovation: float, u: float) -> float:
    """
    Return the normal score of an innovation among the earlier ones of its stream.

    Args:
        earlier:
            Ascending. The innovation is added to it, as long as there is room.
        innovation:
            The new one.
        u:
            In (0, 1); breaks ties.

    Returns:
        Standard normal while nothing changes; large where the innovation is unusually high.
    """
    low, high = bisect_left(earlier, innovation), bisect_right(earlier, innovation)
    n = len(earlier)
    p = (n - high + u * (high - low + 1)) / (n + 1)
    if n < INNOVATIONS_MAX:
        insort(earlier, innovation)
    return -NORMAL.inv_cdf(min(max(p, 1e-15), 1 - 1e-15))


class Sums(NamedTuple):
    """Evidence of all streams. Shapes `(n_streams, 2, n_bets)`: rises, then falls."""

    log_evidence: Floats
    """Logarithm of the Shiryaev-Roberts sum."""
    cusum: Floats
    """Cumulative sum that restarts at 0: where it last did is the change point."""
    since: Ints
    """First window after that restart."""
    weight: Floats
    """Calls since then."""
    shift: Floats
    """Sum of (score minus season) times calls since then."""
    steps: Floats
    """Windows with data since then."""


def no_sums(n_streams: int, window: int) -> Sums:
    """Return the sums before any window."""
    shape = (n_streams, 2, _BETS)
    return Sums(
        np.full(shape, -np.inf),
        np.zeros(shape),
        np.full(shape, window + 1, dtype=np.int64),
        np.zeros(shape),
        np.zeros(shape),
        np.zeros(shape),
    )


def log_bets(sums: Sums, normal_scores: Floats, pace: Floats, pool: Floats) -> Floats:
    """
    Return the logarithm of each bet's gain. Shape `(n_streams, 2, n_bets)`.

    All are fixed before the scores are known, and multiply what is staked by one on the mean while nothing changes.
    """
    signed = np.stack([normal_scores, -normal_scores], axis=1)
    sizes = SIZES * pace[:, None, None]
    high = np.array([NORMAL.cdf(score) for score in normal_scores.tolist()])
    extreme = np.stack([1.0 - high, high], axis=1)
    top = np.minimum((sums.steps[:, :, -1] + 1.0) / (pool[:, None] + 1.0), 0.5)
    records = np.log(1.0 - RECORD + RECORD * (extreme < top) / top)
    out: Floats = np.concatenate([sizes * signed[:, :, None] - sizes**2 / 2, records[:, :, None]], axis=2)
    return out


def add(
    sums: Sums,
    *,
    normal_scores: Floats,
    distance: Floats,
    rows: Floats,
    pace: Floats,
    pool: Floats,
    window: int,
) -> Sums:
    """
    Take one window in.

    Args:
        sums:
            Before the window.
        normal_scores:
            NaN where a stream has none: its evidence stays.
        distance:
            Score minus season.
        rows:
            Calls in the window.
        pace:
            Factor on the sizes that are bet on: a window with few calls can show little. More than 0.
        pool:
            Earlier innovations that each score was ranked among.
        window:
            Its number.
    """
    known = np.isfinite(normal_scores)
    gain = log_bets(sums, np.where(known, normal_scores, 0.0), pace, pool)
    is_known = known[:, None, None]
    evidence = np.where(is_known, np.logaddexp(0.0, sums.log_evidence) + gain, sums.log_evidence)
    cusum = np.where(is_known, np.maximum(sums.cusum, 0.0) + gain, sums.cusum)
    restarts = is_known & (cusum <= 0.0)
    value = np.where(known, distance, 0.0)
    counted = np.where(known, rows, 0.0)
    weight = sums.weight + counted[:, None, None]
    shift = sums.shift + (value * counted)[:, None, None]
    steps = sums.steps + is_known
    return Sums(
        evidence,
        np.where(restarts, 0.0, cusum),
        np.where(restarts, window + 1, sums.since),
        np.where(restarts, 0.0, weight),
        np.where(restarts, 0.0, shift),
        np.where(restarts, 0.0, steps),
    )


def log_mean(logs: Floats) -> float:
    """Return the logarithm of the mean of exponentials; minus infinity for none."""
    if not logs.size:
        return float("-inf")
    top = float(logs.max())
    return top if np.isinf(top) else top + float(np.log(np.exp(logs - top).mean()))


def stream_evidence(sums: Sums, is_two_sided: Floats) -> Floats:
    """Return the logarithm of each stream's evidence, averaged over directions and bets."""
    sided = np.asarray(is_two_sided, dtype=bool)
    logs = sums.log_evidence.copy()
    logs[~sided, 1] = -np.inf
    top = logs.max(axis=(1, 2))
    safe = np.where(np.isinf(top), 0.0, top)
    counted = np.where(sided, 2.0, 1.0) * logs.shape[2]
    with np.errstate(divide="ignore"):
        means = np.log(np.exp(logs - safe[:, None, None]).sum(axis=(1, 2)) / counted)
    out: Floats = np.where(np.isinf(top), top, safe + means)
    return out
