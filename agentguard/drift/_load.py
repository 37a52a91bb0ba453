"""
What shares and counts owe to the load.

In a slow hour calls also fail and are retried more often, and slow hours come in rows: a share that follows the load
drifts up and down for hours by itself. Sixty calls with one error among them say little about the load, and their sixty
latencies say a lot. So the load is read off the latencies of the same kind of call, and what a share or count owes
to it, as it did in the reference, is taken away before it is whitened: less lingers, and real changes show sooner.

What lies beyond three standard deviations of the usual load is not explained by it: an outage that makes calls slow
hides no error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from agentguard.drift._sample import Floats, Ints
from agentguard.drift._streams import Stream
from agentguard.drift._whiten import Dynamics, innovate, start

REACH = 3.0
"""Standard deviations of the load up to which it explains anything."""
_SURE = 2.0
"""Standard errors from 0 that a relation needs to be one."""


class Load(NamedTuple):
    """Which stream shows the load of which, and how much follows from it. Shapes `(n_streams,)`."""

    guide: Ints
    """Place of the stream that shows the load; a stream that follows none is its own."""
    factor: Floats
    """Score of this stream for one of the guide's; 0 where nothing follows."""


def guides_of(streams: Sequence[Stream]) -> Ints:
    """Return the place of each stream's guide: the latency of all calls of its kind, for shares and counts."""
    latencies = {
        stream.kind: place
        for place, stream in enumerate(streams)
        if stream.kind and stream.measure == "latency" and stream.score == "rank" and not stream.segment
    }
    found = [
        latencies.get(stream.kind, place) if stream.score in {"share", "count"} else place
        for place, stream in enumerate(streams)
    ]
    return np.array(found, dtype=np.int64)


def no_load(n_streams: int) -> Load:
    """Return that nothing follows the load."""
    return Load(np.arange(n_streams), np.zeros(n_streams))


def fit_load(
    guide: Ints, dynamics: Dynamics, distance: Floats, rows: Floats, swell: Floats
) -> tuple[Load, Floats]:
    """
    Learn how streams follow the load, by weighted least squares.

    Args:
        guide:
            As `guides_of` gives it.
        dynamics:
            Of all streams, each by itself.
        distance:
            Score minus season. Shape `(n_windows, n_streams)`, NaN where there is none.
        rows:
            Calls per window. Same shape.
        swell:
            Factor on the noise per window. Same shape.

    Returns:
        The relation, and what each stream owes in each window.
    """
    belief = start(dynamics)
    seen = np.zeros_like(distance)
    for t in range(len(distance)):
        _, belief = innovate(dynamics, belief, distance=distance[t], rows=rows[t], swell=swell[t])
        seen[t] = belief.mean
    everything = Load(guide, np.ones(len(guide)))
    cause = owed(everything, dynamics, seen, swell)
    known = np.isfinite(distance)
    weights = np.where(known, 1.0 / (dynamics.variance + dynamics.noise * swell / np.maximum(rows, 1.0)), 0.0)
    power = np.maximum((weights * cause**2).sum(axis=0), 1e-12)
    factor = (weights * cause * np.where(known, distance, 0.0)).sum(axis=0) / power
    follows = (guide != np.arange(len(guide))) & (np.abs(factor) * np.sqrt(power) > _SURE)
    load = Load(guide, np.where(follows, factor, 0.0))
    return load, owed(load, dynamics, seen, swell)


def owed(load: Load, dynamics: Dynamics, seen: Floats, swell: Floats) -> Floats:
    """
    Return what the load adds to each stream's score.

    Args:
        load:
            The relation.
        dynamics:
            Of all streams: the usual size of the guide's load.
        seen:
            What the filter believes of each stream's load. Shape `(..., n_streams)`.
        swell:
            Where more is expected, more follows. Same shape.
    """
    most = REACH * np.sqrt(dynamics.variance[load.guide])
    out: Floats = load.factor * swell * np.clip(seen[..., load.guide], -most, most)
    return out
