"""
From the columns of a frame to columns of spans, with their content: for who sends many, and needs no records.

What `records_of` of `_records` says as records. Content becomes columns more, in groups of
spans whose content has the same names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from agentguard.store._content_frame import ContentFrame, ContentTable, Shape, merged, table_of
from agentguard.store._grid import Column, Grid, Group, cut
from agentguard.store._rows import event_of, link_of
from agentguard.values import SpanColumns
from agentguard.values import attributes as names

_TEXTS: Final = (
    "name",
    "kind",
    "otel_kind",
    "status",
    "description",
    "scope",
    "scope_version",
    "trace_state",
)


def columns_of_grid(grid: Grid, contents: Sequence[ContentFrame], start: int) -> SpanColumns | None:
    """
    Make columns of the spans of a frame from the place *start* on.

    Args:
        grid:
            The frame.

        contents:
            Frames of content of some of these spans.

        start:
            Less than there are spans.

    Returns:
        The columns; None where records must be made, which say of each span what is wrong or odd with it.
    """
    if start:
        grid = cut(grid, start, grid.count)
    try:
        table = table_of(contents, grid.first_sequence, grid.count) if contents else None
        filled = grid if table is None else _filled(grid, table)
        trace, span, parent = grid.trace, grid.span, grid.parent
        if filled is None or any(set(map(type, getattr(grid, name))) != {str} for name in _TEXTS):
            return None
        if not (isinstance(trace, bytes) and isinstance(span, bytes) and isinstance(parent, bytes)):
            return None  # One is no id.
        events: Column = [tuple(map(event_of, each)) for each in grid.event]
        links: Column = [tuple(map(link_of, each)) for each in grid.link]
        descriptions = grid.description
        if table is not None and table.items:
            events, links, descriptions = _with_items(
                list(grid.expanded(events)),
                list(grid.expanded(links)),
                list(grid.expanded(descriptions)),
                table,
            )
        return SpanColumns(
            trace, span, parent, grid.name, grid.kind, grid.otel_kind, grid.expanded(grid.start),
            grid.expanded(grid.duration), grid.status, descriptions, events, links, grid.scope,
            grid.scope_version, grid.trace_state, filled.shape,
            [(group.names, group.columns) for group in filled.groups],
        )  # fmt: skip
    except (TypeError, ValueError, LookupError, AttributeError):
        return None


def _with_items(
    events: list[Any], links: list[Any], descriptions: list[str], table: ContentTable
) -> tuple[Column, Column, Column]:
    """Put what is personal back into events, links and status descriptions."""
    for place, (of_events, of_links, description) in table.items.items():
        events[place] = merged(events[place], of_events)
        links[place] = merged(links[place], of_links)
        descriptions[place] = description or descriptions[place]
    return events, links, descriptions


def _filled(grid: Grid, table: ContentTable) -> Grid | None:
    """The grid with the content of its spans in its groups; None where a group would have a name twice."""
    numbers: dict[tuple[int, Shape], int] = {}
    members: list[list[tuple[int, int]]] = []
    """For each new group and span of it: the place in the group that it had, and the row of its content."""
    counts = [0] * len(grid.groups)
    shape = []
    for of, content, row in zip(grid.expanded(grid.shape), table.shapes, table.rows, strict=True):
        number = numbers.setdefault((of, content), len(numbers))
        if number == len(members):
            members.append([])
        members[number].append((counts[of], row))
        counts[of] += 1
        shape.append(number)
    groups = []
    for (of, content), found in zip(numbers, members, strict=True):
        places = [place for place, _ in found]
        group = grid.groups[of]
        keys = list(group.names)
        columns: list[Sequence[Any]] = [
            column if len(column) == 1 else [column[place] for place in places] for column in group.columns
        ]
        if isinstance(content, tuple):
            keys += content
            columns += [[column[row] for _, row in found] for column in table.columns[content]]
        elif content is not None:
            keys.append(names.CONTENT_UNREADABLE)
            columns.append((content,))
        if len(set(keys)) < len(keys):
            return None  # In a record the content counts.
        groups.append(Group(keys, columns))
    fields = {name: getattr(grid, name) for name in Grid.__struct_fields__}
    return Grid(**{**fields, "shape": (0,) if len(groups) == 1 else shape, "groups": groups})
