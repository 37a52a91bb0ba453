"""
SQL over spans: an in-memory database that can do nothing but answer.

Tables, views and indexes are made with sqlite-utils, whose plugins stay out. Only
SELECT is let through: no ATTACH, no PRAGMA, no extension, no write, no file.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from agentguard.errors import StoreError
from agentguard.store._damage import DamageReport
from agentguard.store._query import Query
from agentguard.store._sql_tables import Reads, create_tables, fill_tables
from agentguard.store._table import SPAN_COLUMNS
from agentguard.store._telling import OnContentRead

SQL_S_MAX = 60.0
SQL_ROWS_MAX = 1_000_000
_STEPS_BETWEEN_CHECKS = 50_000

Authorizer = Callable[..., int]
"""Says of each action of a statement whether it is allowed."""

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
    source: Query,
    query: str,
    *,
    since_unix_ns: int | None = None,
    spans_max: int | None = None,
    on_content_read: OnContentRead | None = None,
) -> SqlResult:
    """
    Fill a database in memory with what one SELECT reads, and run it.

    Args:
        source:
            What is loaded; it tells nobody.

        query:
            One SELECT.

        since_unix_ns:
            Only spans that start then or later.

        spans_max:
            How many at most.

        on_content_read:
            Is told of a query that can show content of what is loaded, by its hash: it may quote some.

    Raises:
        StoreError: The query is no plain SELECT, is wrong, or runs longer than `SQL_S_MAX`.

    """
    # Here: it loads pandas where that is installed, and a program that records has no need of either.
    from sqlite_utils import Database

    connection = sqlite3.connect(":memory:", isolation_level=None, cached_statements=0)
    try:
        connection.execute("PRAGMA temp_store = MEMORY")  # Sorting must not spill content into a file.
        database = Database(connection, execute_plugins=False)
        create_tables(database)
        reads = _what_it_reads(connection, query)
        connection.execute("BEGIN")
        tell = None
        if on_content_read is not None:
            digest = hashlib.sha256(query.encode("utf-8", "surrogatepass")).hexdigest()
            tell = partial(on_content_read, f"sql sha256:{digest}")
        loaded = fill_tables(
            database, source, reads, since_unix_ns=since_unix_ns, spans_max=spans_max, tell=tell
        )
        if connection.in_transaction:
            connection.execute("COMMIT")
        columns, rows = _select(connection, query)
        result = SqlResult(
            columns, rows[:SQL_ROWS_MAX], spans=loaded.spans, is_partial=loaded.is_partial,
            is_cut=len(rows) > SQL_ROWS_MAX,
        )  # fmt: skip
        result.damage = source.damage
        return result
    finally:
        connection.close()


def _what_it_reads(connection: sqlite3.Connection, query: str) -> Reads:
    """Find out which columns a query reads, by running it for a moment while the tables are empty."""
    found: dict[str, set[str]] = {}

    def note(action: int, table: str | None, column: str | None, *_: object) -> int:
        if action == sqlite3.SQLITE_READ and table:
            found.setdefault(table, set()).update({column} & SPAN_COLUMNS.keys() if column else ())
        return _authorize(action, table, column)

    _run(connection, query, note, steps_max=_STEPS_BETWEEN_CHECKS)
    return Reads({table: frozenset(columns) for table, columns in found.items()})


def _select(connection: sqlite3.Connection, query: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Run the query with everything else forbidden."""
    found = _run(connection, query, _authorize)
    if found is None:
        raise StoreError(f"sql: got a query that ran longer than {SQL_S_MAX:g} s, expected less")
    return found


def _run(
    database: sqlite3.Connection, query: str, authorize: Authorizer, steps_max: int = 0
) -> tuple[list[str], list[tuple[Any, ...]]] | None:
    """
    Run a query; `None` where it took too many steps, or too long.

    Raises:
        StoreError: The query is no plain SELECT, or is wrong.
    """
    deadline = time.monotonic() + SQL_S_MAX
    is_over: list[bool] = []

    def interrupt() -> bool:
        if steps_max or time.monotonic() > deadline:
            is_over.append(True)
        return bool(is_over)

    database.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    database.set_authorizer(authorize)
    database.set_progress_handler(interrupt, steps_max or _STEPS_BETWEEN_CHECKS)
    try:
        cursor = database.execute(query)
        rows = cursor.fetchmany(SQL_ROWS_MAX + 1)
    except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError) as error:
        if is_over:
            return None
        if "not authorized" in str(error) or "prohibited" in str(error):
            raise StoreError("sql: got a statement that does more than read, expected one SELECT") from None
        problem = StoreError(f"sql: {error}")
        raise problem.hint("tables: spans, outcomes, gaps; view: calls") from None
    finally:
        database.set_progress_handler(None, 0)
        database.set_authorizer(None)
    if cursor.description is None:
        raise StoreError("sql: got a statement without a result, expected one SELECT")
    return [column[0] for column in cursor.description], rows


def _authorize(action: int, _: str | None, second: str | None, *__: object) -> int:
    """Let reading and harmless functions through."""
    if action in _ALLOWED:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() not in _DENIED_FUNCTIONS:
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY
