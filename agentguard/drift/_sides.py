"""One feature in one window, ready to be tested: its sample, and what of it could not be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from agentguard.drift._columns import Column
from agentguard.drift._dependence import dependence
from agentguard.drift._sample import Floats, Sample, sample_of
from agentguard.drift._units import UNKNOWN_IS_NEGATIVE, is_never_negative, known_type
from agentguard.values import FeatureType

EMPTY = Sample(np.empty(0), np.empty(0, dtype=np.int64))

NUMBER_MAX = 1e140
"""Larger numbers are taken as infinite: their squares would be."""

CATEGORIES_READ_MAX = 100_000
"""Distinct texts of one column; more are no categories."""


@dataclass(frozen=True, slots=True)
class Side:
    """One feature in one window."""

    n_rows: int
    n_missing: int = 0
    """Rows without a value."""
    n_unusable: int = 0
    """Rows with a value that cannot be one: infinite, or negative where that has no meaning."""
    sample: Sample = EMPTY
    categories: Mapping[str, int] = field(default_factory=dict)
    dependence: float = 1.0
    """Rows that carry as much evidence as one independent row."""
    problem: str = ""
    """Why the window cannot be used for this feature, or empty."""

    @property
    def n(self) -> int:
        """Rows that can be used."""
        return max(0, self.n_rows - self.n_missing - self.n_unusable)

    @property
    def n_gone(self) -> int:
        """Rows that cannot."""
        return self.n_rows - self.n

    @property
    def missing_share(self) -> float:
        """Share of rows that cannot be used."""
        return self.n_gone / self.n_rows if self.n_rows else 0.0


def infer_type(name: str, reference: Column, current: Column) -> FeatureType:
    """
    Guess the type of a feature from its name, then from both windows together.

    Columns that the catalogue or the everyday table knows keep their type. Text is a category; true
    and false, and numbers that are all 0 or 1, are a share; whole numbers from 0 with at most thirty
    distinct values up to 100 are a count; all else is continuous.
    """
    known = known_type(name)
    if known is not None:
        return known
    if reference.texts is not None or current.texts is not None:
        return "category"
    if reference.is_boolean or current.is_boolean:
        return "share"
    parts = [column.numbers for column in (reference, current) if column.numbers is not None]
    numbers = np.concatenate([np.empty(0), *parts])
    return _numeric_type(name, numbers[np.isfinite(numbers)])


def _numeric_type(name: str, numbers: Floats) -> FeatureType:
    """Guess the type of a feature from its finite numbers."""
    if not len(numbers):
        return "continuous"
    low, high = float(numbers.min()), float(numbers.max())
    if low < 0 or high > 100 or not bool((numbers == np.floor(numbers)).all()):
        is_rate = name.endswith(("_rate", "_share", "_ratio")) and low >= 0 and high <= 1
        return "share" if is_rate else "continuous"
    if high <= 1:
        return "share"
    return "count" if len(np.unique(numbers)) <= 30 else "continuous"


def side_of(column: Column, type_: FeatureType, *, with_dependence: bool = False) -> Side:
    """
    Sort the rows of a column into usable, missing and unusable, and count its values.

    Args:
        column:
            As read from a table.
        type_:
            What the feature is taken as.
        with_dependence:
            Whether to look at how neighbouring rows depend on each other.
    """
    n = column.n_rows
    if column.problem:
        return Side(n, problem=column.problem)
    if type_ == "category":
        return _category_side(column)
    if column.texts is not None:
        present = sum(text is not None for text in column.texts)
        if present:
            return Side(n, problem=f"holds text, and is to be compared as {type_}")
        return Side(n, n_missing=n)
    if column.numbers is None:
        return Side(n, n_missing=n)
    numbers = column.numbers
    missing = np.isnan(numbers)
    if column.name in UNKNOWN_IS_NEGATIVE:
        missing |= numbers == -1
    usable = ~missing & np.isfinite(numbers) & (np.abs(numbers) <= NUMBER_MAX)
    if is_never_negative(column.name) or type_ == "count":
        usable &= numbers >= 0
    if type_ == "share":
        usable &= (numbers >= 0) & (numbers <= 1)
    kept = numbers[usable]
    n_missing = int(missing.sum())
    return Side(
        n,
        n_missing=n_missing,
        n_unusable=n - n_missing - len(kept),
        sample=sample_of(kept),
        dependence=dependence(kept) if with_dependence else 1.0,
    )


def _category_side(column: Column) -> Side:
    """Count the categories of a column of text, numbers or booleans."""
    if column.texts is not None:
        counts = Counter(column.texts)
    elif column.numbers is not None:
        words = {True: {0.0: "false", 1.0: "true"}, False: {}}[column.is_boolean]
        values, repeats = np.unique(column.numbers[~np.isnan(column.numbers)], return_counts=True)
        counts = Counter(
            {words.get(v, f"{v:g}"): int(c) for v, c in zip(values.tolist(), repeats.tolist(), strict=True)}
        )
        counts[None] = int(np.isnan(column.numbers).sum())
    else:
        counts = Counter({None: column.n_rows})
    n_missing = counts.pop(None, 0)
    if len(counts) > CATEGORIES_READ_MAX:
        return Side(column.n_rows, problem=f"has {len(counts):,} distinct texts, which are no categories")
    return Side(column.n_rows, n_missing=n_missing, categories={str(k): v for k, v in counts.items() if v})
