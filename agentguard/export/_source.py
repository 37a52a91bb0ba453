"""What the exporter asks of a store: spans in the order they were written, and a place for its cursor."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol, TypeAlias

from agentguard.values import SpanColumns, SpanRecord

Cursor: TypeAlias = Mapping[str, tuple[int, int]]
"""For each writer the number of the segment, and of the last span that arrived."""

Position: TypeAlias = tuple[tuple[str, int, int], SpanColumns | SpanRecord, Mapping[str, str]]
"""
Spans that follow one another, or a single one; first writer, segment and number of the first of them,
last the resource of its process.
"""

_CURSOR_VERSION = 1


class Query(Protocol):
    """Reads a store while others write."""

    def columns(self, after: Cursor | None = None) -> Iterator[Position]:
        """Spans after a cursor, those of each writer in order."""
        ...

    def writers(self) -> set[str]:
        """All writers of which the store still has something."""
        ...


class Blob(Protocol):
    """A small sealed file beside the segments."""

    def read(self) -> bytes | None:
        """Return what was written last, or None."""
        ...

    def write(self, data: bytes) -> None:
        """Replace it, at once or not at all."""
        ...


class Source(Protocol):
    """A store, as far as the exporter sees it."""

    @property
    def folder(self) -> Path:
        """Where it lies."""
        ...

    def query(self) -> Query:
        """Begin to read."""
        ...

    def sealed_blob(self, name: str) -> Blob:
        """Return a side file by name."""
        ...


class Window(NamedTuple):
    """What a choice of traces must have again after a restart."""

    begins: Mapping[str, tuple[int, int]] = {}
    """For each writer the place before its first span that still waits for a reason to be sent."""
    kept: tuple[str, ...] = ()
    """Traces that are being sent, those with the latest spans last."""


def encode_cursor(cursor: Cursor, window: Window | None = None) -> bytes:
    """
    Write a cursor as JSON.

    Args:
        cursor:
            How far the spans have been answered for.
        window:
            Of a choice of traces.

    Example:
        >>> encode_cursor({"a1": (3, 700)})
        b'{"version": 1, "writers": {"a1": [3, 700]}}'
    """
    writers = {writer: list(place) for writer, place in cursor.items()}
    document: dict[str, object] = {"version": _CURSOR_VERSION, "writers": writers}
    if window is not None:
        document["window"] = {writer: list(place) for writer, place in window.begins.items()}
        document["kept"] = list(window.kept)
    return json.dumps(document).encode()


def decode_cursor(data: bytes | None) -> dict[str, tuple[int, int]]:
    """
    Read a cursor; empty where there is none, or where it is not readable.

    An empty cursor sends everything again, under the same ids: at least once
    holds, and a backend that knows the ids keeps each span once.

    Example:
        >>> decode_cursor(b'{"version": 1, "writers": {"a1": [3, 700]}}')
        {'a1': (3, 700)}
        >>> decode_cursor(b"?")
        {}
    """
    try:
        document = json.loads(data or b"{}")
        return _places(document["writers"]) if document.get("version") == _CURSOR_VERSION else {}
    except (ValueError, TypeError, AttributeError, KeyError):
        return {}


def decode_window(data: bytes | None) -> Window:
    """Read what a choice of traces had; empty as `decode_cursor`."""
    try:
        document = json.loads(data or b"{}")
        return Window(_places(document["window"]), tuple(map(str, document["kept"])))
    except (ValueError, TypeError, AttributeError, KeyError):
        return Window()


def _places(written: Mapping[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    return {str(writer): (int(n), int(sequence)) for writer, (n, sequence) in written.items()}
