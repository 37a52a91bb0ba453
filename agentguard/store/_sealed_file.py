"""Writing a file that is sealed at once: frame after frame, then the footer that knows their places."""

from __future__ import annotations

from typing import Final

from agentguard.seal import SealKey
from agentguard.store._disk import Disk
from agentguard.store._footer import Footer, Place, Places
from agentguard.store._layout import Header, Kind, pack_frame, pack_trailer
from agentguard.store._live import Body, make_body

_WRITE_BYTES: Final = 128 * 1024
"""Frames are written together until they have so many bytes: to ask the system costs more than to seal one."""


class SealedFile:
    """Collects the frames of a sealed file and writes them."""

    def __init__(self, header: Header, key: SealKey, disk: Disk, fd: int) -> None:
        self._bound, self._key, self._disk, self._fd = header.bound, key, disk, fd
        self._index = 0
        self._offset = 0
        self._waiting: list[bytes] = []
        """Not yet written."""
        self._waiting_bytes = 0
        self._write(header.pack())
        self.places = Places.of(())

    @property
    def size_bytes(self) -> int:
        """How long the file is, with what waits to be written."""
        return self._offset

    def add(self, body: Body) -> None:
        """Seal and write one frame, and remember where it is."""
        frame = self._seal(body)
        self.places.append(Place(body.kind, self._offset, len(frame), *body.facts[:4]))
        self._write(frame)

    def finish(self, footer: Footer) -> None:
        """Write footer and trailer, and bring all to disk."""
        body = make_body(Kind.FOOTER, footer.pack())
        frame = self._seal(body, is_last=True)
        trailer = pack_trailer(self._offset, len(frame))
        self._write(frame + trailer)
        self._write_out()
        self._disk.sync(self._fd)

    def _seal(self, body: Body, *, is_last: bool = False) -> bytes:
        frame = pack_frame(
            self._key, self._bound, kind=body.kind, codec=body.codec, number=self._index,
            plain=body.data, is_last=is_last,
        )  # fmt: skip
        self._index += 1
        return frame

    def _write(self, data: bytes) -> None:
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        self._offset += len(data)
        if self._waiting_bytes >= _WRITE_BYTES:
            self._write_out()

    def _write_out(self) -> None:
        data = b"".join(self._waiting)
        self._waiting, self._waiting_bytes = [], 0
        self._disk.write(self._fd, data)
