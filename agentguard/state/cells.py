"""
Cells: the few small documents that all state is made of, and where they lie.

A cell has a kind, a key and a JSON document. `MemoryCells` keeps them in this
process (for replay and tests), `database.SqliteCells` sealed in one file for
all processes of a machine. Rates, spend, approvals and kill are written once,
over this protocol.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple, Protocol, TypeAlias

Document: TypeAlias = Mapping[str, object]


class Cell(NamedTuple):
    """One document as it was read."""

    key: str
    document: Document
    revision: int
    """Grows with every change of any cell."""


class Cells(Protocol):
    """Where documents lie. Every method may raise StoreError: state that cannot be read is no state."""

    def transaction(self) -> AbstractContextManager[None]:
        """Begin a change that no other thread or process interleaves with; undone where it raises."""
        ...

    def get(self, kind: str, key: str) -> Document | None:
        """Read one document."""
        ...

    def put(self, kind: str, key: str, document: Document, *, link: str = "", expires_unix_s: int = 0) -> int:
        """
        Write one document, inside a transaction.

        Args:
            kind:
                Which sort.
            key:
                Which one.
            document:
                Plain data.
            link:
                A second key that several documents may share, for `linked`.
            expires_unix_s:
                From when on it may be removed; 0: never.

        Returns:
            Its revision.
        """
        ...

    def linked(self, kind: str, link: str) -> list[Cell]:
        """Read the documents that share a link, oldest change first."""
        ...

    def changed(self, kind: str, after_revision: int = 0) -> list[Cell]:
        """Read the documents of a kind that changed after a revision, oldest change first."""
        ...

    def version(self) -> object:
        """Give what is another value whenever somebody else has changed any cell; cheaper than reading."""
        ...

    def remove_expired(self, now_unix_s: int) -> None:
        """Remove what has expired, inside a transaction."""
        ...

    def count(self, kind: str) -> int:
        """Count the documents of a kind."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


class MemoryCells:
    """Cells of this process alone."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._cells: dict[tuple[str, str], tuple[Document, str, int, int]] = {}
        self._revision = 0

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Hold the lock; undo what was done where the body raises."""
        with self._lock:
            before, revision = dict(self._cells), self._revision
            try:
                yield
            except BaseException:
                self._cells, self._revision = before, revision
                raise

    def get(self, kind: str, key: str) -> Document | None:
        """Read one document."""
        with self._lock:
            cell = self._cells.get((kind, key))
            return None if cell is None else copy.deepcopy(cell[0])

    def put(self, kind: str, key: str, document: Document, *, link: str = "", expires_unix_s: int = 0) -> int:
        """Write one document."""
        self._revision += 1
        self._cells[kind, key] = (copy.deepcopy(document), link, expires_unix_s, self._revision)
        return self._revision

    def linked(self, kind: str, link: str) -> list[Cell]:
        """Read the documents that share a link."""
        return self._those(lambda its_kind, its_link, _: its_kind == kind and its_link == link)

    def changed(self, kind: str, after_revision: int = 0) -> list[Cell]:
        """Read the documents that changed after a revision."""
        return self._those(lambda its_kind, _, revision: its_kind == kind and revision > after_revision)

    def version(self) -> object:
        """Count all changes."""
        return self._revision

    def remove_expired(self, now_unix_s: int) -> None:
        """Remove what has expired."""
        for name in [name for name, cell in self._cells.items() if 0 < cell[2] <= now_unix_s]:
            del self._cells[name]

    def count(self, kind: str) -> int:
        """Count the documents of a kind."""
        with self._lock:
            return sum(1 for its_kind, _ in self._cells if its_kind == kind)

    def close(self) -> None:
        """Nothing is open."""

    def _those(self, fits: Callable[[str, str, int], bool]) -> list[Cell]:
        """Copy the cells whose kind, link and revision fit, oldest change first."""
        with self._lock:
            found = [
                Cell(key, copy.deepcopy(document), revision)
                for (kind, key), (document, link, _, revision) in self._cells.items()
                if fits(kind, link, revision)
            ]
        return sorted(found, key=lambda cell: cell.revision)
