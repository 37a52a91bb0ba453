"""
Labels that come later: joined to calls by their id, from a table of the people who judged them.

A call's prediction is known when it ends, the truth hours or months after. The call counts at its own time, the
evidence at the time when its truth arrived.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from agentguard.drift._columns import read_table
from agentguard.drift._labels import LabelledQuality, label_texts, quality_of
from agentguard.errors import DriftInputError
from agentguard.values import OutcomeRecord

ROWS_MAX = 1_000_000
"""Rows of one file of labels; more are refused."""
_EXAMPLES = 3


class LabelFile(NamedTuple):
    """What a file of labels says."""

    outcomes: tuple[OutcomeRecord, ...]
    """To be appended to the store, in this order."""
    n_calls: int
    """Calls that get a label."""
    notes: tuple[str, ...]
    """What was left out, and why; one sentence each."""


class LabelState(NamedTuple):
    """What the labels of a store say by now."""

    quality: LabelledQuality
    n_predicted: int
    """Calls with a prediction."""
    n_matured: int
    """Those of them whose truth is known."""
    delay_s: float
    """Median time from prediction to truth; NaN where no truth came."""

    @property
    def matured_share(self) -> float:
        """Share of the predictions whose truth is known; 0 where there are none."""
        return self.n_matured / self.n_predicted if self.n_predicted else 0.0


class _Call(NamedTuple):
    """What the outcomes of one call say together."""

    known_unix_ns: int
    """When the first of them was recorded: the time of the call, or soon after."""
    predicted: str | None
    true: str | None
    matured_unix_ns: int
    """When both were known; 0 where they are not."""


def calls_of(outcomes: Iterable[OutcomeRecord]) -> dict[str, _Call]:
    """Put the outcomes of each call together; what comes later corrects what came before."""
    calls: dict[str, _Call] = {}
    for outcome in outcomes:
        before = calls.get(outcome.call_id, _Call(outcome.time_unix_ns, None, None, 0))
        predicted = before.predicted if outcome.predicted_label is None else outcome.predicted_label
        true = before.true if outcome.true_label is None else outcome.true_label
        is_known = predicted is not None and true is not None
        matured = before.matured_unix_ns or (outcome.time_unix_ns if is_known else 0)
        first = min(before.known_unix_ns, outcome.time_unix_ns)
        calls[outcome.call_id] = _Call(first, predicted, true, matured)
    return calls


def read_label_file(
    table: object,
    *,
    now_unix_ns: int,
    call_times: Mapping[str, int] | None = None,
    earlier: Iterable[OutcomeRecord] = (),
    call_id: str = "call_id",
    labels: tuple[str, str] = ("predicted_label", "true_label"),
) -> LabelFile:
    """
    Read labels and join them to calls.

    Args:
        table:
            Anything `compare` takes, with a column of call ids and one of true labels; the column of predictions is
            needed where the agent recorded none.
        now_unix_ns:
            When the labels arrive.
        call_times:
            By id: when the calls of the store began; None where it is not known which calls there are.
        earlier:
            Outcomes that the store has.
        call_id:
            Name of the column of ids.
        labels:
            Names of the columns of predicted and true labels.

    Raises:
        DriftInputError: A column is missing or holds no labels, there are too many rows, or no row can be used.
    """
    columns = read_table(table, what="labels", only=(call_id, *labels))
    for name in (call_id, labels[1]):
        if name not in columns:
            raise DriftInputError(
                f"labels: there is no column `{name}`, expected ids in `{call_id}` and the truth"
                f" in `{labels[1]}`"
            )
    if columns[call_id].n_rows > ROWS_MAX:
        raise DriftInputError(f"labels: got {columns[call_id].n_rows:,} rows, expected at most {ROWS_MAX:,}")
    ids, truths = label_texts(columns[call_id]), label_texts(columns[labels[1]])
    answers = label_texts(columns[labels[0]]) if labels[0] in columns else [None] * len(ids)
    rows: dict[str, tuple[str | None, str]] = {}
    contradicting: dict[str, None] = {}
    empty = 0
    for one, answer, truth in zip(ids, answers, truths, strict=True):
        if one is None or truth is None:
            empty += 1
            continue
        known = rows.setdefault(one, (answer, truth))
        if known != (answer, truth):
            contradicting[one] = None
    known_calls = calls_of(earlier)
    unknown = [
        one for one in rows if call_times is not None and one not in call_times and one not in known_calls
    ]
    unanswered = [
        one
        for one, (answer, _) in rows.items()
        if answer is None and (one not in known_calls or known_calls[one].predicted is None)
    ]
    left_out = {*contradicting, *unknown, *unanswered}
    outcomes: list[OutcomeRecord] = []
    corrected: list[str] = []
    for one, (answer, truth) in rows.items():
        if one in left_out:
            continue
        before = known_calls.get(one)
        if before is not None and before.true is not None and before.true != truth:
            corrected.append(one)
        if answer is not None and (before is None or before.predicted is None):
            began = (call_times or {}).get(one, now_unix_ns)
            outcomes.append(OutcomeRecord(one, began, answer, None, None))
        if before is None or (before.predicted, before.true) != (answer or before.predicted, truth):
            outcomes.append(OutcomeRecord(one, now_unix_ns, answer, truth, None))
    notes = [
        sentence
        for sentence in (
            f"rows without id or label: {empty:,}." if empty else "",
            _said("calls whose labels contradict each other", list(contradicting), "they do not count"),
            _said("ids of no call in this store", unknown, "they do not count"),
            _said(
                f"calls without a prediction, here or in column `{labels[0]}`",
                [one for one in unanswered if one not in unknown],
                "they do not count",
            ),
            _said("calls that had another label before", corrected, "the new one counts"),
        )
        if sentence
    ]
    n_calls = len(rows.keys() - left_out)
    if not n_calls:
        raise DriftInputError(f"labels: no row can be used: {' '.join(notes) or 'the file is empty.'}")
    return LabelFile(tuple(outcomes), n_calls, tuple(notes))


def _said(what: str, ids: list[str], so: str) -> str:
    """Say how many calls something is the matter with, and name some."""
    if not ids:
        return ""
    some = ", ".join(one[:32] for one in ids[:_EXAMPLES])
    return f"{what}: {len(ids):,} ({some}{', …' if len(ids) > _EXAMPLES else ''}); {so}."


def label_state(outcomes: Iterable[OutcomeRecord], *, positive: str | None = None) -> LabelState:
    """
    Measure quality on all calls of a store whose truth is known, and how many are still to come.

    Raises:
        DriftInputError: There are too many classes, or *positive* is not one of two.
    """
    calls = [one for one in calls_of(outcomes).values() if one.predicted is not None]
    pairs = [(one.predicted, one.true) if one.true is not None else None for one in calls]
    delays = [(one.matured_unix_ns - one.known_unix_ns) / 1e9 for one in calls if one.matured_unix_ns]
    quality: Any = quality_of(pairs, n_rows=len(pairs), positive=positive)  # type: ignore[arg-type]
    return LabelState(quality, len(calls), len(delays), float(np.median(delays)) if delays else float("nan"))
