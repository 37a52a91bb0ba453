"""
Reading one segment file: its frames, whatever happened to it.

Damage is reported and passed over, up to the next frame that is whole. A sealed
file is read by its footer; where that is damaged, and in live files, frame by
frame.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Container, Iterator
from pathlib import Path
from typing import NamedTuple, Self

from agentguard.errors import KeyUnavailableError, SealError, SegmentCorruptError, TamperedError
from agentguard.seal import Keystore, SealKey, open_regular
from agentguard.store import _codec
from agentguard.store._damage import Damage
from agentguard.store._disk import try_lock, unlock
from agentguard.store._footer import Footer, Place, unpack_footer
from agentguard.store._layout import (
    FRAME_HEAD_BYTES,
    HEADER_BYTES,
    PAYLOAD_BYTES_MAX,
    SEGMENT_VERSION,
    TRAILER_BYTES,
    FrameHead,
    Header,
    Kind,
    State,
    is_frame_intact,
    open_frame,
    unpack_frame_head,
    unpack_header,
    unpack_trailer,
)
from agentguard.store._parts import decode_parts
from agentguard.store._resync import Seen, next_intact

LIVE_READ_BYTES_MAX = 64 * 1024 * 1024
"""A live segment is rotated long before this; what lies beyond is not ours."""
_READ_BYTES = 1024 * 1024
_SCAN_BYTES = 64 * 1024
"""A file that is walked through is read in pieces of this length: so many bytes of memory, and not the file's length."""
_RESYNC_FACTOR_MAX = 8
"""Looking for the next whole frame may read the file this many times over, not more."""

PACKED_KINDS = frozenset(Kind) - {Kind.FOOTER, Kind.END}
"""What is in parts in a pack."""

ReportDamage = Callable[[Damage], None]


class Frame(NamedTuple):
    """One opened frame, or one part of a frame of a pack."""

    kind: int
    number: int
    offset: int
    plain: bytes
    writer: bytes
    """Whose records these are."""
    n: int
    """Number of the segment in its writer."""
    size_bytes: int
    """Of the frame in the file."""
    codec: int = _codec.RAW
    packed: bytes = b""
    """The content as it was sealed; nothing for a part."""


class Resume(NamedTuple):
    """A frame of a live segment that was read before: what is before it need not be read again."""

    offset: int
    number: int


