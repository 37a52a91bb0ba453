"""Which segments a pack holds: columns, sorted by writer and number, 40 bytes each."""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from agentguard.errors import SegmentCorruptError


class Member(NamedTuple):
    """One segment in a pack, or one that is a file of its own."""

    writer: bytes
    n: int
    spans: int
    next_sequence: int
    """One more than the number of its last span; 0 where it has none."""
    next_outcome: int = 0
    next_gap: int = 0

    @property
    def key(self) -> tuple[bytes, int]:
        """What names it."""
        return self.writer, self.n


_COLUMNS = (("writers", "Q"), ("n", "I"), ("spans", "I"), ("next", "Q"), ("outcomes", "Q"), ("gaps", "Q"))


class Members:
    """The segments of a pack."""

    def __init__(self, columns: Mapping[str, array[int]]) -> None:
        self._columns = [columns[name] for name, _ in _COLUMNS]
        self._writers, self._n = self._columns[0], self._columns[1]
        if len({len(column) for column in self._columns}) != 1:
            raise SegmentCorruptError("footer: got columns of different lengths, expected one")

    @classmethod
    def of(cls, members: Iterable[Member]) -> Members:
        """Take members in any order."""
        rows = sorted((int.from_bytes(m.writer, "big"), *m[1:]) for m in members)
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(_COLUMNS)
        return cls(
            {name: array(code, column) for (name, code), column in zip(_COLUMNS, columns, strict=True)}
        )

    def __len__(self) -> int:
        return len(self._writers)

    def __iter__(self) -> Iterator[Member]:
        for writer, *rest in zip(*self._columns, strict=True):
            yield Member(writer.to_bytes(8, "big"), *rest)

    def __contains__(self, key: tuple[bytes, int]) -> bool:
        return self._place(*key) is not None

    def last_of(self, writer: bytes) -> Member | None:
        """The member of a writer with the highest number; `None` where there is none."""
        place = bisect_left(self._writers, int.from_bytes(writer, "big") + 1) - 1
        if place < 0 or self._writers[place].to_bytes(8, "big") != writer:
            return None
        return Member(writer, *(column[place] for column in self._columns[1:]))

    def _place(self, writer: bytes, n: int) -> int | None:
        """Where a member stands."""
        number = int.from_bytes(writer, "big")
        place = bisect_left(self._writers, number)
        while place < len(self._writers) and self._writers[place] == number:
            if self._n[place] == n:
                return place
            place += 1
        return None

    def pack(self) -> dict[str, bytes]:
        """Encode the columns."""
        return {
            name: little_endian(column).tobytes()
            for (name, _), column in zip(_COLUMNS, self._columns, strict=True)
        }

    @classmethod
    def unpack(cls, document: Mapping[str, bytes]) -> Members:
        """Decode the columns; raises `ValueError`, `LookupError` or `TypeError` where they are none."""
        columns: dict[str, array[int]] = {}
        for name, code in _COLUMNS:
            found: array[int] = array(code)
            found.frombytes(document[name])
            columns[name] = little_endian(found)
        return cls(columns) if len(columns["n"]) else NO_MEMBERS


def little_endian(values: array[int]) -> array[int]:
    """Swap on machines of the other byte order; the arrays on disk are little-endian."""
    if sys.byteorder == "little":
        return values
    swapped = array(values.typecode, values)
    swapped.byteswap()
    return swapped


NO_MEMBERS = Members.of(())
