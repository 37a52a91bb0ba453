"""The frames of content that a reader has just passed: what was said in a span is in one of them."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import Final

from agentguard.errors import SegmentCorruptError
from agentguard.store._content_frame import ContentFrame
from agentguard.store._groups import GroupOpener
from agentguard.store._segment import Frame, SegmentFile

KEPT_FRAMES: Final = 4
"""Content stands in one of so many frames of content before the span: part of the format."""


class ContentShelf:
    """Keeps the last frames of content of one file."""

    def __init__(self, segment: SegmentFile, opener: GroupOpener | None) -> None:
        self._segment, self._opener = segment, opener
        self._frames: deque[list[tuple[Frame, ContentFrame]]] = deque(maxlen=KEPT_FRAMES)
        """Each with its parts, where the file is a pack."""

    def put(self, frame: Frame) -> None:
        """Take a frame, or one part of it; one that does not decode is reported."""
        report = partial(self._segment.note_undecodable, frame)
        try:
            content = ContentFrame(frame.plain, self._opener, report)
        except SegmentCorruptError as error:
            report(error)
            return
        if not self._frames or self._frames[-1][0][0].offset != frame.offset:
            self._frames.append([])
        self._frames[-1].append((frame, content))

    def of(self, spans: Frame, first_sequence: int, count: int) -> list[ContentFrame]:
        """The content of some consecutive spans of a frame."""
        return [
            content
            for parts in self._frames
            for frame, content in parts
            if content.first_sequence < first_sequence + count
            and content.following > first_sequence
            and (frame.n, frame.writer) == (spans.n, spans.writer)
        ]

    def right_before(self, spans: Frame) -> int:
        """How long the frame of content is that stands right before a frame of a live file; 0 for none."""
        if not self._frames:
            return 0
        last = self._frames[-1][-1][0]
        return last.size_bytes if last.offset + last.size_bytes == spans.offset else 0
