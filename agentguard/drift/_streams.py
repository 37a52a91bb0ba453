"""
Streams: what the watch looks at, each a score per window that is right for its type.

A score is a mean of one number per call. For latency and tokens that number is the call's rank
among the reference (a score of 0.5 is no change, ties count half, no unit, no outliers), and
beside it whether it lies above the reference's 95th percentile; for errors it is 0 or 1, for
retries the count up to five.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from agentguard.drift._layout import PLACES, WHOLE, Layout
from agentguard.drift._quality import CHECKS
from agentguard.drift._sample import Floats, Ints
from agentguard.drift._summary import KINDS, MEASURES, SLOT_S, Summary, matrix_of, series_code

ScoreType: TypeAlias = Literal["rank", "tail", "share", "count", "gap", "volume"]

FLOORS: Mapping[ScoreType, float] = {
    "rank": 0.03,
    "tail": 0.02,
    "share": 0.01,
    "count": 0.05,
    "gap": 0.1,
    "volume": 0.1,
}
"""
Smallest change of a score that is worth an alarm.

A rank of 0.03 is about 7 % of latency; a volume of 0.1 is half as many calls again, or a third fewer.
"""

RETRIES_CAP = 5.0
_UNIT = 2**30
"""Scores are whole multiples of its inverse."""
ROWS_MIN = 3
"""Calls that a window needs to say anything about a stream."""


class Stream(NamedTuple):
    """One line of evidence."""

    kind: str
    """Kind of call; empty for a column of somebody's table."""
    measure: str
    score: ScoreType
    segment: str = ""
    """Name of the segment; empty for the whole traffic."""
    place: int = 0
    """Of the segment in the layout."""
    column: int = 0
    """Number of the column, where there is no kind."""
    has_falls: bool = False
    """Whether a fall of a share or count is news too."""
    grain: float = 1.0
    """What one bin of a share stands for."""

    @property
    def feature(self) -> str:
        """What it is about, such as model.response_latency_ms."""
        if self.measure == "slots":  # of all kinds together
            return "call_volume" if self.score == "volume" else "silence"
        return f"{self.kind}.{_WORDS.get(self.measure, self.measure)}" if self.kind else self.measure

    @property
    def name(self) -> str:
        """The name in verdicts, such as tool.response_latency_ms [tool=search]."""
        where = f" [{self.segment}]" if self.segment else ""
        return f"{self.feature}{where}{' (tail)' if self.score == 'tail' else ''}"

    @property
    def code(self) -> int:
        """The series that it reads."""
        base = series_code(self.kind, self.measure) if self.kind else self.column
        return self.place * PLACES + base

    @property
    def is_two_sided(self) -> bool:
        """Whether a fall is news too. Fewer errors are not."""
        return self.score in {"rank", "volume"} or self.has_falls

    @property
    def is_quality(self) -> bool:
        """Whether it speaks of the data, not of the agent."""
        return self.measure in _QUALITY or (not self.kind and self.measure.endswith(MISSING))


_WORDS = {
    "latency": "response_latency_ms",
    "tokens": "token_count",
    "retries": "retry_count",
    "error": "error_rate",
    "usage_missing": "usage_missing",
    "first_chunk": "time_to_first_chunk_ms",
}
_SCORES: Mapping[str, tuple[ScoreType, ...]] = {
    "latency": ("rank", "tail"),
    "tokens": ("rank",),
    "retries": ("count",),
    "error": ("share",),
    "first_chunk": ("rank",),
}
_QUALITY = frozenset({"usage_missing", "slots", *CHECKS})


MISSING = " missing"
"""Ends the name of a share of rows without a value."""


def possible_streams(layout: Layout = WHOLE) -> tuple[Stream, ...]:
    """Return all streams that could be watched, in a fixed order: of the whole, then of each segment."""
    whole = tuple(
        Stream(kind, measure, score)
        for kind in KINDS
        for measure in MEASURES
        for score in _SCORES.get(measure, ())
    )
    parts = tuple(
        Stream(
            kind,
            measure,
            _SCORES[measure][0],
            segment.name,
            place,
        )
        for place, segment in enumerate(layout.segments, 1)
        if not segment.is_pair
        for kind in kinds_of(segment.parts[0][0])
        for measure in ("latency", "tokens", "retries", "error")
    )
    return whole + parts


def quality_streams() -> tuple[Stream, ...]:
    """Return all streams that speak of the data, in a fixed order."""
    shares = tuple(
        Stream(kind, measure, "share")
        for kind in KINDS
        for measure in MEASURES
        if measure in _QUALITY - {"slots"}
    )
    return (*shares, Stream(KINDS[0], "slots", "gap"), Stream(KINDS[0], "slots", "volume"))


