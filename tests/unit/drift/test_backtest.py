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
    assert all(alarm.streams[0] == "model.token_count" for alarm in result.alarms)
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
        ({"start_time": ["yesterday"] * 100}, "rows that are no time"),
        ({"start_time": np.full(100, np.nan)}, "rows without a time"),
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
        drift.backtest(table, reference_days=3)
    with pytest.raises(DriftInputError, match="none of the columns"):
        drift.fit_reference({"x": [1.0], "start_time": [1.0]})
