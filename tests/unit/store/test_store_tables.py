"""Spans as tables of Arrow, pandas and polars: the same rows, typed, with missing values missing."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from agentguard.errors import StoreError
from agentguard.store import Store, _table
from tests.support.spans import make_span
from tests.support.stores import fill, new_store

SPANS = [make_span(i) for i in range(90)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Ninety spans."""
    store = new_store(tmp_path / "store")
    fill(store, SPANS, is_sealed=True)
    return store


def test_arrow(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows in several batches, numbers as numbers, attributes as JSON."""
    pyarrow = pytest.importorskip("pyarrow")
    monkeypatch.setattr(_table, "_BATCH_ROWS", 40)
    table = store.query().to_arrow()
    assert table.num_rows == 90
    assert table.schema.field("input_tokens").type == pyarrow.int64()
    assert table["span_id"].to_pylist() == [span.span_id for span in SPANS]
    assert table["duration_ns"].to_pylist() == [span.duration_ns for span in SPANS]
    assert table["cost_usd"].null_count == 90
    assert json.loads(table["attributes"][0].as_py())["gen_ai.usage.input_tokens"] == 100
    batches = store.query().to_arrow_batches(limit=50)
    assert [batch.num_rows for batch in batches] == [40, 10]
    assert [batch.num_rows for batch in store.query().to_arrow_batches(name="no such")] == [0]
    assert store.query().to_arrow(name="no such").num_rows == 0
    assert store.query().to_arrow(name="no such").schema == table.schema


def test_pandas(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same in pandas, and what is not known is missing rather than -1."""
    pytest.importorskip("pandas")
    monkeypatch.setattr(_table, "_BATCH_ROWS", 40)
    frame = store.query().to_pandas(agent="sales", limit=20)
    assert len(frame) == 20
    assert str(frame["input_tokens"].dtype) == "Int64"
    assert list(frame["agent"].unique()) == ["sales"]
    assert frame["time_to_first_chunk_ns"].isna().all()
    assert len(store.query().to_pandas(name="no such")) == 0


def test_polars(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same in polars."""
    polars = pytest.importorskip("polars")
    monkeypatch.setattr(_table, "_BATCH_ROWS", 40)
    frame = store.query().to_polars()
    assert frame.height == 90
    assert frame.schema["start_unix_ns"] == polars.Int64
    assert frame["input_tokens"].sum() == sum(100 + i for i in range(90))
    assert frame["cost_usd"].null_count() == 90
    assert store.query().to_polars(name="no such").height == 0


@pytest.mark.parametrize("name", ["arrow", "pandas", "polars"])
def test_a_library_that_is_not_there(store: Store, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""

    def refuse(module: str) -> object:
        raise ImportError(module)

    monkeypatch.setattr(_table, "import_module", refuse)
    with pytest.raises(StoreError, match="is not installed") as caught:
        getattr(store.query(), f"to_{name}")()
    assert "pip install" in "".join(caught.value.__notes__)
    assert importlib.import_module is not refuse
