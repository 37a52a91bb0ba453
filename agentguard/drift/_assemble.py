"""From sides to a comparison: test each feature, correct for their number, judge, and say it in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from agentguard.drift._comparison import FeatureComparison, figure
from agentguard.drift._labels import LABELS_MIN, LabelledQuality
from agentguard.drift._pvalues import benjamini_hochberg, holm
from agentguard.drift._sample import Sample
from agentguard.drift._sides import Side
from agentguard.drift._typed import (
    Floors,
    Outcome,
    compare_category,
    compare_continuous,
    compare_count,
    compare_share,
)
from agentguard.drift._units import unit_of
from agentguard.values import FeatureType

Correction: TypeAlias = Literal["holm", "bh"]

CORRECTIONS: dict[str, Callable[[list[float]], list[float]]] = {"holm": holm, "bh": benjamini_hochberg}

ROWS_MIN = 5
"""Usable rows that each window must have; with fewer no test can say anything."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A row that is not yet corrected for the number of comparisons."""

    row: FeatureComparison
    outcome: Outcome | None
    subject: str
    """How the sentence begins."""


def judge_feature(
    name: str, type_: FeatureType, reference: Side, current: Side, *, floors: Floors, confidence: float
) -> list[Judged]:
    """
    Test the values of one feature, and its share of missing rows where any are missing.

    Returns:
        One or two rows, with raw p-values and without verdicts.
    """
    judged = [_judge_values(name, type_, reference, current, floors=floors, confidence=confidence)]
    gone = reference.n_gone + current.n_gone
    is_readable = not reference.problem and not current.problem
    if gone and is_readable and min(reference.n_rows, current.n_rows) >= ROWS_MIN:
        judged.append(_judge_missing(name, reference, current, floors=floors, confidence=confidence))
    return judged


def _blank(name: str, type_: FeatureType, reference: Side, current: Side, sentence: str) -> FeatureComparison:
    """Return a row that could not be compared."""
    return FeatureComparison(
        feature=name,
        kind="value",
        type=type_,
        verdict="not comparable",
        sentence=sentence,
        n_reference=reference.n,
        n_current=current.n,
        missing_reference=reference.missing_share,
        missing_current=current.missing_share,
        unit=unit_of(name, type_),
    )


def not_comparable(name: str, sentence: str, *, n_reference: int = 0, n_current: int = 0) -> Judged:
    """Return a row for a feature that cannot be compared at all, with the reason."""
    blank = _blank(name, "continuous", Side(n_reference), Side(n_current), sentence)
    return Judged(replace(blank, type=""), None, name)


def _judge_values(
    name: str, type_: FeatureType, reference: Side, current: Side, *, floors: Floors, confidence: float
) -> Judged:
    """Test the values of one feature."""
    for side, which in ((reference, "reference"), (current, "current")):
        if side.problem:
            return Judged(
                _blank(name, type_, reference, current, f"{name}: the {which} column {side.problem}."),
                None,
                name,
            )
        if side.n < ROWS_MIN:
            why = "no usable value" if not side.n else f"{side.n} usable value{'s' * (side.n > 1)}"
            text = f"{name}: {why} in the {which} window, at least {ROWS_MIN} are needed."
            return Judged(_blank(name, type_, reference, current, text), None, name)
    subject = name
    if type_ == "category":
        outcome, top = compare_category(
            reference.categories, current.categories, floors=floors, confidence=confidence
        )
        subject = f"{name} = {top[:60]!r}"
    else:
        test = {"continuous": compare_continuous, "count": compare_count, "share": compare_share}[type_]
        factor = reference.dependence
        outcome = test(
            reference.sample, current.sample, floors=floors, dependence=factor, confidence=confidence
        )
    return Judged(_filled(_blank(name, type_, reference, current, ""), outcome), outcome, subject)


def _judge_missing(name: str, reference: Side, current: Side, *, floors: Floors, confidence: float) -> Judged:
    """Test whether more or fewer rows than before lack the feature."""
    outcome = share_outcome(
        (reference.n_gone, reference.n_rows),
        (current.n_gone, current.n_rows),
        floors=floors,
        confidence=confidence,
    )
    blank = replace(
        _blank(name, "share", reference, current, ""),
        kind="missing",
        unit="share",
        n_reference=reference.n_rows,
        n_current=current.n_rows,
    )
    return Judged(_filled(blank, outcome), outcome, f"{name} missing")


