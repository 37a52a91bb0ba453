"""Spans as a Parquet table: columns for what every span has; attributes, events and links as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, BinaryIO, Final

from agentguard.errors import ExportError
from agentguard.export._content import Content, outgoing
from agentguard.export._jsonl import plain_json, span_object
from agentguard.values import SpanRecord

_ROWS_A_GROUP: Final = 10_000
_JSON: Final = frozenset({"attributes", "events", "links"})
_NUMBERS: Final = frozenset({"start_unix_ns", "duration_ns", "end_unix_ns"})
SPAN_COLUMNS: Final = (*SpanRecord._fields, "end_unix_ns")


def write_spans_parquet(records: Iterable[SpanRecord], file: BinaryIO, *, content: Content) -> int:
    """
    Write one row a span; returns how many.

    Args:
        records:
            The spans.
        file:
            Where to.
        content:
            What becomes of recorded content.

    Raises:
        ExportError: pyarrow is not installed.
    """
    try:
        # Imported here: an extra, and a large one.
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ExportError("export: Parquet needs pyarrow").hint(
            "pip install 'agentguard[parquet]'"
        ) from error
    schema = pyarrow.schema(
        [
            pyarrow.field(name, pyarrow.int64() if name in _NUMBERS else pyarrow.string(), nullable=False)
            for name in SPAN_COLUMNS
        ]
    )
    count = 0
    rows: list[dict[str, Any]] = []
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for record in records:
            plain = span_object(outgoing(record, content))
            rows.append(
                {name: plain_json(plain[name]) if name in _JSON else plain[name] for name in SPAN_COLUMNS}
            )
            count += 1
            if len(rows) == _ROWS_A_GROUP:
                writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))
                rows.clear()
        if rows:
            writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))
    return count
