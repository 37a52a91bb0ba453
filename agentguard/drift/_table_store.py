"""
A table of calls with a time column, read as if it were a store: history can be fitted and replayed.

The columns are those that `export features` writes: `response_latency_ms`, `token_count`,
`retry_count`, `error_rate`, a time, and `kind` and `agent` where they are known.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from agentguard.drift._columns import Column, Table, read_table
from agentguard.drift._sample import Bools, Floats, Ints
from agentguard.errors import DriftInputError
from agentguard.values import EVERYDAY_FEATURES

TIME_COLUMN = "start_time"


class _TableColumn(NamedTuple):
    """One column, in the shape of the store's."""

    values: memoryview
    dictionary: tuple[str, ...] = ()


class _TableBlock(NamedTuple):
    """All rows of a table, in the shape of a feature block."""

    rows: int
    columns: Mapping[str, _TableColumn]


class _NoBlob:
    """A table keeps nothing."""

    def read(self) -> bytes | None:
        """Return nothing."""
        return None

    def write(self, data: bytes) -> None:
        """Refuse: there is no store to write to."""
        raise DriftInputError(f"a table keeps nothing, got {len(data)} bytes to keep")


class TableStore:
    """Reads one table as feature blocks."""

    def __init__(self, table: object, *, time: str = TIME_COLUMN) -> None:
        """
        Read the table.

        Args:
            table:
                Anything `compare` takes.
            time:
                Name of the column with the time at which each call began: timestamps, ISO 8601 text, or numbers
                since 1970 in seconds, milliseconds, microseconds or nanoseconds, told apart by their size.

        Raises:
            DriftInputError: The table has no time, no everyday column, or a time that cannot be read.
        """
        columns = read_table(table, what="table", only=(*EVERYDAY_FEATURES, "kind", "agent"))
        if not any(name in columns for name in EVERYDAY_FEATURES):
            raise DriftInputError(f"table: none of the columns {', '.join(EVERYDAY_FEATURES)} is there")
        start = read_time(table, time)
        self._block = _block(columns, start)

    def query(self) -> TableStore:
        """Return what has `features`."""
        return self

    def sealed_blob(self, name: str) -> _NoBlob:
        """Return a place that is empty."""
        del name
        return _NoBlob()

    def features(
        self, names: Sequence[str], *, since_unix_ns: int | None = None, until_unix_ns: int | None = None
    ) -> Iterator[_TableBlock]:
        """Yield the whole table; readers pick their time themselves."""
        del names, since_unix_ns, until_unix_ns
        yield self._block


def _block(columns: Table, start: Ints) -> _TableBlock:
    """Put a table's columns into the shape of a feature block."""
    n = len(start)

    def whole(name: str, unknown: int, scale: float = 1.0) -> _TableColumn:
        column = columns.get(name)
        if column is None:
            return _numbers(np.full(n, unknown, dtype=np.int64))
        if column.problem or column.numbers is None:
            raise DriftInputError(
                f"table: column `{name}` {column.problem or 'holds text'}, expected numbers"
            )
        values = column.numbers * scale
        is_usable = np.isfinite(values) & (values >= 0) & (values < 2**62)
        return _numbers(
            np.where(is_usable, np.where(is_usable, values, 0.0).round(), unknown).astype(np.int64)
        )

    kind, agent = columns.get("kind"), columns.get("agent")
    tokens = whole("token_count", -1)
    return _TableBlock(
        n,
        {
            "start_unix_ns": _numbers(start),
            "duration_ns": whole("response_latency_ms", -1, 1e6),
            "input_tokens": tokens,
            "output_tokens": _numbers(np.where(np.asarray(tokens.values) >= 0, 0, -1)),
            "is_usage_missing": _numbers((np.asarray(tokens.values) < 0) & ("token_count" in columns)),
            "retries": whole("retry_count", -1),
            "is_error": whole("error_rate", 0),
            "kind": _texts(kind.texts if kind is not None and kind.texts else ["model"] * n),
            "agent": _texts(agent.texts if agent is not None and agent.texts else [""] * n),
        },
    )


