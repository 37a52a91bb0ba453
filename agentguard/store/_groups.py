"""
Content of a frame of spans: in groups, each sealed for one user and conversation.

A row that was decoded has one place more, which says where its content is. A
group is opened when a record is made of one of its rows, and not before: who looks
for a trace opens no other person's words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any, Final, NamedTuple, Protocol, cast

from agentguard.errors import SegmentCorruptError
from agentguard.store._grid import ELSEWHERE, Column, checked_content
from agentguard.values import AttributeValue, SpanEvent, SpanLink, SpanRecord
from agentguard.values import attributes as names

ERASED: Final = "erased"
NO_KEY: Final = "no_key"


class ContentPart(NamedTuple):
    """Some rows of content whose attributes have the same names, as columns."""

    rows: int
    names: Sequence[str]
    columns: Sequence[Column]
    """For each name a value a row, or one for all."""
    items: Sequence[Sequence[Any]] = ()
    """Columns of events, links and status descriptions, where any is personal."""

    def document(self) -> list[Any]:
        """What is encoded."""
        return [self.rows, self.names, self.columns, *self.items]

    @classmethod
    def of(cls, document: Sequence[Any]) -> ContentPart:
        """
        Undo `document`.

        Raises:
            ValueError: It is nothing that was encoded.
        """
        count, names, columns, *items = document
        if (
            type(count) is not int or count < 1 or len(names) != len(columns) or len(items) not in (0, 3)
            or any(len(column) not in (1, count) for column in columns)
            or any(len(column) != count for column in items)
        ):  # fmt: skip
            raise ValueError("columns of other lengths")
        return cls(count, names, columns, items)

    def only(self, places: Sequence[int]) -> ContentPart:
        """Some of its rows."""
        if len(places) == self.rows:
            return self
        columns = [c if len(c) != self.rows else [c[i] for i in places] for c in self.columns]
        items = [[column[i] for i in places] for column in self.items]
        return ContentPart(len(places), self.names, columns, items)

    def attributes(self) -> Iterable[Iterable[tuple[str, Any]]]:
        """Names and values of each row."""
        if not self.names:
            return repeat((), self.rows)
        columns = [
            (column if list not in map(type, column) else list(map(_value, column)))
            if len(column) == self.rows
            else repeat(_value(column[0]), self.rows)
            for column in self.columns
        ]
        return [zip(self.names, row, strict=False) for row in zip(*columns, strict=True)]

    def attributes_at(self, place: int) -> dict[str, Any]:
        """The attributes of one row."""
        count = self.rows
        values = [column[place if len(column) == count else 0] for column in self.columns]
        return dict(zip(self.names, map(_value, values), strict=True))


class GroupOpener(Protocol):
    """What has the keys."""

    def open_group(self, group: SealedGroup) -> list[ContentPart] | str:
        """
        Open the content of a group.

        Returns:
            Parts with a row for each place of the group together; or why not: `ERASED` or `NO_KEY`.

        Raises:
            TamperedError: It is not what was sealed.
            SegmentCorruptError: It is, and does not decode.
        """
        ...  # pragma: no cover - a protocol


class SealedGroup:
    """The content of one user and conversation in one frame."""

    __slots__ = ("_opened", "_opener", "blob", "conversation", "nonce", "places", "user")

    def __init__(
        self,
        nonce: bytes,
        user: bytes,
        conversation: bytes,
        places: list[int],
        blob: bytes,
        opener: GroupOpener | None,
    ) -> None:
        self.nonce = nonce
        """Under which it is sealed, with others of other keys."""
        self.user = user
        """Reference of the user's key; empty where the spans name none."""
        self.conversation = conversation
        """Reference of the conversation's key; empty likewise."""
        self.places = places
        """For each row of content its row in the frame, or `ELSEWHERE`."""
        self.blob = blob
        self._opener = opener
        self._opened: list[ContentPart] | str | None = None

    def opened(self) -> list[ContentPart] | str:
        """Open it, once; raises as `GroupOpener.open_group`."""
        if self._opened is None:
            self._opened = NO_KEY if self._opener is None else self._opener.open_group(self)
        return self._opened


