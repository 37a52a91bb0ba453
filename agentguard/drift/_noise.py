"""How noisy the score of a window is, and how much a window can tell."""

from __future__ import annotations

import numpy as np

from agentguard.drift._sample import Floats
from agentguard.drift._streams import Scored, Stream
from agentguard.drift._whiten import Dynamics


def noise_floor(stream: Stream, scored: Scored) -> float:
    """Return the within-window variance, never zero: a reference without one error still may have one."""
    total_rows = max(1.0, float(scored.rows.sum()))
    least = 0.5 / total_rows if stream.score in {"share", "count", "tail", "gap"} else 1e-4
    return max(scored.spread, least)


def swell_of(streams: tuple[Stream, ...], expected: Floats, level: Floats) -> Floats:
    """Return the factor on the noise: shares and counts are noisier where more is expected, of a share's rarer side."""
    out = np.ones_like(expected)
    for i, stream in enumerate(streams):
        if stream.score in {"rank", "volume"} or level[i] <= 0:
            continue
        if stream.score in {"share", "tail"} and 0.5 < level[i] < 1:
            # What nearly all calls do is as noisy as the few that do not do it.
            grown = (1.0 - expected[..., i]) / (1.0 - level[i])
        else:
            grown = expected[..., i] / level[i]
        out[..., i] = np.clip(grown, 0.2, 20.0)
    return out


def pace_of(dynamics: Dynamics, usual_rows: Floats, rows: Floats, swell: Floats) -> Floats:
    """
    Return the factor on the sizes of change that a window is asked for.

    A change of a score is the more standard deviations of news, the more calls there are. Half of that, in
    logarithms, is bet on: all of it would miss outages at night.

    Args:
        dynamics:
            Of the streams.
        usual_rows:
            Mean calls in a window of the reference. Shape `(n_streams,)`.
        rows:
            Calls in this window. Same shape.
        swell:
            As `swell_of` gives it.
    """
    shock = dynamics.variance * (1 - dynamics.phi**2) + 1e-12
    usual = shock + dynamics.noise / np.maximum(usual_rows, 1.0)
    out: Floats = np.sqrt(np.sqrt(usual / (shock + dynamics.noise * swell / np.maximum(rows, 1.0))))
    return out
