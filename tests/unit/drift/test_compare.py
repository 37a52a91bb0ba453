"""`compare` on tables of every kind: right test, right verdict, clear words."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pyarrow import parquet
from scipy import stats

from agentguard import drift
from agentguard.errors import DriftInputError
from agentguard.values import DriftStatus

EVERYDAY = ["response_latency_ms", "token_count", "retry_count", "error_rate"]


def table(n: int, *, seed: int, latency: float = 1.0, errors: float = 0.02, retries: float = 0.12) -> dict:
    """A day of an agent's calls, as columns."""
    rng = np.random.default_rng(seed)
    return {
        "response_latency_ms": rng.lognormal(6, 0.55, n) * latency,
        "token_count": rng.poisson(rng.gamma(4, 100, n)),
        "retry_count": rng.poisson(retries, n),
        "error_rate": (rng.random(n) < errors).astype(int),
    }


def test_quiet_tables_are_stable() -> None:
    """Two samples of one process give no drift, and say so in words."""
    result = drift.compare(table(2000, seed=1), table(400, seed=2), features=EVERYDAY)
    assert result.status is DriftStatus.STABLE
    assert not result.drifted
    assert result.verdict == "No drift in 4 compared."


def test_each_change_is_found_in_its_own_unit() -> None:
    """Doubled latency, errors 2 to 12 percent and doubled retries are found, with effects in units."""
    current = table(400, seed=2, latency=2.0, errors=0.12, retries=0.4)
    result = drift.compare(table(2000, seed=1), current, features=EVERYDAY)
    assert result.drifted == ("response_latency_ms", "retry_count", "error_rate")
    latency = result["response_latency_ms"]
    assert latency.unit == "ms"
    assert latency.effect_low < 400 < latency.effect_high
    assert latency.test.startswith("Kolmogorov-Smirnov")
    assert result["error_rate"].unit == "share"
    assert result["error_rate"].effect == pytest.approx(0.10, abs=0.04)
    assert result["retry_count"].test.startswith("permutation")
    assert "-> " in result["retry_count"].sentence


def test_statistic_is_the_usual_one() -> None:
    """The Kolmogorov-Smirnov statistic and p-value are SciPy's."""
    a, b = table(300, seed=1), table(200, seed=2, latency=1.1)
    row = drift.compare(a, b, features=["response_latency_ms"])["response_latency_ms"]
    expected = stats.ks_2samp(a["response_latency_ms"], b["response_latency_ms"])
    assert row.statistic == pytest.approx(expected.statistic)
    assert row.p_raw == pytest.approx(expected.pvalue, rel=1e-6)


def test_a_million_rows_do_not_alarm_at_a_tenth_of_a_percent() -> None:
    """Significance without relevance is called small, not drift."""
    a, b = table(1_000_000, seed=1), table(1_000_000, seed=2, latency=1.01)
    row = drift.compare(a, b, features=["response_latency_ms"])["response_latency_ms"]
    assert row.p_value < 1e-10
    assert row.verdict == "small"
    assert "too small to matter" in row.sentence


def test_a_heavier_tail_is_found() -> None:
    """Five percent of calls four times slower is drift, shown at the 95th percentile."""
    rng = np.random.default_rng(3)
    current = table(3000, seed=2)
    current["response_latency_ms"] *= np.where(rng.random(3000) < 0.05, 4.0, 1.0)
    row = drift.compare(table(20_000, seed=1), current, features=["response_latency_ms"])[
        "response_latency_ms"
    ]
    assert row.verdict == "drift"
    assert row.effect_name == "95th percentile"


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table, pl.LazyFrame, dict])
def test_any_table_gives_the_same_answer(make) -> None:
    """pandas, polars (eager and lazy), arrow and mappings give one and the same result."""
    a, b = table(500, seed=1), table(300, seed=2, latency=1.5)
    expected = drift.compare(a, b, features=EVERYDAY).to_dict()
    assert drift.compare(make(a), make(b), features=EVERYDAY).to_dict() == expected


def test_files_give_the_same_answer(tmp_path: Path) -> None:
    """Parquet and CSV files give the answer of the table."""
    a, b = table(500, seed=1), table(300, seed=2, latency=1.5)
    paths = []
    for name, columns in (("a", a), ("b", b)):
        parquet.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
        pd.DataFrame(columns).to_csv(tmp_path / f"{name}.csv", index=False)
        paths.append((tmp_path / f"{name}.parquet", tmp_path / f"{name}.csv"))
    expected = drift.compare(a, b, features=EVERYDAY).to_dict()
    for i in (0, 1):
        assert drift.compare(paths[0][i], str(paths[1][i]), features=EVERYDAY).to_dict() == expected


def test_missing_pyarrow_names_the_extra(tmp_path: Path, monkeypatch) -> None:
    """Without pyarrow a Parquet path is refused with the command that helps."""
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DriftInputError, match="pyarrow is not installed") as caught:
        drift.compare(path, path)
    assert "agentguard[parquet]" in caught.value.__notes__[0]


