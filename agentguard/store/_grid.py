"""
Spans as columns: what a frame of spans holds, and how it becomes records again.

A column has one value for each span, or one for all. Attributes stand in groups of
spans that share a tuple of attribute names, again as columns. Columns encode,
compress and decode in half the time of rows, and features are made of them as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any, Final, TypeAlias

import msgspec

from agentguard.errors import SegmentCorruptError
from agentguard.store._msgpack import cleaned, encode
from agentguard.values import ByGroup, SpanColumns, SpanEvent, SpanLink, SpanRecord

SPANS_VERSION: Final = 1
Column: TypeAlias = Sequence[Any]
"""One value for each span, or a single one for all."""
Ids: TypeAlias = bytes | Sequence[str]
"""Ids side by side, zeros for an empty one; or, where one is no id, all of them as text."""
_TEXT_OR_NONE: Final = frozenset({str, type(None)})
_COMPARED: Final = _TEXT_OR_NONE | {int, bool, float, tuple}
_INT64: Final = range(-(2**63), 2**63)


class Group(msgspec.Struct, array_like=True, frozen=True):
    """The attributes of the spans that share one tuple of names."""

    names: Sequence[str]
    columns: Sequence[Column]
    """One for each name, over the spans of the group."""


class Grid(msgspec.Struct, array_like=True, frozen=True):
    """Some consecutive spans of one writer. The order of the fields is part of the format."""

    version: int
    first_sequence: int
    count: int
    trace: Ids
    span: Ids
    parent: Ids
    name: Column
    kind: Column
    otel_kind: Column
    start: Sequence[int]
    duration: Sequence[int]
    status: Column
    description: Column
    event: Column
    link: Column
    scope: Column
    scope_version: Column
    trace_state: Column
    shape: Sequence[int]
    """For each span the place of its group."""
    groups: Sequence[Group]
    # Columns of text that follow from the group may be one list of a text for each group: see `spread`.

    def expanded(self, column: Column) -> Column:
        """The column with a value for each span."""
        return column if len(column) == self.count else list(column) * self.count


_ID_BYTES: Final = {"trace": 16, "span": 8, "parent": 8}
_COLUMNS: Final = (
    "name", "kind", "otel_kind", "start", "duration", "status", "description", "event", "link", "scope",
    "scope_version", "trace_state",
)  # fmt: skip

_BY_GROUP: Final = ("name", "kind", "otel_kind", "status", "description", "trace_state")
"""What may be told once for each group."""

_decoder: Final = msgspec.msgpack.Decoder(Grid)


def grid_of(records: Sequence[SpanRecord], first_sequence: int) -> Grid:
    """Make columns of consecutive spans: the interpreter is slow at anything else."""
    if not records:
        return Grid(SPANS_VERSION, first_sequence, 0, b"", b"", b"", *((),) * 13, ())
    (traces, spans, parents, span_names, kinds, otel_kinds, starts, durations, statuses, descriptions,
     attributes, events, links, scopes, scope_versions, trace_states) = zip(*records, strict=True)  # fmt: skip
    shape, groups = _groups(attributes)
    return Grid(
        SPANS_VERSION, first_sequence, len(records), _packed_ids(traces, 16), _packed_ids(spans, 8),
        _packed_ids(parents, 8), _short(span_names), _short(kinds), _short(otel_kinds), _whole(starts),
        _whole(durations), _short(statuses), _short(descriptions),
        list(map(_event_rows, events)) if any(events) else ((),),
        list(map(_link_rows, links)) if any(links) else ((),),
        _short(scopes), _short(scope_versions), _short(trace_states), shape, groups,
    )  # fmt: skip


def grid_of_columns(columns: SpanColumns, first_sequence: int) -> Grid:
    """Take over columns that were made elsewhere; what follows from the group stays so."""
    (traces, spans, parents, span_names, kinds, otel_kinds, starts, durations, statuses, descriptions,
     events, links, scopes, scope_versions, trace_states, shape, groups, _) = columns  # fmt: skip
    return Grid(
        SPANS_VERSION, first_sequence, len(spans) // 8, traces, spans, parents, _head(span_names),
        _head(kinds), _head(otel_kinds), starts, durations, _head(statuses),
        _head(descriptions), list(map(_event_rows, events)), list(map(_link_rows, links)), _short(scopes),
        _short(scope_versions), _head(trace_states), shape,
        [
            Group(names, [column if len(column) == 1 else _short(column) for column in found])
            for names, found in groups
        ],
    )  # fmt: skip


def _groups(attributes: Sequence[Mapping[str, Any]]) -> tuple[Sequence[int], list[Group]]:
    """Sort attributes by their names."""
    count, first = len(attributes), tuple(attributes[0])
    if list(chain.from_iterable(attributes)) == list(first) * count:
        return (0,), [_group(first, attributes)]
    keys = list(map(tuple, attributes))
    numbers: dict[tuple[str, ...], int] = {}
    shape = [numbers.setdefault(key, len(numbers)) for key in keys]
    members: list[list[Mapping[str, Any]]] = [[] for _ in numbers]
    for number, each in zip(shape, attributes, strict=True):
        members[number].append(each)
    return shape, list(map(_group, numbers, members))


def _group(keys: tuple[str, ...], members: Sequence[Mapping[str, Any]]) -> Group:
    values = tuple(chain.from_iterable([each.values() for each in members]))
    width = len(keys)
    return Group(keys, [_short(values[place::width]) for place in range(width)])


def _short(column: Column) -> Column:
    """Reduce a column to one value where all are the same, in their type and bits too."""
    first, count = column[0], len(column)
    if count == 1:
        return column
    kind = type(first)
    if kind not in _COMPARED or type(column[-1]) is not kind or column[-1] != first:
        return column
    try:
        is_same = column.count(first) == count
        if is_same and kind not in _TEXT_OR_NONE:
            # 0.0 equals -0.0, and 1 equals True: only what is written the same is the same.
            is_same = encode(column).endswith(encode(first) * count)
    except Exception:  # How a value of another kind compares is not ours, nor is what cannot be written.
        return column
    return column[:1] if is_same else column


def _head(column: Column) -> Column:
    """A column of text, or the single list of what each group has."""
    return (tuple(column),) if type(column) is ByGroup else _short(column)


def of_groups(column: Column) -> Sequence[str] | None:
    """What each group has, where a column says that; else None."""
    return column[0] if len(column) == 1 and type(column[0]) in {tuple, list} else None


def spread(grid: Grid) -> Grid:
    """
    Give each span what its group has: the form that all other functions take.

    Raises:
        SegmentCorruptError: A column has texts of other groups than there are.
    """
    found = {name: texts for name in _BY_GROUP if (texts := of_groups(getattr(grid, name))) is not None}
    if not found:
        return grid
    if any(len(texts) != len(grid.groups) for texts in found.values()):
        raise SegmentCorruptError("spans: got a column of other groups, expected one text for each")
    pick = itemgetter(*grid.expanded(grid.shape), 0)
    return msgspec.structs.replace(grid, **{name: pick(texts)[:-1] for name, texts in found.items()})


def short_text(column: Column) -> Column:
    """Reduce a column to one value where all are the same text."""
    first = column[0]
    if type(first) is str and column[-1] == first and column.count(first) == len(column):
        return column[:1]
    return column


def _whole(column: Sequence[Any]) -> Sequence[int]:
    """See that times are integers; anything else becomes the nearest one."""
    if set(map(type, column)) == {int}:
        return column
    return [int(value) if isinstance(value, int | float) and value == value else 0 for value in column]  # noqa: PLR0124 - NaN


def _packed_ids(texts: Sequence[str], length: int) -> Ids:
    """Pack a column of ids; where one is none, and would not come back the same, all stay text."""
    nothing = "0" * (2 * length)
    if nothing in texts:
        return texts
    whole = [text or nothing for text in texts] if "" in texts else texts
    if list(map(len, whole)).count(2 * length) != len(whole):
        return texts
    joined = "".join(whole)
    try:
        packed = bytes.fromhex(joined)
    except ValueError:
        return texts
    # Capital letters and spaces are read too, and would be lost.
    return packed if packed.hex() == joined else texts


def _event_rows(events: Sequence[SpanEvent]) -> list[tuple[object, ...]]:
    return [(event.name, event.time_unix_ns, event.attributes) for event in events]


def _link_rows(links: Sequence[SpanLink]) -> list[tuple[object, ...]]:
    return [(link.trace_id, link.span_id, link.attributes) for link in links]


def pack_grid(grid: Grid) -> bytes:
    """
    Encode a frame of spans.

    A value that cannot be stored (a lone surrogate, an integer beyond 64 bits) is
    replaced by its nearest text; the span is never lost for it.
    """
    try:
        return encode(grid)
    except (TypeError, ValueError, OverflowError, RecursionError):
        pass
    fields: dict[str, Any] = {
        name: cleaned(getattr(grid, name))
        for name in Grid.__struct_fields__
        if name not in {"start", "duration", "groups"}
    }
    times = {
        name: [min(max(value, _INT64[0]), _INT64[-1]) for value in getattr(grid, name)]
        for name in ("start", "duration")
    }
    groups = [(cleaned(group.names), cleaned(group.columns)) for group in grid.groups]
    fields |= {**times, "groups": groups}
    return encode([fields[name] for name in Grid.__struct_fields__])


def unpack_grid(plain: bytes) -> Grid:
    """
    Decode a frame of spans.

    Raises:
        SegmentCorruptError: The bytes are no spans of this format.
    """
    try:
        grid = _decoder.decode(plain)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise SegmentCorruptError("spans: got bytes that do not decode, expected columns") from error
    if grid.version != SPANS_VERSION:
        raise SegmentCorruptError(f"spans: got version {grid.version}, expected {SPANS_VERSION}")
    if not _is_sound(grid):
        raise SegmentCorruptError(f"spans: got columns of other lengths, expected {grid.count} places each")
    return spread(grid)


def _is_sound(grid: Grid) -> bool:
    """Whether all columns are as long as they must be; ids first, so that no count is taken on trust."""
    count = grid.count
    for name, size in _ID_BYTES.items():
        ids = getattr(grid, name)
        if len(ids) != (size * count if type(ids) is bytes else count):
            return False
    lengths = (1, count) if count else (0,)
    if any(len(getattr(grid, name)) not in lengths for name in (*_COLUMNS, "shape")):
        return False
    shape = grid.expanded(grid.shape)
    members = [shape.count(number) for number in range(len(grid.groups))]
    if sum(members) != count or not all(members):
        return False  # Some are in a group that there is not, or a group is there for nobody.
    return all(
        len(group.names) == len(group.columns) and all(len(c) in (1, size) for c in group.columns)
        for group, size in zip(grid.groups, members, strict=True)
    )


def cut(grid: Grid, start: int, stop: int) -> Grid:
    """The spans from the place *start* up to, not including, *stop*."""
    count = stop - start
    shape = grid.expanded(grid.shape)

    def take(column: Column, total: int = grid.count, first: int = start, last: int = stop) -> Column:
        return column[first:last] if len(column) == total else column

    groups: list[Group] = []
    numbers: dict[int, int] = {}
    for number, group in enumerate(grid.groups):
        before, inside = shape[:start].count(number), shape[start:stop].count(number)
        if inside:
            numbers[number] = len(groups)
            total = before + inside + shape[stop:].count(number)
            columns = [take(column, total, before, before + inside) for column in group.columns]
            groups.append(Group(group.names, columns))
    fields: dict[str, Any] = {name: take(getattr(grid, name)) for name in _COLUMNS}
    fields |= {name: _part_of_ids(getattr(grid, name), size, start, stop) for name, size in _ID_BYTES.items()}
    fields["shape"] = (0,) if len(groups) == 1 else [numbers[number] for number in shape[start:stop]]
    return Grid(
        version=grid.version, first_sequence=grid.first_sequence + start, count=count, groups=groups, **fields
    )


def _part_of_ids(ids: Ids, size: int, start: int, stop: int) -> Ids:
    return ids[start * size : stop * size] if isinstance(ids, bytes) else ids[start:stop]


def joined(grids: Sequence[Grid]) -> Grid:
    """The spans of grids that follow one another."""
    if len(grids) == 1:
        return grids[0]
    # Of one grid several groups may have the same names, where content was taken out: each goes with its like.
    numbers: dict[tuple[tuple[str, ...], int], int] = {}
    members: list[list[tuple[Group, int]]] = []
    shape: list[int] = []
    for grid in grids:
        alike = Counter[tuple[str, ...]]()
        of_grid = []
        for names in (tuple(group.names) for group in grid.groups):
            of_grid.append(numbers.setdefault((names, alike[names]), len(numbers)))
            alike[names] += 1
        members += [[] for _ in range(len(numbers) - len(members))]
        places = grid.expanded(grid.shape)
        for number, (group, place) in enumerate(zip(grid.groups, of_grid, strict=True)):
            members[place].append((group, places.count(number)))
        shape += [of_grid[number] for number in places]
    groups = [
        Group(names, [
            joined_columns([(group.columns[i], count) for group, count in found]) for i in range(len(names))
        ])
        for (names, _), found in zip(numbers, members, strict=True)
    ]  # fmt: skip
    fields: dict[str, Any] = {
        name: joined_columns([(getattr(grid, name), grid.count) for grid in grids]) for name in _COLUMNS
    }
    for name, size in _ID_BYTES.items():
        ids = [getattr(grid, name) for grid in grids]
        if all(type(each) is bytes for each in ids):
            fields[name] = b"".join(ids)
        else:
            fields[name] = [text for each in ids for text in id_texts(each, size)]
    count = sum(grid.count for grid in grids)
    return Grid(
        version=SPANS_VERSION, first_sequence=grids[0].first_sequence, count=count,
        shape=(0,) if len(groups) == 1 else shape, groups=groups, **fields,
    )  # fmt: skip


def joined_columns(parts: Sequence[tuple[Column, int]]) -> Column:
    """Put columns behind one another; those of one and the same text stay one value."""
    first = parts[0][0][0]
    if (type(first) is str or first is None) and all(len(c) == 1 and c[0] == first for c, _ in parts):
        return (first,)
    whole = [column if len(column) == count else list(column) * count for column, count in parts]
    return [value for column in whole for value in column]


def trace_ids(grid: Grid) -> set[bytes | str]:
    """The distinct traces, packed where they are ids."""
    if isinstance(grid.trace, bytes):
        return {grid.trace[i : i + 16] for i in range(0, len(grid.trace), 16)}
    return {_packed_id(text) for text in grid.trace}


def _packed_id(text: str) -> bytes | str:
    try:
        packed = bytes.fromhex(text)
    except ValueError:
        return text
    return packed if len(packed) == 16 else text


def id_texts(ids: Ids, length: int) -> Sequence[str]:
    """The ids of a column, *length* bytes each, as text."""
    if type(ids) is not bytes:
        return ids  # type: ignore[return-value]
    text, size = ids.hex(), 2 * length
    found = [text[i : i + size] for i in range(0, len(text), size)]
    nothing = "0" * size
    return ["" if each == nothing else each for each in found] if nothing in found else found
