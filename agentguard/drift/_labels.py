"""
How good the answers were, on the rows that have a label: accuracy, precision, recall, F1.

Every figure comes with the number of rows behind it and an interval. Where there are too few
labels the figure says so instead of looking certain.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from agentguard.drift._columns import Column, Table, read_table
from agentguard.drift._intervals import Interval, wilson
from agentguard.errors import DriftInputError

DEFAULT_LABELS = ("predicted_label", "true_label")
"""Column names of prediction and truth, as `export features` writes them."""

LABELS_MIN = 20
"""Below this many labelled rows a figure is shown with its interval, and called too little to judge by."""

CLASSES_MAX = 1_000
"""Distinct labels; more look like free text and are refused."""

_POSITIVE_WORDS = ("1", "true", "yes", "positive")


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of quality with its interval."""

    name: str
    value: float
    """Between 0 and 1; NaN where no row bears on it."""
    low: float
    high: float
    n: int
    """Rows that bear on it: labelled rows for accuracy, predictions of the class for precision."""

    @property
    def is_certain(self) -> bool:
        """Whether enough rows bear on it to judge by it."""
        return self.n >= LABELS_MIN

    def __str__(self) -> str:
        """`0.84 (0.78 to 0.89, n=150)`."""
        if not self.n:
            return "no labelled rows"
        caveat = "" if self.is_certain else ", too few to judge by"
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f}, n={self.n:,}{caveat})"


@dataclass(frozen=True, slots=True)
class LabelledQuality:
    """Quality on the labelled slice of one window."""

    n_rows: int
    """All rows of the window, labelled or not."""
    n_labelled: int
    classes: tuple[str, ...]
    average: str
    """binary, where precision, recall and F1 are those of `positive`; else macro."""
    positive: str
    accuracy: Metric
    """Equals micro-averaged precision, recall and F1, since each row has one label."""
    precision: Metric
    recall: Metric
    f1: Metric
    per_class: Mapping[str, tuple[Metric, Metric, Metric]]
    """Precision, recall and F1 of each class."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Accuracy, precision, recall, F1."""
        return (self.accuracy, self.precision, self.recall, self.f1)

    def to_dict(self) -> dict[str, object]:
        """Return plain data."""
        return {
            "n_rows": self.n_rows,
            "n_labelled": self.n_labelled,
            "average": self.average,
            "positive": self.positive,
            "metrics": {m.name: _metric_dict(m) for m in self.metrics},
            "per_class": {
                name: {m.name: _metric_dict(m) for m in metrics} for name, metrics in self.per_class.items()
            },
        }


def _metric_dict(metric: Metric) -> dict[str, object]:
    """Return plain data, with None for NaN."""
    value = None if metric.n == 0 else metric.value
    return {
        "value": value,
        "low": metric.low,
        "high": metric.high,
        "n": metric.n,
        "is_certain": metric.is_certain,
    }


def labelled_quality(
    table: object,
    *,
    labels: tuple[str, str] = DEFAULT_LABELS,
    positive: str | None = None,
    confidence: float = 0.95,
    what: str = "table",
) -> LabelledQuality:
    """
    Measure quality on the rows that have both a prediction and a label.

    Args:
        table:
            Anything `compare` takes.
        labels:
            Names of the columns of predicted and true labels.
        positive:
            The class that precision, recall and F1 speak of when there are two; where None, a class
            named 1, true, yes or positive is taken, else both are averaged (macro).
        confidence:
            Of the intervals.
        what:
            How messages call the table.

    Raises:
        DriftInputError: A column is missing or not made of labels, or *positive* does not occur.

    Example:
        >>> q = labelled_quality({"predicted_label": ["a", "a", "b"], "true_label": ["a", "b", None]})
        >>> print(q.accuracy)
        0.500 (0.095 to 0.905, n=2, too few to judge by)
    """
    columns = read_table(table, what=what, only=labels)
    pairs = label_pairs(columns, labels, what=what)
    return quality_of(pairs, n_rows=len(pairs), positive=positive, confidence=confidence)


