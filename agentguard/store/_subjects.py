"""
Content leaves the shared columns and is sealed for the person it is about.

A span is content where an attribute, an event or a link of it holds content, or
where it names a user. Then all values that may name or quote a person go into
the group of its user and conversation, which is sealed under keys of their own. A
span with neither user nor conversation keeps its content in its row.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import repeat
from typing import Any, Final, NamedTuple, cast

import msgspec

from agentguard.store import _codec
from agentguard.store._grid import Column, Grid, Group, pack_grid
from agentguard.store._groups import ContentRow
from agentguard.store._layout import Kind
from agentguard.store._live import Body, make_body
from agentguard.store._msgpack import encode_plain
from agentguard.values import CONVERSATION_ATTRIBUTES, USER_ATTRIBUTES, is_content, is_personal

PENDING: Final = 255
"""The codec of a body whose content is not sealed yet; it never reaches a file."""
_SUBJECT_CHARS_MAX: Final = 512
_CODE = re.compile(r"[A-Za-z0-9_.]*", re.ASCII)
"""What a class of an exception looks like; any other status description may be a sentence about somebody."""


class _Plan(NamedTuple):
    """What is done with the attributes of spans that share one tuple of names."""

    is_content: bool
    kept: tuple[int, ...]
    moved: tuple[int, ...]
    users: tuple[int, ...]
    conversations: tuple[int, ...]


@lru_cache(maxsize=4096)
def _plan_of(names: tuple[str, ...]) -> _Plan:
    return _Plan(
        any(is_content(name) or name in USER_ATTRIBUTES for name in names),
        tuple(i for i, name in enumerate(names) if not is_personal(name)),
        tuple(i for i, name in enumerate(names) if is_personal(name)),
        tuple(names.index(name) for name in USER_ATTRIBUTES if name in names),
        tuple(names.index(name) for name in CONVERSATION_ATTRIBUTES if name in names),
    )


class ContentGroup:
    """What was said by or about one user in one conversation, within one frame."""

    __slots__ = ("_rows", "_shapes", "places")

    def __init__(self) -> None:
        self.places: list[int] = []
        """For each row of content its row in the frame."""
        self._shapes: dict[tuple[str, ...], int] = {}
        self._rows: list[ContentRow] = []

    def add(self, place: int, names: tuple[str, ...], values: Sequence[Any], more: Sequence[Any]) -> None:
        """Take the personal part of a row."""
        self.places.append(place)
        self._rows.append([self._shapes.setdefault(names, len(self._shapes)), values, *more])

    def packed(self) -> tuple[bytes, int]:
        """Codec and compressed content, which is what is sealed; and how long the content is."""
        plain = encode_plain([list(self._shapes), self._rows])
        codec, data = _codec.compress(plain)
        return bytes([codec]) + data, len(plain)


ContentGroups = Mapping[tuple[str, str], ContentGroup]
"""By user and conversation; either may be empty, not both."""


def split_content(grid: Grid) -> tuple[Grid, ContentGroups]:
    """
    Take what names or quotes a person out of the columns.

    Returns:
        The spans without it, and the groups of it; the grid as it was where there are none.
    """
    plans = [_plan_of(tuple(group.names)) for group in grid.groups]
    has_items = [
        _has_content(events) or _has_content(links)
        for events, links in zip(grid.expanded(grid.event), grid.expanded(grid.link), strict=True)
    ] if any(grid.event) or any(grid.link) else []  # fmt: skip
    if not any((plan.users or plan.conversations) and (plan.is_content or any(has_items)) for plan in plans):
        return grid, {}
    places: list[list[int]] = [[] for _ in plans]
    for place, number in enumerate(grid.expanded(grid.shape)):
        places[number].append(place)
    found: dict[tuple[str, str], ContentGroup] = {}
    groups: list[Group] = []
    shape = [0] * grid.count
    split = _Split(grid, has_items)
    for group, plan, members in zip(grid.groups, plans, places, strict=True):
        subjects = split.subjects(group, plan, members)
        moved = [i for i, subject in enumerate(subjects) if subject is not None]
        rest = [i for i, subject in enumerate(subjects) if subject is None]
        if rest:
            for i in rest:
                shape[members[i]] = len(groups)
            groups.append(Group(group.names, _taken(group.columns, len(members), rest)))
        if moved:
            for i in moved:
                shape[members[i]] = len(groups)
            kept = [group.columns[i] for i in plan.kept]
            groups.append(Group([group.names[i] for i in plan.kept], _taken(kept, len(members), moved)))
            names = tuple(group.names[i] for i in plan.moved)
            columns = [group.columns[i] for i in plan.moved]
            rows = _rows(_taken(columns, len(members), moved), len(moved))
            for i, values in zip(moved, rows, strict=True):
                place, subject = members[i], cast("tuple[str, str]", subjects[i])
                content = found.get(subject)
                if content is None:
                    content = found[subject] = ContentGroup()
                content.add(place, names, values, split.take_items(place))
    if not found:
        return grid, {}
    # What is left of the columns is for the frame; features are derived before.
    left = msgspec.structs.replace(
        grid, groups=groups, shape=shape if len(groups) > 1 else (0,), **split.columns_left()
    )
    return left, found


def _taken(columns: Sequence[Column], count: int, places: Sequence[int]) -> list[Column]:
    """Some places of columns."""
    if len(places) == count:
        return list(columns)
    return [column if len(column) != count else [column[i] for i in places] for column in columns]


def _rows(columns: Sequence[Column], count: int) -> Iterable[Sequence[Any]]:
    """Columns as rows."""
    if not columns:
        return repeat((), count)
    return zip(*[c if len(c) == count else repeat(c[0], count) for c in columns], strict=True)


class _Split:
    """The columns that lose something where a span has a subject: events, links, status description."""

    def __init__(self, grid: Grid, has_items: Sequence[bool]) -> None:
        self._grid = grid
        self._has_items = has_items
        has_any = any(grid.event) or any(grid.link) or any(grid.description)
        self._columns: dict[str, list[Any]] = {
            name: list(grid.expanded(getattr(grid, name)))
            for name in ("event", "link", "description") if has_any
        }  # fmt: skip

    def subjects(self, group: Group, plan: _Plan, places: Sequence[int]) -> list[tuple[str, str] | None]:
        """User and conversation of each span of a group; `None` where its content stays in the frame."""
        count = len(places)
        if not plan.users and not plan.conversations:
            return [None] * count
        users = _first_of([group.columns[i] for i in plan.users], count)
        conversations = _first_of([group.columns[i] for i in plan.conversations], count)
        return [
            (user, conversation)
            if (user or conversation) and (plan.is_content or (self._has_items and self._has_items[place]))
            else None
            for user, conversation, place in zip(users, conversations, places, strict=True)
        ]

    def take_items(self, place: int) -> Sequence[Any]:
        """Move what is personal in the events, links and status description of a span."""
        columns = self._columns
        if not columns or not (
            columns["event"][place] or columns["link"][place] or columns["description"][place]
        ):
            return ()
        events, columns["event"][place] = _without_personal(columns["event"][place])
        links, columns["link"][place] = _without_personal(columns["link"][place])
        description, text = "", columns["description"][place]
        if not _CODE.fullmatch(text):
            description, columns["description"][place] = text, ""
        return (events, links, description) if events or links or description else ()

    def columns_left(self) -> Mapping[str, Column]:
        """The columns without what was taken."""
        return self._columns


def _first_of(columns: Sequence[Column], count: int) -> Iterable[str]:
    """For each span the first value that is not empty, as text; empty where there is none."""
    if not columns:
        return repeat("", count)
    values: Iterable[Any] = columns[0] if len(columns[0]) == count else repeat(columns[0][0], count)
    if len(columns) > 1:
        values = [next((value for value in row if value), "") for row in _rows(columns, count)]
    return [str(value)[:_SUBJECT_CHARS_MAX] if value else "" for value in values]


def spans_body(grid: Grid) -> tuple[Body, int]:
    """
    Make the body of a frame of spans, with the content that must be sealed by itself.

    No key is asked for here, and nothing waits: `ContentKeys` makes a body for a file
    of it. Without such content it is one already.

    Returns:
        The body, and how many bytes it is uncompressed.
    """
    grid, groups = split_content(grid)
    plain = pack_grid(grid)
    if not groups:
        return make_body(Kind.SPANS, plain, records=grid.count), len(plain)
    pending, size = [], len(plain)
    for (user, conversation), group in groups.items():
        packed, length = group.packed()
        pending.append([user, conversation, group.places, packed])
        size += length
    return Body(Kind.SPANS, PENDING, encode_plain([plain, pending]), grid.count), size


def _has_content(items: Sequence[Any]) -> bool:
    """Whether an event or a link of a row has content."""
    return any(is_content(name) for item in items for name in item[2])


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
