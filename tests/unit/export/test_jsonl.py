"""Spans as lines of JSON."""

from __future__ import annotations

import io
import json
import math

from agentguard.export import Content, span_object, write_jsonl
from agentguard.values import SpanEvent, SpanLink
from tests.support.otlp import make_span


def _lines(*records: object, content: Content = "none") -> list[dict[str, object]]:
    file = io.BytesIO()
    assert write_jsonl(records, file, content=content) == len(records)  # type: ignore[arg-type]
    return [json.loads(line) for line in file.getvalue().splitlines()]


def test_a_span_is_one_line() -> None:
    """All fields are there, with the end; events and links are objects; line breaks in text stay inside."""
    record = make_span(
        1,
        name="a\nb\u2028c",
        events=(SpanEvent("e", 5, {"k": ("x",)}),),
        links=(SpanLink("0" * 32, "1" * 16, {}),),
    )
    (line,) = _lines(record)
    assert line == {**json.loads(json.dumps(span_object(record))), "end_unix_ns": record.end_unix_ns}
    assert line["name"] == "a\nb\u2028c"
    assert line["events"] == [{"name": "e", "time_unix_ns": 5, "attributes": {"k": ["x"]}}]


def test_numbers_that_json_does_not_have_become_text() -> None:
    """Any reader takes every line."""
    (line,) = _lines(make_span(1, attributes={"a": math.nan, "b": (math.inf, 1.0)}))
    assert line["attributes"] == {"a": "nan", "b": ["inf", 1.0]}


def test_content_needs_to_be_asked_for() -> None:
    """Without it the attribute is not there at all."""
    record = make_span(1, attributes={"gen_ai.input.messages": "SECRET", "k": 1})
    assert _lines(record)[0]["attributes"] == {"k": 1}
    assert _lines(record, content="full")[0]["attributes"] == {"gen_ai.input.messages": "SECRET", "k": 1}
