"""`compare`: two tables, feature by feature, with a kept chance of a false alarm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np

from agentguard.drift._assemble import (
    CORRECTIONS,
    Correction,
    Judged,
    judge_accuracy,
    judge_feature,
    not_comparable,
    settle,
)
from agentguard.drift._columns import Table, read_table
from agentguard.drift._comparison import Comparison
from agentguard.drift._labels import DEFAULT_LABELS, LabelledQuality, label_pairs, quality_of
from agentguard.drift._sample import Floats
from agentguard.drift._sides import infer_type, side_of
from agentguard.drift._typed import Floors
from agentguard.drift._units import TYPES
from agentguard.errors import DriftInputError
from agentguard.values import EVERYDAY_FEATURES, FeatureType

FEATURES_MAX = 1_000
"""Features of one comparison."""


def compare(
    reference: object,
    current: object,
    features: Iterable[str] | Mapping[str, FeatureType | None] | None = None,
    *,
    labels: tuple[str, str] | Literal["auto"] | None = "auto",
    positive: str | None = None,
    alpha: float = 0.05,
    correction: Correction = "holm",
    floors: Floors | None = None,
    assume_independent_rows: bool = False,
) -> Comparison:
    """
    Compare two tables, feature by feature.

    Each feature gets the test that is right for its type: Kolmogorov-Smirnov for continuous ones
    (ties handled), a permutation test for counts, Fisher's exact test for shares of 0 and 1,
    chi-square for categories. With no change at all, the chance of one alarm or more among all
    features together is at most *alpha* (Holm). A verdict of drift also needs a change large
    enough to matter (`Floors`). Missing values are compared as a share of their own.

    Where neighbouring rows of the reference depend on each other (a rolling error rate, a moving
    load), fewer rows are counted. No season is known here: compare like with like, such as the same
    hours of two days, or let the checker over the store learn the season.

    Args:
        reference:
            Rows of a good time: a pandas, polars or pyarrow table, a mapping of names to sequences,
            or the path of a Parquet or CSV file. In the order of time, if they have one.
        current:
            Rows of the time in question.
        features:
            Names of columns, or a mapping of names to types: continuous, count, share, category,
            or None to infer. Where not given: the everyday columns that are there, else all columns that
            are not labels.
        labels:
            Names of the columns of predicted and true labels; "auto" takes `predicted_label` and
            `true_label` where both tables have them; None for none.
        positive:
            The class that precision and recall speak of when there are two.
        alpha:
            Between 0 and 1, both excluded.
        correction:
            holm keeps the chance of any false alarm below alpha; bh (Benjamini-Hochberg) keeps the share of
            false ones among the alarms below alpha, and finds more.
        floors:
            The smallest changes worth an alarm.
        assume_independent_rows:
            Count every row, also where neighbours look alike.

    Returns:
        A `Comparison`. A feature that cannot be compared has the verdict `not comparable` and a
        sentence; the others go on.

    Raises:
        DriftInputError: A table cannot be read, has no rows, no feature is in either of them, or an
            argument is out of range.

    Example:
        >>> before = {"response_latency_ms": [float(400 + i % 50) for i in range(200)]}
        >>> after = {"response_latency_ms": [float(800 + i % 50) for i in range(200)]}
        >>> result = compare(before, after, features=["response_latency_ms"])
        >>> result["response_latency_ms"].verdict, result["response_latency_ms"].effect
        ('drift', 400.0)
        >>> compare(before, {}, features=["response_latency_ms"])
        Traceback (most recent call last):
            ...
        agentguard.errors.DriftInputError: current: got an empty mapping, expected at least one column

    Source:
        W. Conover, Practical Nonparametric Statistics (1999), for the tests; docs/explanation/what-drift-can-tell.md
        for what they can and cannot tell.
    """
    if not 0.0 < alpha < 1.0:
        raise DriftInputError(f"alpha is {alpha:g}, expected more than 0 and less than 1")
    if correction not in CORRECTIONS:
        raise DriftInputError(f"correction is `{correction}`, expected one of {', '.join(CORRECTIONS)}")
    limits = Floors() if floors is None else floors
    asked = _asked(features)
    wanted = _wanted_columns(asked, labels)
    left = read_table(reference, what="reference", only=wanted)
    right = read_table(current, what="current", only=wanted)
    n_reference, n_current = _rows(left), _rows(right)
    label_names = _label_names(labels, left, right)
    chosen = _chosen(asked, left, right, label_names)
    for what, table, n in (("reference", left, n_reference), ("current", right, n_current)):
        if table and not n:
            raise DriftInputError(f"{what}: the table has no rows, expected at least one")
    notes: list[str] = []
    judged: list[Judged] = []
    for name, type_ in chosen.items():
        judged += _one(
            name,
            type_,
            left,
            right,
            floors=limits,
            notes=notes,
            assume_independent_rows=assume_independent_rows,
        )
    quality: list[LabelledQuality | None] = [None, None]
    if label_names:
        row, quality = _labelled(label_names, left, right, positive, limits)
        judged.append(row)
    return Comparison(
        features=settle(judged, alpha=alpha, correction=correction),
        alpha=alpha,
        correction=correction,
        n_reference=n_reference,
        n_current=n_current,
        quality_reference=quality[0],
        quality_current=quality[1],
        notes=tuple(notes),
    )


def _asked(
    features: Iterable[str] | Mapping[str, FeatureType | None] | None,
) -> dict[str, FeatureType | None]:
    """Return the features asked for with their declared types; empty for all."""
    if features is None:
        return {}
    if isinstance(features, str):
        raise DriftInputError(f"features is the text `{features}`, expected a list of names").hint(
            f"features=[{features!r}]"
        )
    pairs = features.items() if isinstance(features, Mapping) else ((name, None) for name in features)
    asked: dict[str, FeatureType | None] = {}
    for name, type_ in pairs:
        if type_ is not None and type_ not in TYPES:
            raise DriftInputError(f"feature `{name}` has type `{type_}`, expected one of {', '.join(TYPES)}")
        asked[str(name)] = type_
    if not asked:
        raise DriftInputError("features is empty, expected at least one name")
    if len(asked) > FEATURES_MAX:
        raise DriftInputError(f"got {len(asked)} features, expected at most {FEATURES_MAX}")
    return asked


def _wanted_columns(asked: Mapping[str, object], labels: tuple[str, str] | str | None) -> tuple[str, ...]:
    """Return the columns to read; empty for all."""
    if not asked:
        return ()
    names = DEFAULT_LABELS if labels == "auto" else labels or ()
    return (*asked, *names)


def _rows(table: Table) -> int:
    """Return the number of rows of a table."""
    return next(iter(table.values())).n_rows if table else 0


def _label_names(labels: tuple[str, str] | str | None, left: Table, right: Table) -> tuple[str, str] | None:
    """Return the names of the label columns, or None where there are none."""
    if labels is None:
        return None
    if labels == "auto":
        has_both = all(name in table for name in DEFAULT_LABELS for table in (left, right))
        return DEFAULT_LABELS if has_both else None
    if isinstance(labels, str) or len(labels) != 2:
        raise DriftInputError("labels: expected the names of two columns, predicted and true")
    return (labels[0], labels[1])


def _chosen(
    asked: dict[str, FeatureType | None], left: Table, right: Table, labels: tuple[str, str] | None
) -> dict[str, FeatureType | None]:
    """Return the features to compare."""
    if asked:
        if not any(name in left or name in right for name in asked):
            raise DriftInputError(f"no table has a column `{next(iter(asked))}`").hint(
                "name the columns as they are in the tables: features=[...]"
            )
        return asked
    everyday: dict[str, FeatureType | None] = {n: None for n in EVERYDAY_FEATURES if n in left or n in right}
    if everyday:
        return everyday
    skipped = {*DEFAULT_LABELS, *(labels or ()), "call_id", "trace_id", "span_id"}
    found: dict[str, FeatureType | None] = {n: None for n in (*left, *right) if n not in skipped}
    if not found:
        raise DriftInputError("no column to compare, expected at least one feature")
    if len(found) > FEATURES_MAX:
        raise DriftInputError(
            f"the tables have {len(found)} columns, expected at most {FEATURES_MAX} features"
        ).hint("name the ones to compare: features=[...]")
    return found


def _one(
    name: str,
    declared: FeatureType | None,
    left: Table,
    right: Table,
    *,
    floors: Floors,
    notes: list[str],
    assume_independent_rows: bool,
) -> list[Judged]:
    """Compare one feature, and note what a reader should know of it."""
    if name not in left or name not in right:
        if name not in left and name not in right:
            return [not_comparable(name, f"{name}: neither table has this column.")]
        gone, there = ("current", "reference") if name in left else ("reference", "current")
        text = f"{name}: the {gone} table has no such column, the {there} table has."
        return [
            not_comparable(
                name, text, n_reference=_rows(left) * (name in left), n_current=_rows(right) * (name in right)
            )
        ]
    before, after = left[name], right[name]
    is_text = [column.texts is not None for column in (before, after)]
    is_number = [c.numbers is not None and not _is_void(c.numbers) for c in (before, after)]
    if declared is None and any(is_text) and any(is_number):
        where = "reference" if is_text[0] else "current"
        return [not_comparable(name, f"{name}: text in the {where} table, numbers in the other.")]
    type_ = declared or infer_type(name, before, after)
    reference = side_of(before, type_, with_dependence=not assume_independent_rows and type_ != "category")
    current = side_of(after, type_)
    if reference.dependence > 1.0:
        notes.append(
            f"{name}: neighbouring rows of the reference are alike; about {reference.dependence:.0f} rows count as one"
            " (rows are taken to be in the order of time; if they are not: assume_independent_rows=True)."
        )
    for which, side in (("reference", reference), ("current", current)):
        if side.n_unusable:
            notes.append(
                f"{name}: {side.n_unusable:,} of {side.n_rows:,} {which} rows are infinite or out of range,"
                " and count as missing."
            )
    return judge_feature(name, type_, reference, current, floors=floors, confidence=0.95)


def _is_void(numbers: Floats) -> bool:
    """Whether a column of numbers holds nothing but missing values."""
    return bool(np.isnan(numbers).all())


def _labelled(
    names: tuple[str, str], left: Table, right: Table, positive: str | None, floors: Floors
) -> tuple[Judged, list[LabelledQuality | None]]:
    """Measure quality on both labelled slices, and compare accuracy."""
    sides: list[LabelledQuality] = []
    for what, table in (("reference", left), ("current", right)):
        pairs = label_pairs(table, names, what=what)
        sides.append(quality_of(pairs, n_rows=len(pairs), positive=positive))
    return judge_accuracy(sides[0], sides[1], floors=floors), [*sides]
