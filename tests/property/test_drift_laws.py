"""Laws of the drift room: exact merging, ranges, symmetry, streaming equals batch."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentguard import drift
from agentguard.drift._codec import model_from, model_to, state_from, state_to
from agentguard.drift._evidence import uniforms
from agentguard.drift._history import read_history
from agentguard.drift._intervals import difference, wilson
from agentguard.drift._quiet import _key
from agentguard.drift._reference import fit_tiers
from agentguard.drift._simulate import HOUR_S, MONDAY_S, Change, simulate, summary_of
from agentguard.drift._source import Rows, summarise_rows
from agentguard.drift._summary import between, coarsen, merge
from agentguard.drift._tier import begin, run

rows_strategy = st.lists(
    st.tuples(
        st.integers(0, 10**15),  # end
        st.integers(0, 5),  # kind
        st.integers(-1, 10**13),  # duration
        st.integers(-1, 10**6),  # tokens
        st.integers(0, 200),  # retries
        st.integers(0, 1),  # error
        st.integers(0, 4),  # part it is put into
    ),
    min_size=1,
    max_size=60,
)


def _rows(some: list[tuple[int, ...]]) -> Rows:
    columns = np.array(some, dtype=np.int64).reshape(len(some), 7).T
    end, kind, duration, tokens, retries, error, _ = columns
    return Rows(end, kind, duration, np.full_like(end, -1), tokens, retries, error, np.zeros_like(end))


@given(rows_strategy)
def test_any_partition_merges_to_the_same_summary(some: list[tuple[int, ...]]) -> None:
    """Spans dealt over processes in any way add up to the summary of all of them."""
    whole = summarise_rows(_rows(some), HOUR_S)
    parts = [[row for row in some if row[-1] == part] for part in range(5)]
    merged = merge([summarise_rows(_rows(part), HOUR_S) for part in reversed(parts) if part], HOUR_S)
    assert np.array_equal(whole.keys, merged.keys)
    assert np.array_equal(whole.counts, merged.counts)
    assert np.array_equal(coarsen(whole, 86_400).counts, summarise_rows(_rows(some), 86_400).counts)


columns_strategy = st.lists(
    st.one_of(
        st.none(),
        st.floats(allow_nan=True, allow_infinity=True),
        st.integers(-(10**20), 10**20),
        st.booleans(),
        st.text(max_size=3),
    ),
    max_size=30,
)


@settings(max_examples=200)
@given(columns_strategy, columns_strategy)
def test_compare_never_crashes(left: list, right: list) -> None:
    """Columns of anything are compared or refused by name; nothing else is raised, nothing is NaN by mistake."""
    try:
        result = drift.compare({"x": left, "y": left}, {"x": right, "y": right}, features=["x", "y"])
    except drift_input_error():
        return
    for row in result.features:
        assert row.sentence
        if row.verdict != "not comparable":
            assert 0.0 <= row.p_raw <= row.p_value <= 1.0
    assert str(result)
    assert result.to_dict()


def drift_input_error() -> type[Exception]:
    """The only exception that bad input may raise."""
    from agentguard.errors import DriftInputError

    return DriftInputError


samples = st.lists(st.floats(-1e6, 1e6), min_size=5, max_size=60)


@given(samples, samples)
def test_compare_is_symmetric(left: list[float], right: list[float]) -> None:
    """Swapping the windows keeps statistic and p-value, and turns the shift of the median around."""
    kinds = {"x": "continuous"}
    one = drift.compare({"x": left}, {"x": right}, features=kinds, assume_independent_rows=True)["x"]
    other = drift.compare({"x": right}, {"x": left}, features=kinds, assume_independent_rows=True)["x"]
    assert one.statistic == pytest.approx(other.statistic)
    if "permutation" not in one.test:
        assert one.p_raw == pytest.approx(other.p_raw, abs=1e-9)
    if one.effect_name == other.effect_name == "median":
        assert one.effect == pytest.approx(-other.effect)


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 500), st.integers(0, 500))
def test_intervals_hold_their_estimate(a: int, n: int, b: int, m: int) -> None:
    """Wilson intervals and their differences hold the estimate and stay in range."""
    first, second = (wilson(min(h, t), t) for h, t in ((a, n), (b, m)))
    for one in (first, second):
        assert 0.0 <= one.low <= one.high <= 1.0
    if n and m:
        gap = difference(first, second)
        assert -1.0 <= gap.low <= gap.value <= gap.high <= 1.0


@given(st.binary(max_size=80), st.text(max_size=20), st.integers(0, 2**40))
def test_uniforms_depend_on_their_arguments_alone(key: bytes, stream: str, window: int) -> None:
    """The same arguments give the same numbers, inside (0, 1)."""
    first = uniforms(key, stream, window)
    assert first == uniforms(key, stream, window)
    assert all(0.0 < u < 1.0 for u in first)


@pytest.mark.parametrize("cut", [1, 100, 301])
def test_streaming_and_restart_equal_batch(cut: int) -> None:
    """Windows taken in at once, one by one, or with a restart from plain data give the same alarms."""
    days, border = 40, MONDAY_S + 28 * 86_400
    summary = summary_of(simulate(7, days=days, change=Change(30 * 24, latency=1.4)), start_s=MONDAY_S)
    model, daily = fit_tiers(summary, MONDAY_S * 10**9, border * 10**9, promise_per_year=1.0, key=_key(7))
    assert model is not None
    assert daily is not None
    first, end = border // HOUR_S, (MONDAY_S + days * 86_400) // HOUR_S
    whole = begin(model, first - 1)
    expected = run(model, whole, summary, until=end, key=_key(7))
    assert expected
    model = model_from(model_to(model))
    state, alarms = begin(model, first - 1), []
    for until in (*range(first + cut, end, cut), end):
        part = between(summary, state.window + 1, until)
        alarms += run(model, state, part, until=until, key=_key(7))
        state = state_from(state_to(state))
    assert alarms == expected
    assert math.isclose(state.log_evidence, whole.log_evidence, rel_tol=0, abs_tol=0)


def orders(seed: int, n: int) -> dict[str, np.ndarray]:
    """Some rows of two weeks, with values that repeat, are missing and are infinite."""
    rng = np.random.default_rng(seed)
    return {
        "when": MONDAY_S + rng.integers(0, 14 * 86_400, n).astype(float),
        "price": np.where(rng.random(n) < 0.1, np.nan, rng.choice([1.0, 2.5, 2.5, 7.0, np.inf, -3.0], n)),
        "ok": rng.integers(0, 2, n),
        "shop": rng.choice(["a", "b", "c"], n),
    }


@given(st.integers(0, 2**32), st.integers(1, 120), st.integers(1, 5))
def test_any_partition_of_a_table_counts_the_same(seed: int, n: int, parts: int) -> None:
    """The rows of a table dealt into parts in any way add up to the counts of the whole, segments included."""
    history = read_history(
        orders(seed, n),
        time="when",
        features={"price": "continuous", "ok": "share"},
        segments=("shop",),
        reference_ns=7 * 86_400 * 10**9,
    )
    dealt = np.random.default_rng(seed).integers(0, parts, n)
    whole = history.summary(HOUR_S)
    merged = merge([history.summary(HOUR_S, dealt == part) for part in range(parts)], HOUR_S)
    assert np.array_equal(whole.keys, merged.keys)
    assert np.array_equal(whole.counts, merged.counts)


@pytest.mark.parametrize("cut", [5, 37])
def test_segments_survive_a_restart(cut: int) -> None:
    """A watch with segments, stopped and taken up again from plain data, alarms as one that ran through."""
    rng = np.random.default_rng(4)
    hour = np.repeat(np.arange(12 * 24), 40)
    shop = rng.choice(["a", "b"], len(hour), p=[0.7, 0.3])
    price = rng.normal(20, 2, len(hour)) + 2.0 * ((hour > 10 * 24) & (shop == "b"))
    table = {"when": MONDAY_S + hour * 3600.0 + 60, "price": price, "shop": shop}
    history = read_history(
        table, time="when", features=["price"], segments=("shop",), reference_ns=9 * 86_400 * 10**9
    )
    summary = history.summary(HOUR_S)
    border = MONDAY_S + 9 * 86_400
    model, _ = fit_tiers(
        summary, MONDAY_S * 10**9, border * 10**9, promise_per_year=1.0, key=b"k", streams=history.streams()
    )
    assert model is not None
    first, end = border // HOUR_S, MONDAY_S // HOUR_S + 12 * 24
    expected = run(model, begin(model, first - 1), summary, until=end, key=b"k")
    assert expected
    model = model_from(model_to(model))
    state, alarms = begin(model, first - 1), []
    for until in (*range(first + cut, end, cut), end):
        alarms += run(model, state, between(summary, state.window + 1, until), until=until, key=b"k")
        state = state_from(state_to(state))
    assert alarms == expected
