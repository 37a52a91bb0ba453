"""
Content of a frame of spans: in groups, each sealed for one user and conversation.

A row that was decoded has one place more, which says where its content is. A
group is opened when a record is made of one of its rows, and not before: who looks
for a trace opens no other person's words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, cast

from agentguard.errors import SegmentCorruptError
from agentguard.store._grid import ELSEWHERE
from agentguard.values import AttributeValue, SpanEvent, SpanLink, SpanRecord
from agentguard.values import attributes as names

ERASED: Final = "erased"
NO_KEY: Final = "no_key"

ContentRow = list[Any]
"""Index into the shapes of the group, values; and where there are any: events, links, status description."""


class GroupOpener(Protocol):
    """What has the keys."""

    def open_group(self, group: SealedGroup) -> tuple[list[list[str]], list[ContentRow]] | str:
        """
        Open the content of a group.

        Returns:
            Tuples of names, and a row for each place of the group; or why not: `ERASED` or `NO_KEY`.

        Raises:
            TamperedError: It is not what was sealed.
            SegmentCorruptError: It is, and does not decode.
        """
        ...  # pragma: no cover - a protocol


class SealedGroup:
    """The content of one user and conversation in one frame."""

    __slots__ = ("_opened", "_opener", "blob", "conversation", "places", "user")

    def __init__(
        self, user: bytes, conversation: bytes, places: list[int], blob: bytes, opener: GroupOpener | None
    ) -> None:
        self.user = user
        """Reference of the user's key; empty where the spans name none."""
        self.conversation = conversation
        """Reference of the conversation's key; empty likewise."""
        self.places = places
        """For each row of content its row in the frame, or `ELSEWHERE`."""
        self.blob = blob
        self._opener = opener
        self._opened: tuple[list[list[str]], list[ContentRow]] | str | None = None

    def opened(self) -> tuple[list[list[str]], list[ContentRow]] | str:
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
        shapes, rows = found
        try:
            shape, values, *more = rows[self.position]
            attributes.update(_attributes(zip(shapes[shape], values, strict=True)))
            if more:
                events, links, description = more
                record = record._replace(
                    events=_merged(record.events, events),
                    links=_merged(record.links, links),
                    status_description=description or record.status_description,
                )
        except (TypeError, ValueError, LookupError) as error:
            raise SegmentCorruptError(
                "content: got a row that does not decode, expected names and values"
            ) from error
        return record


def _attributes(pairs: Iterable[tuple[str, Any]]) -> dict[str, AttributeValue]:
    return {name: tuple(value) if type(value) is list else value for name, value in pairs}


def _merged(items: tuple[Any, ...], moved: Sequence[tuple[int, Mapping[str, Any]]]) -> tuple[Any, ...]:
    """Put attributes back into events or links."""
    merged: list[SpanEvent | SpanLink] = list(items)
    for place, attributes in moved:
        item = merged[place]
        merged[place] = item._replace(attributes={**item.attributes, **_attributes(attributes.items())})
    return tuple(merged)


def attach_groups(document: object, rows: Sequence[list[Any]], opener: GroupOpener | None) -> None:
    """
    Tell each row where its content is: its last place from now on.

    Raises:
        SegmentCorruptError: The groups are not of this format.
    """
    if type(document) is not list:
        raise SegmentCorruptError("spans: got no groups of content, expected a list")
    length = len(rows[0]) if rows else 0
    for item in document:
        if type(item) is not list or [type(part) for part in item] != [bytes, bytes, list, bytes]:
            raise SegmentCorruptError("spans: got a group of content of another form, expected four places")
        user, conversation, places, blob = item
        group = SealedGroup(user, conversation, places, blob, opener)
        for position, place in enumerate(group.places):
            if place == ELSEWHERE:
                continue
            if type(place) is not int or not 0 <= place < len(rows) or len(rows[place]) != length:
                raise SegmentCorruptError("spans: got content of no row, expected one row each")
            rows[place].append(InGroup(group, position))
