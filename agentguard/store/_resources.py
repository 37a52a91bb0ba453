"""What the writers of segments said of their processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from agentguard.errors import SegmentCorruptError
from agentguard.store._cache import FooterCache
from agentguard.store._layout import Kind
from agentguard.store._msgpack import decode_map
from agentguard.store._segment import Frame, SegmentFile

_Key = tuple[bytes, int]


class Resources:
    """Reads them once for each file; those of one pack are kept at a time."""

    def __init__(self, cache: FooterCache) -> None:
        self._cache = cache
        self._salt = b""
        self._of_pack: dict[_Key, Frame] = {}
        self._last: tuple[_Key, Mapping[str, str]] = ((b"", 0), {})

    def of(self, segment: SegmentFile) -> Iterator[tuple[bytes, Mapping[str, str]]]:
        """Give the writers of a file and what they said."""
        if not segment.is_pack:
            yield segment.header.writer, self.for_writer(segment, segment.header.writer, segment.header.n)
            return
        for frame in segment.frames({Kind.RESOURCE}):
            yield frame.writer, _decoded(segment, frame)

    def for_writer(self, segment: SegmentFile, writer: bytes, n: int) -> Mapping[str, str]:
        """What the writer of one segment of a file said; empty where that is not known."""
        if not segment.is_pack:
            return self._of_single(segment)
        if segment.header.salt != self._salt:
            self._salt = segment.header.salt
            # Not decoded: a pack may have ten thousand of them.
            self._of_pack = {(frame.writer, frame.n): frame for frame in segment.frames({Kind.RESOURCE})}
            self._last = ((b"", 0), {})
        key = (writer, n)
        if self._last[0] != key:
            frame = self._of_pack.get(key)
            self._last = (key, {} if frame is None else _decoded(segment, frame))
        return self._last[1]

    def _of_single(self, segment: SegmentFile) -> Mapping[str, str]:
        """What the writer of a segment said."""
        known = self._cache.resources.get(segment.header.salt)
        if known is not None:
            return known
        for frame in segment.frames({Kind.RESOURCE}):
            found = _decoded(segment, frame)
            if found:
                self._cache.remember_resource(segment, found)
                return found
        return {}


def _decoded(segment: SegmentFile, frame: Frame) -> Mapping[str, str]:
    """Decode one resource; empty where it is none, which is reported."""
    try:
        resource = decode_map(frame.plain, "resource").get("resource", {})
    except SegmentCorruptError as error:
        segment.note_undecodable(frame, error)
        return {}
    return {str(key): str(value) for key, value in resource.items()} if isinstance(resource, dict) else {}
