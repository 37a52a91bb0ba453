"""Labels that come later: joined by call, told apart where they contradict, and heard by the watch."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from agentguard import drift
from agentguard.cli._main import main
from agentguard.drift._accuracy import labels_of_store
from agentguard.errors import DriftInputError
from agentguard.values import OutcomeRecord
from tests.unit.drift.test_cli import place, run, write_calls

__all__ = ["place"]

NOW = 10**18


def said(call_id: str, when: int, predicted: str | None, true: str | None) -> OutcomeRecord:
    """One outcome."""
    return OutcomeRecord(call_id, when, predicted, true, None)


class Outcomes:
    """What has outcomes."""

    def __init__(self, *listed: OutcomeRecord) -> None:
        self.listed = listed

    def outcomes(self) -> tuple[OutcomeRecord, ...]:
        """As a query gives them."""
        return self.listed


def test_labels_join_predictions_that_the_agent_recorded() -> None:
    """The truth alone is enough; the call counts at its own time, and once."""
    earlier = [said("a1", 5, "yes", None), said("b2", 6, "no", None)]
    read = drift.read_label_file(
        {"call_id": ["a1", "b2"], "true_label": ["yes", "yes"]}, now_unix_ns=NOW, earlier=earlier
    )
    assert read.outcomes == (said("a1", NOW, None, "yes"), said("b2", NOW, None, "yes"))
    assert (read.n_calls, read.notes) == (2, ())
    assert labels_of_store(Outcomes(*earlier, *read.outcomes), 6) == ([True], [False])


def test_a_file_with_both_counts_at_the_time_of_the_call() -> None:
    """A prediction that only the file has is placed where the call was."""
    read = drift.read_label_file(
        {"call_id": ["a1"], "predicted_label": ["x"], "true_label": ["x"]},
        now_unix_ns=NOW, call_times={"a1": 7},
    )  # fmt: skip
    assert read.outcomes == (said("a1", 7, "x", None), said("a1", NOW, "x", "x"))
    assert labels_of_store(Outcomes(*read.outcomes), 8) == ([True], [])


def test_labels_that_contradict_are_left_out_and_named() -> None:
    """One call with two truths counts not at all; equal rows are one; the others go on."""
    read = drift.read_label_file(
        {
            "call_id": ["a1", "a1", "b2", "b2", None, "c3", "d4"],
            "predicted_label": ["x"] * 7,
            "true_label": ["x", "y", "x", "x", "x", None, "y"],
        },
        now_unix_ns=NOW,
    )
    assert {outcome.call_id for outcome in read.outcomes} == {"b2", "d4"}
    assert read.n_calls == 2
    assert read.notes == (
        "rows without id or label: 2.",
        "calls whose labels contradict each other: 1 (a1); they do not count.",
    )


def test_unknown_calls_and_missing_predictions_are_said() -> None:
    """Ids of no call, and calls without a prediction, do not count and are named."""
    table = {"call_id": ["a1", "z9", "b2"], "true_label": ["x", "x", "x"]}
    read = drift.read_label_file(
        table, now_unix_ns=NOW, call_times={"a1": 1, "b2": 2}, earlier=[said("a1", 1, "x", None)]
    )
    assert read.n_calls == 1
    assert "ids of no call in this store: 1 (z9); they do not count." in read.notes
    assert any("without a prediction" in note and "(b2)" in note for note in read.notes)
    with pytest.raises(DriftInputError, match="no row can be used: calls without a prediction"):
        drift.read_label_file(table, now_unix_ns=NOW)


def test_a_later_label_corrects_an_earlier_one() -> None:
    """It is said, the new one counts, at the place of the first; a label read twice is written once."""
    earlier = [said("a1", 1, "x", "y")]
    table = {"call_id": ["a1"], "true_label": ["x"]}
    read = drift.read_label_file(table, now_unix_ns=NOW, earlier=earlier)
    assert read.notes == ("calls that had another label before: 1 (a1); the new one counts.",)
    assert labels_of_store(Outcomes(*earlier, *read.outcomes), 0) == ([], [True])
    again = drift.read_label_file(table, now_unix_ns=NOW, earlier=[*earlier, *read.outcomes])
    assert again.outcomes == ()


@pytest.mark.parametrize(
    ("table", "said_"),
    [
        ({"call_id": ["a"]}, "no column `true_label`"),
        ({"true_label": ["a"]}, "no column `call_id`"),
        ({"call_id": [], "true_label": []}, "the file is empty"),
    ],
)
def test_files_without_labels_are_refused(table: dict[str, list[str]], said_: str) -> None:
    """One sentence that says what was expected."""
    with pytest.raises(DriftInputError, match=said_):
        drift.read_label_file(table, now_unix_ns=NOW)


def test_the_state_says_what_is_still_to_come() -> None:
    """Matured share and delay beside accuracy with n and interval; an empty store says nothing for certain."""
    outcomes = [said(f"{i}", i * 10**9, "x", None) for i in range(10)]
    outcomes += [said(f"{i}", (i + 100) * 10**9, None, "x" if i else "y") for i in range(4)]
    state = drift.label_state(outcomes)
    assert (state.n_predicted, state.n_matured, state.matured_share, state.delay_s) == (10, 4, 0.4, 100.0)
    assert (state.quality.accuracy.n, state.quality.accuracy.value) == (4, 0.75)
    assert not state.quality.accuracy.is_certain
    empty = drift.label_state([])
    assert (empty.n_predicted, empty.matured_share) == (0, 0.0)
    assert math.isnan(empty.delay_s)


def test_on_a_real_store(place: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A CSV of labels is stored, said again without a file, and the watch's accuracy alarm hears it."""
    from tests.unit.drift.test_cli import reopened

    write_calls(reopened(place), ended_before_s=20_000, n=300, latency_ms=400, seed=9)
    spans = [span for span in reopened(place).query().spans() if span.span_id >= f"{900_000:016x}"]
    border = sorted(span.start_unix_ns for span in spans)[150]
    rng = np.random.default_rng(2)
    lines = ["call_id,predicted_label,true_label"]
    for span in spans:
        is_right = rng.random() < (0.97 if span.start_unix_ns < border else 0.5)
        lines.append(f"{span.call_id},refund,{'refund' if is_right else 'reply'}")
    file = tmp_path / "labels.csv"
    file.write_text("\n".join([*lines, f"{spans[0].call_id},refund,other", "nosuchcall,refund,refund"]))
    status, out, err = run([*place, "drift", "labels", str(file)], capsys)
    assert status == 0
    assert "labels contradict each other: 1 (" in err
    assert "ids of no call in this store: 1 (nosuchcall)" in err
    assert "299 of 299 predictions have a label (100% matured)" in out
    assert "accuracy: 0." in out
    again = run([*place, "drift", "labels", "--format", "json"], capsys)[1]
    assert '"n_matured": 299' in again
    before, after = labels_of_store(reopened(place).query(), border)
    assert drift.accuracy_state(before, after).is_alarm
    with pytest.raises(SystemExit) as ended:
        main([*place, "drift", "labels", str(tmp_path / "none.csv")])
    assert ended.value.code == 2
