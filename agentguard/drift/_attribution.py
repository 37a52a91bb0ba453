"""
Attribution: which part of the traffic carries a change, and was it the mix or the parts.

Works on histograms of scores alone, so it costs the same whatever the number of calls. It says where a
change is, not why.

Source:
    M. Kulldorff, A spatial scan statistic, Commun. Statist. 26 (1997), for the search; L. Shapley, A value for
    n-person games (1953): with two factors, mix and level, the values are exact averages of two orders.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from agentguard.drift._layout import PLACES, Layout
from agentguard.drift._sample import Ints
from agentguard.drift._streams import Scale, Stream, scores_at

Histograms = Mapping[int, Mapping[int, int]]
"""By series, then bin."""

ROWS_MIN = 20
"""Rows on each side that a segment needs to be named."""


class Moments(NamedTuple):
    """What a histogram says of a score."""

    n: int
    mean: float
    variance: float


class Found(NamedTuple):
    """One segment's part in a change."""

    name: str
    likelihood_ratio: float
    """Twice the logarithm, of a change in this segment alone against none."""
    before: float
    after: float
    n_reference: int
    n_current: int


class Split(NamedTuple):
    """A change of a mean, taken apart along one dimension. The parts add up to the change."""

    dimension: str
    mix: float
    """Because the shares of the segments changed."""
    within: float
    """Because the segments themselves did."""


class Attribution(NamedTuple):
    """Where a change is."""

    segments: tuple[Found, ...]
    """The best explanation first; empty where no segment explains it better than the whole."""
    splits: tuple[Split, ...]

    @property
    def top(self) -> str:
        """Name of the segment that carries the change; empty for the whole."""
        return self.segments[0].name if self.segments else ""


def moments(histogram: Mapping[int, int], stream: Stream, scale: Scale) -> Moments:
    """Return number, mean and variance of the scores of a histogram's rows."""
    if not any(histogram.values()):
        return Moments(0, math.nan, math.nan)
    bins: Ints = np.array(sorted(histogram), dtype=np.int64)
    counts = np.array([histogram[b] for b in bins.tolist()], dtype=np.float64)
    scores = scores_at(scale, stream, bins)
    n = float(counts.sum())
    mean = float(scores @ counts) / n
    return Moments(int(n), mean, float(((scores - mean) ** 2) @ counts) / n)


def attribute(
    layout: Layout, stream: Stream, scale: Scale, reference: Histograms, current: Histograms
) -> Attribution:
    """
    Search the segments for the one that carries the change of a stream.

    Each segment, and the whole, is asked how well "the score changed here, and nowhere else" explains what
    is seen; a segment is named where it does so better than the whole by more than the choice among so many
    brings by chance.

    Args:
        layout:
            The segments.
        stream:
            A stream of the whole traffic or of a segment: its measure is looked at everywhere.
        scale:
            The scores of its bins, fixed by the whole reference.
        reference:
            Histograms of the reference by series.
        current:
            Histograms since the change.
    """
    base = stream.code % PLACES
    whole = [moments(side.get(base, {}), stream, scale) for side in (reference, current)]
    cells = {
        place: [
            moments(side.get(layout.code(place, base), {}), stream, scale) for side in (reference, current)
        ]
        for place in range(1, len(layout.segments) + 1)
    }
    variance = max(1e-12, (whole[0].n * whole[0].variance + whole[1].n * whole[1].variance)) / max(
        1, whole[0].n + whole[1].n
    )
    found = []
    for place, (before, after) in cells.items():
        if min(before.n, after.n) >= ROWS_MIN:
            ratio = _ratio(before, after, variance)
            name = layout.segments[place - 1].name
            found.append(Found(name, ratio, before.mean, after.mean, before.n, after.n))
    margin = _ratio(whole[0], whole[1], variance) + 2 * math.log(1 + len(found))
    named = sorted(
        (one for one in found if one.likelihood_ratio > margin), key=lambda one: -one.likelihood_ratio
    )
    splits = tuple(_split(layout, dimension, cells, whole) for dimension in layout.dimensions)
    return Attribution(tuple(named[:5]), tuple(one for one in splits if one is not None))


def _ratio(before: Moments, after: Moments, variance: float) -> float:
    """Return twice the log likelihood ratio of another mean against the same one."""
    if not before.n or not after.n:
        return 0.0
    return (after.mean - before.mean) ** 2 / (variance * (1 / before.n + 1 / after.n))


def _split(
    layout: Layout, dimension: str, cells: Mapping[int, Sequence[Moments]], whole: Sequence[Moments]
) -> Split | None:
    """Take the change of the whole apart along one dimension; what is in none of its segments is one more."""
    parts = [
        cells[place]
        for place, segment in enumerate(layout.segments, 1)
        if not segment.is_pair and segment.parts[0][0] == dimension
    ]
    if not parts or not whole[0].n or not whole[1].n:
        return None
    rows = [
        [(part[side].n, part[side].n * part[side].mean if part[side].n else 0.0) for part in parts]
        for side in (0, 1)
    ]
    for side in (0, 1):
        n = whole[side].n - sum(count for count, _ in rows[side])
        rows[side].append((n, whole[side].n * whole[side].mean - sum(total for _, total in rows[side])))
    mix = within = 0.0
    for (n_before, sum_before), (n_after, sum_after) in zip(*rows, strict=True):
        if not n_before and not n_after:
            continue
        # What is on one side only cannot have changed within.
        mean_before = sum_before / n_before if n_before else sum_after / n_after
        mean_after = sum_after / n_after if n_after else mean_before
        share_before, share_after = n_before / whole[0].n, n_after / whole[1].n
        mix += (share_after - share_before) * (mean_before + mean_after) / 2
        within += (share_before + share_after) / 2 * (mean_after - mean_before)
    return Split(dimension, mix, within)