class InGroup(NamedTuple):
    """Where the content of one row is."""

    group: SealedGroup
    position: int

    def merge(self, record: SpanRecord) -> SpanRecord:
        """
        Put the content back into the record that was just made of its row; without it the record says why.

        Raises:
            SegmentCorruptError: The content does not decode.
            TamperedError: It is not what was sealed.
        """
        found = self.group.opened()
        # Nobody else has the record yet: its attributes may still grow.
        attributes = cast("dict[str, AttributeValue]", record.attributes)
        if isinstance(found, str):
            attributes[names.CONTENT_UNREADABLE] = found
            return record
        place = self.position
        for part in found:
            if place < part.rows:
                break
            place -= part.rows
        try:
            attributes.update(part.attributes_at(place))
            return _with_items(record, [column[place] for column in part.items])
        except (TypeError, ValueError, LookupError) as error:
            raise SegmentCorruptError(
                "content: got a row that does not decode, expected names and values"
            ) from error


def merge_all(groups: Sequence[SealedGroup], records: list[SpanRecord]) -> None:
    """
    Put the content of all rows of a frame back into the records that were just made of them.

    Raises:
        SegmentCorruptError: Some content is not of the format.
        TamperedError: It is not what was sealed.
        TypeError, ValueError, LookupError: The same.
    """
    for group in groups:
        found = group.opened()
        if isinstance(found, str):
            for place in group.places:
                if place != ELSEWHERE:
                    cast("dict[str, AttributeValue]", records[place].attributes)[names.CONTENT_UNREADABLE] = (
                        found
                    )
            continue
        places = iter(group.places)
        for part in found:
            for number, (pairs, place) in enumerate(zip(part.attributes(), places, strict=False)):
                if place != ELSEWHERE:
                    cast("dict[str, AttributeValue]", records[place].attributes).update(pairs)
                    if part.items:
                        items = [column[number] for column in part.items]
                        records[place] = _with_items(records[place], items)


def _with_items(record: SpanRecord, items: Sequence[Any]) -> SpanRecord:
    """Put what is personal back into events, links and status description."""
    if not any(items):
        return record
    events, links, description = items
    return record._replace(
        events=_merged(record.events, events),
        links=_merged(record.links, links),
        status_description=description or record.status_description,
    )


def _value(value: Any) -> Any:
    """Sequences come back as tuples, so that a record stays a value."""
    return tuple(value) if type(value) is list else value


def _attributes(pairs: Iterable[tuple[str, Any]]) -> dict[str, AttributeValue]:
    return {name: _value(value) for name, value in pairs}


def _merged(items: tuple[Any, ...], moved: Sequence[tuple[int, Mapping[str, Any]]]) -> tuple[Any, ...]:
    """Put attributes back into events or links."""
    merged: list[SpanEvent | SpanLink] = list(items)
    for place, attributes in moved:
        item = merged[place]
        merged[place] = item._replace(attributes={**item.attributes, **_attributes(attributes.items())})
    return tuple(merged)


def groups_of(document: object, rows: int, opener: GroupOpener | None) -> list[SealedGroup]:
    """
    Give the groups of content of a frame with so many rows.

    Raises:
        SegmentCorruptError: They are not of this format.
    """
    found = [
        SealedGroup(nonce, user, conversation, places, blob, opener)
        for nonce, groups in checked_content(document)
        for user, conversation, places, blob in groups
    ]
    taken = [place for group in found for place in group.places if place != ELSEWHERE]
    if taken and (len(set(taken)) != len(taken) or min(taken) < 0 or max(taken) >= rows):
        raise SegmentCorruptError("spans: got content of no row, expected one row each")
    return found


def attach_groups(document: object, rows: Sequence[list[Any]], opener: GroupOpener | None) -> None:
    """
    Tell each row where its content is: its last place from now on.

    Raises:
        SegmentCorruptError: The groups are not of this format.
    """
    for group in groups_of(document, len(rows), opener):
        for position, place in enumerate(group.places):
            if place != ELSEWHERE:
                rows[place].append(InGroup(group, position))