def test_types_can_be_declared() -> None:
    """A mapping of names to types overrides what would be inferred."""
    rng = np.random.default_rng(0)
    a, b = {"x": rng.poisson(40, 300)}, {"x": rng.poisson(40, 200)}
    assert drift.compare(a, b, features={"x": "count"})["x"].type == "count"
    assert drift.compare(a, b, features={"x": None})["x"].type in {"count", "continuous"}
    as_category = drift.compare({"c": [1, 2] * 50}, {"c": [1, 1] * 50}, features={"c": "category"})["c"]
    assert as_category.verdict == "drift"
    with pytest.raises(DriftInputError, match="type `counts`, expected one of continuous"):
        drift.compare(a, b, features={"x": "counts"})


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["a", "b"] * 20, "category"),
        ([True, False] * 20, "share"),
        ([0, 1] * 20, "share"),
        ([0, 1, 2, 5] * 10, "count"),
        ([0.5, 1.5] * 20, "continuous"),
        ([-1, 1] * 20, "continuous"),
        (list(range(500)), "continuous"),
    ],
)
def test_types_are_inferred(values, expected) -> None:
    """Text, booleans, bits, small whole numbers and the rest get their types."""
    assert drift.compare({"x": values}, {"x": values})["x"].type == expected


def test_categories_say_which_one_moved() -> None:
    """Chi-square names the category that moved most; small cells are dealt out at random."""
    a = {"finish_reason": ["stop"] * 900 + ["length"] * 95 + ["tool_calls"] * 5}
    b = {"finish_reason": ["stop"] * 60 + ["length"] * 18 + ["tool_calls"] * 2}
    row = drift.compare(a, b)["finish_reason"]
    assert row.verdict == "drift"
    assert row.test == "chi-square (permutation)"
    assert "'length'" in row.sentence or "'stop'" in row.sentence
    assert row.effect_low < row.effect < row.effect_high


def test_a_new_category_is_found() -> None:
    """A category that the reference never had counts."""
    row = drift.compare({"m": ["a"] * 200}, {"m": ["a"] * 30 + ["b"] * 30})["m"]
    assert row.verdict == "drift"


def test_many_categories_are_bounded() -> None:
    """Rare categories beyond the limit are taken together."""
    rng = np.random.default_rng(0)
    a = {"m": [f"c{i}" for i in rng.integers(0, 900, 5000)]}
    b = {"m": [f"c{i}" for i in rng.integers(0, 900, 3000)]}
    assert drift.compare(a, b)["m"].verdict == "stable"


def test_missing_values_are_a_comparison_of_their_own() -> None:
    """Tokens that went missing are found as quality, while the values that are left are stable."""
    a, b = table(1000, seed=1), table(400, seed=2)
    b["token_count"] = [None if i % 3 == 0 else int(v) for i, v in enumerate(b["token_count"])]
    result = drift.compare(a, b, features=EVERYDAY)
    assert result.drifted == ("token_count (missing)",)
    assert result["token_count"].verdict == "stable"
    assert result["token_count"].missing_current == pytest.approx(1 / 3, abs=0.01)
    assert result.to_verdict(time_unix_ns=5).kind == "quality"


def test_dependent_rows_do_not_alarm() -> None:
    """An error rate over the last fifty calls is no set of independent rows, and is not taken as one."""
    alarms = {True: 0, False: 0}
    for seed in range(30):
        bits = np.random.default_rng(seed).random(1700) < 0.05
        rolling = np.convolve(bits, np.ones(50) / 50, "valid")
        for naive in alarms:
            result = drift.compare(
                {"error_rate": rolling[:1100]}, {"error_rate": rolling[1150:]}, assume_independent_rows=naive
            )
            alarms[naive] += result.is_drift
    assert alarms[True] > 10
    assert alarms[False] <= 4


def test_chance_of_a_false_alarm_is_kept() -> None:
    """Over 300 pairs of quiet tables at most alpha of them alarm, within three standard errors."""
    alarms = sum(
        drift.compare(table(200, seed=2 * i), table(80, seed=2 * i + 1), features=EVERYDAY).is_drift
        for i in range(300)
    )
    assert alarms / 300 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


def test_result_is_plain_data(tmp_path: Path) -> None:
    """The result is JSON, a frame of each library, text, and a verdict value."""
    result = drift.compare(table(500, seed=1), table(300, seed=2, latency=2.0), features=EVERYDAY)
    loaded = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert loaded["status"] == "drift"
    assert (
        len(result.to_frame("pandas"))
        == len(result.to_frame("polars"))
        == result.to_frame("pyarrow").num_rows
    )
    text = str(result)
    assert "response_latency_ms" in text
    assert "holm" in text
    verdict = result.to_verdict(time_unix_ns=7, agent="support")
    assert verdict.kind == "incident"
    assert verdict.drifted == ("response_latency_ms",)
    assert verdict.time_unix_ns == 7
    with pytest.raises(KeyError):
        result["nothing"]


def test_benjamini_hochberg_finds_at_least_as_much() -> None:
    """The other correction never has larger p-values."""
    a, b = table(500, seed=1), table(100, seed=2, latency=1.25, errors=0.08)
    holm, bh = (drift.compare(a, b, features=EVERYDAY, correction=c) for c in ("holm", "bh"))
    assert all(x.p_value >= y.p_value for x, y in zip(holm.features, bh.features, strict=True))


def test_the_watch_loads_no_scipy() -> None:
    """Fitting a month and stepping over it loads no SciPy: a watch lives in somebody's agent."""
    code = (
        "import sys; from agentguard import drift; from agentguard.drift._quiet import watch_simulated;"
        "from agentguard.drift._simulate import simulate;"
        "watch_simulated(simulate(1, days=29), days=29, key=b'k');"
        "print([m for m in sys.modules if m.split('.')[0] in {'scipy', 'narwhals', 'pandas', 'pyarrow'}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
