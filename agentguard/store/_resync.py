"""Finding the way in a damaged file: which frames were seen, and where the next whole one begins."""

from __future__ import annotations

from agentguard.store._layout import FRAME_HEAD_BYTES, FRAME_MAGIC, is_frame_intact, unpack_frame_head


class Seen:
    """Which frame numbers were seen: a bitmap, since they come in order but for damage."""

    def __init__(self, following: int = 0) -> None:
        self._next = following
        self._others: set[int] = set()

    def __contains__(self, index: int) -> bool:
        return index < self._next and index not in self._others

    def add(self, index: int) -> None:
        """Mark a number; those that are skipped are remembered as not seen."""
        if index >= self._next:
            # A hostile number must not make this set large: only a few are kept.
            first = max(self._next, index - 65_536)
            self._others.update(range(first, index))
            self._next = index + 1
        else:
            self._others.discard(index)


def next_intact(data: bytes, offset: int, work_left: int) -> tuple[int, int]:
    """
    Find the next whole frame.

    Returns:
        Its offset, or the length of *data* where there is none, and how many
        bytes may still be looked at.

    """
    while work_left > 0:
        offset = data.find(FRAME_MAGIC, offset)
        if offset < 0:
            return len(data), work_left
        head = unpack_frame_head(data, offset)
        if head is not None and offset + FRAME_HEAD_BYTES + head.length <= len(data):
            work_left -= head.length
            if is_frame_intact(data, offset, head):
                return offset, work_left
        work_left -= FRAME_HEAD_BYTES
        offset += 1
    return len(data), work_left
