"""
Whitening: what is news in a window, once load that lingers and plain counting noise are known.

The score's distance from the season is taken as a first-order autoregression seen through noise
of known size, and filtered by Kalman. What remains are standardised innovations.

Source:
    R. Kalman, A new approach to linear filtering and prediction problems, J. Basic Eng. 82 (1960);
    C. Lu, M. Reynolds, EWMA control charts for monitoring the mean of autocorrelated processes,
    J. Qual. Technol. 31 (1999).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from agentguard.drift._sample import Floats

PHIS = (0.0, 0.3, 0.5, 0.65, 0.78, 0.88, 0.94, 0.975)
VARIANCE_SHARES = (0.0, 0.05, 0.15, 0.3, 0.5, 0.7, 0.9)
NOISE_FACTORS = (1.0, 1.4)


class Dynamics(NamedTuple):
    """How streams move by themselves. All shapes `(n_streams,)`."""

    phi: Floats
    """Correlation of one window's load with the next one's."""
    variance: Floats
    """Stationary variance of the load, in squared score."""
    noise: Floats
    """Variance of one call's score within a window."""


class Belief(NamedTuple):
    """What the filter knows after a window. All shapes `(n_streams,)`."""

    mean: Floats
    variance: Floats


def start(dynamics: Dynamics) -> Belief:
    """Return what is known before the first window."""
    return Belief(np.zeros_like(dynamics.variance), dynamics.variance.copy())


def innovate(
    dynamics: Dynamics, belief: Belief, *, distance: Floats, rows: Floats, swell: Floats
) -> tuple[Floats, Belief]:
    """
    Take one window in.

    Args:
        dynamics:
            Of the streams.
        belief:
            After the window before.
        distance:
            Score minus season; NaN where the window says nothing.
        rows:
            Calls in the window.
        swell:
            Factor on the noise: counts are noisier where they are expected to be high.

    Returns:
        The standardised innovations, NaN where there are none, and the new belief.
    """
    known = np.isfinite(distance)
    mean = dynamics.phi * belief.mean
    variance = dynamics.phi**2 * belief.variance + (1 - dynamics.phi**2) * dynamics.variance
    spread = variance + np.maximum(dynamics.noise * swell / np.maximum(rows, 1.0), 1e-12)
    gap = np.where(known, distance - mean, 0.0)
    gain = np.where(known, variance / spread, 0.0)
    innovation = np.where(known, gap / np.sqrt(spread), np.nan)
    return innovation, Belief(mean + gain * gap, variance * (1 - gain))


def fit_dynamics(
    distance: Floats, rows: Floats, noise: Floats, swell: Floats, *, with_memory: bool
) -> Dynamics:
    """
    Fit each stream on a grid, by the mean of what is likely.

    Args:
        distance:
            Score minus season. Shape `(n_windows, n_streams)`, NaN where there is none.
        rows:
            Calls per window. Same shape.
        noise:
            Variance of one call's score within a window. Shape `(n_streams,)`.
        swell:
            Factor on the noise per window. Same shape as *distance*.
        with_memory:
            Whether load may linger; without, windows are taken as independent.
    """
    phis = PHIS if with_memory else (0.0,)
    grid = np.array([(p, v, f) for p in phis for v in VARIANCE_SHARES for f in NOISE_FACTORS if v or not p])
    with np.errstate(invalid="ignore"):
        seen = np.nan_to_num(np.nanvar(distance, axis=0))
    phi = np.repeat(grid[:, :1], len(noise), axis=1)
    cells = Dynamics(phi, grid[:, 1:2] * seen, grid[:, 2:] * noise)
    belief = start(cells)
    likelihood = np.zeros_like(phi)
    for t in range(len(distance)):
        known = np.isfinite(distance[t])
        mean = cells.phi * belief.mean
        variance = cells.phi**2 * belief.variance + (1 - cells.phi**2) * cells.variance
        spread = variance + np.maximum(cells.noise * swell[t] / np.maximum(rows[t], 1.0), 1e-12)
        gap = np.where(known, distance[t] - mean, 0.0)
        gain = np.where(known, variance / spread, 0.0)
        likelihood -= np.where(known, np.log(spread) + gap**2 / spread, 0.0)
        belief = Belief(mean + gain * gap, variance * (1 - gain))
    # All that fit are averaged, as well as they fit: the best one alone takes less to linger than does, as often as not.
    fits = np.exp((likelihood - likelihood.max(axis=0)) / 2)
    fits /= fits.sum(axis=0)
    return Dynamics(*((fits * part).sum(axis=0) for part in cells))
