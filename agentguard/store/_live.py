"""
The segment that a process appends to.

A file belongs to one process and one writer id, and is never appended to again
once it was closed. What could not be written is cut off, so that a full disk
leaves whole frames.
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
from agentguard.store._features import DESCRIPTION
from agentguard.store._layout import HEADER_BYTES, Header, Kind, State, pack_frame, segment_key
from agentguard.store._msgpack import encode

RandomBytes = Callable[[int], bytes]


class Body(NamedTuple):
    """The compressed plain text of a frame, which can be sealed into any file."""

    kind: int
    codec: int
    data: bytes
    records: int = 0
    """How many spans or outcomes it holds; 0 for features."""


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
        random_bytes: RandomBytes = os.urandom,
    ) -> None:
        header = new_header(keystore, writer, n, State.LIVE, random_bytes)
        self._random_bytes = random_bytes
        self._disk = disk
        self.path = folder / header.name
        self.created_unix_ns = created_unix_ns
        self._bound = header.bound
        self._key = header.seal_key(keystore.root)
        self._index = 0
        self.size_bytes = 0
        self.spans = 0
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
            }  # fmt: skip
            body = make_body(Kind.RESOURCE, encode(about))
            self._write(header.pack() + self._seal(body, 0, random_bytes(NONCE_BYTES)), frames=1)
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
        data = b"".join([
            self._seal(body, index + i, nonces[i * size : (i + 1) * size]) for i, body in enumerate(bodies)
        ])  # fmt: skip
        self._write(data, frames=len(bodies))
        self.spans += sum(body.records for body in bodies if body.kind == Kind.SPANS)

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

    def end(self) -> None:
        """Mark the segment as closed on purpose."""
        self.append([Body(Kind.END, _codec.RAW, b"")])
        self.sync()

    def close(self) -> None:
        """Close the file and give its lock back."""
        self._disk.close(self._fd)

    def _seal(self, body: Body, index: int, nonce: bytes) -> bytes:
        """Seal one frame of this file."""
        return pack_frame(
            self._key, self._bound, kind=body.kind, codec=body.codec, number=index, plain=body.data,
            is_last=body.kind == Kind.END, nonce=nonce,
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
