"""Checks of the data's quality: planted defects are found and named, and quiet data is not."""

from __future__ import annotations

import math
from array import array

import numpy as np
import pytest

from agentguard import drift
from agentguard.drift._layout import PLACES
from agentguard.drift._quality import CHECKS, Duplicates, known_from, masks_of
from agentguard.drift._simulate import MONDAY_S
from agentguard.drift._source import read_summary
from agentguard.drift._streams import possible_streams, quality_streams
from agentguard.drift._summary import KINDS, MEASURES, MEASURES_MAX, series_code, total
from agentguard.values import FACTS, DriftStatus
from tests.support.clock import FrozenClock
from tests.support.feature_store import Block, Column, MemoryStore

NS, HOUR, DAY = 10**9, 3600, 86_400
REFERENCE_DAYS = 9
PRICE_IN, PRICE_OUT = 2e-6, 8e-6


def add_hours(
    store: MemoryStore, first_hour: int, n_hours: int, *, defect: str = "", share: float = 0.3
) -> None:
    """Add model calls, about forty an hour, some with a defect."""
    for hour in range(first_hour, first_hour + n_hours):
        rng = np.random.default_rng([7, hour])
        n = int(rng.poisson(12 if defect == "volume" else 40))
        start = np.sort(rng.integers(0, HOUR * NS - 10 * NS, n)) + (MONDAY_S + hour * HOUR) * NS
        bad = rng.random(n) < share
        columns = {
            "start_unix_ns": start,
            "duration_ns": rng.integers(2 * 10**8, 9 * 10**8, n),
            "input_tokens": rng.integers(100, 900, n),
            "output_tokens": rng.integers(10, 90, n),
            "is_error": (rng.random(n) < 0.03).astype(int),
        }
        columns["output_tokens"] = np.where(columns["is_error"] == 1, 0, columns["output_tokens"])
        cost = columns["input_tokens"] * PRICE_IN + columns["output_tokens"] * PRICE_OUT
        texts = {"schema": ["s1"] * n, "model": ["m1"] * n, "kind": ["model"] * n}
        if defect == "new_shape":
            texts["schema"] = ["s2" if b else "s1" for b in bad]
        elif defect == "new_name":
            texts["model"] = [f"m1-{i}" if b else "m1" for i, b in enumerate(bad)]
        elif defect == "out_of_range":
            columns["input_tokens"] = np.where(bad, 2_000_000_000, columns["input_tokens"])
        elif defect == "clock_skew":
            columns["duration_ns"] = np.where(bad, -5, columns["duration_ns"])
        elif defect == "output_on_error":
            columns["output_tokens"] = np.where(columns["is_error"] == 1, 50, columns["output_tokens"])
        elif defect == "cost_mismatch":
            cost = np.where(bad, cost * 1.5, cost)
        elif defect == "usage_missing":
            columns["is_usage_missing"] = bad.astype(int)
        elif defect == "duplicate":
            again = np.concatenate([np.arange(n), np.flatnonzero(bad)])
            columns = {name: values[again] for name, values in columns.items()}
            texts = {name: [values[i] for i in again] for name, values in texts.items()}
            cost = cost[again]
        store.add(**columns, **texts)
        block = store.blocks[-1]
        priced = Column("cost_usd", "float64", "USD", memoryview(array("d", cost.tolist())))
        store.blocks[-1] = Block(block.rows, 0, {**block.columns, "cost_usd": priced})


@pytest.fixture(scope="module")
def quiet() -> tuple[MemoryStore, drift.Reference]:
    """Nine quiet days, and the reference fitted on them."""
    store = MemoryStore()
    add_hours(store, 0, REFERENCE_DAYS * 24)
    return store, drift.fit_reference(store, since_unix_ns=MONDAY_S * NS)


def watched(
    quiet: tuple[MemoryStore, drift.Reference], store: MemoryStore, hours: int
) -> tuple[object, MemoryStore]:
    """Watch *hours* after the reference and return the verdict."""
    before, reference = quiet
    store.blocks = [*before.blocks, *store.blocks]
    drift.save_reference(store, reference)
    now = (MONDAY_S + (REFERENCE_DAYS * 24 + hours) * HOUR + 600) * NS
    return drift.Checker(store, clock=FrozenClock(unix_ns=now), publish=lambda _: None).check_once(), store


