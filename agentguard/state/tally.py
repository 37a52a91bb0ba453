"""
Sums that many processes add to: exact in the end, at most a second old on the way.

The sums of this process are merged into the shared cells now and then, in one
transaction, and what others merged is read back. Reading adds the three together:
what is shared, what is being merged, what is not yet merged. So this process
always sees its own additions at once. Where calls are to count without a lock they
count in trays, which the tally empties.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

from agentguard.errors import StoreError
from agentguard.reckoning import RECKONING
from agentguard.state.cells import Cells, Document

Field: TypeAlias = str | int
"""What a number of a key is about; shared as its text."""
Sums: TypeAlias = dict[str, dict[Field, list[int]]]
"""By key, then by field: two integers."""
Recent: TypeAlias = list[tuple[Field, list[int]]]
"""Fields and their two integers; not to be changed."""

_NOTHING: Mapping[str, list[int]] = {}

OVERFLOW_KEY = "*"
"""Takes what keys beyond the limit would have held; reading such a key gives this one: never less."""


class Emptied(Protocol):
    """What a tally takes from before it merges; the lock of the tally is held."""

    def take(self) -> bool:
        """Put what was counted into the tally; False where there was nothing."""
        ...

    def rest(self) -> bool:
        """Count elsewhere until further notice; False where something was counted meanwhile."""
        ...


class Tally:
    """Pairs of integers by key and field, summed over all processes."""

    def __init__(
        self,
        cells: Cells,
        kind: str,
        *,
        is_kept: Callable[[str, int], bool],
        keep_s: int,
        added: Callable[[], object],
        keys_max: int = 4096,
    ) -> None:
        """
        Begin with nothing known; the first read finds what others shared.

        Args:
            cells:
                Where the sums are shared.
            kind:
                The kind of the cells.
            is_kept:
                Whether a field is still wanted at a Unix second.
            keep_s:
                Seconds after its last change that a cell may be removed.
            added:
                Told when there is something to merge where there was nothing, and in a forked child.
            keys_max:
                Keys that are told apart.
        """
        self._cells = cells
        self._kind = kind
        self._is_kept = is_kept
        self._keep_s = keep_s
        self._keys_max = keys_max
        self.added = added
        """To be told before something is added, since a forked child lets go of what is its parent's, and
        after it: whoever merges may have found nothing, and gone to sleep, before it was there."""
        self.lock = threading.Lock()
        """Held around every change and every look; another one after a fork."""
        self.trays: dict[Emptied, None] = {}
        """Where calls may be counting."""
        self.version = 0
        """Changes whenever the answer for some key may have changed, but for what lies in trays."""
        self.epoch = 0
        """Another number in a forked child that has let go of what is its parent's."""
        self._pending: Sums = {}
        self._merging: Sums = {}
        self._shared: dict[str, Mapping[str, list[int]]] = {}
        self._written: tuple[Mapping[str, Mapping[str, list[int]]], int] = ({}, 0)
        self._revision = 0
        """Of the last change that `_shared` has."""

    def add(self, key: str, amounts: Mapping[Field, tuple[int, int]]) -> None:
        """Add to the two numbers of some fields of one key."""
        self.added()
        with self.lock:
            for field, (first, second) in amounts.items():
                self.put(key, field, first, second)
        self.added()

    def put(self, key: str, field: Field, first: int, second: int) -> None:
        """Add where the lock is held; `added` is the caller's to tell."""
        pending = self._pending.get(key)
        if pending is None:
            if not self.is_told_apart(key):
                key = OVERFLOW_KEY
            pending = self._pending.setdefault(key, {})
        sums = pending.setdefault(field, [0, 0])
        sums[0] += first
        sums[1] += second
        self.version += 1

    def shared_and_recent(self, key: str) -> tuple[Mapping[str, list[int]], Recent]:
        """
        Give what makes up the answer for a key: what all processes share, and what is not in it yet.

        The lock is held. Neither is to be changed.
        """
        if not self.is_told_apart(key):
            key = OVERFLOW_KEY
        recent = list(self._pending.get(key, {}).items())
        recent += self._merging.get(key, {}).items()
        return self._shared.get(key, _NOTHING), recent

    def is_told_apart(self, key: str) -> bool:
        """Whether a key has numbers of its own; the lock is held."""
        return (
            key in self._shared
            or key in self._merging
            or key in self._pending
            or len(self._shared) + len(self._pending) < self._keys_max
        )

    def empty_trays(self) -> None:
        """Take what calls have counted; the lock is held. Where that is nothing, calls are no longer waited for."""
        for tray in tuple(self.trays):
            if not tray.take() and tray.rest():
                del self.trays[tray]

    def gather(self) -> bool:
        """Take what calls have counted, and say whether there is something to merge."""
        RECKONING.settle()
        with self.lock:
            self.empty_trays()
            return bool(self._pending or self._merging)

    def begin_merge(self) -> None:
        """Take what is pending; it stays visible until `end_merge`."""
        with self.lock:
            for key, fields in self._pending.items():
                into = self._merging.setdefault(key, {})
                for field, amounts in fields.items():
                    known = into.get(field)
                    into[field] = (
                        amounts if known is None else [a + b for a, b in zip(known, amounts, strict=True)]
                    )
            self._pending = {}

    def write_merge(self, now_unix_s: int) -> None:
        """Add what was taken to what all have shared, inside a transaction in which that was read."""
        written: dict[str, Mapping[str, list[int]]] = {}
        revision = self._revision
        for key, fields in self._merging.items():
            sums = {
                field: amounts
                for field, amounts in self._shared.get(key, _NOTHING).items()
                if self._is_kept(field, now_unix_s)
            }
            for own, amounts in fields.items():
                field = str(own)
                known = sums.get(field)
                sums[field] = (
                    amounts if known is None else [a + b for a, b in zip(known, amounts, strict=True)]
                )
            revision = self._cells.put(
                self._kind, key, {"fields": sums}, expires_unix_s=now_unix_s + self._keep_s
            )
            written[key] = sums
        self._written = (written, revision)

    def end_merge(self) -> None:
        """Hear that the transaction is over; where it failed, what was taken is tried again with the next."""
        written, revision = self._written
        with self.lock:
            self._shared.update(written)
            self._revision = revision
            self._merging = {}
            self.version += 1

    def read(self) -> None:
        """Read what others have shared since the last time."""
        changed = self._cells.changed(self._kind, self._revision)
        if changed:
            shared = {cell.key: _fields(cell.document) for cell in changed}
            with self.lock:
                self._shared.update(shared)
                self._revision = changed[-1].revision
                self.version += 1

    def forget(self) -> None:
        """Drop what is not merged: after a fork it is the parent's."""
        self.lock = threading.Lock()
        self.trays = {}
        self.epoch += 1
        self._pending, self._merging = {}, {}
        self.version += 1


def _fields(document: Document) -> dict[str, list[int]]:
    fields = document.get("fields")
    if not isinstance(fields, dict):
        raise StoreError("state: a sum does not decode")
    return fields