class SegmentFile:
    """One open segment. Use it as a context manager."""

    def __init__(
        self,
        fd: int,
        path: Path,
        header: Header,
        keystore: Keystore,
        report: ReportDamage,
        known_key: SealKey | None = None,
    ) -> None:
        self._fd = fd
        self._report = report
        self.path = path
        self.header = header
        self._bound = header.bound
        if known_key is None or known_key.commitment != header.commitment:
            # A commitment is made of everything that the key is: another file has another one.
            known_key = header.seal_key(keystore.root_of(header.generation))
            known_key.check(header.commitment)
        self.key = known_key
        self._footer: Footer | None = None
        self._is_footer_read = False
        self.only: Container[tuple[bytes, int]] | None = None
        """Of a pack, the members that are asked for; `None` for all."""

    @classmethod
    def open(
        cls, path: Path, keystore: Keystore, report: ReportDamage, known_key: SealKey | None = None
    ) -> SegmentFile | None:
        """Open a segment; `None` where it cannot be read at all, and that is reported."""

        def refuse(kind: str, detail: str) -> None:
            report(Damage(kind, path.name, 0, 0, detail))

        try:
            fd = open_regular(path)
        except FileNotFoundError:
            return None  # Retention removed it, or sealing replaced it: nothing is lost.
        except (OSError, SealError) as error:
            refuse("unreadable", getattr(error, "strerror", None) or "it is no regular file")
            return None
        try:
            header = unpack_header(os.pread(fd, HEADER_BYTES, 0))
            if header is None:
                if os.fstat(fd).st_size < HEADER_BYTES:
                    refuse("torn", "the file is shorter than a header")
                else:
                    refuse("header", "the header is damaged: nothing in the file can be opened")
            elif header.version > SEGMENT_VERSION:
                refuse(
                    "newer",
                    f"the file has format version {header.version}, expected at most {SEGMENT_VERSION}",
                )
            elif header.store_id != keystore.store_id:
                refuse("foreign", "the file belongs to another store")
            else:
                return cls(fd, path, header, keystore, report, known_key)
        except KeyUnavailableError:
            refuse("no-key", "the generation of keys that sealed it is gone")
        except TamperedError:
            refuse("tampered", "the header was altered: its key commitment is not the key's")
        except OSError as error:
            refuse("unreadable", error.strerror or "it cannot be read")
        os.close(fd)
        return None

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def fd(self) -> int:
        """The open file."""
        return self._fd

    @property
    def size_bytes(self) -> int:
        """How long the file is now."""
        return os.fstat(self._fd).st_size

    @property
    def is_sealed(self) -> bool:
        """Whether the file has a footer: it was written at once, or its writer has finished it."""
        return self.header.state != State.LIVE

    @property
    def is_pack(self) -> bool:
        """Whether the file holds many segments."""
        return self.header.state == State.PACKED

    @property
    def footer(self) -> Footer | None:
        """The footer; `None` for a live file, and for a damaged one, which is reported."""
        if not self._is_footer_read and self.is_sealed:
            self._footer = self._read_footer()
        self._is_footer_read = True
        return self._footer

    def use_footer(self, footer: Footer) -> None:
        """Take a footer that was read before from the same file."""
        self._footer, self._is_footer_read = footer, True

    def is_written(self) -> bool:
        """Whether some process still appends to the file."""
        if self.is_sealed:
            return False
        if try_lock(self._fd, is_shared=True):
            unlock(self._fd)
            return False
        return True

    def frames(self, kinds: Collection[int], resume: Resume | None = None) -> Iterator[Frame]:
        """Open all frames of these kinds, in the order of the file; of a live one from *resume* on."""
        footer = self.footer
        if footer is not None:
            yield from self.frames_at(footer.places.having(kinds))
        else:
            yield from self._scan(kinds, resume)

    def frames_at(self, places: list[Place]) -> Iterator[Frame]:
        """Open the frames at these places of a sealed file; neighbours are read at once."""
        start = 0
        while start < len(places):
            end, stop = start, places[start].offset
            while end < len(places) and places[end].offset == stop:
                if end > start and stop + places[end].size_bytes - places[start].offset > _READ_BYTES:
                    break
                stop += places[end].size_bytes
                end += 1
            base = places[start].offset
            data = self._pread(base, stop - base)
            for place in places[start:end]:
                yield from self._frame_at(data, place.offset - base, place)
            start = end

    def _pread(self, offset: int, size_bytes: int) -> bytes:
        """Read a piece of the file; short where the file ends or the system refuses."""
        parts, done = [], 0
        try:
            while done < size_bytes:
                part = os.pread(self._fd, min(size_bytes - done, 1 << 24), offset + done)
                if not part:
                    break
                parts.append(part)
                done += len(part)
        except OSError as error:
            self._note("unreadable", offset + done, size_bytes - done, error.strerror or "it cannot be read")
        return b"".join(parts)

    def _frame_at(self, data: bytes, offset: int, place: Place) -> list[Frame]:
        """Open one frame that the footer names; its parts in a pack."""
        head = unpack_frame_head(data, offset)
        if (
            head is None
            or head.kind != place.kind
            or head.length + FRAME_HEAD_BYTES != place.size_bytes
            or not is_frame_intact(data, offset, head)
        ):
            self._note("damaged", place.offset, place.size_bytes, "the checksum of a chunk is wrong")
            return []
        sealed = self._authenticate(data, offset, head, place.offset)
        return [] if sealed is None else self._decompress(sealed, head, place.offset)

    def _authenticate(self, data: bytes, offset: int, head: FrameHead, file_offset: int) -> bytes | None:
        """Decrypt one whole frame."""
        try:
            return open_frame(self.key, self._bound, data, offset, head)
        except TamperedError:
            self._note(
                "tampered", file_offset, FRAME_HEAD_BYTES + head.length,
                "the checksum is right and the seal is not: altered, or moved from another place",
            )  # fmt: skip
            return None

    def _decompress(self, sealed: bytes, head: FrameHead, offset: int) -> list[Frame]:
        """Decompress an authentic frame; the frame, or its parts in a pack."""
        size = FRAME_HEAD_BYTES + head.length
        try:
            plain = _codec.decompress(head.codec, sealed)
            if not self.is_pack or head.kind not in PACKED_KINDS:
                return [
                    Frame(
                        head.kind, head.number, offset, plain, self.header.writer, self.header.n, size,
                        head.codec, sealed,
                    )
                ]  # fmt: skip
            only = self.only
            return [
                Frame(head.kind, head.number, offset, part.plain, part.writer, part.n, size)
                for part in decode_parts(plain)
                if only is None or (part.writer, part.n) in only
            ]
        except SegmentCorruptError as error:
            self._note("undecodable", offset, size, str(error))
            return []

    def _scan(self, kinds: Collection[int], resume: Resume | None) -> Iterator[Frame]:
        """Walk from frame to frame, and from damage to the next whole frame."""
        size = os.fstat(self._fd).st_size
        if resume is not None and not self.has(resume):
            resume = None  # The end of the file was cut off and written anew: begin at the beginning.
        base, first = resume or Resume(HEADER_BYTES, 0)
        stop = min(size, LIVE_READ_BYTES_MAX)
        if size > LIVE_READ_BYTES_MAX and not self.is_sealed:
            self._note("damaged", LIVE_READ_BYTES_MAX, size - LIVE_READ_BYTES_MAX, "the file is too long")
        data = self._pread(base, min(stop - base, _SCAN_BYTES))
        is_empty = not data
        offset, expected, seen, has_ended, is_after_damage = 0, first, Seen(first), False, False
        work_left = _RESYNC_FACTOR_MAX * max(stop - base, _READ_BYTES)
        while True:
            head = unpack_frame_head(data, offset)
            end = offset + FRAME_HEAD_BYTES + (head.length if head else 0)
            is_whole = head is not None and end <= len(data) and is_frame_intact(data, offset, head)
            if not is_whole and base + len(data) < stop:
                # It goes on beyond what was read, or is damaged: then the next one may be anywhere.
                wanted = max(end - offset, _SCAN_BYTES) if end > len(data) else stop
                base, offset = base + offset, 0
                data = self._pread(base, min(wanted, stop - base))
                stop = stop if len(data) >= min(wanted, stop - base) else base + len(data)
                continue
            if offset >= len(data):
                break
            if head is None or not is_whole:
                if self.is_sealed and unpack_trailer(data[offset : offset + TRAILER_BYTES]) is not None:
                    break
                found, work_left = next_intact(data, offset + 1, work_left)
                self._note_gap(data, base, offset, found, head, has_ended=has_ended)
                offset, is_after_damage = found, True
                continue
            place, offset_before, offset = base + offset, offset, end
            # Every frame is authenticated, wanted or not: a planted one must not
            # pass for one that was seen.
            sealed = self._authenticate(data, offset_before, head, place)
            if sealed is None:
                is_after_damage = True
                continue
            if head.number in seen:
                self._note("duplicate", place, end - offset_before, f"frame {head.number} was there before")
                continue
            if head.number > expected and not is_after_damage:
                self._note("missing", place, 0, f"frames {expected} to {head.number - 1} are absent")
            seen.add(head.number)
            expected, is_after_damage = max(expected, head.number + 1), False
            has_ended = has_ended or head.kind in {Kind.END, Kind.FOOTER}
            if head.kind == Kind.FOOTER and base + offset + TRAILER_BYTES >= size:
                break  # What follows is the trailer, or as much of it as was written.
            if head.kind in kinds:
                yield from self._decompress(sealed, head, place)
        if is_empty and not self.is_written():
            self._note("torn", base, 0, "there is nothing behind the header")

    def has(self, place: Resume) -> bool:
        """Whether a frame that was read before is still where it was."""
        head = unpack_frame_head(self._pread(place.offset, FRAME_HEAD_BYTES), 0)
        if head is None:
            return False
        return self._begins_with(self._pread(place.offset, FRAME_HEAD_BYTES + head.length), place.number)

    def _begins_with(self, data: bytes, number: int) -> bool:
        """Whether the bytes begin with the authentic frame of this number."""
        head = unpack_frame_head(data, 0)
        if head is None or head.number != number or FRAME_HEAD_BYTES + head.length > len(data):
            return False
        try:
            return (
                is_frame_intact(data, 0, head)
                and open_frame(self.key, self._bound, data, 0, head) is not None
            )
        except TamperedError:
            return False

    def _note_gap(
        self, data: bytes, base: int, offset: int, found: int, head: FrameHead | None, *, has_ended: bool
    ) -> None:
        """Say what lies between the last whole frame and the next one."""
        if found < len(data):
            self._note("damaged", base + offset, found - offset, "the checksum of a frame is wrong")
            return
        is_cut = len(data) - offset < FRAME_HEAD_BYTES or (
            head is not None and offset + FRAME_HEAD_BYTES + head.length > len(data)
        )
        if self.is_sealed or has_ended or not is_cut:
            self._note("damaged", base + offset, found - offset, "the checksum of a frame is wrong")
        elif not self.is_written():
            self._note("torn", base + offset, found - offset, "the file ends within a frame")
        # Else the writer is about to finish this frame: nothing is wrong.

    def _read_footer(self) -> Footer | None:
        """Find the footer by the trailer."""
        size = os.fstat(self._fd).st_size
        found = unpack_trailer(self._pread(max(size - TRAILER_BYTES, 0), TRAILER_BYTES))
        if found is None or not FRAME_HEAD_BYTES < found[1] <= PAYLOAD_BYTES_MAX + FRAME_HEAD_BYTES:
            self._note("footer", 0, 0, "the trailer is missing or damaged")
            return None
        end = found[0] + found[1] + TRAILER_BYTES
        if end < size:
            self._note(
                "damaged", found[0] + found[1], size - end, "there are bytes that the footer does not name"
            )
        data = self._pread(*found)
        head = unpack_frame_head(data, 0)
        if (
            head is None
            or head.kind != Kind.FOOTER
            or head.length + FRAME_HEAD_BYTES != len(data)
            or not is_frame_intact(data, 0, head)
        ):
            self._note("footer", found[0], found[1], "the checksum of the footer is wrong")
            return None
        sealed = self._authenticate(data, 0, head, found[0])
        frames = [] if sealed is None else self._decompress(sealed, head, found[0])
        try:
            footer = unpack_footer(frames[0].plain) if frames else None
            if footer is not None and footer.places.end != found[0]:
                raise SegmentCorruptError("footer: got frames that end elsewhere, expected them before it")
        except SegmentCorruptError as error:
            self._note("undecodable", found[0], found[1], str(error))
            return None
        if footer is None:
            return None
        for kind, count in footer.damage.items():
            self._note(kind, 0, 0, f"{count} places were lost before the segment was sealed")
        return footer

    def note_undecodable(self, frame: Frame, error: Exception) -> None:
        """Report a frame that opened and does not decode."""
        self._note("undecodable", frame.offset, 0, str(error))

    def _note(self, kind: str, offset: int, size_bytes: int, detail: str) -> None:
        self._report(Damage(kind, self.path.name, offset, size_bytes, detail))
