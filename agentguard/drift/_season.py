"""
The rhythm of a day and of a week, fitted by weighted least squares.

Pure. Times are UTC windows; a season is a row of regressors per window.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np

from agentguard.drift._sample import Floats, Ints

SeasonKind: TypeAlias = Literal["level", "day", "week", "weekday"]
"""level: a constant; day: three daily harmonics; week: these, and weekends of another height and
shape; weekday: for windows of a day, a constant for weekdays and one for weekends."""

DAY_S = 86_400
HARMONICS = 3


def regressors(windows: Ints, *, window_s: int, kind: SeasonKind) -> Floats:
    """
    Return the regressors of each window. Shape `(n_windows, n_regressors)`.

    Example:
        >>> regressors(np.array([0, 2]), window_s=86_400, kind="weekday").tolist()  # a Thursday, a Saturday
        [[1.0, 0.0], [1.0, 1.0]]
    """
    middle_s = windows * window_s + window_s / 2
    ones = np.ones(len(windows))
    if kind == "level":
        return ones[:, None]
    # 1970-01-01 was a Thursday: day 3 of a week that begins on Monday.
    is_weekend = ((middle_s // DAY_S + 3) % 7 >= 5).astype(np.float64)
    if kind == "weekday":
        return np.column_stack([ones, is_weekend])
    angle = 2 * np.pi * (middle_s % DAY_S) / DAY_S
    waves = [wave(k * angle) for k in range(1, HARMONICS + 1) for wave in (np.sin, np.cos)]
    if kind == "day":
        return np.column_stack([ones, *waves])
    return np.column_stack([ones, *waves, is_weekend, is_weekend * waves[0], is_weekend * waves[1]])


def fit_season(design: Floats, scores: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """
    Fit one stream.

    Args:
        design:
            As `regressors` gives it.
        scores:
            NaN where there is none. Shape `(n_windows,)`.
        weights:
            Not negative; how much each window counts.

    Returns:
        The coefficients, and the inverse of the weighted Gram matrix, from which `leverage` follows.
    """
    known = np.isfinite(scores)
    x, w = design[known], weights[known]
    gram = (x * w[:, None]).T @ x
    # The ridge is far below one window's weight: it only keeps a gap in the data from being singular.
    gram += np.eye(len(gram)) * 1e-3 * max(float(w.mean()) if len(w) else 1.0, 1e-9)
    inverse: Floats = np.linalg.inv(gram).astype(np.float64)
    return inverse @ ((x * w[:, None]).T @ scores[known]), inverse