@pytest.mark.parametrize(
    ("defect", "stream", "words"),
    [
        ("usage_missing", "model.usage_missing", "without token usage"),
        ("new_shape", "model.new_shape", "name or type that the reference does not know"),
        ("new_name", "model.new_name", "tool or model that the reference does not know"),
        ("out_of_range", "model.out_of_range", "than there can be"),
        ("clock_skew", "model.clock_skew", "ended before they began"),
        ("output_on_error", "model.output_on_error", "failed and say that they wrote tokens"),
        ("cost_mismatch", "model.cost_mismatch", "not what their tokens cost before"),
        ("duplicate", "model.duplicate", "recorded more than once"),
        ("volume", "call_volume", "a changed sampling rate looks like this too"),
    ],
)
def test_a_planted_defect_is_found_and_named(
    quiet: tuple[MemoryStore, drift.Reference], defect: str, stream: str, words: str
) -> None:
    """Each defect raises a quality alarm that names it, in words and shares, in status and explanation."""
    later = MemoryStore()
    add_hours(later, REFERENCE_DAYS * 24, 36, defect=defect)
    verdict, store = watched(quiet, later, 36)
    history = [entry for entry in drift.alarm_history(store) if entry["kind"] == "quality"]
    assert history, verdict
    assert history[0]["streams"][0] == stream or stream in history[0]["streams"]
    number = len(drift.alarm_history(store)) - drift.alarm_history(store).index(history[0])
    explained = drift.explain(store, number=number)
    assert explained.verdict.kind == "quality"
    assert any(words in feature.sentence for feature in explained.verdict.features)
    assert all(feature.effect_unit == "share" for feature in explained.verdict.features)


def test_quiet_data_raises_no_quality_alarm(quiet: tuple[MemoryStore, drift.Reference]) -> None:
    """The control arm: three more weeks of the same data, no alarm about it."""
    later = MemoryStore()
    add_hours(later, REFERENCE_DAYS * 24, 21 * 24)
    verdict, store = watched(quiet, later, 21 * 24)
    assert verdict.status is not DriftStatus.DRIFT
    assert drift.alarm_history(store) == []


def test_silence_is_seen_while_it_lasts(quiet: tuple[MemoryStore, drift.Reference]) -> None:
    """No call for a day is an alarm about the data before the next call; five minutes are not."""
    later = MemoryStore()
    add_hours(later, REFERENCE_DAYS * 24, 2)
    verdict, _ = watched(quiet, later, 26)
    assert (verdict.status, verdict.kind) == (DriftStatus.DRIFT, "quality")
    assert "silence (five-minute stretches without any call)" in verdict.sentence
    soon = MemoryStore()
    add_hours(soon, REFERENCE_DAYS * 24, 2)
    assert watched(quiet, soon, 3)[0].status is not DriftStatus.DRIFT


def test_an_alarm_about_data_hides_none_about_the_agent(quiet: tuple[MemoryStore, drift.Reference]) -> None:
    """Both are active at once, and the agent's goes first."""
    later = MemoryStore()
    add_hours(later, REFERENCE_DAYS * 24, 30, defect="new_shape")
    for block in later.blocks[12:]:
        column = block.columns["duration_ns"]
        slower = array("q", [3 * value for value in column.values])
        block.columns["duration_ns"] = column._replace(values=memoryview(slower))
    verdict, store = watched(quiet, later, 30)
    assert verdict.kind == "incident"
    assert {entry["kind"] for entry in drift.alarm_history(store)} == {"quality", "incident"}


