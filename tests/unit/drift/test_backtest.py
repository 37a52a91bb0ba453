"""History in a table: fitted and replayed as if it were live."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from agentguard import drift
from agentguard.drift._simulate import DAY_HOURS, MONDAY_S, Change, simulate
from agentguard.errors import BaselineTooSmallError, DriftInputError

START = datetime.fromtimestamp(MONDAY_S, tz=UTC)


def history(days: int, change: Change | None = None) -> dict[str, object]:
    """Simulated calls as the table that `export features` writes."""
    calls = simulate(3, days=days, change=change)
    offsets = np.random.default_rng(0).integers(0, 3_500_000, len(calls.hour))
    times = [
        START + timedelta(hours=int(h), milliseconds=int(o)) for h, o in zip(calls.hour, offsets, strict=True)
    ]
    return {
        "start_time": times,
        "response_latency_ms": calls.latency_ms,
        "token_count": calls.tokens,
        "retry_count": calls.retries,
        "error_rate": calls.is_error,
    }


def test_a_change_is_found_in_history() -> None:
    """Tokens up by half on day 31 of 40 are found by both tiers, after the change."""
    result = drift.backtest(history(40, Change(31 * DAY_HOURS, tokens=1.5)))
    changed_ns = (MONDAY_S + 31 * 86_400) * 10**9
    assert {alarm.kind for alarm in result.alarms} == {"incident", "drift"}
    assert all(alarm.time_unix_ns > changed_ns for alarm in result.alarms)
    assert all(alarm.stream == "token_count" for alarm in result.alarms)
    assert all(
        alarm.unit == "tokens" and alarm.effect_low < alarm.effect < alarm.effect_high
        for alarm in result.alarms
    )
    assert result.reference.drift is not None


def test_every_kind_of_time_is_read(tmp_path: Path) -> None:
    """Datetimes, text, seconds and nanoseconds, frames and files give one and the same reference."""
    table = history(9)
    times = table["start_time"]
    path = tmp_path / "history.csv"
    pd.DataFrame(table).to_csv(path, index=False)
    pl.DataFrame(table).write_parquet(tmp_path / "history.parquet")
    variants = [
        pd.DataFrame(table),
        pl.DataFrame(table),
        path,
        tmp_path / "history.parquet",
        {**table, "start_time": [t.isoformat() for t in times]},
        {**table, "start_time": np.array([t.timestamp() for t in times])},
        {**table, "start_time": np.array([t.replace(tzinfo=None) for t in times], dtype="datetime64[us]")},
    ]
    expected = drift.fit_reference(table)
    assert expected.incident is not None
    for variant in variants:
        found = drift.fit_reference(variant)
        assert found.profile.n_calls == expected.profile.n_calls
        assert abs(found.since_unix_ns - expected.since_unix_ns) < 10_000
        assert found.incident is not None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"start_time": None}, "no column `start_time`"),
        (
            {"start_time": ["2026-01-01"] * 40 + ["yesterday"] * 60},
            "60 of 100 rows hold no time, the first is row 41",
        ),
        ({"start_time": np.full(100, np.nan)}, "100 of 100 rows hold no time"),
        ({"start_time": np.array(["2026-01-01", "NaT"] * 50, "M8[D]")}, "50 of 100 rows hold no time"),
        ({"response_latency_ms": ["slow"] * 100}, "holds text, expected numbers"),
    ],
)
def test_bad_history_is_refused(change: dict, words: str) -> None:
    """A table without times or with text for numbers raises one sentence."""
    table = {"start_time": np.arange(100.0), "response_latency_ms": np.arange(100.0), **change}
    with pytest.raises(DriftInputError, match=words):
        drift.fit_reference({k: v for k, v in table.items() if v is not None})


def test_short_history_is_refused() -> None:
    """A table shorter than the reference, or a reference shorter than a week, is refused with the figures."""
    table = history(9)
    with pytest.raises(DriftInputError, match=r"spans 9\.0 days, expected more than the 28"):
        drift.backtest(table)
    with pytest.raises(BaselineTooSmallError, match="less than the 7 days"):
        drift.backtest(table, reference="3d")
    with pytest.raises(DriftInputError, match="none of the columns"):
        drift.fit_reference({"x": [1.0], "start_time": [1.0]})


def table_of(days: int, *, change_day: int, seed: int = 1) -> dict[str, object]:
    """A shop's orders: text and numbers as segments, one shop sells less and refuses more from a day on."""
    rng = np.random.default_rng(seed)
    hour = np.repeat(np.arange(days * 24), rng.poisson(60, days * 24))
    n = len(hour)
    shop = rng.choice(["north", "south", "east"], n, p=[0.5, 0.3, 0.2])
    is_new = (hour >= change_day * 24) & (shop == "south")
    return {
        "when": START.timestamp() + hour * 3600 + rng.integers(0, 3600, n),
        "price": np.where(rng.random(n) < 0.01, np.nan, rng.normal(20.0, 1.0, n) + 0.8 * is_new),
        "refused": (rng.random(n) < np.where(is_new, 0.15, 0.04)).astype(float),
        "items": rng.poisson(0.5, n),
        "shop": shop,
        "plan": rng.integers(1, 3, n),
    }


