"""
SQL over spans: an in-memory database that can do nothing but answer.

Tables, views and indexes are made with sqlite-utils, whose plugins stay out. Only
SELECT is let through: no ATTACH, no PRAGMA, no extension, no write, no file.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agentguard.errors import StoreError
from agentguard.store._damage import DamageReport
from agentguard.store._query import Query
from agentguard.store._table import SPAN_COLUMNS, as_json, span_row
from agentguard.values import SpanRecord

SQL_S_MAX = 60.0
SQL_ROWS_MAX = 1_000_000
_STEPS_BETWEEN_CHECKS = 50_000

_BATCH_ROWS = 1000
_OUTCOME_COLUMNS: Mapping[str, type] = {
    "call_id": str, "time_unix_ns": int, "predicted_label": str, "true_label": str, "score": float,
    "attributes": str,
}  # fmt: skip
_GAP_COLUMNS: Mapping[str, type] = {"reason": str, "count": int, "first_unix_ns": int, "last_unix_ns": int}
_CALLS = """
SELECT span_id AS call_id, trace_id, name, kind, agent, tool, model, status, error_type,
    start_unix_ns / 1e9 AS start_unix_s, duration_ns / 1e6 AS duration_ms, input_tokens, output_tokens,
    cost_usd, retries FROM spans
"""

_ALLOWED = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE})
_DENIED_FUNCTIONS = frozenset({"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer"})


class SqlResult:
    """Columns and rows of one query; unpacks as `columns, rows`."""

    def __init__(
        self,
        columns: Sequence[str],
        rows: list[tuple[Any, ...]],
        *,
        spans: int,
        is_partial: bool,
        is_cut: bool,
    ) -> None:
        self.columns = tuple(columns)
        self.rows = rows
        self.spans = spans
        """How many spans the database held."""
        self.is_partial = is_partial
        """The store holds more spans than were loaded: the oldest are missing."""
        self.is_cut = is_cut
        """The query gives more rows than are returned."""
        self.damage = DamageReport()
        """What could not be read."""

    def __iter__(self) -> Iterator[Any]:
        yield self.columns
        yield self.rows


def run_sql(
    source: Query, query: str, *, since_unix_ns: int | None = None, spans_max: int = 200_000
) -> SqlResult:
    """
    Fill a database in memory with the newest spans, and run one SELECT on it.

    Raises:
        StoreError: The query is no plain SELECT, is wrong, or runs longer than `SQL_S_MAX`.

    """
    # Here: it loads pandas where that is installed, and a program that records has no need of either.
    from sqlite_utils import Database

    connection = sqlite3.connect(":memory:", isolation_level=None, cached_statements=0)
    try:
        connection.execute("PRAGMA temp_store = MEMORY")  # Sorting must not spill content into a file.
        connection.execute("BEGIN")
        database = Database(connection, execute_plugins=False)
        for name, columns in (
            ("spans", SPAN_COLUMNS),
            ("outcomes", _OUTCOME_COLUMNS),
            ("gaps", _GAP_COLUMNS),
        ):
            database.table(name).create(dict(columns))
        database.create_view("calls", _CALLS)
        spans = source.spans(since_unix_ns=since_unix_ns, newest_first=True, limit=spans_max + 1)
        count = _insert_spans(connection, spans, spans_max)
        database.table("outcomes").insert_all(
            (
                dict(zip(_OUTCOME_COLUMNS, (*outcome[:5], as_json(outcome.attributes)), strict=True))
                for outcome in source.outcomes()
            ),
            batch_size=_BATCH_ROWS,
        )
        database.table("gaps").insert_all((gap._asdict() for gap in source.gaps()), batch_size=_BATCH_ROWS)
        # Made at the end, where it is quicker: joins of calls and outcomes, and of a span with its parent.
        database.table("spans").create_index(["span_id"])
        database.table("outcomes").create_index(["call_id"])
        if connection.in_transaction:
            connection.execute("COMMIT")
        result = _select(connection, query, min(count, spans_max), is_partial=count > spans_max)
        result.damage = source.damage
        return result
    finally:
        connection.close()


def _insert_spans(connection: sqlite3.Connection, spans: Iterator[SpanRecord], spans_max: int) -> int:
    """Insert spans, and say how many there were, one more than the maximum where there are more."""
    # Without sqlite-utils, which takes eight times as long for a row and is no help here.
    places = ", ".join("?" * len(SPAN_COLUMNS))
    insert = f"INSERT INTO spans VALUES ({places})"  # noqa: S608 - made of a constant
    count = 0
    for span in spans:
        count += 1
        if count > spans_max:
            break
        connection.execute(insert, span_row(span))
    return count


def _select(database: sqlite3.Connection, query: str, spans: int, *, is_partial: bool) -> SqlResult:
    """Run the query with everything else forbidden."""
    deadline = time.monotonic() + SQL_S_MAX
    database.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    database.set_authorizer(_authorize)
    database.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS_BETWEEN_CHECKS)
    try:
        cursor = database.execute(query)
        rows = cursor.fetchmany(SQL_ROWS_MAX + 1)
    except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError) as error:
        is_denied = "not authorized" in str(error) or "prohibited" in str(error)
        if time.monotonic() > deadline:
            raise StoreError(
                f"sql: got a query that ran longer than {SQL_S_MAX:g} s, expected less"
            ) from None
        if is_denied:
            raise StoreError("sql: got a statement that does more than read, expected one SELECT") from None
        problem = StoreError(f"sql: {error}")
        raise problem.hint("tables: spans, outcomes, gaps; view: calls") from None
    finally:
        database.set_progress_handler(None, 0)
    if cursor.description is None:
        raise StoreError("sql: got a statement without a result, expected one SELECT")
    columns = [column[0] for column in cursor.description]
    return SqlResult(
        columns, rows[:SQL_ROWS_MAX], spans=spans, is_partial=is_partial, is_cut=len(rows) > SQL_ROWS_MAX
    )


def _authorize(action: int, _: str | None, second: str | None, *__: object) -> int:
    """Let reading and harmless functions through."""
    if action in _ALLOWED:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() not in _DENIED_FUNCTIONS:
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY
