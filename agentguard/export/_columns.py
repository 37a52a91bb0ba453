"""How columns of spans are read span by span."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from agentguard.values import Column, SpanColumns

_T = TypeVar("_T")


def whole(column: Sequence[Any], count: int) -> Sequence[Any]:
    """The column with a value for each span."""
    return column if len(column) == count else [column[0]] * count


def cut(ids: bytes, size: int) -> list[bytes]:
    """Ids that stand side by side, each by itself."""
    return [ids[place : place + size] for place in range(0, len(ids), size)]


def of_groups(
    columns: SpanColumns, make: Callable[[Sequence[str], Sequence[Column], int], Iterable[_T]]
) -> Iterable[_T]:
    """
    Make something of the attributes of each span, a group of them at a time.

    Args:
        columns:
            The spans.
        make:
            Is given names, columns and number of spans of a group; gives something for each span of it.

    Returns:
        What was made, in the order of the spans.
    """
    groups, shape = columns.groups, columns.shape
    if len(groups) == 1:
        return make(*groups[0], len(columns.span_ids) // 8)
    made: list[Iterator[_T]] = [
        iter(make(names, found, shape.count(number))) for number, (names, found) in enumerate(groups)
    ]
    return map(next, map(made.__getitem__, shape))
