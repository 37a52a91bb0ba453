"""
Spans as a table: one vocabulary of columns for SQL, Arrow, pandas and polars.

Content and events are columns of JSON text; a number that is not known is empty.
The libraries are loaded only by whoever asks for their tables.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypedDict, Unpack

from agentguard.errors import StoreError
from agentguard.store._features import MISSING, numbers_of, texts_of
from agentguard.values import FEATURES, SpanRecord

if TYPE_CHECKING:
    # Only the types: none of them is a dependency.
    import pandas as pd  # type: ignore[import-untyped, unused-ignore]
    import polars as pl
    import pyarrow as pa

_DTYPES: Final = {"int64": int, "float64": float, "dict": str}
_FEATURE_COLUMNS = {
    spec.name: _DTYPES[spec.dtype]
    for is_text in (False, True) for spec in FEATURES.values()
    if (spec.dtype == "dict") is is_text and spec.name not in {"start_unix_ns", "duration_ns", "kind"}
}  # fmt: skip
SPAN_COLUMNS: Mapping[str, type] = {
    "trace_id": str, "span_id": str, "parent_span_id": str, "name": str, "kind": str, "otel_kind": str,
    "start_unix_ns": int, "duration_ns": int, "status": str, "status_description": str, "scope": str,
    "attributes": str, "events": str, **_FEATURE_COLUMNS,
}  # fmt: skip
"""The columns of a table of spans, with the type of their values."""
_BATCH_ROWS: Final = 8192
_ARROW: Final = {int: "int64", float: "float64", str: "string"}
_PANDAS: Final = {int: "Int64", float: "Float64", str: "string"}
_POLARS: Final = {int: "Int64", float: "Float64", str: "String"}


class Wanted(TypedDict, total=False):
    """What `Query.spans` may be asked for."""

    since_unix_ns: int | None
    until_unix_ns: int | None
    trace_id: str | None
    call_id: str | None
    kind: str | None
    name: str | None
    agent: str | None
    status: str | None
    limit: int
    newest_first: bool


_WHOLE = frozenset(SpanRecord._fields) - {"attributes", "events"}


def row_maker(columns: Iterable[str]) -> tuple[list[str], Callable[[SpanRecord], tuple[object, ...]]]:
    """
    Say how a row with some columns is made of a span.

    Returns:
        The names of the columns, in the order of the table, and what makes the values.
    """
    wanted = set(columns)
    names = [name for name in SPAN_COLUMNS if name in wanted]
    whole = [name for name in names if name in _WHOLE]
    derived = [name for name in _FEATURE_COLUMNS if name in wanted]

    def row_of(span: SpanRecord) -> tuple[object, ...]:
        row: list[object] = [getattr(span, name) for name in whole]
        if "attributes" in wanted:
            row.append(as_json(span.attributes))
        if "events" in wanted:
            row.append(as_json([event._asdict() for event in span.events]))
        if derived:
            values = dict(zip(_FEATURE_COLUMNS, (*numbers_of(span)[2:], *texts_of(span)[1:]), strict=True))
            found = (values[name] for name in derived)
            row += [None if value == MISSING or value != value else value for value in found]  # noqa: PLR0124 - NaN
        return tuple(row)

    return names, row_of


def as_json(value: object) -> str:
    """Attributes as text."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=list)


def _batches(spans: Iterable[SpanRecord]) -> Iterator[dict[str, tuple[Any, ...]]]:
    """Cut spans into tables of columns, so that not all rows are held beside all columns; at least one."""
    _, row_of = row_maker(SPAN_COLUMNS)
    rows, is_first = map(row_of, spans), True
    while batch := list(islice(rows, _BATCH_ROWS)):
        yield dict(zip(SPAN_COLUMNS, zip(*batch, strict=True), strict=True))
        is_first = False
    if is_first:
        yield dict.fromkeys(SPAN_COLUMNS, ())


def _load(name: str) -> Any:
    """
    Load a library of tables.

    Raises:
        StoreError: It is not installed.
    """
    try:
        return import_module(name)
    except ImportError:
        raise StoreError(f"query: `{name}` is not installed").hint(f"pip install {name}") from None


def arrow_batches(spans: Iterable[SpanRecord]) -> Iterator[pa.RecordBatch]:
    """
    Make Arrow batches, one at a time; at least one, so that there is a schema.

    Raises:
        StoreError: pyarrow is not installed.
    """
    arrow = _load("pyarrow")
    schema = arrow.schema([(name, _ARROW[kind]) for name, kind in SPAN_COLUMNS.items()])
    for batch in _batches(spans):
        columns = [
            arrow.array(column, field.type) for column, field in zip(batch.values(), schema, strict=True)
        ]
        yield arrow.RecordBatch.from_arrays(columns, schema=schema)


def arrow_table(spans: Iterable[SpanRecord]) -> pa.Table:
    """
    Make an Arrow table.

    Raises:
        StoreError: pyarrow is not installed.
    """
    arrow = _load("pyarrow")
    table: pa.Table = arrow.Table.from_batches(list(arrow_batches(spans)))
    return table


def pandas_frame(spans: Iterable[SpanRecord]) -> pd.DataFrame:
    """
    Make a pandas data frame, of types that know a missing value.

    Raises:
        StoreError: pandas is not installed.
    """
    pandas = _load("pandas")
    frame: pd.DataFrame = pandas.concat(
        [
            pandas.DataFrame(
                {
                    name: pandas.array(list(column), dtype=_PANDAS[SPAN_COLUMNS[name]])
                    for name, column in batch.items()
                }
            )
            for batch in _batches(spans)
        ],
        ignore_index=True,
    )
    return frame


def polars_frame(spans: Iterable[SpanRecord]) -> pl.DataFrame:
    """
    Make a polars data frame.

    Raises:
        StoreError: polars is not installed.
    """
    polars = _load("polars")
    schema = {name: getattr(polars, _POLARS[kind]) for name, kind in SPAN_COLUMNS.items()}
    frame: pl.DataFrame = polars.concat(
        [
            polars.DataFrame({name: list(column) for name, column in batch.items()}, schema=schema)
            for batch in _batches(spans)
        ]
    )
    return frame


class AsTables:
    """Something with `spans`, which can give them as a table as well."""

    spans: Callable[..., Iterator[SpanRecord]]

    def to_arrow(self, **wanted: Unpack[Wanted]) -> pa.Table:
        """
        Give the spans as an Arrow table; arguments as those of `spans`.

        All of it is in memory, about 3 KB a span with content: give a limit, or times, or take
        `to_arrow_batches`.

        Raises:
            StoreError: pyarrow is not installed.
        """
        return arrow_table(self.spans(**wanted))

    def to_arrow_batches(self, **wanted: Unpack[Wanted]) -> Iterator[pa.RecordBatch]:
        """
        Give the spans as Arrow batches of 8,192, in flat memory; arguments as those of `spans`.

        Returns:
            An iterator; the last batch may be shorter, and the only one empty.

        Raises:
            StoreError: pyarrow is not installed.
        """
        return arrow_batches(self.spans(**wanted))

    def to_pandas(self, **wanted: Unpack[Wanted]) -> pd.DataFrame:
        """
        Give the spans as a pandas data frame, all of it in memory; arguments as those of `spans`.

        Raises:
            StoreError: pandas is not installed.
        """
        return pandas_frame(self.spans(**wanted))

    def to_polars(self, **wanted: Unpack[Wanted]) -> pl.DataFrame:
        """
        Give the spans as a polars data frame, all of it in memory; arguments as those of `spans`.

        Raises:
            StoreError: polars is not installed.
        """
        return polars_frame(self.spans(**wanted))
