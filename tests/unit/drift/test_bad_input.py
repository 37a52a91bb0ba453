"""Bad tables: a clear sentence, no crash, and the other features go on."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from agentguard import drift
from agentguard.cli._main import main
from agentguard.drift._source import time_span
from agentguard.errors import BaselineTooSmallError, DriftInputError
from agentguard.values import DriftStatus
from tests.support.feature_store import MemoryStore

GOOD = {"x": [float(i % 17) + 0.5 for i in range(60)]}


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ([None] * 60, "no usable value in the current"),
        ([float("nan")] * 60, "no usable value in the current"),
        ([float("inf")] * 60, "no usable value in the current"),
        ([1.5, "abc"] * 30, "mixes text"),
        (["abc"] * 60, "text in the current table, numbers in the other"),
        ([datetime(2026, 1, 1, tzinfo=UTC)] * 60, "neither numbers nor text"),
        (np.array(["2026-01-01"] * 60, dtype="datetime64[D]"), "dates"),
        ([[1]] * 60, "neither numbers nor text"),
        ([b"1"] * 60, "neither numbers nor text"),
        (np.ones((60, 2)), "2 dimensions"),
        (np.full(60, 1j), "complex"),
        ([None] * 58 + [1.0, 2.0], "2 usable values in the current"),
    ],
)
def test_a_bad_column_is_not_comparable_and_others_go_on(column, words: str) -> None:
    """Each kind of broken column gets a sentence of its own; its neighbour is still compared."""
    result = drift.compare({**GOOD, "y": GOOD["x"]}, {"x": column, "y": GOOD["x"]}, features=["x", "y"])
    assert result["x"].verdict == "not comparable"
    assert words in result["x"].sentence
    assert result["y"].verdict == "stable"
    assert result.status in {DriftStatus.WARNING, DriftStatus.DRIFT}


@pytest.mark.parametrize(
    "column",
    [
        [Decimal("1.5"), Decimal("2.5")] * 30,
        pd.array([1, None, 3] * 20, dtype="Int64"),
        pd.Series([1, None, 3] * 20, dtype="Float64"),
        np.ma.masked_array(np.arange(60.0), mask=[False, True] * 30),
        [10**400] * 20 + [1.5] * 40,
        [True, None, False] * 20,
    ],
)
def test_odd_dtypes_are_read(column) -> None:
    """Decimals, nullable and masked arrays, huge integers and booleans with gaps are numbers."""
    result = drift.compare({"x": column}, {"x": column})
    assert result["x"].verdict == "stable"
    assert result["x"].statistic == 0.0


def test_nullable_frames_are_read() -> None:
    """Nullable dtypes of pandas and polars keep their missing values."""
    values = [1, None, 3, 200] * 25
    for frame in (pd.DataFrame({"x": pd.array(values, dtype="Int64")}), pl.DataFrame({"x": values})):
        row = drift.compare(frame, frame)["x"]
        assert row.missing_current == 0.25
        assert row.n_current == 75


def test_constant_features_are_stable_or_found() -> None:
    """One value everywhere is stable; another value everywhere is drift."""
    assert drift.compare({"x": [3.5] * 50}, {"x": [3.5] * 50})["x"].verdict == "stable"
    assert drift.compare({"x": [3.5] * 50}, {"x": [4.5] * 50})["x"].verdict == "drift"


def test_a_column_of_one_side_only_is_named() -> None:
    """A column that disappeared is a sentence and a warning."""
    result = drift.compare({**GOOD, "z": GOOD["x"]}, GOOD, features=["x", "z"])
    assert "the current table has no such column" in result["z"].sentence
    assert result.status is DriftStatus.WARNING
    assert "Not comparable: z" in result.verdict


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ({}, "empty mapping"),
        ({"x": []}, "no rows"),
        ({"x": "abc"}, "column `x` is a str"),
        ({"x": 3}, "column `x` is a int"),
        ({"x": [1.0], "y": [1.0, 2.0]}, "1 to 2 rows"),
        (3, "got a int"),
        (None, "got a NoneType"),
        (pd.DataFrame(), "no columns"),
        (pd.DataFrame([[1, 2]], columns=["x", "x"]), "one name|more than once"),
        ("nothing.parquet", "there is no file"),
        ("nothing.xlsx", "expected .parquet or .csv"),
    ],
)
def test_a_bad_table_is_refused(reference, words: str) -> None:
    """What is no table raises one sentence."""
    with pytest.raises(DriftInputError, match=words):
        drift.compare(reference, GOOD)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"alpha": 0.0}, "alpha is 0"),
        ({"alpha": 1.5}, "alpha is 1.5"),
        ({"correction": "none"}, "correction is `none`"),
        ({"features": "x"}, "features is the text `x`"),
        ({"features": []}, "features is empty"),
        ({"features": ["nope"]}, "no table has a column `nope`"),
        ({"labels": ("p", "t"), "features": ["x"]}, "no column `p`"),
    ],
)
def test_a_bad_argument_is_refused(arguments, words: str) -> None:
    """Arguments out of range raise one sentence with got and expected."""
    with pytest.raises(DriftInputError, match=words):
        drift.compare(GOOD, GOOD, **arguments)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"x,x\n1,2\n", "more than once"),
        (b"x,y\n1\n", "line 2 has 1 cells, expected 2"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b'x\n"abc\n', "not readable as CSV"),
        (b"x\n", "no rows"),
    ],
)
def test_a_bad_csv_file_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    """Broken CSV files raise one sentence."""
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(DriftInputError, match=words):
        drift.compare(path, GOOD)


def test_a_damaged_parquet_file_is_refused(tmp_path: Path) -> None:
    """Bytes that are no Parquet raise one sentence."""
    path = tmp_path / "a.parquet"
    path.write_bytes(b"no parquet at all")
    with pytest.raises(DriftInputError, match="not a readable Parquet file"):
        drift.compare(path, GOOD)


def test_text_among_numbers_in_csv_is_not_guessed(tmp_path: Path) -> None:
    """A CSV column of numbers with a word in it is not comparable; words for missing are missing."""
    path = tmp_path / "a.csv"
    path.write_text("x,y\n" + "1.5,2.5\n" * 20 + "oops,NA\n")
    result = drift.compare(path, path)
    assert "mixes numbers (20 rows) and other text (1 rows)" in result["x"].sentence
    assert result["y"].n_current == 20


def test_infinite_and_negative_values_are_counted() -> None:
    """Infinite and negative latencies are left out, noted, and tested as missing."""
    bad = {"response_latency_ms": [100.0 + i for i in range(50)] + [float("inf")] * 20 + [-5.0] * 10}
    good = {"response_latency_ms": [100.0 + i for i in range(50)]}
    result = drift.compare(good, bad)
    assert any("30 of 80 current rows are infinite or out of range" in note for note in result.notes)
    assert result.drifted == ("response_latency_ms (missing)",)


def test_names_from_strangers_are_escaped() -> None:
    """A column name with a terminal escape does nothing in the printed table."""
    name = "x\x1b[31m"
    assert "\x1b" not in str(drift.compare({name: GOOD["x"]}, {name: GOOD["x"]}))


def test_categoricals_of_numbers_are_categories() -> None:
    """A categorical column keeps its categories, whatever they are made of."""
    frame = pd.DataFrame({"m": pd.Categorical([1, 2, None] * 20)})
    row = drift.compare(frame, frame)["m"]
    assert row.type == "category"
    assert row.n_current == 40
    enum = pl.DataFrame({"m": ["a", "b"] * 20}, schema={"m": pl.Enum(["a", "b"])})
    assert drift.compare(enum, enum)["m"].type == "category"


def test_a_sorted_column_is_not_taken_as_time() -> None:
    """A table sorted by the feature is compared row by row."""
    rng = np.random.default_rng(0)
    a, b = np.sort(rng.normal(size=400)), np.sort(rng.normal(size=300) + 0.6)
    result = drift.compare({"x": a}, {"x": b})
    assert result["x"].verdict == "drift"
    assert not result.notes


def history(**columns: object) -> dict[str, object]:
    """Thirty days of a table, ten rows an hour, with some columns replaced."""
    rng = np.random.default_rng(5)
    n = 30 * 24 * 10
    return {
        "start_time": 1_767_571_200.0 + np.sort(rng.uniform(0, 30 * 86_400, n)),
        "response_latency_ms": rng.lognormal(6, 0.5, n),
        "errors": (rng.random(n) < 0.02).astype(float),
        **columns,
    }


def replay(path: Path, capsys: pytest.CaptureFixture[str], **columns: object) -> tuple[int, str]:
    """Replay a table by the command line; returns the exit status and all that was said."""
    pd.DataFrame(history(**columns)).to_csv(path, index=False)
    arguments = ["--features", "response_latency_ms,errors:share", "--reference", "21d"]
    with pytest.raises(SystemExit) as ended:
        main(["drift", "backtest", str(path), "--time", "start_time", *arguments])
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out + said.err


N_ROWS = 30 * 24 * 10


@pytest.mark.parametrize(
    ("latency", "words"),
    [
        (np.full(N_ROWS, 5.0), "no alarm"),
        (
            np.full(N_ROWS, np.nan),
            "response_latency_ms: no row of the reference has a value; it is not watched.",
        ),
        (
            np.full(N_ROWS, np.inf),
            "response_latency_ms: no row of the reference has a value; it is not watched.",
        ),
        (
            np.full(N_ROWS, -3.0),
            "response_latency_ms: no row of the reference has a value; it is not watched.",
        ),
        (np.where(np.arange(N_ROWS) > 22 * 240, np.nan, 400.0), "response_latency_ms missing: share +"),
        (
            np.where(np.arange(N_ROWS) % 10 == 0, -np.inf, 400.0),
            "response_latency_ms: 720 of 7,200 rows are infinite or out of range; they count as missing.",
        ),
        # Two values: the median is where it was, the upper part is not.
        (
            np.where((np.arange(N_ROWS) > 22 * 240) & (np.arange(N_ROWS) % 3 == 0), 9.0, 5.0),
            "95th percentile +4 ms",
        ),
    ],
)
def test_bad_columns_of_a_history(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], latency: np.ndarray, words: str
) -> None:
    """Constant, missing, infinite, negative, disappearing: one sentence, and errors are still watched."""
    _, said = replay(tmp_path / "t.csv", capsys, response_latency_ms=latency)
    assert words in said
    assert "are watched, at most 1 false alarms" in said


def test_a_clock_that_jumped_in_a_history(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A row of 1971 and one of 2036 are left out and said; without that the reference would end in 1971."""
    times = np.array(history()["start_time"])
    times[[100, 200]] = 4e7, 2.1e9
    status, said = replay(tmp_path / "t.csv", capsys, start_time=times)
    assert status == 0
    assert "2 rows lie more than a month before or after all others; they do not count." in said
    assert "no alarm up to 2026-02-0" in said


