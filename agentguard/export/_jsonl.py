"""Spans as JSON, one object a line: for whatever reads lines."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, BinaryIO

from agentguard.export._content import Content, outgoing
from agentguard.values import SpanRecord


def span_object(record: SpanRecord) -> dict[str, Any]:
    """Return the span as plain data, with the field names of the record and `end_unix_ns`."""
    plain = record._asdict()
    plain["attributes"] = dict(record.attributes)
    plain["events"] = [{**event._asdict(), "attributes": dict(event.attributes)} for event in record.events]
    plain["links"] = [{**link._asdict(), "attributes": dict(link.attributes)} for link in record.links]
    plain["end_unix_ns"] = record.end_unix_ns
    return plain


def write_jsonl(records: Iterable[SpanRecord], file: BinaryIO, *, content: Content) -> int:
    """
    Write one object a line; returns how many.

    Numbers that JSON does not have (NaN, infinity) become their names as text, so
    that any reader takes every line.
    """
    count = 0
    for record in records:
        file.write(plain_json(span_object(outgoing(record, content))).encode("ascii") + b"\n")
        count += 1
    return count


def plain_json(value: Any) -> str:
    """Write JSON in ASCII; NaN and infinity as text."""
    try:
        return json.dumps(value, ensure_ascii=True, allow_nan=False, default=str)
    except ValueError:
        return json.dumps(_finite(value), ensure_ascii=True, allow_nan=False, default=str)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else str(value)
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return value
