"""
Sums that many processes add to: exact in the end, at most a second old on the way.

Adding costs a dictionary update in this process. The sums are merged into the
shared cells now and then, in one transaction, and what others merged is read
back. Reading adds the three together: what is shared, what is being merged,
what is not yet merged. So this process always sees its own additions at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TypeAlias

from agentguard.errors import StoreError
from agentguard.state.cells import Cells, Document

Sums: TypeAlias = dict[str, dict[str, list[int]]]
"""By key, then by field: two integers."""

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
            keys_max:
                Keys that are told apart.
        """
        self._cells = cells
        self._kind = kind
        self._is_kept = is_kept
        self._keep_s = keep_s
        self._keys_max = keys_max
        self._lock = threading.Lock()
        self._pending: Sums = {}
        self._merging: Sums = {}
        self._shared: dict[str, Mapping[str, list[int]]] = {}
        self._revision = 0

    def add(self, key: str, field: str, first: int, second: int) -> None:
        """Add to the two numbers of one field of one key."""
        with self._lock:
            try:
                sums = self._pending[key][field]
            except KeyError:
                if key not in self._pending and not self._is_told_apart(key):
                    key = OVERFLOW_KEY
                sums = self._pending.setdefault(key, {}).setdefault(field, [0, 0])
            sums[0] += first
            sums[1] += second

    def parts(self, key: str) -> list[Mapping[str, list[int]]]:
        """Give the maps whose sum is the answer for a key; do not change them."""
        shared, recent = self.shared_and_recent(key)
        return [shared, *recent]

    def shared_and_recent(self, key: str) -> tuple[Mapping[str, list[int]], list[Mapping[str, list[int]]]]:
        """
        Give the maps whose sum is the answer for a key: that of all processes, and those that are not in it yet.

        The first is another object whenever its content is another, so that what
        was worked out from it may be kept. None of them is to be changed.
        """
        with self._lock:
            if not self._is_told_apart(key):
                key = OVERFLOW_KEY
            merging, pending = self._merging.get(key), self._pending.get(key)
            # Copied while the lock is held: another thread may add a field the next moment.
            return self._shared.get(key, _NOTHING), [dict(part) for part in (merging, pending) if part]

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
            for field, amounts in fields.items():
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
