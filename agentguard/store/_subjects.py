"""
Content leaves the shared columns and is sealed for the person it is about.

A span is content where an attribute, an event or a link of it holds content, or
where it names a user. Then all values that may name or quote a person go into
the group of its user and conversation, which is sealed under keys of their own. A
span with neither user nor conversation keeps its content in its row.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import chain, repeat
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from agentguard.store import _codec
from agentguard.store._grid import Column, Grid, Group, joined_columns, pack_grid, short_text, spread
from agentguard.store._groups import ContentPart, steps_of
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
    subject_places: tuple[int, ...]
    """Of users and conversations, among what is moved."""


@lru_cache(maxsize=4096)
def _plan_of(names: tuple[str, ...]) -> _Plan:
    moved = [name for name in names if is_personal(name)]
    return _Plan(
        any(is_content(name) or name in USER_ATTRIBUTES for name in names),
        tuple(i for i, name in enumerate(names) if not is_personal(name)),
        tuple(map(names.index, moved)),
        tuple(names.index(name) for name in USER_ATTRIBUTES if name in names),
        tuple(names.index(name) for name in CONVERSATION_ATTRIBUTES if name in names),
        tuple(moved.index(name) for name in (*USER_ATTRIBUTES, *CONVERSATION_ATTRIBUTES) if name in moved),
    )


Placed: TypeAlias = tuple[Sequence[int], ContentPart]
"""Some rows of content, and for each of them its row in the frame."""


def encode_group(parts: Sequence[Placed]) -> tuple[Sequence[int], bytes]:
    """
    Encode what was said by or about one user in one conversation.

    Returns:
        For each row of content its row in the frame, and the content itself.
    """
    if len(parts) > 1:
        parts = _merged(parts)
    if len(parts) == 1:
        places, part = parts[0]
        return places, encode_plain((part,))
    return [place for places, _ in parts for place in places], encode_plain([part for _, part in parts])


def _merged(parts: Sequence[Placed]) -> list[Placed]:
    """Put parts of the same names together."""
    whole = [placed for placed in parts if placed[1].has_items]
    alike: dict[tuple[str, ...], list[Placed]] = {}
    for placed in parts:
        if not placed[1].has_items:
            alike.setdefault(tuple(placed[1].names), []).append(placed)
    for names, found in alike.items():
        columns = [
            joined_columns([(part.columns[i], part.rows) for _, part in found]) for i in range(len(names))
        ]
        places = [place for each, _ in found for place in each]
        whole.append((places, ContentPart(len(places), names, columns)))
    return whole


ContentGroups = Mapping[tuple[str, str], Sequence[Placed]]
"""By user and conversation; either may be empty, not both."""
_NOBODY: Final = ("", "")


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
    grid = spread(grid)  # There are other groups from here on.
    found: dict[tuple[str, str], list[Placed]] = {}
    groups: list[Group] = []
    shape = [0] * grid.count
    items = _Items(grid)
    for group, plan, members in zip(grid.groups, plans, _members(grid), strict=True):
        subjects = _by_subject(group, plan, members, has_items)
        rest = subjects.pop(_NOBODY, [])
        order = list(chain.from_iterable(subjects.values()))
        moved = sorted(order) if rest else range(len(members))
        for kept, places in ((range(len(group.names)), rest), (plan.kept, moved)):
            if places:
                for place in places if groups or len(places) < grid.count else ():
                    shape[members[place]] = len(groups)
                columns = [group.columns[i] for i in kept]
                groups.append(Group([group.names[i] for i in kept], _taken(columns, len(members), places)))
        if not order:
            continue
        names = [group.names[i] for i in plan.moved]
        # Sorted by subject, each has a slice of every column.
        columns = [_sorted(group.columns[i], len(members), order) for i in plan.moved]
        start = 0
        for subject, places in subjects.items():
            stop = start + len(places)
            rows = places if len(members) == grid.count else [members[place] for place in places]
            said = [column if len(column) != len(order) else column[start:stop] for column in columns]
            for i in plan.subject_places:
                said[i] = short_text(said[i])
            part = ContentPart(len(rows), names, said, *items.take(rows))
            found.setdefault(subject, []).append((rows, part))
            start = stop
    if not found:
        return grid, {}
    # What is left of the columns is for the frame; features are derived before.
    left = msgspec.structs.replace(
        grid, groups=groups, shape=shape if len(groups) > 1 else (0,), **items.columns
    )
    return left, found


def _members(grid: Grid) -> Sequence[Sequence[int]]:
    """For each group of a grid the rows of its spans."""
    if len(grid.groups) == 1:
        return [range(grid.count)]
    members: list[list[int]] = [[] for _ in grid.groups]
    for place, number in enumerate(grid.expanded(grid.shape)):
        members[number].append(place)
    return members


def _sorted(column: Column, count: int, order: Sequence[int]) -> Column:
    """The places of a column in another order."""
    if len(column) != count:
        return column
    return itemgetter(*order)(column) if len(order) > 1 else (column[order[0]],)


def _taken(columns: Sequence[Column], count: int, places: Sequence[int]) -> list[Column]:
    """Some places of columns; one value where all of them are the same text."""
    if len(places) == count:
        return list(columns)
    if len(places) == 1:
        return [column if len(column) != count else (column[places[0]],) for column in columns]
    take = itemgetter(*places)
    return [column if len(column) != count else short_text(take(column)) for column in columns]


def _by_subject(
    group: Group, plan: _Plan, members: Sequence[int], has_items: Sequence[bool]
) -> dict[tuple[str, str], list[int]]:
    """Places in a group by user and conversation; under `_NOBODY` those whose content stays in the frame."""
    count = len(members)
    if not plan.is_content and not has_items:
        return {_NOBODY: list(range(count))}
    users = _first_of([group.columns[i] for i in plan.users], count)
    conversations = _first_of([group.columns[i] for i in plan.conversations], count)
    found: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, subject in enumerate(zip(users, conversations, strict=False)):
        if plan.is_content or has_items[members[place]]:
            found[subject].append(place)
        else:
            found[_NOBODY].append(place)
    return found


def _first_of(columns: Sequence[Column], count: int) -> Iterable[str]:
    """For each span the first value that is not empty, as text; empty where there is none."""
    if not columns:
        return repeat("", count)
    if len(columns) == 1:
        column = columns[0]
        if len(column) != count:
            return repeat(_text(column[0]), count)
        if set(map(type, column)) == {str} and max(map(len, column)) <= _SUBJECT_CHARS_MAX:
            return column
        return map(_text, column)
    every = [column if len(column) == count else repeat(column[0], count) for column in columns]
    return [_text(next(filter(None, row), "")) for row in zip(*every, strict=True)]


def _text(value: Any) -> str:
    """How a user or a conversation is named in the keyring."""
    return str(value)[:_SUBJECT_CHARS_MAX] if value else ""


class _Items:
    """The columns that lose something where a span has a subject: events, links, status description."""

    def __init__(self, grid: Grid) -> None:
        has_any = any(grid.event) or any(grid.link) or any(grid.description)
        self.columns: dict[str, list[Any]] = {
            name: list(grid.expanded(getattr(grid, name)))
            for name in ("event", "link", "description") if has_any
        }  # fmt: skip
        """What is left; nothing where there was nothing."""

    def take(self, rows: Sequence[int]) -> Sequence[Sequence[Any]]:
        """Move what is personal in the events, links and status descriptions of some spans: three columns."""
        if not self.columns:
            return ()
        taken = [self._take(row) for row in rows]
        return tuple(zip(*taken, strict=True)) if any(map(any, taken)) else ()

    def _take(self, row: int) -> tuple[list[Any], list[Any], str]:
        columns = self.columns
        events, columns["event"][row] = _without_personal(columns["event"][row])
        links, columns["link"][row] = _without_personal(columns["link"][row])
        description, text = "", columns["description"][row]
        if not _CODE.fullmatch(text):
            description, columns["description"][row] = text, ""
        return events, links, description


def span_bodies(grid: Grid) -> tuple[list[Body], int]:
    """
    Make the bodies of a frame of spans, and of one of content before it where some must be sealed by itself.

    No key is asked for here, and nothing waits: `ContentKeys` makes a body for a file
    of the content.

    Returns:
        The bodies, and how many bytes they are uncompressed.
    """
    left, groups = split_content(grid)
    plain = pack_grid(left)
    bodies, size = [make_body(Kind.SPANS, plain, records=grid.count)], len(plain)
    if groups:
        places, pieces = zip(*map(encode_group, groups.values()), strict=True)
        size += sum(map(len, pieces))
        packed, short_bytes = _codec.live_content(pieces)
        pending = [
            (*subject, steps_of(of), piece) for subject, of, piece in zip(groups, places, packed, strict=True)
        ]
        data = encode_plain((grid.first_sequence, grid.count, pending))
        bodies.insert(0, Body(Kind.CONTENT, PENDING, data, short_bytes=short_bytes))
    return bodies, size


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
