"""
Groups of content: what was said by or about one user in one conversation, in one frame.

What a group holds once it is opened, and how groups stand in a frame of content.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import sub
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from agentguard.errors import SegmentCorruptError
from agentguard.store._grid import Column
from agentguard.store._msgpack import encode

CONTENT_VERSION: Final = 1
ERASED: Final = "erased"
NO_KEY: Final = "no_key"


class ContentPart(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Some rows of content whose attributes have the same names, as columns. The order of the fields is part of the format."""

    rows: int
    names: Sequence[str]
    columns: Sequence[Column]
    """For each name a value a row, or one for all."""
    events: Sequence[Any] = ()
    """For each row what is personal in its events; nothing where that is so of no row."""
    links: Sequence[Any] = ()
    descriptions: Sequence[str] = ()

    @property
    def has_items(self) -> bool:
        """Whether more than attributes is personal."""
        return bool(self.descriptions)

    def items_at(self, place: int) -> tuple[Any, Any, str]:
        """What is personal in events, links and status description of one row."""
        return self.events[place], self.links[place], self.descriptions[place]

    def attributes_at(self, place: int) -> dict[str, Any]:
        """The attributes of one row."""
        count = self.rows
        values = [column[place if len(column) == count else 0] for column in self.columns]
        return dict(zip(self.names, map(plain_value, values), strict=True))


def decode_parts_of(plain: bytes, rows: int) -> list[ContentPart]:
    """
    Decode the content of a group of so many rows.

    Raises:
        SegmentCorruptError: It is none.
    """
    try:
        parts = _parts_decoder.decode(plain)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise SegmentCorruptError("content: got parts of another form, expected columns") from error
    left = rows
    for part in parts:
        count = part.rows
        left -= count
        if (
            count < 1 or len(part.names) != len(part.columns)
            or not {1, count}.issuperset(map(len, part.columns))
            or not len(part.events) == len(part.links) == len(part.descriptions)
            or len(part.descriptions) not in (0, count)
        ):  # fmt: skip
            raise SegmentCorruptError("content: got columns of other lengths, expected a value for each row")
    if left:
        raise SegmentCorruptError(f"content: got {rows - left} rows, expected {rows}")
    return parts


_parts_decoder: Final = msgspec.msgpack.Decoder(list[ContentPart])


class SealedGroup(NamedTuple):
    """The content of one user and conversation in one frame."""

    nonce: bytes
    """Under which it is sealed, with others of other keys."""
    user: bytes
    """Reference of the user's key; empty where the spans name none."""
    conversation: bytes
    """Reference of the conversation's key; empty likewise."""
    places: Sequence[int]
    """For each row of content its span, counted from the first one of the frame."""
    blob: bytes


class GroupOpener(Protocol):
    """What has the keys."""

    def open_groups(self, groups: Sequence[SealedGroup]) -> Iterable[list[ContentPart] | Exception | str]:
        """
        Open the content of groups.

        Returns:
            For each group parts with a row for each of its places together; or why not: `ERASED`,
            `NO_KEY`, or the error where it does not open although its keys are known.
        """
        ...  # pragma: no cover - a protocol


def encode_content(first_sequence: int, rows: int, groups: Iterable[SealedGroup]) -> bytes:
    """Encode the content of some consecutive spans."""
    sets: dict[bytes, tuple[list[Any], list[bytes]]] = {}
    for nonce, user, conversation, places, blob in groups:
        heads, blobs = sets.setdefault(nonce, ([], []))
        heads.append((user, conversation, steps_of(places)))
        blobs.append(blob)
    return encode_sets(first_sequence, rows, [(nonce, *each) for nonce, each in sets.items()])


def encode_sets(
    first_sequence: int, rows: int, sets: Sequence[tuple[bytes, list[Any], list[bytes]]]
) -> bytes:
    """Encode the same from what stands in the frame: for each nonce user, conversation and steps, and what is sealed."""
    return encode((CONTENT_VERSION, first_sequence, rows, sets))


def steps_of(places: Sequence[int]) -> list[int]:
    """How far it is from each place to the next: one byte mostly, where a place would be three."""
    return [places[0], *map(sub, places[1:], places)]


def plain_value(value: Any) -> Any:
    """Sequences come back as tuples, so that a record stays a value."""
    return tuple(value) if type(value) is list else value
