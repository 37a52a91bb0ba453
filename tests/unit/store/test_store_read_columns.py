"""Spans read as columns: the same spans, places and order as one by one, whatever file they are in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from agentguard.store import PositionedColumns, Store, has_content
from agentguard.values import SpanColumns, SpanEvent, SpanRecord
from agentguard.values import attributes as names
from tests.support.content import UNREADABLE, content_span, user
from tests.support.spans import FinishedSpan, make_span
from tests.support.stores import fill, new_store, new_writer, open_store, segment_files

SPANS = [
    content_span(i, of_user=f"user-{i % 3}", says="x" * (i % 4)) if i % 4 else make_span(i)
    for i in range(240)
]
"""Of three in four a part is sealed for somebody; events and links have attributes that nobody knows."""


def records_of(columns: SpanColumns) -> list[SpanRecord]:
    """The spans one by one."""
    count = len(columns.span_ids) // 8

    def every(column: Any) -> Any:
        return column if len(column) == count else list(column) * count

    def ids(packed: bytes, size: int) -> list[str]:
        found = [packed[i : i + size].hex() for i in range(0, len(packed), size)]
        return ["" if each == "0" * 2 * size else each for each in found]

    shape = every(columns.shape)
    attributes = []
    for place, number in enumerate(shape):
        keys, found = columns.groups[number]
        size, row = shape.count(number), shape[:place].count(number)
        values = [column[row if len(column) == size else 0] for column in found]
        attributes.append(dict(zip(keys, [tuple(v) if type(v) is list else v for v in values], strict=True)))
    return [SpanRecord(*row) for row in zip(
        ids(columns.trace_ids, 16), ids(columns.span_ids, 8), ids(columns.parent_span_ids, 8),
        every(columns.names), every(columns.kinds), every(columns.otel_kinds), columns.starts_unix_ns,
        columns.durations_ns, every(columns.statuses), every(columns.status_descriptions), attributes,
        every(columns.events), every(columns.links), every(columns.scopes), every(columns.scope_versions),
        every(columns.trace_states), strict=True,
    )]  # fmt: skip


def one_by_one(
    found: Iterator[PositionedColumns],
) -> list[tuple[tuple[str, int, int], SpanRecord, Mapping[str, str]]]:
    """What `positions` would give."""
    return [
        ((writer, n, sequence), span, resource)
        for (writer, n, first), spans, resource in found
        for sequence, span in enumerate(
            records_of(spans) if isinstance(spans, SpanColumns) else [spans], first
        )
    ]  # fmt: skip


def made(tmp_path: Path, kind: str, spans: list[SpanRecord]) -> Store:
    """A store with spans in files of one kind."""
    store = new_store(tmp_path / kind)
    if kind == "packed":
        for first in range(0, len(spans), 15):
            fill(store, spans[first : first + 15], is_sealed=True, frame_spans_max=10)
        assert store.compact().packs == 1
    else:
        fill(store, spans, is_sealed=kind == "sealed", frame_spans_max=30)
    return store


@pytest.mark.parametrize("kind", ["live", "sealed", "packed"])
def test_columns_are_the_spans(tmp_path: Path, kind: str) -> None:
    """From the beginning and from any place on; all of them as columns."""
    store = made(tmp_path, kind, SPANS)
    expected = list(store.query().positions())
    assert all(isinstance(each.spans, SpanColumns) for each in store.query().columns())
    assert one_by_one(store.query().columns()) == expected
    for place in range(0, 240, 13):
        cursor = {each.cursor[0]: each.cursor[1:] for each in expected[: place + 1]}
        rest = store.query().columns(cursor)
        assert one_by_one(rest) == list(store.query().positions(cursor)), place
    assert list(store.query().columns(store.query().end())) == []


def test_what_grows_is_followed(tmp_path: Path) -> None:
    """Each look gives what came since the last one, wherever a frame was cut by it."""
    store, reader = new_store(tmp_path / "s"), open_store(tmp_path / "s")
    writer = new_writer(store, is_sealing=False)
    cursor: dict[str, tuple[int, int]] = {}
    for first, stop in pairwise([0, 7, 8, 60, 61, 240]):
        for span in SPANS[first:stop]:
            writer.append(FinishedSpan(span))
        assert writer.flush(10).is_complete
        found = one_by_one(reader.query().columns(cursor))
        assert [span for _, span, _ in found] == SPANS[first:stop]
        cursor = {found[-1][0][0]: found[-1][0][1:]}
        wanted = SPANS[first]
        assert wanted in list(reader.query().spans(trace_id=wanted.trace_id))
    writer.close(10)


def test_what_is_erased_says_so(tmp_path: Path) -> None:
    """Spans whose content cannot be read are in columns too, with the reason."""
    store = made(tmp_path, "sealed", SPANS)
    store.erase(user("user-1"), record=lambda _: None)
    expected = list(store.query().positions())
    assert any(each.span.attributes.get(UNREADABLE) == "erased" for each in expected)
    assert one_by_one(store.query().columns()) == expected


def test_odd_spans_are_given_by_themselves(tmp_path: Path) -> None:
    """An id that is none: the spans of its frame come as records, and the others as columns."""
    spans = list(SPANS[:90])
    spans[40] = spans[40]._replace(parent_span_id="nobody")
    store = made(tmp_path, "live", spans)
    found = list(store.query().columns())
    assert [isinstance(each.spans, SpanColumns) for each in found] == [True, *[False] * 30, True]
    assert one_by_one(iter(found)) == list(store.query().positions())


@pytest.mark.parametrize("kind", ["live", "sealed"])
def test_damage_costs_what_is_damaged(tmp_path: Path, kind: str) -> None:
    """Frames that do not open are reported and passed over, as they are one by one."""
    store = made(tmp_path, kind, SPANS)
    (path,) = segment_files(store)
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    query, other = open_store(store.folder).query(), open_store(store.folder).query()
    found = one_by_one(query.columns())
    assert found == list(other.positions())
    assert len(found) < len(SPANS)
    assert query.damage.counts == other.damage.counts != {}


def test_content_of_any_is_content_of_all(tmp_path: Path) -> None:
    """Whether columns hold somebody's words is said as of records: attributes, events, links."""
    quiet = [span._replace(attributes={"gen_ai.agent.name": "a"}, events=(), links=()) for span in SPANS[:4]]
    loud = quiet[1]._replace(events=(SpanEvent("exception", 1, {"exception.message": "x"}),))
    named = quiet[1]._replace(attributes={names.USER_ID: "ann"})
    for number, (spans, expected) in enumerate(
        [(quiet, False), ([*quiet, loud], True), ([*quiet, named], True)]
    ):
        store = made(tmp_path / str(number), "live", spans)
        (found,) = store.query().columns()
        assert has_content(found.spans) is expected is any(map(has_content, spans))
