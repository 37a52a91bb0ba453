"""
Sums that many processes add to: exact in the end, at most a second old on the way.

Adding costs two look-ups in this process. The sums are merged into the
shared cells now and then, in one transaction, and what others merged is read
back. Reading adds the three together: what is shared, what is being merged,
what is not yet merged. So this process always sees its own additions at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TypeAlias

from agentguard.errors import StoreError
from agentguard.forks import process_mark
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
        self._added = added
        self._mark = process_mark()
        self._lock = threading.Lock()
        self._pending: Sums = {}
        self._merging: Sums = {}
        self._shared: dict[str, Mapping[str, list[int]]] = {}
        self._revision = 0

    def add(self, key: str, field: Field, first: int, second: int) -> None:
        """Add to the two numbers of one field of one key; the hot path."""
        if self._mark[0]:
            with self._lock:
                fields = self._pending.get(key)
                if fields is not None and (sums := fields.get(field)) is not None:
                    sums[0] += first
                    sums[1] += second
                    return
        self._begin_sum(key, field, first, second)

    def _begin_sum(self, key: str, field: Field, first: int, second: int) -> None:
        """Add to a field that has nothing pending: the first after a merge, or after a fork."""
        # A child lets go of what is its parent's before it adds.
        self._added()
        with self._lock:
            pending = self._pending.get(key)
            if pending is None:
                if not self._is_told_apart(key):
                    key = OVERFLOW_KEY
                pending = self._pending.setdefault(key, {})
            sums = pending.setdefault(field, [0, 0])
            sums[0] += first
            sums[1] += second
        # And whoever merges may have found nothing, and gone to sleep, before it was there.
        self._added()

    def shared_and_recent(self, key: str) -> tuple[Mapping[str, list[int]], Recent]:
        """
        Give what makes up the answer for a key: what all processes share, and what is not in it yet.

        The first is another object whenever its content is another, so that what
        was worked out from it may be kept. Neither is to be changed.
        """
        with self._lock:
            shared, pending, merging = self._shared.get(key), self._pending.get(key), self._merging.get(key)
            if shared is None and pending is None and merging is None and not self._is_told_apart(key):
                key = OVERFLOW_KEY
                shared, pending, merging = (
                    self._shared.get(key),
                    self._pending.get(key),
                    self._merging.get(key),
                )
            # Copied while the lock is held: another thread may begin a field the next moment.
            recent = [] if pending is None else list(pending.items())
            if merging is not None:
                recent += merging.items()
            return _NOTHING if shared is None else shared, recent

    @property
    def is_dirty(self) -> bool:
        """Whether there is something to merge."""
        return bool(self._pending or self._merging)

    def begin_merge(self) -> None:
        """Take what is pending; it stays visible until `end_merge`."""
        with self._lock:
            for key, fields in self._pending.items():
                into = self._merging.setdefault(key, {})
                for field, amounts in fields.items():
                    known = into.get(field)
                    into[field] = (
                        amounts if known is None else [a + b for a, b in zip(known, amounts, strict=True)]
                    )
            self._pending = {}

    def write_merge(self, now_unix_s: int) -> None:
        """Add what was taken to the cells, inside a transaction."""
        for key, fields in self._merging.items():
            document = self._cells.get(self._kind, key)
            sums = {
                field: amounts
                for field, amounts in _fields(document).items()
                if self._is_kept(field, now_unix_s)
            }
            for own, amounts in fields.items():
                field = str(own)
                known = sums.get(field)
                sums[field] = (
                    amounts if known is None else [a + b for a, b in zip(known, amounts, strict=True)]
                )
            self._cells.put(self._kind, key, {"fields": sums}, expires_unix_s=now_unix_s + self._keep_s)

    def end_merge(self, *, is_written: bool) -> None:
        """Read back what all have merged; where the write failed, it is tried again with the next."""
        try:
            changed = [
                (cell, _fields(cell.document)) for cell in self._cells.changed(self._kind, self._revision)
            ]
        except StoreError:
            # What is written must not be written twice; until it can be read, every read raises.
            if is_written:
                with self._lock:
                    self._merging = {}
            raise
        with self._lock:
            for cell, fields in changed:
                self._shared[cell.key] = fields
                self._revision = max(self._revision, cell.revision)
            if is_written:
                self._merging = {}

    def forget(self) -> None:
        """Drop what is not merged: after a fork it is the parent's."""
        self._lock = threading.Lock()
        self._pending, self._merging = {}, {}
        self._mark = process_mark()

    def _is_told_apart(self, key: str) -> bool:
        return (
            key in self._shared
            or key in self._merging
            or key in self._pending
            or len(self._shared) + len(self._pending) < self._keys_max
        )


def _fields(document: Document | None) -> dict[str, list[int]]:
    if document is None:
        return {}
    fields = document.get("fields")
    if not isinstance(fields, dict):
        raise StoreError("state: a sum does not decode")
    return fields
