"""
SQL over spans: an in-memory database that can do nothing but answer.

Only SELECT is let through: no ATTACH, no PRAGMA, no extension, no write, no file.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from typing import Any

from agentguard.errors import StoreError
from agentguard.store._damage import DamageReport
from agentguard.store._features import MISSING, numbers_of, texts_of
from agentguard.store._query import Query
from agentguard.values import FEATURES, SpanRecord

SQL_S_MAX = 60.0
SQL_ROWS_MAX = 1_000_000
_STEPS_BETWEEN_CHECKS = 50_000

_FEATURE_COLUMNS = tuple(
    spec.name for dtype in ("number", "dict") for spec in FEATURES.values()
    if (spec.dtype == "dict") == (dtype == "dict") and spec.name not in {"start_unix_ns", "duration_ns", "kind"}
)  # fmt: skip
SPAN_COLUMNS = (
    "trace_id", "span_id", "parent_span_id", "name", "kind", "otel_kind", "start_unix_ns", "duration_ns",
    "status", "status_description", "scope", "attributes", "events", *_FEATURE_COLUMNS,
)  # fmt: skip

_SCHEMA = f"""
CREATE TABLE spans ({", ".join(f'"{name}"' for name in SPAN_COLUMNS)});
CREATE TABLE outcomes (call_id, time_unix_ns, predicted_label, true_label, score, attributes);
CREATE TABLE gaps (reason, count, first_unix_ns, last_unix_ns);
CREATE VIEW calls AS SELECT span_id AS call_id, trace_id, name, kind, agent, tool, model, status, error_type,
    start_unix_ns / 1e9 AS start_unix_s, duration_ns / 1e6 AS duration_ms, input_tokens, output_tokens,
    cost_usd, retries FROM spans;
"""  # noqa: S608 - made of constants

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
    database = sqlite3.connect(":memory:", isolation_level=None, cached_statements=0)
    try:
        database.execute("PRAGMA temp_store = MEMORY")  # Sorting must not spill content into a file.
        database.executescript(_SCHEMA)
        database.execute("BEGIN")
        spans = source.spans(since_unix_ns=since_unix_ns, newest_first=True, limit=spans_max + 1)
        count = 0
        places = ", ".join("?" * len(SPAN_COLUMNS))
        insert = f"INSERT INTO spans VALUES ({places})"  # noqa: S608 - made of a constant
        for span in spans:
            count += 1
            if count > spans_max:
                break
            database.execute(insert, _span_row(span))
        database.executemany(
            "INSERT INTO outcomes VALUES (?, ?, ?, ?, ?, ?)",
            ((*outcome[:5], _json(outcome.attributes)) for outcome in source.outcomes()),
        )
        database.executemany("INSERT INTO gaps VALUES (?, ?, ?, ?)", source.gaps())
        database.execute("COMMIT")
        result = _select(database, query, min(count, spans_max), is_partial=count > spans_max)
        result.damage = source.damage
        return result
    finally:
        database.close()


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


def _span_row(span: SpanRecord) -> tuple[object, ...]:
    """One row of the table of spans."""
    return (
        span.trace_id, span.span_id, span.parent_span_id, span.name, span.kind, span.otel_kind,
        span.start_unix_ns, span.duration_ns, span.status, span.status_description, span.scope,
        _json(span.attributes), _json([event._asdict() for event in span.events]),
        *(None if value == MISSING or value != value else value for value in numbers_of(span)[2:]),  # noqa: PLR0124 - NaN
        *texts_of(span)[1:],
    )  # fmt: skip


def _json(value: object) -> str:
    """Attributes as text, for the JSON functions of SQLite."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=list)
