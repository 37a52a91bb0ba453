"""What could not be read, and why: counted, told apart, never silently passed over."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

_DETAILS_MAX = 100
_SEEN_MAX = 100_000

TAMPERING = frozenset({"tampered", "foreign", "misnamed", "duplicate"})
"""Kinds that no accident explains: somebody changed or moved authentic bytes."""


class Damage(NamedTuple):
    """One place that could not be read."""

    kind: str
    """
    damaged: the checksum is wrong (rot, or a careless hand).
    torn: the file ends within a frame, as after a crash.
    tampered: the checksum is right and the seal is not.
    missing: frames are absent between others.
    duplicate: a frame or a file is there twice.
    misnamed: the file is not the one that its name says.
    foreign: the file belongs to another store.
    header, footer: these parts are damaged; the rest may be read.
    unreadable: the system refuses to open or read the file.
    newer: a newer version wrote it.
    no-key: its generation of keys is gone.
    undecodable: authentic, but it does not decode.
    """
    segment: str
    """Name of the file."""
    offset: int
    """Byte in the file; 0 where the whole file is meant."""
    size_bytes: int
    """How many bytes could not be used; 0 where unknown."""
    detail: str = ""

    @property
    def is_tampering(self) -> bool:
        """Whether no accident explains it."""
        return self.kind in TAMPERING

    def __str__(self) -> str:
        """One line for people."""
        text = f"{self.segment}:{self.offset}: {self.kind}"
        return f"{text}: {self.detail}" if self.detail else text


class DamageReport:
    """All damage that one query met, each place counted once."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """How many places, by kind."""
        self.first: list[Damage] = []
        """The first hundred of them."""
        self._seen: set[tuple[str, str, int]] = set()

    def add(self, damage: Damage) -> None:
        """Count one place, unless it was counted before."""
        place = (damage.kind, damage.segment, damage.offset)
        if place in self._seen:
            return
        if len(self._seen) < _SEEN_MAX:
            self._seen.add(place)
        self.counts[damage.kind] += 1
        if len(self.first) < _DETAILS_MAX:
            self.first.append(damage)

    @property
    def total(self) -> int:
        """How many places."""
        return self.counts.total()

    @property
    def is_tampering(self) -> bool:
        """Whether any of it is no accident."""
        return any(kind in TAMPERING for kind in self.counts)

    def __bool__(self) -> bool:
        return bool(self.counts)

    def __str__(self) -> str:
        """One line for people: kinds and counts."""
        if not self.counts:
            return "no damage"
        return ", ".join(f"{count} {kind}" for kind, count in sorted(self.counts.items()))
