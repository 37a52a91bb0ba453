"""
Where the spans of a live segment are, as far as it was read: a footer that grows.

What is remembered costs about 45 bytes a frame and 6 bytes a trace and frame; the
rest of the file is read again each time, from the last frame that is known.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

from agentguard.store._footer import Place, trace_tag
from agentguard.store._grid import Grid, trace_ids
from agentguard.store._layout import Kind
from agentguard.store._rows import START, TRACE, SpanRows
from agentguard.store._segment import Frame, Resume

_FRAMES_MAX = 65_536


class LiveIndex:
    """The frames of spans of one live file that were decoded so far."""

    def __init__(self, identity: tuple[int, int]) -> None:
        self.identity = identity
        """Device and inode: a live file keeps them while it grows."""
        self.lookups = 0
        """How many look-ups there were; the first one does without an index."""
        self._offsets, self._sizes = array("Q"), array("I")
        self._numbers, self._firsts, self._rows = array("I"), array("Q"), array("I")
        self._contents = array("I")
        """How long the frame of content right before is; 0 where there is none."""
        self._starts = array("q")
        self._tags, self._frames = array("I"), array("H")

    @property
    def resume(self) -> Resume | None:
        """The last frame that is known; `None` where none is."""
        return self._resume_at(len(self._offsets) - 1)

    def resume_after(self, sequence: int) -> Resume | None:
        """The frame from which on the file holds all spans after *sequence*."""
        return self._resume_at(bisect_right(self._firsts, sequence + 1) - 1)

    def _resume_at(self, place: int) -> Resume | None:
        """Where to read on from a frame that is known, its content included."""
        if place < 0:
            return None
        content = self._contents[place]
        return Resume(self._offsets[place] - content, self._numbers[place] - (1 if content else 0))

    def add(self, frame: Frame, spans: SpanRows | Grid, content_bytes: int = 0) -> None:
        """
        Remember a frame behind those that are known; one that is known already changes nothing.

        *content_bytes* is the length of the frame of content right before it, 0 for none.
        """
        known = self._offsets[-1] if self._offsets else -1
        count = spans.count if isinstance(spans, Grid) else len(spans.rows)
        if frame.offset <= known or not count or len(self._offsets) >= _FRAMES_MAX:
            return
        if self._firsts and spans.first_sequence < self._firsts[-1]:
            return  # Written again after an error of the disk: what comes first counts.
        number = len(self._offsets)
        if isinstance(spans, Grid):
            starts, traces = spans.start, trace_ids(spans)
        else:
            starts, traces = [row[START] for row in spans.rows], {row[TRACE] for row in spans.rows}
        try:
            self._starts.extend((min(starts), max(starts)))
        except OverflowError:
            return
        self._offsets.append(frame.offset)
        self._sizes.append(frame.size_bytes)
        self._numbers.append(frame.number)
        self._firsts.append(spans.first_sequence)
        self._rows.append(count)
        self._contents.append(content_bytes)
        tags = set(map(trace_tag, traces))
        self._tags.extend(tags)
        self._frames.extend([number] * len(tags))

    def places(self, tag: int | None) -> Iterator[Place]:
        """The frames that are known and may hold a trace, or all; without the last one, which is read again."""
        last = len(self._offsets) - 1
        numbers = range(last) if tag is None else self._with(tag)
        for i in numbers:
            if i < last:
                yield Place(
                    Kind.SPANS, self._offsets[i], self._sizes[i], self._firsts[i], self._rows[i],
                    self._starts[2 * i], self._starts[2 * i + 1],
                )  # fmt: skip

    def with_content(self, places: Iterable[Place]) -> list[Place]:
        """Places of this file, each behind that of its content."""
        found = []
        for place in places:
            size = self._contents[bisect_left(self._offsets, place.offset)]
            if size:
                found.append(Place(Kind.CONTENT, place.offset - size, size, 0, 0, 0, 0))
            found.append(place)
        return found

    def _with(self, tag: int) -> Iterator[int]:
        """Numbers of the frames with a tag, in their order."""
        place = -1
        for _ in range(self._tags.count(tag)):
            place = self._tags.index(tag, place + 1)
            yield self._frames[place]
