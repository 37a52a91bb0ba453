"""
The segment that a process appends to.

A file belongs to one process and one writer id, and is never appended to again
once it was closed. What could not be written is cut off, so that a full disk
leaves whole frames. What the footer needs is noted with each frame, so that a file
of long frames is sealed where it lies: nothing is read again, nor written twice.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from agentguard.seal import NONCE_BYTES, SALT_BYTES, Keystore
from agentguard.store import _codec
from agentguard.store._disk import Disk
from agentguard.store._facts import NO_FACTS, Facts
from agentguard.store._features import DESCRIPTION
from agentguard.store._footer import Footer, Place, Places, Tags
from agentguard.store._layout import (
    CHUNK_SPANS,
    HEADER_BYTES,
    Header,
    Kind,
    State,
    pack_frame,
    pack_trailer,
    segment_key,
)
from agentguard.store._msgpack import encode

RandomBytes = Callable[[int], bytes]


class Body(NamedTuple):
    """The compressed plain text of a frame, which can be sealed into any file."""

    kind: int
    codec: int
    data: bytes
    records: int = 0
    """How many spans or outcomes it holds; 0 for features."""
    facts: Facts = NO_FACTS
    short_bytes: int = 0
    """Of content, what is in short pieces: it is worth to be put together."""


def make_body(kind: Kind, plain: bytes, *, records: int = 0, level: int = _codec.LIVE_LEVEL) -> Body:
    """Compress the plain text of a frame."""
    codec, data = _codec.compress(plain, level)
    return Body(kind, codec, data, records)


def new_header(
    keystore: Keystore, writer: bytes, n: int, state: State, random_bytes: RandomBytes = os.urandom
) -> Header:
    """Make the header of a new file, with a key of its own."""
    salt = random_bytes(SALT_BYTES)
    key = segment_key(keystore.root, store_id=keystore.store_id, writer=writer, n=n, salt=salt)
    return Header(state, n, keystore.store_id, writer, keystore.generation, salt, key.commitment)


class LiveSegment:
    """A new segment file, open for appending."""

    def __init__(
        self,
        folder: Path,
        *,
        keystore: Keystore,
        writer: bytes,
        n: int,
        resource: Mapping[str, str],
        created_unix_ns: int,
        disk: Disk,
        previous_frames: int = 0,
        random_bytes: RandomBytes = os.urandom,
    ) -> None:
        """
        Make the file.

        Args:
            folder:
                Where it lies.

            keystore:
                What its key is derived of.

            writer:
                Who writes.

            n:
                Its number in its writer.

            resource:
                What the writer says of its process.

            created_unix_ns:
                Now.

            disk:
                What writes.

            previous_frames:
                How many frames of records the writer's file before this one had when it was closed on purpose: it
                can no longer be cut off unnoticed. 0 where there is none, or its end is unknown.

            random_bytes:
                Draws salt and nonces.

        Raises:
            OSError: The disk refused; there is no file.
        """
        header = new_header(keystore, writer, n, State.LIVE, random_bytes)
        self._random_bytes = random_bytes
        self._disk = disk
        self.path = folder / header.name
        self.created_unix_ns = created_unix_ns
        self._header, self._bound = header, header.bound
        self._key = header.seal_key(keystore.root)
        self._index = 0
        self.size_bytes = 0
        self.spans = 0
        self._outcomes = 0
        self._places = Places.of(())
        self._tags: list[Sequence[int]] = []
        """Of each frame of spans."""
        self._content_bytes = self._short_bytes = 0
        self.is_broken = False
        """The end of the file is unknown, or a sync failed: nothing more may be appended."""
        # Under another name until it has a header: nobody ever reads a file without one.
        new = folder / f".{header.name}.new"
        self._fd = disk.create_over(new)
        try:
            # The lock tells other processes that this one still writes.
            disk.lock(self._fd)
            about = {
                "resource": dict(resource), "created_unix_ns": created_unix_ns, "features": DESCRIPTION,
                "previous_frames": previous_frames,
            }  # fmt: skip
            body = make_body(Kind.RESOURCE, encode(about))
            frame = self._seal(body, 0, random_bytes(NONCE_BYTES))
            self._write(header.pack() + frame, frames=1)
            self._note(body, len(frame))
            disk.rename(new, self.path)
            disk.sync_folder(folder)
        except BaseException:
            disk.close(self._fd)
            with contextlib.suppress(OSError):
                disk.unlink(new)
                disk.unlink(self.path)
            raise

    def append(self, bodies: Sequence[Body]) -> None:
        """
        Append frames in one write.

        Raises:
            OSError: Nothing was appended. Where `is_broken` is set then, the
                segment must be given up.

        """
        index, size = self._index, NONCE_BYTES
        # One look at the system for all of them: each lets another thread have the interpreter.
        nonces = self._random_bytes(size * len(bodies))
        frames = [
            self._seal(body, index + i, nonces[i * size : (i + 1) * size]) for i, body in enumerate(bodies)
        ]
        self._write(b"".join(frames), frames=len(bodies))
        for body, frame in zip(bodies, frames, strict=True):
            self._note(body, len(frame))

    def _note(self, body: Body, size_bytes: int) -> None:
        """Note for the footer what was appended."""
        first, rows, *starts, tags = body.facts
        self._places.append(Place(body.kind, 0, size_bytes, first, rows or body.records, *starts))
        if body.kind == Kind.SPANS:
            self.spans += body.records
            self._tags.append(tags)
        elif body.kind == Kind.OUTCOMES:
            self._outcomes += body.records
        elif body.kind == Kind.CONTENT:
            self._content_bytes += len(body.data)
            self._short_bytes += body.short_bytes

    def sync(self) -> None:
        """
        Bring all that was appended to stable storage.

        Raises:
            OSError: It may not be there, and asking this file again would lie:
                the system forgets what it failed to write. `is_broken` is set.

        """
        try:
            self._disk.sync(self._fd)
        except OSError:
            self.is_broken = True
            raise

    @property
    def frames(self) -> int:
        """How many frames it has, but for what ends it."""
        return len(self._places)

    @property
    def is_long_framed(self) -> bool:
        """
        Whether writing the file anew would gain nothing.

        Short frames are better put together, and so are short pieces of what a person said.
        """
        is_long = len(self._tags) <= 2 * -(-self.spans // CHUNK_SPANS)
        return is_long and 4 * self._short_bytes <= self._content_bytes

    def finish(self, now_unix_ns: int) -> None:
        """
        Seal the file where it lies: append footer and trailer.

        Raises:
            OSError: It may not be sealed, and may end within the footer; its records are all there.
        """
        tags = Tags()
        for chunk, found in enumerate(self._tags):
            tags.add(found, chunk)
        footer = Footer(
            self._places, *tags.arrays(), spans=self.spans, outcomes=self._outcomes, damage={},
            sealed_unix_ns=now_unix_ns,
        )  # fmt: skip
        body = make_body(Kind.FOOTER, footer.pack())
        frame, offset = self._seal(body, self._index, self._random_bytes(NONCE_BYTES)), self.size_bytes
        self._write(frame + pack_trailer(offset, len(frame)), frames=1)
        self.sync()
        # Last: a header that says so is never there without the footer, after a power cut neither. Where it did not
        # come, others seal the file.
        self._disk.overwrite(self._fd, self._header._replace(state=State.FINISHED).pack())

    def end(self) -> None:
        """Mark the segment as closed on purpose; it is for others to seal."""
        self.append([Body(Kind.END, _codec.RAW, b"")])
        self.sync()

    def close(self) -> None:
        """Close the file and give its lock back."""
        self._disk.close(self._fd)

    def _seal(self, body: Body, index: int, nonce: bytes) -> bytes:
        """Seal one frame of this file."""
        return pack_frame(
            self._key, self._bound, kind=body.kind, codec=body.codec, number=index, plain=body.data,
            is_last=body.kind in {Kind.END, Kind.FOOTER}, nonce=nonce,
        )  # fmt: skip

    def _write(self, data: bytes, *, frames: int) -> None:
        """Write at the end, or leave the end where it was."""
        try:
            self._disk.write(self._fd, data)
        except BaseException:
            # A full disk takes a part of the bytes: cut them off again.
            try:
                self._disk.truncate(self._fd, self.size_bytes)
            except OSError:
                self.is_broken = True
            raise
        self.size_bytes += len(data)
        self._index += frames


EMPTY_SEGMENT_BYTES_MAX = HEADER_BYTES + 4096
"""A closed segment no longer than this may hold no record at all."""
