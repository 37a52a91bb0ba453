"""Accuracy, precision, recall and F1 with their intervals."""

import numpy as np
import pandas as pd
import pytest

from agentguard import drift
from agentguard.errors import DriftInputError


def labelled(n: int, accuracy: float, *, seed: int, classes: str = "ab") -> dict:
    """Predictions that are right with the given chance."""
    rng = np.random.default_rng(seed)
    true = rng.choice(list(classes), n)
    wrong = np.array([classes[(classes.index(t) + 1) % len(classes)] for t in true])
    return {"predicted_label": np.where(rng.random(n) < accuracy, true, wrong), "true_label": true}


def test_binary_figures_are_the_textbook_ones() -> None:
    """Counts of a hand-made confusion matrix give the known precision, recall and F1."""
    pairs = [(1, 1)] * 40 + [(1, 0)] * 10 + [(0, 1)] * 20 + [(0, 0)] * 30
    q = drift.labelled_quality(
        {"predicted_label": [p for p, _ in pairs], "true_label": [t for _, t in pairs]}
    )
    assert q.average == "binary"
    assert q.positive == "1"
    assert [round(m.value, 4) for m in q.metrics] == [0.70, 0.80, 0.6667, 0.7273]
    assert q.precision.n == 50
    assert all(m.low < m.value < m.high for m in q.metrics)


def test_macro_is_the_mean_over_classes() -> None:
    """With three classes the figures are plain means of the classes' figures."""
    q = drift.labelled_quality(labelled(400, 0.8, seed=1, classes="abc"))
    assert q.average == "macro"
    for i, metric in enumerate((q.precision, q.recall, q.f1)):
        assert metric.value == pytest.approx(np.mean([per[i].value for per in q.per_class.values()]))


def test_few_labels_do_not_look_certain() -> None:
    """A perfect score on five labels has a wide interval and says that it is too few."""
    q = drift.labelled_quality(labelled(5, 1.0, seed=1))
    assert q.accuracy.value == 1.0
    assert q.accuracy.low < 0.6
    assert not q.accuracy.is_certain
    assert "too few to judge by" in str(q.accuracy)
    assert q.f1.low < 0.85


def test_no_labels_at_all() -> None:
    """Without labels nothing is claimed."""
    q = drift.labelled_quality({"predicted_label": [None] * 5, "true_label": ["a"] * 5})
    assert q.n_labelled == 0
    assert str(q.accuracy) == "no labelled rows"
    assert q.to_dict()["metrics"]["f1"]["value"] is None


def test_labels_of_other_types_are_one_label() -> None:
    """1, 1.0 and "1" are one label; booleans are true and false."""
    q = drift.labelled_quality({"predicted_label": [1, 0, 1], "true_label": ["1", "0", "0"]})
    assert q.classes == ("0", "1")
    frame = pd.DataFrame({"predicted_label": [True, False], "true_label": [True, True]})
    assert drift.labelled_quality(frame).positive == "true"


def test_accuracy_takes_part_in_the_comparison() -> None:
    """A fall of accuracy is found, in percentage points, and is an accuracy verdict."""
    rng = np.random.default_rng(0)
    a = {**labelled(600, 0.9, seed=1), "x": rng.normal(size=600)}
    b = {**labelled(300, 0.7, seed=2), "x": rng.normal(size=300)}
    result = drift.compare(a, b, features=["x"])
    assert result.drifted == ("accuracy",)
    assert result["accuracy"].effect == pytest.approx(-0.2, abs=0.06)
    assert result.to_verdict().kind == "accuracy"
    assert "labelled, current: 300 of 300 rows" in str(result)


def test_accuracy_of_few_labels_is_not_compared() -> None:
    """With seven labels nothing is said about accuracy."""
    rng = np.random.default_rng(0)
    sparse = [None] * 93 + ["a"] * 7
    a = {"predicted_label": ["a"] * 100, "true_label": ["a"] * 100, "x": rng.normal(size=100)}
    b = {"predicted_label": ["a"] * 100, "true_label": sparse, "x": rng.normal(size=100)}
    row = drift.compare(a, b, features=["x"])["accuracy"]
    assert row.verdict == "not comparable"
    assert "7 labelled rows in the current window" in row.sentence


def test_rolling_windows() -> None:
    """The window rolls over labelled rows, the oldest first, each with n and interval."""
    early, late = labelled(400, 0.95, seed=1), labelled(200, 0.5, seed=2)
    table = {k: np.concatenate([early[k], late[k]]) for k in early}
    figures = drift.rolling_quality(table, window=200)
    assert [q.n_labelled for q in figures] == [200, 200, 200]
    assert figures[0].accuracy.low > figures[2].accuracy.high
    assert len(drift.rolling_quality(table, window=200, step=100)) == 5
    assert drift.rolling_quality(labelled(10, 0.5, seed=1), window=200)[0].n_labelled == 10
    with pytest.raises(DriftInputError, match="at least 1"):
        drift.rolling_quality(table, window=0)


@pytest.mark.parametrize(
    ("table", "arguments", "words"),
    [
        ({"predicted_label": ["a"]}, {}, "no column `true_label`"),
        ({"predicted_label": [[1]], "true_label": [[1]]}, {}, "expected labels"),
        ({"predicted_label": ["a", "b"], "true_label": ["a", "b"]}, {"positive": "c"}, "`c` does not occur"),
        (
            {"predicted_label": [f"text {i}" for i in range(2000)], "true_label": ["a"] * 2000},
            {},
            "2,001 classes",
        ),
    ],
)
def test_bad_labels_are_refused(table, arguments, words: str) -> None:
    """Columns that hold no labels raise one sentence."""
    with pytest.raises(DriftInputError, match=words):
        drift.labelled_quality(table, **arguments)


def test_intervals_cover() -> None:
    """Over 300 samples of 60 labels the 95 percent intervals of accuracy and F1 hold the truth in at least 90."""
    truth, covered = 0.8, np.zeros(2)
    rng = np.random.default_rng(0)
    for _ in range(300):
        true = rng.random(60) < 0.5
        right = rng.random(60) < truth
        q = drift.labelled_quality({"predicted_label": true == right, "true_label": true})
        covered += [q.accuracy.low <= truth <= q.accuracy.high, q.f1.low <= 0.8 <= q.f1.high]
    assert (covered / 300 >= 0.90).all()