def test_duplicates_are_counted_alike_however_rows_are_cut() -> None:
    """Of n equal rows n - 1 repeat an earlier one, in one batch or in many, and never across other times."""
    rng = np.random.default_rng(3)
    end = rng.integers(0, 50, 400) + 10**18
    ones = np.ones(400, dtype=np.int64)
    whole = Duplicates().of(end, ones, ones, ones).sum()
    cut = Duplicates()
    parts = [
        cut.of(end[i : i + 37], ones[i : i + 37], ones[i : i + 37], ones[i : i + 37]).sum()
        for i in range(0, 400, 37)
    ]
    assert whole == sum(parts) == 400 - len(np.unique(end))
    assert Duplicates().of(end, 0 * ones, ones, ones).sum() == 0


def test_what_was_seen_once_is_not_known() -> None:
    """Names that come once are unknown in the reference too, so their rate is no news later."""
    known = known_from({"tool.tool": {"search": 9, "one-off": 1}, "tool.schema": {"a": 2, "b": 1}}, {})
    assert known.names == {("tool", "search")}
    assert known.shapes == {"a"}


def test_checks_look_at_nothing_where_a_column_is_not_there() -> None:
    """A block without schema, cost or names is looked at for what it has, and fails nothing."""
    store = MemoryStore()
    store.add(start_unix_ns=[1, 2], duration_ns=[5, 5])
    columns = {n: c for n, c in store.blocks[0].columns.items() if n not in {"schema", "model", "tool"}}
    kind = np.array([KINDS.index("model")] * 2)
    known = known_from({"model.model": {"m": 5}, "model.schema": {"a": 5}}, {"m": (1.0, 1.0)})
    masks = masks_of(Block(2, 0, columns), kind=kind, duration_ns=np.array([5, 5]), known=known)
    bits = {name for i, name in enumerate(CHECKS) if masks.looked[0] >> i & 1}
    assert bits == {"out_of_range", "clock_skew", "duplicate", "output_on_error"}
    assert not masks.failed.any()


@pytest.mark.parametrize(
    ("given", "is_wrong"),
    [
        ({"input_tokens": 10_000_000}, False),
        ({"input_tokens": 10_000_001}, True),
        ({"output_tokens": -1}, False),
        ({"output_tokens": -2}, True),
        ({"retries": 1_000}, False),
        ({"retries": 1_001}, True),
        ({"duration_ns": DAY * NS}, False),
        ({"duration_ns": DAY * NS + 1}, True),
    ],
)
def test_borders_of_what_can_be(given: dict[str, int], is_wrong: bool) -> None:
    """The last value that can be is fine, and the next one is not."""
    store = MemoryStore()
    store.add(
        start_unix_ns=[5 * DAY * NS] * 3, **{"duration_ns": [9] * 3, **{k: [v] * 3 for k, v in given.items()}}
    )
    summary = read_summary(store, since_unix_ns=0, until_unix_ns=9 * DAY * NS, window_s=HOUR)
    assert total(summary, series_code("model", "out_of_range")) == {int(is_wrong): 3}


@pytest.mark.parametrize("cost", [math.inf, -0.01, 10_000.5])
def test_costs_that_cannot_be(cost: float) -> None:
    """Infinite, negative and absurd costs are out of range; a missing one is not."""
    store = MemoryStore()
    store.add(start_unix_ns=[1, 2], duration_ns=[9, 9])
    block = store.blocks[0]
    priced = Column("cost_usd", "float64", "USD", memoryview(array("d", [cost, math.nan])))
    store.blocks[0] = Block(2, 0, {**block.columns, "cost_usd": priced})
    summary = read_summary(store, since_unix_ns=0, until_unix_ns=NS, window_s=HOUR)
    assert total(summary, series_code("model", "out_of_range")) == {0: 1, 1: 1}


def test_series_of_all_kinds_have_room() -> None:
    """Numbers of series of one segment do not run into those of the next."""
    assert len(MEASURES) <= MEASURES_MAX
    assert len(KINDS) * MEASURES_MAX <= PLACES


def test_conditions_know_every_stream() -> None:
    """The keys that `drift.alarmed` may be asked for are the streams that can alarm, and accuracy."""
    streams = {stream.feature for stream in (*possible_streams(), *quality_streams())}
    assert set(FACTS["drift.alarmed"].keys) == streams | {"accuracy"}
