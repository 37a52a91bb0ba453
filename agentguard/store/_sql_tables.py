"""
The tables that SQL runs over: filled with no more columns than a query reads.

A query that needs only numbers and names is answered from the feature blocks, and
opens no content; then millions of spans fit. One that reads content is given the
newest spans, up to a number.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agentguard.store._features import MISSING, Column
from agentguard.store._query import Query
from agentguard.store._table import SPAN_COLUMNS, as_json, row_maker
from agentguard.store._telling import has_content, tell_before_content
from agentguard.values import FEATURES

if TYPE_CHECKING:
    # Only the type: the caller loads it when it is needed.
    from sqlite_utils import Database

SPANS_MAX: Final = 200_000
"""Spans that are loaded where content, ids or names of spans are read, unless more are asked for."""
NUMBERS_MAX: Final = 2_000_000
"""Spans that are loaded where numbers and names of the feature blocks are enough: about 150 bytes each."""
OUTCOME_COLUMNS: Final[Mapping[str, type]] = {
    "call_id": str, "time_unix_ns": int, "predicted_label": str, "true_label": str, "score": float,
    "attributes": str,
}  # fmt: skip
GAP_COLUMNS: Final[Mapping[str, type]] = {
    "reason": str, "count": int, "first_unix_ns": int, "last_unix_ns": int,
}  # fmt: skip
_CALLS: Final = """
SELECT span_id AS call_id, trace_id, name, kind, agent, tool, model, status, error_type,
    start_unix_ns / 1e9 AS start_unix_s, duration_ns / 1e6 AS duration_ms, input_tokens, output_tokens,
    cost_usd, retries FROM spans
"""
_MAY_SHOW_CONTENT: Final = frozenset({"attributes", "events", "status_description"})
_TEXTS: Final = frozenset(spec.name for spec in FEATURES.values() if spec.dtype == "dict")


class Reads(NamedTuple):
    """What a query reads: columns by table; a table that is only counted has none."""

    columns: Mapping[str, frozenset[str]]

    def of(self, table: str) -> frozenset[str] | None:
        """Columns of a table; `None` where it is not read at all."""
        return self.columns.get(table)


class Loaded(NamedTuple):
    """What was loaded."""

    spans: int
    is_partial: bool
    """There are more, older ones."""


def create_tables(database: Database) -> None:
    """Make the tables, all of them empty."""
    for name, columns in (("spans", SPAN_COLUMNS), ("outcomes", OUTCOME_COLUMNS), ("gaps", GAP_COLUMNS)):
        database.table(name).create(dict(columns))
    database.create_view("calls", _CALLS)


def fill_tables(
    database: Database,
    source: Query,
    reads: Reads,
    *,
    since_unix_ns: int | None,
    spans_max: int | None,
    tell: Callable[[], object] | None = None,
) -> Loaded:
    """
    Fill what a query reads.

    Args:
        database:
            Has the tables already.

        source:
            What is loaded.

        reads:
            Which columns; others stay empty.

        since_unix_ns:
            Only spans that start then or later.

        spans_max:
            How many spans at most, the newest ones; `None` for `SPANS_MAX`, or `NUMBERS_MAX` where
            feature blocks are enough.

        tell:
            Called before content goes into a column that is read.
    """
    connection = database.conn
    loaded = Loaded(0, is_partial=False)
    columns = reads.of("spans")
    if columns is not None:
        if columns <= FEATURES.keys():
            loaded = _fill_numbers(connection, source, columns, since_unix_ns, spans_max or NUMBERS_MAX)
        else:
            shown = tell if columns & _MAY_SHOW_CONTENT else None
            loaded = _fill_spans(connection, source, columns, since_unix_ns, spans_max or SPANS_MAX, shown)
    if reads.of("outcomes") is not None:
        rows = ((*outcome[:5], as_json(outcome.attributes)) for outcome in source.outcomes())
        _insert(connection, "outcomes", list(OUTCOME_COLUMNS), rows)
        database.table("outcomes").create_index(["call_id"])
        if columns is not None and "span_id" in columns:
            # Made at the end, where it is quicker: joins of calls and outcomes.
            database.table("spans").create_index(["span_id"])
    if reads.of("gaps") is not None:
        _insert(connection, "gaps", list(GAP_COLUMNS), iter(source.gaps()))
    return loaded


def _fill_spans(
    connection: sqlite3.Connection,
    source: Query,
    columns: frozenset[str],
    since: int | None,
    spans_max: int,
    tell: Callable[[], object] | None,
) -> Loaded:
    """Load whole spans, the newest first, and of each what is read."""
    names, row_of = row_maker(columns)
    spans = source.spans(since_unix_ns=since, newest_first=True, limit=spans_max + 1)
    if tell is not None:
        spans = tell_before_content(spans, tell, has_content)
    count = _insert(
        connection, "spans", names, map(row_of, (s for _, s in zip(range(spans_max), spans, strict=False)))
    )
    return Loaded(count, is_partial=next(spans, None) is not None)


def _fill_numbers(
    connection: sqlite3.Connection, source: Query, columns: frozenset[str], since: int | None, spans_max: int
) -> Loaded:
    """Load columns of the feature blocks, a block at a time."""
    names = sorted(columns) or ["start_unix_ns"]
    since, is_partial = _since_newest(source, since, spans_max)

    def rows() -> Iterator[tuple[object, ...]]:
        for block in source.features(names, since_unix_ns=since):
            empty = [None] * block.rows
            yield from zip(
                *(_values(block.columns[name]) if name in block.columns else empty for name in names),
                strict=True,
            )

    limited = (row for _, row in zip(range(spans_max), rows(), strict=False))
    return Loaded(_insert(connection, "spans", names, limited), is_partial)


def _since_newest(source: Query, since: int | None, spans_max: int) -> tuple[int | None, bool]:
    """From when on there are no more spans than that; looks at nothing but starts, and only if there are."""
    if sum(info.spans for info in source.segments()) <= spans_max:
        return since, False
    starts = array("q")
    for block in source.features(["start_unix_ns"], since_unix_ns=since):
        starts.extend(block.columns["start_unix_ns"].values)
    if len(starts) <= spans_max:
        return since, False
    return sorted(starts)[-spans_max], True


def _values(column: Column) -> Sequence[object]:
    """The values of a column; what is not known is empty."""
    if column.name in _TEXTS:
        return column.texts()
    if column.values.format == "d":
        return [None if value != value else value for value in column.values]  # noqa: PLR0124 - NaN
    return [None if value == MISSING else value for value in column.values]


def _insert(
    connection: sqlite3.Connection, table: str, names: Sequence[str], rows: Iterator[tuple[Any, ...]]
) -> int:
    """Insert rows and say how many there were."""
    # Without sqlite-utils, which takes eight times as long for a row and is no help here.
    places = ", ".join("?" * len(names))
    insert = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({places})"  # noqa: S608 - made of constants
    before = connection.total_changes
    connection.executemany(insert, rows)
    return connection.total_changes - before