def rolling_quality(
    table: object,
    *,
    labels: tuple[str, str] = DEFAULT_LABELS,
    window: int = 200,
    step: int | None = None,
    positive: str | None = None,
    confidence: float = 0.95,
) -> list[LabelledQuality]:
    """
    Measure quality over a window that rolls along the labelled rows, oldest first.

    Args:
        table:
            Anything `compare` takes, with rows in the order of time.
        labels:
            Names of the columns of predicted and true labels.
        window:
            Labelled rows per figure. At least 1.
        step:
            Labelled rows between figures; where None, the window's length: neighbours share no row.
        positive:
            As in `labelled_quality`.
        confidence:
            Of each interval; they hold one by one, not all at once.

    Returns:
        One figure per full window; one over all rows where there are fewer than *window*.

    Raises:
        DriftInputError: As `labelled_quality`, or *window* or *step* is below 1.
    """
    size, stride = window, window if step is None else step
    if size < 1 or stride < 1:
        raise DriftInputError(f"window {size} with step {stride}: expected both to be at least 1")
    every = label_pairs(read_table(table, what="table", only=labels), labels, what="table")
    pairs = [pair for pair in every if pair is not None]
    starts = range(0, max(1, len(pairs) - size + 1), stride)
    known = positive
    if known is None:
        known = _positive_of(tuple(sorted({label for pair in pairs for label in pair})))
    return [
        quality_of(chunk, n_rows=len(chunk), positive=known, confidence=confidence)
        for chunk in (pairs[start : start + size] for start in starts)
    ]


def label_texts(column: Column) -> list[str | None]:
    """
    Return labels as text: 1 and 1.0 are one label, true and True are one.

    Raises:
        DriftInputError: The column holds no labels.
    """
    if column.problem:
        raise DriftInputError(f"column `{column.name}` {column.problem}, expected labels")
    if column.texts is not None:
        return [None if text is None else str(text).strip() for text in column.texts]
    if column.numbers is None:
        return [None] * column.n_rows
    if column.is_boolean:
        return [None if math.isnan(v) else ("true" if v else "false") for v in column.numbers.tolist()]
    return [
        None if math.isnan(v) else (str(int(v)) if v.is_integer() else repr(v))
        for v in column.numbers.tolist()
    ]


def label_pairs(table: Table, labels: tuple[str, str], *, what: str) -> list[tuple[str, str] | None]:
    """
    Return (predicted, true) per row, None where one of both is missing.

    Raises:
        DriftInputError: A column is missing.
    """
    for name in labels:
        if name not in table:
            raise DriftInputError(
                f"{what}: there is no column `{name}`, expected labels in {labels[0]} and {labels[1]}"
            )
    predicted, true = (label_texts(table[name]) for name in labels)
    return [None if p is None or t is None else (p, t) for p, t in zip(predicted, true, strict=True)]


def _positive_of(classes: tuple[str, ...]) -> str:
    """Return the class that is plainly the positive one of two, or the empty string."""
    if len(classes) > 2:
        return ""
    return next((name for word in _POSITIVE_WORDS for name in classes if name.lower() == word), "")


def quality_of(
    pairs: Sequence[tuple[str, str] | None],
    *,
    n_rows: int,
    positive: str | None = None,
    confidence: float = 0.95,
) -> LabelledQuality:
    """
    Measure quality on (predicted, true) pairs; rows without a label are None.

    Raises:
        DriftInputError: There are more than `CLASSES_MAX` labels, or *positive* is not one of two.
    """
    counts = Counter(pair for pair in pairs if pair is not None)
    classes = tuple(sorted({label for pair in counts for label in pair}))
    if len(classes) > CLASSES_MAX:
        raise DriftInputError(f"labels: got {len(classes):,} classes, expected at most {CLASSES_MAX:,}").hint(
            "free text is no label; map it to classes first"
        )
    chosen = _positive_of(classes) if positive is None else positive
    if positive and classes and positive not in classes and len(classes) > 1:
        raise DriftInputError(
            f"labels: `{positive}` does not occur, expected one of {', '.join(classes[:5])}"
        )
    index = {name: i for i, name in enumerate(classes)}
    matrix = np.zeros((len(classes), len(classes)), dtype=np.int64)
    for (predicted, true), count in counts.items():
        matrix[index[predicted], index[true]] = count
    n = int(matrix.sum())
    accuracy = _named("accuracy", wilson(int(np.trace(matrix)), n, confidence=confidence), n)
    per_class = {name: _class_metrics(matrix, i, confidence) for name, i in index.items()}
    is_binary = bool(chosen) and len(classes) <= 2
    if is_binary:
        nothing = tuple(Metric(m, float("nan"), 0.0, 1.0, 0) for m in ("precision", "recall", "f1"))
        precision, recall, f1 = per_class.get(chosen, nothing)
    else:
        precision, recall, f1 = _macro(matrix, confidence)
    return LabelledQuality(
        n_rows=n_rows,
        n_labelled=n,
        classes=classes,
        average="binary" if is_binary else "macro",
        positive=chosen if is_binary else "",
        accuracy=accuracy,
        precision=precision,
        recall=recall,
        f1=f1,
        per_class=per_class,
    )