@pytest.mark.parametrize("days", [7, 21])
def test_a_reference_that_begins_within_an_hour(days: int) -> None:
    """A week is a week, and three are three, when the first call came at half past: cut hours and days do not count."""
    table = history()
    table["start_time"] = np.asarray(table["start_time"]) + 1800
    found = drift.backtest(table, time="start_time", features=["errors"], reference=f"{days}d").reference
    assert found.incident is not None
    assert (found.drift is not None) == (days == 21)


def test_a_reference_that_is_too_short() -> None:
    """A second less than a week is refused with what is needed."""
    with pytest.raises(BaselineTooSmallError, match="less than the 7 days"):
        drift.backtest(history(), time="start_time", features=["errors"], reference="6.99d")


def test_negative_latencies_under_any_name() -> None:
    """Time that was spent is never negative, whatever else the column is called; a delay may be."""
    values = {"api_latency_ms": [5.5] * 40 + [-1.5] * 20, "delay_min": [5.5] * 40 + [-1.5] * 20}
    result = drift.compare(values, values)
    assert result["api_latency_ms"].n_current == 40
    assert result["delay_min"].n_current == 60


def test_what_cannot_be_compared_says_why() -> None:
    """The printed table gives the reason below itself."""
    printed = str(drift.compare({**GOOD, "z": GOOD["x"]}, GOOD, features=["x", "z"]))
    assert "note: z: the current table has no such column, the reference table has." in printed


def test_a_history_of_one_window(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A reference shorter than the season is refused with what was expected."""
    status, said = replay(
        tmp_path / "t.csv", capsys, start_time=1_767_571_200.0 + np.linspace(0, 3600, N_ROWS)
    )
    assert status == 2
    assert "expected more than the 21 of the reference" in said


@pytest.mark.parametrize(
    ("n", "strays", "is_whole"), [(40, 1, False), (4000, 4, False), (5, 1, True), (40, 3, True)]
)
def test_a_clock_that_jumped_stretches_no_reference(n: int, strays: int, is_whole: bool) -> None:
    """A few calls of 1971 and of 2060 are not the ends of what a store holds; many are."""
    store, start_s, year_s = MemoryStore(), 1_767_571_200, 365 * 86_400
    for first_s, calls in ((year_s, strays), (start_s, n), (90 * year_s, strays)):
        ends = (first_s + np.arange(calls)) * 10**9
        store.add(start_unix_ns=ends - 5, duration_ns=np.full(calls, 5))
    first, last, counted = time_span(store)
    assert counted == (n + 2 * strays if is_whole else n)
    assert (last - first < 86_400 * 10**9) is not is_whole
    assert time_span(MemoryStore()) == (0, 0, 0)
