"""
Summaries of windows: whole-number histograms that add up exactly.

A summary is one sorted array of keys and one of counts. A key packs window, series and bin,
so that merging two summaries is adding counts of equal keys: any partition of the spans over
processes or machines gives the same summary.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import numpy as np

from agentguard.drift._sample import Floats, Ints, Sample

GROWTH: Final = 1.02
"""Ratio of neighbouring bin borders: quantiles are within one percent."""

_LOG_GROWTH: Final = math.log(GROWTH)
SLOT_S: Final = 300
"""Calls are counted by five-minute slots of the day, to see silence."""
SLOTS_A_DAY: Final = 24 * 3600 // SLOT_S
_BIN_BITS: Final = 12
_SERIES_BITS: Final = 18
ZERO_BIN: Final = 0
"""Bin of the value 0; bin b > 0 of a logarithmic measure holds values in (1.02^(b-2), 1.02^(b-1)]."""

KINDS: Final = ("agent", "model", "tool", "workflow", "retriever", "other")
MEASURES: Final = (
    "latency",
    "tokens",
    "retries",
    "error",
    "usage_missing",
    "first_chunk",
    "new_shape",
    "new_name",
    "out_of_range",
    "output_on_error",
    "cost_mismatch",
    "duplicate",
    "clock_skew",
    "slots",
)
MEASURES_MAX: Final = 16
"""Numbers kept for the measures of one kind."""
LOGARITHMIC: Final = frozenset({"latency", "tokens", "first_chunk"})
RETRIES_MAX: Final = 100
"""Larger counts are taken as this."""
_CELLS_MAX: Final = 1 << 20
"""Cells of the table that counts are made in; what spreads wider is sorted instead."""


class Summary(NamedTuple):
    """Histograms of all series in all windows."""

    keys: Ints
    """Ascending, distinct: window, series, bin."""
    counts: Ints
    window_s: int
    """Length of a window; window w begins w * window_s seconds after 1970-01-01 UTC."""

    @property
    def windows(self) -> Ints:
        """Window of each key."""
        return self.keys >> (_BIN_BITS + _SERIES_BITS)

    @property
    def series(self) -> Ints:
        """Series of each key, as `series_code` gives it."""
        return (self.keys >> _BIN_BITS) & ((1 << _SERIES_BITS) - 1)

    @property
    def bins(self) -> Ints:
        """Bin of each key."""
        return self.keys & ((1 << _BIN_BITS) - 1)


def series_code(kind: str, measure: str) -> int:
    """Return the number under which a measure of one kind of call is kept."""
    return KINDS.index(kind) * MEASURES_MAX + MEASURES.index(measure)


def measure_of(code: int) -> tuple[str, str]:
    """Return kind and measure of a series of the whole traffic."""
    return KINDS[code // MEASURES_MAX], MEASURES[code % MEASURES_MAX]


def empty_summary(window_s: int) -> Summary:
    """Return a summary of nothing."""
    return Summary(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), window_s)


def logarithmic_bins(values: Floats) -> Ints:
    """
    Return the bin of each value; 0 and less share the zero bin.

    Example:
        >>> logarithmic_bins(np.array([0.0, 1.0, 1.01, 100.0])).tolist()
        [0, 1, 2, 234]
    """
    logs = np.log(np.maximum(values, 1.0)) / _LOG_GROWTH
    # The tiny step back keeps exact powers in their own bin whatever the last digit of log says.
    bins = np.minimum(np.ceil(logs - 1e-9).astype(np.int64) + 1, (1 << _BIN_BITS) - 1)
    return np.where(values > 0, bins, ZERO_BIN)


def bin_values(bins: Ints, measure: str) -> Floats:
    """Return the value that stands for each bin: its geometric middle, or the count itself."""
    if measure not in LOGARITHMIC:
        return bins.astype(np.float64)
    return np.where(bins > ZERO_BIN, GROWTH ** (bins - 1.5), 0.0)


def summarise(window: Ints, series: Ints, bins: Ints, window_s: int) -> Summary:
    """
    Count rows.

    Args:
        window:
            Window of each row. Shape `(n_rows,)`.
        series:
            Its series.
        bins:
            Its bin.
        window_s:
            Length of a window in seconds.
    """
    if not len(window):
        return empty_summary(window_s)
    # Counting in a table takes a tenth of the time that sorting does; calls come in the order of time, so it is small.
    first, lowest, n_series = int(window.min()), int(series.min()), int(np.ptp(series)) + 1
    n_bins = int(bins.max()) + 1
    if (int(window.max()) - first + 1) * n_series * n_bins <= _CELLS_MAX:
        cells = np.bincount(((window - first) * n_series + (series - lowest)) * n_bins + bins)
        taken = np.flatnonzero(cells)
        above, bin_ = np.divmod(taken, n_bins)
        window_, series_ = np.divmod(above, n_series)
        keys = ((window_ + first) << (_BIN_BITS + _SERIES_BITS)) | ((series_ + lowest) << _BIN_BITS) | bin_
        return Summary(keys.astype(np.int64), cells[taken].astype(np.int64), window_s)
    keys, counts = np.unique(
        (window << (_BIN_BITS + _SERIES_BITS)) | (series << _BIN_BITS) | bins, return_counts=True
    )
    return Summary(keys, counts.astype(np.int64), window_s)


def merge(parts: Iterable[Summary], window_s: int) -> Summary:
    """Add summaries up; order and grouping make no difference."""
    listed = list(parts)
    if not listed:
        return empty_summary(window_s)
    return _added(
        np.concatenate([part.keys for part in listed]),
        np.concatenate([part.counts for part in listed]),
        window_s,
    )


def _added(keys: Ints, counts: Ints, window_s: int) -> Summary:
    """Add the counts of equal keys."""
    distinct, places = np.unique(keys, return_inverse=True)
    totals = np.zeros(len(distinct), dtype=np.int64)
    np.add.at(totals, places, counts)
    return Summary(distinct, totals, window_s)


def coarsen(summary: Summary, window_s: int) -> Summary:
    """Return the same counts in longer windows; *window_s* is a multiple of the summary's."""
    factor = window_s // summary.window_s
    low = summary.keys & ((1 << (_BIN_BITS + _SERIES_BITS)) - 1)
    keys = ((summary.windows // factor) << (_BIN_BITS + _SERIES_BITS)) | low
    return _added(keys, summary.counts, window_s)


def between(summary: Summary, first: int, end: int) -> Summary:
    """Return the windows from *first* up to, not including, *end*."""
    low, high = np.searchsorted(
        summary.keys, [first << (_BIN_BITS + _SERIES_BITS), end << (_BIN_BITS + _SERIES_BITS)]
    )
    return Summary(summary.keys[low:high], summary.counts[low:high], summary.window_s)


def coarsened_as(summary: Summary, window: int) -> Summary:
    """Return all counts as those of one window of a number."""
    low = summary.keys & ((1 << (_BIN_BITS + _SERIES_BITS)) - 1)
    return _added((window << (_BIN_BITS + _SERIES_BITS)) | low, summary.counts, summary.window_s)


def matrix_of(summary: Summary, code: int, *, first: int, n_windows: int) -> tuple[Ints, Ints]:
    """
    Return one series as a table of windows by bins.

    Returns:
        The counts, shape `(n_windows, n_bins)`, and the bins of the columns, ascending.
    """
    mine = summary.series == code
    windows, bins, counts = summary.windows[mine] - first, summary.bins[mine], summary.counts[mine]
    is_inside = (windows >= 0) & (windows < n_windows)
    windows, bins, counts = windows[is_inside], bins[is_inside], counts[is_inside]
    columns, places = np.unique(bins, return_inverse=True)
    table = np.zeros((n_windows, len(columns)), dtype=np.int64)
    table[windows, places] = counts
    return table, columns


def total(summary: Summary, code: int) -> dict[int, int]:
    """Return one series over all windows: counts by bin."""
    mine = summary.series == code
    bins, places = np.unique(summary.bins[mine], return_inverse=True)
    counts = np.zeros(len(bins), dtype=np.int64)
    np.add.at(counts, places, summary.counts[mine])
    return dict(zip(bins.tolist(), counts.tolist(), strict=True))


def sample_from(histogram: Mapping[int, int], measure: str, *, scale: float = 1.0) -> Sample:
    """Return a histogram as a sample of the values that stand for its bins, times *scale*."""
    bins = np.array(sorted(histogram), dtype=np.int64)
    counts = np.array([histogram[b] for b in bins.tolist()], dtype=np.int64)
    return Sample(bin_values(bins, measure) * scale, counts)
