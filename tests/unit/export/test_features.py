"""The table of calls: what stands in it, and that the everyday recipe runs on the file."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pyarrow import parquet
from scipy import stats

from agentguard.errors import ExportError
from agentguard.export import (
    FEATURE_COLUMNS,
    FeatureRow,
    feature_rows,
    private_file,
    write_csv,
    write_parquet,
)
from agentguard.values import EVERYDAY_FEATURES, OutcomeRecord, SpanRecord
from tests.support.otlp import make_span


class FakeQuery:
    """Spans and outcomes in memory."""

    def __init__(self, spans: list[SpanRecord], outcomes: list[OutcomeRecord] | None = None) -> None:
        self._spans, self._outcomes = spans, outcomes or []
        self.conditions: dict[str, Any] = {}

    def spans(self, **conditions: Any) -> Iterator[SpanRecord]:
        self.conditions = conditions
        return iter(self._spans)

    def outcomes(self) -> list[OutcomeRecord]:
        return self._outcomes


def model_call(number: int = 1, **attributes: Any) -> SpanRecord:
    status = "error" if "error.type" in attributes else "unset"
    return make_span(number, kind="model", status=status, duration_ns=12_500_000, attributes=attributes)


def only_row(span: SpanRecord, *outcomes: OutcomeRecord) -> FeatureRow:
    (row,) = feature_rows(FakeQuery([span], list(outcomes)))
    return row


def test_a_call_is_a_row() -> None:
    """Latency, tokens, retries, error, names and time are where they belong."""
    row = only_row(
        model_call(
            **{
                "gen_ai.usage.input_tokens": 100,
                "gen_ai.usage.output_tokens": 20,
                "http.request.resend_count": 2,
                "gen_ai.agent.name": "support",
                "gen_ai.request.model": "gpt-5",
                "gen_ai.response.model": "gpt-5-2026",
            }
        )
    )
    assert row[:4] == (12.5, 120, 2, 0)
    assert (row.agent, row.model, row.kind, row.call_id) == ("support", "gpt-5-2026", "model", f"{2:016x}")
    assert row.start_time.isoformat() == "2026-01-01T00:00:00.001000+00:00"


@pytest.mark.parametrize(
    ("attributes", "tokens"),
    [
        ({}, None),
        ({"error.type": "TimeoutError"}, 0),
        ({"error.type": "TimeoutError", "gen_ai.usage.input_tokens": 7}, 7),
        ({"gen_ai.usage.output_tokens": 7}, 7),
        ({"gen_ai.usage.input_tokens": "7"}, None),
        ({"gen_ai.usage.input_tokens": True}, None),
        ({"agentguard.usage.total.input_tokens": 30, "agentguard.usage.total.output_tokens": 3}, 33),
    ],
)
def test_unknown_tokens_are_empty_not_zero(attributes: dict[str, Any], tokens: int | None) -> None:
    """Only a failed call without usage counts as zero."""
    assert only_row(model_call(**attributes)).token_count == tokens


def test_attempts_are_retries_plus_one() -> None:
    """Where no resend count is known, the attempts are."""
    assert only_row(model_call(**{"agentguard.attempts": 3})).retry_count == 2
    assert only_row(model_call(**{"agentguard.attempts": 0})).retry_count == 0
    assert only_row(model_call()).retry_count == 0


def test_outcomes_come_together() -> None:
    """A later label does not take an earlier score away, and a later score replaces an earlier one."""
    call_id = f"{2:016x}"
    row = only_row(
        model_call(),
        OutcomeRecord(call_id, 1, "refund", None, 0.4),
        OutcomeRecord("f" * 16, 2, "other", "other", 0.0),
        OutcomeRecord(call_id, 3, None, "deny", 0.9),
    )
    assert (row.predicted_label, row.true_label, row.score) == ("refund", "deny", 0.9)


def test_conditions_reach_the_store() -> None:
    """Model calls by default; times and agent as asked."""
    query = FakeQuery([])
    assert list(feature_rows(query, agent="a", since_unix_ns=1, until_unix_ns=2)) == []
    assert query.conditions == {"kind": "model", "agent": "a", "since_unix_ns": 1, "until_unix_ns": 2}


def test_everyday_columns_come_first() -> None:
    """The names are those of the catalogue."""
    assert FEATURE_COLUMNS[:4] == EVERYDAY_FEATURES


def test_csv_is_harmless_and_whole() -> None:
    """Empty where unknown, formulas disarmed, one line a row."""
    rows = feature_rows(FakeQuery([model_call(**{"gen_ai.agent.name": "=cmd|' /C calc'!A0"}), model_call(2)]))
    file = io.BytesIO()
    assert write_csv(rows, file) == 2
    head, first, second = csv.reader(io.StringIO(file.getvalue().decode()))
    assert tuple(head) == FEATURE_COLUMNS
    assert not first[head.index("agent")].startswith("=")
    assert second[head.index("token_count")] == ""


def quiet_day(seed: int, count: int, *, slower: float = 1.0) -> list[SpanRecord]:
    chance = random.Random(seed)
    spans = []
    for number in range(count):
        attributes: dict[str, Any] = {
            "gen_ai.usage.input_tokens": int(chance.lognormvariate(6, 0.4)),
            "gen_ai.usage.output_tokens": int(chance.lognormvariate(4, 0.5)),
            "http.request.resend_count": int(chance.random() < 0.1),
        }
        if chance.random() < 0.03:
            attributes["error.type"] = "APITimeoutError"
        duration_ns = int(chance.lognormvariate(0, 0.3) * 4e8 * slower)
        spans.append(model_call(number, **attributes)._replace(duration_ns=duration_ns))
    return spans


@pytest.mark.filterwarnings("ignore:ks_2samp. Exact calculation unsuccessful")
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_the_everyday_recipe_runs_on_the_files(tmp_path: Path, ending: str) -> None:
    """Two exported files, four columns, `scipy.stats.ks_2samp`: slower days are found in the latency alone."""
    for name, spans in (
        ("reference", quiet_day(1, 400)),
        ("quiet", quiet_day(2, 400)),
        ("slow", quiet_day(3, 400, slower=1.5)),
    ):
        with private_file(tmp_path / f"{name}.{ending}", is_replaced=False) as file:
            rows = feature_rows(FakeQuery(spans))
            assert (write_csv if ending == "csv" else write_parquet)(rows, file) == 400

    read = pd.read_csv if ending == "csv" else pd.read_parquet
    reference = read(tmp_path / f"reference.{ending}")

    def p_values(name: str) -> dict[str, float]:
        production = read(tmp_path / f"{name}.{ending}")
        return {
            feature: stats.ks_2samp(reference[feature], production[feature], nan_policy="omit").pvalue
            for feature in EVERYDAY_FEATURES
        }

    assert all(p > 0.01 for p in p_values("quiet").values())
    slow = p_values("slow")
    assert slow["response_latency_ms"] < 1e-6
    assert slow["token_count"] > 0.01


def test_parquet_says_its_types() -> None:
    """Columns have types also where there are no rows; labels and tokens may be missing, latency may not."""
    file = io.BytesIO()
    assert write_parquet(iter(()), file) == 0
    schema = parquet.read_schema(io.BytesIO(file.getvalue()))
    assert schema.names == list(FEATURE_COLUMNS)
    assert str(schema.field("start_time").type) == "timestamp[us, tz=UTC]"
    assert schema.field("token_count").nullable
    assert not schema.field("response_latency_ms").nullable


def test_parquet_writes_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large tables are written in pieces."""
    monkeypatch.setattr("agentguard.export._features._ROWS_A_GROUP", 10)
    file = io.BytesIO()
    assert write_parquet(feature_rows(FakeQuery([model_call(n) for n in range(25)])), file) == 25
    assert parquet.ParquetFile(io.BytesIO(file.getvalue())).num_row_groups == 3


def test_files_are_private_and_whole(tmp_path: Path) -> None:
    """0600, nothing under the name until all is written, no file is replaced unasked."""
    path = tmp_path / "out.csv"
    with pytest.raises(ZeroDivisionError), private_file(path, is_replaced=False) as file:
        file.write(b"half" * (1 // 0))
    assert list(tmp_path.iterdir()) == []
    with private_file(path, is_replaced=False) as file:
        file.write(b"one")
        assert not path.exists()
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ExportError, match="exists"), private_file(path, is_replaced=False):
        pass
    with private_file(path, is_replaced=True) as file:
        file.write(b"two")
    assert path.read_bytes() == b"two"
    with (
        pytest.raises(ExportError, match="cannot be written"),
        private_file(tmp_path / "no" / "x", is_replaced=False),
    ):
        pass