def judge_accuracy(reference: LabelledQuality, current: LabelledQuality, *, floors: Floors) -> Judged:
    """Test whether the share of right answers changed on the labelled slices of both windows."""
    sides = (reference, current)
    row = replace(
        _blank("accuracy", "share", Side(reference.n_labelled), Side(current.n_labelled), ""),
        kind="accuracy",
        missing_reference=1 - reference.n_labelled / max(1, reference.n_rows),
        missing_current=1 - current.n_labelled / max(1, current.n_rows),
    )
    for which, side in zip(("reference", "current"), sides, strict=True):
        if side.n_labelled < LABELS_MIN:
            text = (
                f"accuracy: {side.n_labelled} labelled rows in the {which} window,"
                f" at least {LABELS_MIN} are needed to judge."
            )
            return Judged(replace(row, sentence=text), None, "accuracy")
    before, after = ((round(s.accuracy.value * s.n_labelled), s.n_labelled) for s in sides)
    outcome = share_outcome(before, after, floors=floors, confidence=0.95)
    return Judged(_filled(row, outcome), outcome, "accuracy")


def share_outcome(
    reference: tuple[int, int], current: tuple[int, int], *, floors: Floors, confidence: float
) -> Outcome:
    """Compare two shares given as (hits, rows)."""
    samples = [
        Sample(np.array([0.0, 1.0]), np.array([n - hits, hits], dtype=np.int64))
        for hits, n in (reference, current)
    ]
    return compare_share(*samples, floors=floors, confidence=confidence)


def _filled(blank: FeatureComparison, outcome: Outcome) -> FeatureComparison:
    """Put the outcome of a test into a row."""
    return replace(
        blank,
        test=outcome.test,
        statistic=outcome.statistic,
        statistic_name=outcome.statistic_name,
        p_raw=outcome.p_value,
        effect=outcome.effect.value,
        effect_low=outcome.effect.low,
        effect_high=outcome.effect.high,
        effect_name=outcome.effect_name,
        before=outcome.before,
        after=outcome.after,
    )


def settle(
    judged: Sequence[Judged], *, alpha: float, correction: Correction
) -> tuple[FeatureComparison, ...]:
    """
    Correct the p-values for their number, and give each row its verdict and sentence.

    Returns:
        The rows in the same order, except that missing shares and accuracy come last.
    """
    tested = [i for i, one in enumerate(judged) if one.outcome is not None]
    corrected = dict(zip(tested, CORRECTIONS[correction]([judged[i].row.p_raw for i in tested]), strict=True))
    rows = [_settled(one, corrected[i], alpha) if i in corrected else one.row for i, one in enumerate(judged)]
    order = {"value": 0, "missing": 1, "schema": 2, "accuracy": 3}
    return tuple(sorted(rows, key=lambda row: order[row.kind]))


def _settled(one: Judged, p: float, alpha: float) -> FeatureComparison:
    """Give one row its corrected p-value, verdict and sentence."""
    assert one.outcome is not None
    is_real, is_large = p < alpha, one.outcome.relevance >= 1.0
    verdict: Literal["drift", "small", "stable"] = "stable"
    if is_real:
        verdict = "drift" if is_large else "small"
    return replace(one.row, p_value=p, verdict=verdict, sentence=_sentence(one, p, verdict))


def _sentence(one: Judged, p: float, verdict: str) -> str:
    """Say in one line what happened to a feature."""
    row = one.row
    unit = row.unit
    what = "" if row.effect_name == "share" else f"{row.effect_name} "
    p_words = "p < 0.0001" if p < 0.0001 else f"p = {p:.2g}"
    ratio = ""
    if row.type in {"continuous", "count"} and row.before > 0 and row.after > 0:
        ratio = f", {100 * (row.after / row.before - 1):+.0f} %"
    moved = (
        f"{one.subject}: {what}{figure(row.before, unit)} -> {figure(row.after, unit)} "
        f"({figure(row.effect, unit, signed=True)}{ratio}; 95 % interval {figure(row.effect_low, unit, signed=True)}"
        f" to {figure(row.effect_high, unit, signed=True)})"
    )
    counts = f"n = {row.n_reference:,} and {row.n_current:,}"
    if verdict == "drift":
        return f"{moved}, {p_words}, {counts}."
    if verdict == "small":
        return f"{moved}, {p_words}, {counts}: real, and too small to matter."
    return f"{moved}: within chance ({p_words}, {counts})."
