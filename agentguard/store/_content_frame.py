"""
The content of consecutive spans, in groups that are each sealed for one user and conversation.

A frame of content stands before the frames of the spans that it is of. A group is
opened when a record is made of one of its spans, and not before: who looks for a
trace opens no other person's words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate, islice
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeAlias, cast

import msgspec

from agentguard.errors import SegmentCorruptError
from agentguard.store._grid import Column
from agentguard.store._groups import (
    CONTENT_VERSION,
    NO_KEY,
    ContentPart,
    GroupOpener,
    SealedGroup,
    plain_value,
)
from agentguard.values import AttributeValue, SpanEvent, SpanLink, SpanRecord
from agentguard.values import attributes as names

DAMAGED: Final = "damaged"
_ROWS_MAX: Final = 1_048_576
_head_decoder: Final = msgspec.msgpack.Decoder(tuple[int, int, int, msgspec.Raw])
_sets_decoder: Final = msgspec.msgpack.Decoder(
    list[tuple[bytes, list[tuple[bytes, bytes, list[int]]], list[bytes]]]
)

Shape: TypeAlias = tuple[str, ...] | str | None
"""Names of the content of a span; why it cannot be read, as one text; or nothing, where it has none."""


class ContentTable(NamedTuple):
    """The content of consecutive spans, opened: for each span of what names it is, and where its values are."""

    shapes: Sequence[Shape]
    rows: Sequence[int]
    """For each span its row in the columns of its names."""
    columns: Mapping[tuple[str, ...], Sequence[Sequence[Any]]]
    items: Mapping[int, Sequence[Any]]
    """By the place of the span: what is personal in events, links and status description."""

    def cut(self, start: int, stop: int) -> ContentTable:
        """Some spans that follow one another."""
        items = {place - start: found for place, found in self.items.items() if start <= place < stop}
        return ContentTable(self.shapes[start:stop], self.rows[start:stop], self.columns, items)

    def only(self, places: Sequence[int]) -> ContentTable:
        """Some spans, without their items."""
        shapes, rows = self.shapes, self.rows
        return ContentTable([shapes[i] for i in places], [rows[i] for i in places], self.columns, {})

    def alike(self) -> tuple[Sequence[str], Sequence[Sequence[Any]]] | None:
        """Names and columns, where all spans have content of the same names."""
        shape = self.shapes[0]
        if type(shape) is not tuple or self.shapes.count(shape) != len(self.shapes):
            return None
        if len(self.rows) == 1:
            return shape, [column[self.rows[0] : self.rows[0] + 1] for column in self.columns[shape]]
        return shape, list(map(itemgetter(*self.rows), self.columns[shape]))

    def merge(self, attributes: Sequence[dict[str, Any]]) -> None:
        """Put content, or why there is none, into the attributes of each span."""
        for found, shape, row in zip(attributes, self.shapes, self.rows, strict=True):
            if type(shape) is tuple:
                found.update(zip(shape, [column[row] for column in self.columns[shape]], strict=True))
            elif shape is not None:
                found[names.CONTENT_UNREADABLE] = shape


def _expanded(column: Column, count: int) -> Sequence[Any]:
    """A value for each row; sequences come back as tuples."""
    if list in map(type, column):
        column = list(map(plain_value, column))
    return column if len(column) == count else [column[0]] * count


class ContentFrame:
    """The content of consecutive spans of one segment."""

    def __init__(
        self,
        plain: bytes,
        opener: GroupOpener | None = None,
        report: Callable[[Exception], None] | None = None,
    ) -> None:
        """
        Take a frame; no group is opened yet.

        Args:
            plain:
                The frame.

            opener:
                Opens groups. Without it they stay sealed, and records say so.

            report:
                Is told of a group that does not open although its keys are known.

        Raises:
            SegmentCorruptError: It is not of this format.
        """
        try:
            version, self.first_sequence, self.rows, sets = _head_decoder.decode(plain)
            if version != CONTENT_VERSION or not 0 < self.rows <= _ROWS_MAX or self.first_sequence < 0:
                raise ValueError(f"version {version}, {self.rows} rows")
            self.groups = [
                SealedGroup(nonce, user, conversation, list(accumulate(steps)), blob)
                for nonce, heads, blobs in _sets_decoder.decode(sets)
                for (user, conversation, steps), blob in zip(heads, blobs, strict=True)
            ]
            for group in self.groups:
                if not 0 <= min(group.places) <= max(group.places) < self.rows:
                    raise ValueError("a place of no span")
                if not group.user and not group.conversation:
                    raise ValueError("a group of nobody")
        except (ValueError, RecursionError) as error:
            raise SegmentCorruptError(f"content: got groups of another form: {error}") from error
        self._opener, self._report = opener, report
        self._opened: dict[int, list[ContentPart] | str] = {}
        self._places: tuple[list[int], list[int]] | None = None
        self._table: ContentTable | None = None

    @property
    def following(self) -> int:
        """One more than the number of its last span."""
        return self.first_sequence + self.rows

    def opened(self, number: int) -> list[ContentPart] | str:
        """The content of one group, opened once; or why it cannot be."""
        if number not in self._opened:
            self._open((number,))
        return self._opened[number]

    def _open(self, numbers: Sequence[int]) -> None:
        """Open some groups."""
        if self._opener is None:
            self._opened.update(dict.fromkeys(numbers, NO_KEY))
            return
        every = self._opener.open_groups([self.groups[number] for number in numbers])
        for number, found in zip(numbers, every, strict=True):
            if isinstance(found, Exception) and self._report is not None:
                self._report(found)
            self._opened[number] = DAMAGED if isinstance(found, Exception) else found

    def at(self, place: int) -> tuple[int, int] | None:
        """The group of a span, and its row there; `None` where the span has no content."""
        if self._places is None:
            of, position = [-1] * self.rows, [0] * self.rows
            for number, group in enumerate(self.groups):
                for row, there in enumerate(group.places):
                    of[there], position[there] = number, row
            self._places = of, position
        number = self._places[0][place]
        return (number, self._places[1][place]) if number >= 0 else None

    def table(self) -> ContentTable:
        """Open all groups."""
        if self._table is None:
            self._open([number for number in range(len(self.groups)) if number not in self._opened])
            shapes: list[Shape] = [None] * self.rows
            rows, items = [0] * self.rows, dict[int, Sequence[Any]]()
            columns: dict[tuple[str, ...], list[list[Any]]] = {}
            counts: dict[tuple[str, ...], int] = {}
            known: dict[tuple[str, ...], tuple[str, ...]] = {}
            for number, group in enumerate(self.groups):
                found = self._opened[number]
                if isinstance(found, str):
                    for place in group.places:
                        shapes[place] = found
                    continue
                places = iter(group.places)
                for part in found:
                    # One tuple for all that are the same: those compare at once.
                    shape = known.setdefault(tuple(part.names), tuple(part.names))
                    wholes = columns.setdefault(shape, [[] for _ in shape])
                    for whole, column in zip(wholes, part.columns, strict=True):
                        whole.extend(_expanded(column, part.rows))
                    row = counts.get(shape, 0)
                    there = list(islice(places, part.rows))
                    for place in there:
                        shapes[place], rows[place] = shape, row
                        row += 1
                    counts[shape] = row
                    if part.has_items:
                        items |= zip(there, map(part.items_at, range(part.rows)), strict=True)
            self._table = ContentTable(shapes, rows, columns, items)
        return self._table


class InContent(NamedTuple):
    """Where the content of one span is; the last place of its row."""

    frame: ContentFrame
    place: int

    @property
    def refs(self) -> tuple[bytes, ...]:
        """References of the keys that seal it."""
        found = self.frame.at(self.place)
        if found is None:
            return ()
        group = self.frame.groups[found[0]]
        return (group.user, group.conversation)

    def merge(self, record: SpanRecord) -> SpanRecord:
        """
        Put the content back into the record that was just made of its row; without it the record says why.

        Raises:
            SegmentCorruptError: The content does not decode.
        """
        where = self.frame.at(self.place)
        if where is None:
            return record
        number, place = where
        found = self.frame.opened(number)
        # Nobody else has the record yet: its attributes may still grow.
        attributes = cast("dict[str, AttributeValue]", record.attributes)
        if isinstance(found, str):
            attributes[names.CONTENT_UNREADABLE] = found
            return record
        for part in found:
            if place < part.rows:
                break
            place -= part.rows
        try:
            attributes.update(part.attributes_at(place))
            return with_items(record, part.items_at(place)) if part.has_items else record
        except (TypeError, ValueError, LookupError) as error:
            raise SegmentCorruptError(
                "content: got a row that does not decode, expected names and values"
            ) from error


def attach_content(contents: Iterable[ContentFrame], first_sequence: int, rows: Sequence[list[Any]]) -> None:
    """Tell each row where its content is: its last place from now on."""
    for content in contents:
        start = max(first_sequence, content.first_sequence)
        stop = min(first_sequence + len(rows), content.following)
        for sequence in range(start, stop):
            rows[sequence - first_sequence].append(InContent(content, sequence - content.first_sequence))


def table_of(contents: Sequence[ContentFrame], first_sequence: int, count: int) -> ContentTable | None:
    """The content of some consecutive spans; `None` where they have none."""
    if len(contents) == 1:
        start = first_sequence - contents[0].first_sequence
        if 0 <= start <= contents[0].rows - count:
            return contents[0].table().cut(start, start + count)
    shapes: list[Shape] = [None] * count
    rows, items = [0] * count, dict[int, Sequence[Any]]()
    columns: dict[tuple[str, ...], list[list[Any]]] = {}
    for content in contents:
        for place, shape in enumerate(content.table().shapes, content.first_sequence - first_sequence):
            if shape is None or not 0 <= place < count:
                continue
            table, at = content.table(), place + first_sequence - content.first_sequence
            shapes[place] = shape
            if isinstance(shape, tuple):
                wholes = columns.setdefault(shape, [[] for _ in shape])
                rows[place] = len(wholes[0]) if wholes else 0
                for whole, column in zip(wholes, table.columns[shape], strict=True):
                    whole.append(column[table.rows[at]])
            if at in table.items:
                items[place] = table.items[at]
    return ContentTable(shapes, rows, columns, items) if contents else None


def with_items(record: SpanRecord, items: Sequence[Any]) -> SpanRecord:
    """Put what is personal back into events, links and status description."""
    if not any(items):
        return record
    events, links, description = items
    return record._replace(
        events=merged(record.events, events),
        links=merged(record.links, links),
        status_description=description or record.status_description,
    )


def merged(items: tuple[Any, ...], moved: Sequence[tuple[int, Mapping[str, Any]]]) -> tuple[Any, ...]:
    """Put attributes back into events or links."""
    found: list[SpanEvent | SpanLink] = list(items)
    for place, attributes in moved:
        item = found[place]
        added = {name: plain_value(value) for name, value in attributes.items()}
        found[place] = item._replace(attributes={**item.attributes, **added})
    return tuple(found)