COLUMNS = {"price": "continuous", "refused": "share", "items": "count"}


def test_any_columns_with_segments() -> None:
    """Columns of any name and scale are watched by their types; the shop that changed is named."""
    result = drift.backtest(
        table_of(36, change_day=30), time="when", features=COLUMNS, segments=["shop", "plan"]
    )
    changed_ns = (MONDAY_S + 30 * 86_400) * 10**9
    assert {alarm.kind for alarm in result.alarms} == {"incident", "drift"}
    for alarm in result.alarms:
        assert alarm.segment == "shop=south"
        assert alarm.time_unix_ns > changed_ns
        assert abs(alarm.change_unix_ns - changed_ns) < 86_400 * 10**9
        assert "items" not in alarm.stream
        assert abs(alarm.mix["shop"]) < abs(alarm.within["shop"])
    lead = result.alarms[0]
    assert lead.effect_low < lead.effect < lead.effect_high
    frame = pd.DataFrame(table_of(36, change_day=30))
    again = drift.backtest(frame, time="when", features=COLUMNS, segments=["shop", "plan"])
    assert again.alarms == result.alarms


def test_the_order_of_rows_makes_no_difference() -> None:
    """Rows dealt out in any order give the same alarms, to the last digit."""
    table = table_of(33, change_day=29)
    expected = drift.backtest(table, time="when", features=COLUMNS, segments=["shop"])
    order = np.random.default_rng(5).permutation(len(table["when"]))
    shuffled = {name: values[order] for name, values in table.items()}
    found = drift.backtest(shuffled, time="when", features=COLUMNS, segments=["shop"])
    assert expected.alarms
    assert found.alarms == expected.alarms


def test_what_comes_later_makes_no_difference() -> None:
    """A table cut off after some alarms gives these very alarms: nothing later was known."""
    table = table_of(36, change_day=29)
    whole = drift.backtest(table, time="when", features=COLUMNS, segments=["shop"])
    end = (MONDAY_S + 32 * 86_400) * 10**9
    is_early = table["when"] * 1e9 < end
    cut = drift.backtest(
        {k: v[is_early] for k, v in table.items()}, time="when", features=COLUMNS, segments=["shop"]
    )
    assert cut.alarms
    assert cut.alarms == tuple(alarm for alarm in whole.alarms if alarm.time_unix_ns < end)


def test_values_that_go_missing_are_quality() -> None:
    """A column that is empty from a day on is an alarm about the data."""
    table = table_of(33, change_day=99)
    gone = table["when"] >= START.timestamp() + 30 * 86_400
    table["price"] = np.where(gone, np.nan, table["price"])
    result = drift.backtest(table, time="when", features=["price", "items"])
    assert {(alarm.kind, alarm.stream) for alarm in result.alarms} == {("quality", "price missing")}


def test_text_is_watched_as_a_category() -> None:
    """Another mix of a text column is found, and named by its value."""
    table = table_of(33, change_day=99)
    table["shop"] = np.where(table["when"] >= START.timestamp() + 29 * 86_400, "south", table["shop"])
    result = drift.backtest(table, time="when", features={"shop": "category"})
    assert result.alarms[0].stream.startswith("shop = ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"features": ["nothing"]}, "no column `nothing`"),
        ({"features": {"price": "colour"}}, "has type `colour`"),
        ({"features": ["shop"], "time": "when"}, None),
        ({"features": {"shop": "share"}}, "holds text"),
        ({"segments": "shop"}, "segments is the text"),
        ({"segments": ["nothing"]}, "no column `nothing`"),
        ({"reference": "soon"}, "reference is `soon`"),
        ({"promise": 0.0}, "promise is 0"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict, words: str | None) -> None:
    """One sentence for each; text without a type is a category."""
    table = table_of(30, change_day=99)
    if words is None:
        assert drift.backtest(table, **arguments).reference.incident is not None
        return
    with pytest.raises(DriftInputError, match=words):
        drift.backtest(table, **{"time": "when", **arguments})


def test_constant_empty_and_infinite_columns_go_on() -> None:
    """Columns that say nothing are named in a note or stay silent; the others are watched."""
    table = table_of(33, change_day=29)
    n = len(table["when"])
    table |= {
        "same": np.ones(n) * 7,
        "void": np.full(n, np.nan),
        "wild": np.where(np.arange(n) % 50, 1.5, np.inf),
    }
    names = {**COLUMNS, "same": "continuous", "void": None, "wild": "continuous"}
    result = drift.backtest(table, time="when", features=names)
    assert any("void" in note for note in result.notes)
    assert {alarm.stream for alarm in result.alarms} <= {"price", "price (tail)", "refused"}
    assert result.alarms
