"""What the store is compared with: SQLCipher, and SQLite shared by processes, one row a span."""

from __future__ import annotations

import os
import secrets
import sqlite3
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from storage_sample import BATCH_SPANS, document_of

from agentguard.values import SpanRecord

_TABLE = (
    "CREATE TABLE IF NOT EXISTS spans (id INTEGER PRIMARY KEY, trace_id TEXT, span_id TEXT UNIQUE, name TEXT,"
    " kind TEXT, start_unix_ns INTEGER, duration_ns INTEGER, status TEXT, document TEXT)"
)
# What the store can do too: each span once, the spans of a trace, those of a time.
_INDEXES = (
    "CREATE INDEX IF NOT EXISTS spans_by_trace ON spans (trace_id)",
    "CREATE INDEX IF NOT EXISTS spans_by_start ON spans (start_unix_ns)",
)
_INSERT = "INSERT INTO spans VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)"
_ALL = "SELECT document FROM spans"


def load_orjson() -> Any:
    """orjson, or a sentence on how to get it."""
    try:
        import orjson
    except ImportError:
        sys.exit(
            "storage: `orjson` is not installed, and the codec floor is measured with it\n"
            "hint: pip install -r requirements/bench-storage.txt, in an environment of its own"
        )
    return orjson


def load_sqlcipher() -> Any:
    """SQLCipher's module, or a sentence on how to get it."""
    try:
        from sqlcipher3 import dbapi2
    except ImportError:
        sys.exit(
            "storage: `sqlcipher3` is not installed, and the store is compared with it\n"
            "hint: pip install -r requirements/bench-storage.txt, in an environment of its own"
        )
    return dbapi2


class RowStore:
    """A database with a row a span, its JSON and the columns that it is found by: WAL, every commit brought to disk, indexes on ids, traces and times."""

    def __init__(self, path: Path, *, is_encrypted: bool, is_new: bool = True) -> None:
        self._orjson = load_orjson()
        self._path = path
        module = load_sqlcipher() if is_encrypted else sqlite3
        self._db = module.connect(str(path), isolation_level=None, timeout=120)
        if is_encrypted:
            # A raw key: no derivation is measured.
            self._db.execute(f"PRAGMA key = \"x'{secrets.token_hex(32)}'\"")
        self._db.execute("PRAGMA synchronous = FULL")
        if is_new:
            # Several processes that do this at once get "database is locked", whatever the time limit.
            for statement in ("PRAGMA journal_mode = WAL", _TABLE, *_INDEXES):
                self._db.execute(statement)

    def write(self, spans: Sequence[SpanRecord], batch_spans: int = BATCH_SPANS) -> None:
        """Insert spans, a transaction for each batch."""
        for first in range(0, len(spans), batch_spans):
            self.write_batch(spans[first : first + batch_spans])

    def write_batch(self, spans: Sequence[SpanRecord]) -> None:
        """Insert spans in one transaction."""
        dumps = self._orjson.dumps
        rows = [
            (
                span.trace_id, span.span_id, span.name, span.kind, span.start_unix_ns, span.duration_ns,
                span.status, dumps(document_of(span)).decode(),
            )
            for span in spans
        ]  # fmt: skip
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany(_INSERT, rows)
        self._db.execute("COMMIT")

    def read(self) -> Iterator[SpanRecord]:
        """Read all spans back."""
        loads = self._orjson.loads
        for row in self._db.execute(_ALL):
            yield SpanRecord(**{"parent_span_id": "", "status_description": ""} | loads(row[0]))

    def bytes_per_span(self, count: int) -> float:
        """What a span takes on disk once the log is merged."""
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return self._path.stat().st_size / count

    def close(self) -> None:
        """Close the database."""
        self._db.close()


def in_processes(count: int, work: Callable[[int, Callable[[], None]], None]) -> list[bytes]:
    """
    Run the same work in forked processes that begin together.

    Args:
        count:
            How many processes.

        work:
            Gets the number of its process, and what waits for the others; prints its
            findings to standard output.

    Returns:
        What each of them printed.

    """
    readers, ready_reader, ready_writer = [], *os.pipe()
    go_reader, go_writer = os.pipe()
    children = []
    for number in range(count):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.close(go_writer)
                os.dup2(writer, 1)

                def wait() -> None:
                    os.write(ready_writer, b"1")
                    os.read(go_reader, 1)

                work(number, wait)
                status = 0
            except BaseException:
                traceback.print_exc()
                os.write(ready_writer, b"0")  # Nobody is to wait for this one.
            finally:
                os._exit(status)
        os.close(writer)
        children.append(child)
        readers.append(reader)
    started = b"".join(os.read(ready_reader, 1) for _ in range(count))
    os.close(go_writer)  # The end of the file is what they all wait for.
    found = []
    for child, reader in zip(children, readers, strict=True):
        parts = []
        while part := os.read(reader, 65536):
            parts.append(part)
        found.append(b"".join(parts))
        os.close(reader)
        os.waitpid(child, 0)
    for fd in (ready_reader, ready_writer, go_reader):
        os.close(fd)
    if b"0" in started or not all(found):
        raise SystemExit("storage: a process failed, see above")
    return found
