"""
Samples as sorted distinct values with counts: the one shape that all tests of this room read.

A table column and a stored histogram both become a `Sample`, so a comparison of
two tables and a check of a window against a stored reference run the same code.
Samples add up exactly: counts are integers.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]


class Sample(NamedTuple):
    """One feature in one window."""

    values: Floats
    """Distinct finite values, ascending."""
    counts: Ints
    """How often each occurs; positive."""

    @property
    def n(self) -> int:
        """Rows in the sample."""
        return int(self.counts.sum())

    @property
    def mean(self) -> float:
        """Arithmetic mean; NaN for an empty sample."""
        return float(self.values @ self.counts / self.n) if self.n else float("nan")

    def quantile(self, q: float) -> float:
        """
        Return the value below which a share *q* of the rows lies.

        Args:
            q:
                Between 0 and 1. Where the border falls between two rows, the
                middle of both is returned, so `quantile(0.5)` is the usual median.

        Example:
            >>> sample_of(np.array([1.0, 2.0, 3.0, 10.0])).quantile(0.5)
            2.5
        """
        cumulated = np.cumsum(self.counts)
        position = q * self.n
        low = int(np.searchsorted(cumulated, position - 1e-9, side="left"))
        high = int(np.searchsorted(cumulated, position + 1e-9, side="right"))
        last = len(self.values) - 1
        return float((self.values[min(low, last)] + self.values[min(high, last)]) / 2)

    def at_rank(self, rank: int) -> float:
        """Return the value of the row with this rank, counted from 0; clipped to the sample."""
        clipped = min(max(rank, 0), self.n - 1)
        return float(self.values[int(np.searchsorted(np.cumsum(self.counts), clipped, side="right"))])


class Pair(NamedTuple):
    """Two samples on one common axis of values."""

    values: Floats
    reference: Ints
    """Counts of the reference at each value; zero where it has none."""
    current: Ints

    @property
    def n_reference(self) -> int:
        """Rows of the reference."""
        return int(self.reference.sum())

    @property
    def n_current(self) -> int:
        """Rows of the current window."""
        return int(self.current.sum())


def sample_of(numbers: Floats) -> Sample:
    """
    Sort and count finite numbers.

    Args:
        numbers:
            Shape `(n_rows,)`, in any order, finite.
    """
    values, counts = np.unique(numbers, return_counts=True)
    return Sample(values.astype(np.float64, copy=False), counts.astype(np.int64, copy=False))


def pair_of(reference: Sample, current: Sample) -> Pair:
    """Put two samples on the union of their values."""
    values = np.union1d(reference.values, current.values)
    left = np.zeros(len(values), dtype=np.int64)
    right = np.zeros(len(values), dtype=np.int64)
    left[np.searchsorted(values, reference.values)] = reference.counts
    right[np.searchsorted(values, current.values)] = current.counts
    return Pair(values, left, right)
