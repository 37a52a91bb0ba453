"""
Retention: removing the oldest segments, by age and by size.

Whole segments only, oldest first, and never a live one. Removing needs no room,
so it works on a full disk. A clock that does not fit what the segments say makes
nothing old.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from agentguard.errors import StoreError
from agentguard.store._disk import Disk
from agentguard.store._members import Member
from agentguard.store._query import Query
from agentguard.store._reading import SegmentInfo
from agentguard.store._timeline import believed_now


class Removed(NamedTuple):
    """What retention removed."""

    segments: int
    spans: int
    size_bytes: int
    unexported_spans: int
    """Of these, spans that some export had not taken yet."""
    held_segments: int = 0
    """Segments that were due, and are kept by a legal hold."""
    doubted_segments: int = 0
    """Segments that are due by the clock, and stay because the clock does not fit what the segments say."""


def remove_old(
    query: Query,
    folder: Path,
    *,
    now_unix_ns: int,
    age_s_max: float | None,
    size_bytes_max: int | None,
    exported: Mapping[str, tuple[int, int]] | None,
    disk: Disk,
    is_held: Callable[[SegmentInfo], bool] | None = None,
    witnessed_s: float = 0.0,
) -> Removed:
    """
    Remove sealed segments that are too old, and the oldest ones beyond the size.

    Args:
        query:
            Says what each segment holds.

        folder:
            Where the segments are.

        now_unix_ns:
            The time, from the clock of the store.

        age_s_max:
            A segment goes once its latest span started longer ago; `None` keeps all.

        size_bytes_max:
            What all segments may take; `None` for no bound.

        exported:
            For each writer the place up to which an export has taken spans; what
            lies behind it is counted as not exported. `None` where nothing is exported.

        disk:
            What removes the files.

        is_held:
            Whether a legal hold keeps a segment; what is held stays, also beyond the size.

        witnessed_s:
            For how long this process has seen time pass: see `believed_now`.

    Raises:
        StoreError: A file could not be removed.
    """
    segments = sorted(query.segments(), key=lambda segment: (segment.start_range_unix_ns[1], segment.name))
    total = sum(segment.size_bytes for segment in segments)
    ranges = [segment.start_range_unix_ns for segment in segments if segment.spans]
    believed = believed_now(ranges, now_unix_ns=now_unix_ns, witnessed_s=witnessed_s)
    age_ns = None if age_s_max is None else int(age_s_max * 1e9)
    removed = Removed(0, 0, 0, 0)
    for segment in segments:
        latest = segment.start_range_unix_ns[1]
        is_too_old = age_ns is not None and latest < believed - age_ns
        is_too_much = size_bytes_max is not None and total > size_bytes_max
        if not segment.is_sealed or not (is_too_old or is_too_much):
            if segment.is_sealed and age_ns is not None and latest < now_unix_ns - age_ns:
                removed = removed._replace(doubted_segments=removed.doubted_segments + len(segment.members))
            continue
        if is_held is not None and is_held(segment):
            removed = removed._replace(held_segments=removed.held_segments + len(segment.members))
            continue
        unexported = 0 if exported is None else sum(_behind(exported, member) for member in segment.members)
        try:
            disk.unlink(folder / segment.name)
        except OSError as error:
            raise StoreError(f"{segment.name}: cannot be removed: {error.strerror or error}") from error
        total -= segment.size_bytes
        removed = removed._replace(
            segments=removed.segments + len(segment.members),
            spans=removed.spans + segment.spans,
            size_bytes=removed.size_bytes + segment.size_bytes,
            unexported_spans=removed.unexported_spans + unexported,
        )
    if removed.segments:
        try:
            disk.sync_folder(folder)
        except OSError as error:
            raise StoreError(f"{folder}: cannot be brought to disk: {error.strerror or error}") from error
    return removed


def _behind(exported: Mapping[str, tuple[int, int]], member: Member) -> int:
    """How many spans of a segment no export has taken."""
    taken = exported.get(member.writer.hex(), (-1, -1))[1]
    return min(max(member.next_sequence - 1 - taken, 0), member.spans)
