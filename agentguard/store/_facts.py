"""
What the footer of a sealed file says of a frame, but for its place in the file.

Who encodes a frame has the columns in hand; to read them back from the frame would cost ten times as much.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Callable, Sequence
from functools import lru_cache
from struct import Struct
from typing import Any, Final, NamedTuple

from agentguard.store._footer import trace_tag
from agentguard.store._grid import Grid, trace_ids

_INT64: Final = range(-(2**63), 2**63)
_TRACE_BYTES: Final = 16


class Facts(NamedTuple):
    """About the records of one frame."""

    first_sequence: int = 0
    rows: int = 0
    start_min_unix_ns: int = 0
    start_max_unix_ns: int = 0
    tags: Sequence[int] = ()
    """Of the traces of its spans, each once."""


NO_FACTS: Final = Facts()


def facts_of(grid: Grid, traces: Sequence[bytes] = ()) -> Facts:
    """Gather the facts of a frame of spans, at least one; *traces* are the ids of theirs, where they are at hand."""
    first, last = min(grid.start), max(grid.start)
    if first not in _INT64 or last not in _INT64:
        first, last = (min(max(value, _INT64[0]), _INT64[-1]) for value in (first, last))
    trace = grid.trace
    if traces:
        tags = map(zlib.crc32, traces)
    elif type(trace) is bytes:
        tags = map(zlib.crc32, set(_split(len(trace) // _TRACE_BYTES)(trace)))
    else:
        tags = map(trace_tag, trace_ids(grid))
    # Two traces may have the same tag.
    return Facts(grid.first_sequence, grid.count, first, last, array("I", set(tags)))


@lru_cache(maxsize=64)
def _split(count: int) -> Callable[[bytes], tuple[Any, ...]]:
    """Give what takes ids apart that stand side by side."""
    return Struct(f"{_TRACE_BYTES}s" * count).unpack
