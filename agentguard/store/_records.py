"""
From the columns of a frame to records, all at once.

What `span_record` of `_rows` says of one row, in a third of the time: a column that has
one value for all spans is looked at once, and ids become text as one string.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import repeat
from typing import Any, Final, cast

from agentguard.errors import SegmentCorruptError
from agentguard.store._content_frame import ContentFrame, ContentTable, table_of, with_items
from agentguard.store._grid import Column, Grid, Group, Ids
from agentguard.store._rows import event_of, link_of
from agentguard.values import SpanRecord

_make: Final = partial(tuple.__new__, SpanRecord)


def records_of(grid: Grid, contents: Sequence[ContentFrame] = ()) -> list[SpanRecord]:
    """
    Make records of all spans of a frame, with their content where that can be opened.

    Args:
        grid:
            The frame.

        contents:
            Frames of content of some of these spans.

    Raises:
        SegmentCorruptError: An event, a link or content is not of the format. Rows by themselves say which.
    """
    count = grid.count
    if not count:
        return []

    def every(column: Column) -> Iterable[Any]:
        return column if len(column) == count else repeat(column[0], count)

    try:
        content = table_of(contents, grid.first_sequence, count) if contents else None
        events = [tuple(map(event_of, each)) for each in grid.event]
        links = [tuple(map(link_of, each)) for each in grid.link]
        rows = zip(
            _id_texts(grid.trace, 16), _id_texts(grid.span, 8), _id_texts(grid.parent, 8), every(grid.name),
            every(grid.kind), every(grid.otel_kind), every(grid.start), every(grid.duration),
            every(grid.status), every(grid.description), _attributes(grid, content), every(events), every(links),
            every(grid.scope), every(grid.scope_version), every(grid.trace_state), strict=True,
        )  # fmt: skip
        records = cast("list[SpanRecord]", list(map(_make, rows)))
        if content is not None:
            for place, items in content.items.items():
                records[place] = with_items(records[place], items)
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise SegmentCorruptError("spans: got a row that does not decode, expected 17 places") from error
    return records


def _id_texts(ids: Ids, size: int) -> Sequence[str]:
    """A column of ids as text."""
    if not isinstance(ids, bytes):
        return ids
    found, nothing = ids.hex(",", size).split(","), "0" * (2 * size)
    return ["" if each == nothing else each for each in found] if nothing in found else found


def _attributes(grid: Grid, content: ContentTable | None) -> Iterable[dict[str, Any]]:
    """The attributes of each span."""
    if len(grid.groups) == 1:
        return _dicts(grid.groups[0], grid.count, content)
    shape = grid.expanded(grid.shape)
    parts = []
    for number, group in enumerate(grid.groups):
        if content is None:
            parts.append(iter(_dicts(group, shape.count(number), None)))
        else:
            places = [place for place, of in enumerate(shape) if of == number]
            parts.append(iter(_dicts(group, len(places), content.only(places))))
    return [next(parts[number]) for number in shape]


def _dicts(group: Group, count: int, content: ContentTable | None) -> Iterable[dict[str, Any]]:
    """The attributes of the spans of one group: what they share is copied, the rest put over it."""
    shared: dict[str, Any] = dict.fromkeys(group.names)
    names: list[str] = []
    columns: list[Iterable[Any]] = []
    for name, column in zip(group.names, group.columns, strict=True):
        if len(column) != count:
            shared[name] = _value(column[0])
        else:
            names.append(name)
            columns.append(map(_value, column) if list in map(type, column) else column)
    said = content.alike() if content else None
    if said is not None:
        # Content of the same names is so many columns more.
        names += said[0]
        columns += said[1]
    found = _each(shared, names, columns, count)
    if content is not None and said is None:
        content.merge(found)
    return found


def _each(
    shared: dict[str, Any], names: Sequence[str], columns: Sequence[Iterable[Any]], count: int
) -> list[dict[str, Any]]:
    """One map for each span."""
    if not columns:
        return [shared.copy() for _ in range(count)]
    found = []
    for row in zip(*columns, strict=True):
        each = shared.copy()
        each.update(zip(names, row, strict=True))
        found.append(each)
    return found


def _value(value: Any) -> Any:
    """Sequences come back as tuples, so that a record stays a value."""
    return tuple(value) if type(value) is list else value