def kinds_of(dimension: str) -> tuple[str, ...]:
    """Return the kinds of call that a dimension tells apart."""
    return {"tool": ("tool",), "tenant": ("model", "tool")}.get(dimension, ("model",))


class Scale(NamedTuple):
    """How the bins of a stream become scores: fixed by the reference."""

    bins: Ints
    """Ascending."""
    scores: Floats
    """Score of a call in each bin."""
    above: float
    """Score of a call in a bin above all of these."""
    below: Floats
    """Score of a call in a bin between the ones known: shape `(n_bins,)`, just under each bin."""


def scale_of(stream: Stream, histogram: Mapping[int, int]) -> Scale:
    """Fix the scores of a stream by the reference's histogram."""
    bins = np.array(sorted(histogram), dtype=np.int64)
    counts = np.array([histogram[b] for b in bins.tolist()], dtype=np.float64)
    if stream.score == "rank":
        upto = np.cumsum(counts) / counts.sum()
        before = upto - counts / counts.sum()
        return Scale(bins, (before + upto) / 2, 1.0, before)
    if stream.score == "tail":
        border = bins[int(np.searchsorted(np.cumsum(counts), 0.95 * counts.sum()))]
        scores = (bins > border).astype(np.float64)
        return Scale(bins, scores, 1.0, np.where(bins > border, 1.0, 0.0))
    if stream.score in {"gap", "volume"}:
        return Scale(bins, counts, 0.0, counts)
    scores = np.minimum(bins.astype(np.float64) * stream.grain, RETRIES_CAP)
    return Scale(bins, scores, RETRIES_CAP if stream.score == "count" else 1.0, scores)


def scores_at(scale: Scale, stream: Stream, bins: Ints) -> Floats:
    """Return the score of a call in each of *bins*, known to the reference or not."""
    if stream.score in {"count", "share"}:
        return np.minimum(bins.astype(np.float64) * stream.grain, RETRIES_CAP)
    places = np.searchsorted(scale.bins, bins)
    inside = np.minimum(places, len(scale.bins) - 1)
    known = scale.bins[inside] == bins
    between = np.where(places < len(scale.bins), scale.below[inside], scale.above)
    return np.where(known, scale.scores[inside], between)


class Scored(NamedTuple):
    """One stream over consecutive windows."""

    scores: Floats
    """Mean score per window; NaN with fewer than `ROWS_MIN` calls. Shape `(n_windows,)`."""
    rows: Ints
    """Calls per window."""
    spread: float
    """Mean variance of a call's score within a window."""


def score_windows(summary: Summary, stream: Stream, scale: Scale, *, first: int, n_windows: int) -> Scored:
    """Score consecutive windows of one stream."""
    table, bins = matrix_of(summary, stream.code, first=first, n_windows=n_windows)
    rows = table.sum(axis=1)
    if stream.score in {"gap", "volume"}:
        return _score_slots(table, stream, scale, window_s=summary.window_s)
    # Sums of whole numbers are the same in any order: streaming, batch and restart agree to the last digit.
    fixed = np.rint(scores_at(scale, stream, bins) * _UNIT).astype(np.int64)
    values = fixed / _UNIT
    some = np.maximum(rows, 1)
    means = (table @ fixed) / some / _UNIT
    variances = np.maximum(table @ values**2 / some - means**2, 0.0)
    is_enough = rows >= ROWS_MIN
    total = float(rows[is_enough].sum())
    # Within-window variance from few rows runs low by (n - 1) / n: the sum puts that right.
    degrees = float(np.maximum(rows[is_enough] - 1, 0).sum())
    spread = float((variances * rows)[is_enough].sum()) / degrees if total and degrees else 0.0
    return Scored(np.where(is_enough, means, np.nan), rows, spread)


def _score_slots(table: Ints, stream: Stream, scale: Scale, *, window_s: int) -> Scored:
    """
    Score how many calls there were: the share of five-minute slots without one, or the number itself.

    The number becomes n / (n + m), where m is the mean of the reference's hours: one half is usual, twice as many
    two thirds. Both are known of a window without any call, too.
    """
    slots = max(1, window_s // SLOT_S)
    calls = table.sum(axis=1).astype(np.float64)
    rows = np.full(len(table), slots, dtype=np.int64)
    if stream.score == "gap":
        empty = slots - np.minimum((table > 0).sum(axis=1), slots)
        scores = empty / slots
        return Scored(scores, rows, float((scores * (1 - scores)).mean()) if len(scores) else 0.0)
    scores = calls / np.maximum(calls + scale.above, 1e-9)
    usual = max(scale.above, 1e-9)
    chance = np.maximum(calls, 1.0) * usual**2 / (np.maximum(calls, 1.0) + usual) ** 4
    return Scored(scores, rows, float(chance.mean()) * slots if len(chance) else 0.0)
