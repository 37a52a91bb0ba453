"""
Content leaves the shared rows and is sealed for the person it is about.

A span is content where an attribute, an event or a link of it holds content, or
where it names a user. Then all values that may name or quote a person go into
the group of its user and conversation, which is sealed under keys of their own. A
span with neither user nor conversation keeps its content in its row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final, NamedTuple

from agentguard.store import _codec
from agentguard.store._groups import ContentRow
from agentguard.store._layout import Kind
from agentguard.store._live import Body, make_body
from agentguard.store._rows import (
    EVENTS,
    LINKS,
    SHAPE,
    STATUS_DESCRIPTION,
    VALUES,
    Grid,
    encode_plain,
    pack_rows,
)
from agentguard.values import CONVERSATION_ATTRIBUTES, USER_ATTRIBUTES, is_content, is_personal

PENDING: Final = 255
"""The codec of a body whose content is not sealed yet; it never reaches a file."""
_SUBJECT_CHARS_MAX: Final = 512
_CODE = re.compile(r"[A-Za-z0-9_.]*", re.ASCII)
"""What a class of an exception looks like; any other status description may be a sentence about somebody."""


class _Plan(NamedTuple):
    """What is done with the values of one tuple of attribute names."""

    is_content: bool
    kept: tuple[str, ...]
    keep: Callable[[Sequence[Any]], Sequence[Any]]
    moved: tuple[str, ...]
    move: Callable[[Sequence[Any]], Sequence[Any]]
    users: tuple[int, ...]
    conversations: tuple[int, ...]

    def subject_of(self, values: Sequence[Any]) -> tuple[str, str]:
        """User and conversation; empty where there is none."""
        return _first(values, self.users), _first(values, self.conversations)


@lru_cache(maxsize=4096)
def _plan_of(names: tuple[str, ...]) -> _Plan:
    moved = [i for i, name in enumerate(names) if is_personal(name)]
    kept = [i for i, name in enumerate(names) if not is_personal(name)]
    return _Plan(
        any(is_content(name) or name in USER_ATTRIBUTES for name in names),
        tuple(names[i] for i in kept),
        _picking(kept),
        tuple(names[i] for i in moved),
        _picking(moved),
        tuple(names.index(name) for name in USER_ATTRIBUTES if name in names),
        tuple(names.index(name) for name in CONVERSATION_ATTRIBUTES if name in names),
    )


def _picking(places: Sequence[int]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """Take the values at these places."""
    if len(places) > 1:
        return itemgetter(*places)
    return lambda values: [values[place] for place in places]


def _first(values: Sequence[Any], places: Sequence[int]) -> str:
    for place in places:
        if values[place]:
            return str(values[place])[:_SUBJECT_CHARS_MAX]
    return ""


class Group:
    """What was said by or about one user in one conversation, within one frame."""

    __slots__ = ("_rows", "_shapes", "places")

    def __init__(self) -> None:
        self.places: list[int] = []
        """For each row of content its row in the frame."""
        self._shapes: dict[tuple[str, ...], int] = {}
        self._rows: list[ContentRow] = []

    def take(self, row: list[Any], place: int, plan: _Plan) -> None:
        """Move the personal part of a row here."""
        self.places.append(place)
        self._rows.append(_take_out(row, plan, self._shapes))

    def packed(self) -> tuple[bytes, int]:
        """Codec and compressed content, which is what is sealed; and how long the content is."""
        plain = encode_plain([list(self._shapes), self._rows])
        codec, data = _codec.compress(plain)
        return bytes([codec]) + data, len(plain)


Groups = Mapping[tuple[str, str], Group]
"""By user and conversation; either may be empty, not both."""


def split_content(grid: Grid) -> tuple[Grid, Groups]:
    """
    Take what names or quotes a person out of the rows.

    Returns:
        The rows without it, and the groups of it; the grid as it was where there are none.
    """
    plans = [_plan_of(tuple(names)) for names in grid.shapes]
    has_content = any(plan.is_content for plan in plans)
    if not has_content and not any(row[EVENTS] or row[LINKS] for row in grid.rows):
        return grid, {}
    groups: dict[tuple[str, str], Group] = {}
    shapes: dict[tuple[str, ...], int] = {}
    whole: dict[int, int] = {}
    reduced: dict[int, int] = {}
    rows: list[Any] = []
    for place, (number, packed) in enumerate(zip(grid.shape, grid.rows, strict=True)):
        plan, row, subject = plans[number], list(packed), ("", "")
        if plan.is_content or _has_content(row[EVENTS]) or _has_content(row[LINKS]):
            subject = plan.subject_of(row[VALUES])
        names, numbers = tuple(grid.shapes[number]), whole
        if any(subject):
            groups.setdefault(subject, Group()).take(row, place, plan)
            names, numbers = plan.kept, reduced
        if number not in numbers:
            numbers[number] = shapes.setdefault(names, len(shapes))
        row[SHAPE] = numbers[number]
        rows.append(row)
    # The other columns are for features, which are derived before.
    return (grid._replace(shapes=list(shapes), rows=rows), groups) if groups else (grid, {})


def spans_body(grid: Grid, first_sequence: int) -> tuple[Body, int]:
    """
    Make the body of a frame of spans, with the content that must be sealed by itself.

    No key is asked for here, and nothing waits: `ContentKeys` makes a body for a file
    of it. Without such content it is one already.

    Returns:
        The body, and how many bytes it is uncompressed.
    """
    grid, groups = split_content(grid)
    plain = pack_rows(grid.shapes, grid.rows, first_sequence)
    if not groups:
        return make_body(Kind.SPANS, plain, records=len(grid.rows)), len(plain)
    pending, size = [], len(plain)
    for (user, conversation), group in groups.items():
        packed, length = group.packed()
        pending.append([user, conversation, group.places, packed])
        size += length
    return Body(Kind.SPANS, PENDING, encode_plain([plain, pending]), len(grid.rows)), size


def _has_content(items: Sequence[Any]) -> bool:
    """Whether an event or a link of a row has content."""
    return any(is_content(name) for item in items for name in item[2])


def _take_out(row: list[Any], plan: _Plan, shapes: dict[tuple[str, ...], int]) -> list[Any]:
    """Move the personal part of a row into a row of a group: shape, values, and what else there is."""
    values = row[VALUES]
    taken = [shapes.setdefault(plan.moved, len(shapes)), plan.move(values)]
    row[VALUES] = plan.keep(values)
    if row[EVENTS] or row[LINKS] or row[STATUS_DESCRIPTION]:
        events, row[EVENTS] = _without_personal(row[EVENTS])
        links, row[LINKS] = _without_personal(row[LINKS])
        description = ""
        if not _CODE.fullmatch(row[STATUS_DESCRIPTION]):
            description, row[STATUS_DESCRIPTION] = row[STATUS_DESCRIPTION], ""
        if events or links or description:
            taken += [events, links, description]
    return taken


def _without_personal(items: Sequence[Any]) -> tuple[list[Any], Sequence[Any]]:
    """Split events or links into their personal attributes, by place, and the rest."""
    moved: list[Any] = []
    kept: list[Any] = []
    for place, (first, second, attributes) in enumerate(items):
        personal = {name: value for name, value in attributes.items() if is_personal(name)}
        if personal:
            moved.append([place, personal])
            attributes = {name: value for name, value in attributes.items() if name not in personal}  # noqa: PLW2901
        kept.append((first, second, attributes))
    return (moved, kept) if moved else ([], items)
