"""What a stream gave, as rules and detectors see it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class Pieces(list[Any]):
    """
    Items of a stream, in order: their texts run on from one item to the next.

    A list in all else. Detectors look at what the texts say together: a number
    that is split over three items is one number.
    """

    __slots__ = ()


class Seen:
    """
    Stands for the text of a stream that was looked at while it went by, and is not kept.

    Args:
        kinds:
            Detectors that found something.
        replaced:
            Findings that were replaced before anybody saw them.
    """

    __slots__ = ("kinds", "replaced")

    def __init__(self, kinds: Iterable[str] = (), replaced: int = 0) -> None:
        self.kinds = frozenset(kinds)
        self.replaced = replaced

    def __repr__(self) -> str:
        return f"Seen({sorted(self.kinds)}, replaced={self.replaced})"