def _named(name: str, interval: Interval, n: int) -> Metric:
    """Give an interval its name and count."""
    return Metric(name, interval.value, interval.low, interval.high, n)


def _class_metrics(
    matrix: np.ndarray[tuple[int, int], np.dtype[np.int64]], i: int, confidence: float
) -> tuple[Metric, Metric, Metric]:
    """
    Return precision, recall and F1 of one class.

    With J = TP / (TP + FP + FN) a plain share, F1 = 2 J / (1 + J) grows with J: the Wilson interval
    of J gives that of F1 without any approximation by a normal.
    """
    hits, predicted, true = int(matrix[i, i]), int(matrix[i].sum()), int(matrix[:, i].sum())
    jaccard = wilson(hits, predicted + true - hits, confidence=confidence)
    f1 = Interval(*(2 * j / (1 + j) for j in jaccard))
    return (
        _named("precision", wilson(hits, predicted, confidence=confidence), predicted),
        _named("recall", wilson(hits, true, confidence=confidence), true),
        _named("f1", f1, predicted + true - hits),
    )


def _macro(
    matrix: np.ndarray[tuple[int, int], np.dtype[np.int64]], confidence: float
) -> tuple[Metric, Metric, Metric]:
    """
    Return precision, recall and F1 averaged over the classes.

    Classes that were neither predicted nor true are left out; what is undefined for a class (no
    prediction, no truth) counts as 0, as scikit-learn does. The interval is the percentile one of
    2,000 multinomial resamples with half a row spread over each class, so that a perfect score on few
    rows does not look certain.
    """
    n = int(matrix.sum())
    if not n:
        nan = float("nan")
        return (
            Metric("precision", nan, 0.0, 1.0, 0),
            Metric("recall", nan, 0.0, 1.0, 0),
            Metric("f1", nan, 0.0, 1.0, 0),
        )
    k = len(matrix)
    values = _macro_values(matrix[None].astype(np.float64))[:, 0]
    # A confusion that was never seen is not impossible: half a row is spread over each class's row.
    smoothed = (matrix + 0.5 / k) / (n + 0.5 * k)
    draws = 2_000 if k <= 40 else 300
    resampled = np.random.default_rng(0).multinomial(n, smoothed.ravel(), size=draws).reshape(draws, k, k)
    spread = _macro_values(resampled.astype(np.float64))
    tail = (1 - confidence) / 2
    lows, highs = np.quantile(spread, tail, axis=1), np.quantile(spread, 1 - tail, axis=1)
    names = ("precision", "recall", "f1")
    metrics = [
        Metric(name, float(v), float(min(v, low)), float(max(v, high)), n)
        for name, v, low, high in zip(names, values, lows, highs, strict=True)
    ]
    return (metrics[0], metrics[1], metrics[2])


def _macro_values(
    matrices: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Return macro precision, recall, F1 of confusion matrices. Shape `(3, n_matrices)`."""
    hits = np.diagonal(matrices, axis1=1, axis2=2)
    predicted, true = matrices.sum(axis=2), matrices.sum(axis=1)
    occurs = (predicted + true) > 0
    weight = occurs / np.maximum(1, occurs.sum(axis=1, keepdims=True))
    precision = hits / np.maximum(predicted, 1)
    recall = hits / np.maximum(true, 1)
    f1 = 2 * hits / np.maximum(predicted + true, 1)
    return np.stack([(m * weight).sum(axis=1) for m in (precision, recall, f1)])