def _numbers(values: np.ndarray[Any, np.dtype[Any]]) -> _TableColumn:
    """Return whole numbers as a column."""
    return _TableColumn(memoryview(array("q", values.astype(np.int64).tobytes())))


def _texts(texts: Sequence[str | None]) -> _TableColumn:
    """Return texts as a column with a dictionary."""
    filled = [text or "" for text in texts]
    distinct = {text: i for i, text in enumerate(dict.fromkeys(filled))}
    return _TableColumn(memoryview(array("q", [distinct[text] for text in filled])), tuple(distinct))


def read_time(table: object, name: str) -> Ints:
    """
    Return a column of times as nanoseconds since 1970-01-01 UTC.

    Raises:
        DriftInputError: The column is not there, or a row of it has no time.
    """
    values = _raw_column(table, name)
    if not len(values):
        raise DriftInputError("table: the table has no rows, expected at least one")
    array_ = np.asarray(values)
    if array_.dtype.kind == "M":
        if np.isnat(array_).any():
            raise _no_times(name, np.isnat(array_))
        times: Ints = array_.astype("datetime64[ns]").astype(np.int64)
        return times
    if array_.dtype.kind in "iuf":
        return _scaled(array_.astype(np.float64), name)
    found = [_instant(value) for value in values]
    if None in found:
        raise _no_times(name, np.array([one is None for one in found]))
    return np.array(found, dtype=np.int64)


def _raw_column(table: object, name: str) -> Sequence[Any] | Floats:
    """Return the values of one column as they are."""
    if isinstance(table, Mapping):
        if name not in table:
            raise DriftInputError(f"table: there is no column `{name}`, expected the time of each call")
        return list(table[name]) if not isinstance(table[name], np.ndarray) else table[name]
    if isinstance(table, (str, os.PathLike)):
        if Path(table).suffix.lower() in {".csv", ".tsv"}:
            found = read_table(table, what="table", only=(name,)).get(name)
            return _raw_cells(found, name)
        from pyarrow import parquet  # an extra; reading the other columns said so where it is missing

        file = parquet.ParquetFile(table)
        if name not in file.schema_arrow.names:
            raise DriftInputError(f"table: there is no column `{name}`, expected the time of each call")
        return file.read(columns=[name]).column(name).to_pylist()  # type: ignore[no-any-return]
    import narwhals as nw  # heavy, and a checker over a store never needs it

    frame: Any = nw.from_native(table)
    frame = frame.collect() if isinstance(frame, nw.LazyFrame) else frame
    if name not in frame.columns:
        raise DriftInputError(f"table: there is no column `{name}`, expected the time of each call")
    return frame[name].to_list()  # type: ignore[no-any-return]


def _raw_cells(column: Column | None, name: str) -> Sequence[Any] | Floats:
    """Return the cells of a text file's column."""
    if column is None:
        raise DriftInputError(f"table: there is no column `{name}`, expected the time of each call")
    if column.numbers is not None:
        return column.numbers
    return [] if column.texts is None else list(column.texts)


def _instant(value: Any) -> int | None:
    """Return one time in nanoseconds; None where it is none."""
    try:
        when = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        aware = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
        return round(aware.timestamp() * 1e6) * 1000
    except (TypeError, ValueError, OverflowError):
        return None


def _no_times(name: str, is_bad: Bools) -> DriftInputError:
    """Say which rows have no time."""
    rows = np.flatnonzero(is_bad) + 1
    return DriftInputError(
        f"table: column `{name}`: {len(rows):,} of {len(is_bad):,} rows hold no time, the first is row {rows[0]:,};"
        " expected a time in each"
    ).hint("timestamps, ISO 8601 text, or numbers since 1970 work; leave other rows out")


def _scaled(numbers: Floats, name: str) -> Ints:
    """Return numbers since 1970 in nanoseconds, their unit told by their size."""
    if not np.isfinite(numbers).all():
        raise _no_times(name, ~np.isfinite(numbers))
    size = float(np.abs(numbers).max())
    factor = next(
        scale for limit, scale in ((1e11, 1e9), (1e14, 1e6), (1e17, 1e3), (np.inf, 1.0)) if size < limit
    )
    return (numbers * factor).astype(np.int64)
