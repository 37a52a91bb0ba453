"""
Damaged stores, made from good ones: bits flipped, files cut, moved, spliced, planted.

Each entry names itself and changes a copy of a good store. What every one of them
must meet with is the same: one clear error of ours, or a counted damage; never
wrong data; and whatever was whole is still read.
"""

from __future__ import annotations

import os
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from agentguard.store import _codec
from agentguard.store._layout import (
    FRAME_HEAD_BYTES,
    HEADER_BYTES,
    TRAILER_BYTES,
    Kind,
    pack_frame,
    pack_trailer,
    unpack_frame_head,
    unpack_header,
)
from tests.support.stores import open_store


class Hostile(NamedTuple):
    """One way to damage a store."""

    name: str
    apply: Callable[[Path], None]
    """Changes the store in this folder."""


def frame_offsets(data: bytes) -> list[tuple[int, int]]:
    """Offset and length of each frame of an undamaged segment."""
    found, offset = [], HEADER_BYTES
    while (head := unpack_frame_head(data, offset)) is not None:
        found.append((offset, FRAME_HEAD_BYTES + head.length))
        offset += FRAME_HEAD_BYTES + head.length
    return found


def _segments(folder: Path) -> list[Path]:
    return sorted((folder / "seg").glob("*.ags"))


def _recheck(data: bytearray, offset: int) -> None:
    """Make the checksum of a frame right again, as an attacker would."""
    head = unpack_frame_head(data, offset)
    assert head is not None
    body = data[offset : offset + FRAME_HEAD_BYTES - 4] + data[offset + FRAME_HEAD_BYTES :][: head.length]
    struct.pack_into("<I", data, offset + FRAME_HEAD_BYTES - 4, zlib.crc32(body))


def _edit(number: int, change: Callable[[bytearray], bytes | bytearray]) -> Callable[[Path], None]:
    """Change the bytes of one segment."""

    def apply(folder: Path) -> None:
        path = _segments(folder)[number]
        path.write_bytes(change(bytearray(path.read_bytes())))

    return apply


def hostile_stores(seed: int = 1, per_kind: int = 8) -> Iterator[Hostile]:
    """Give the ways; the store has two sealed segments and one live one (numbers by name)."""
    chance = random.Random(seed)
    for number in range(3):
        for i in range(per_kind):
            share = chance.random()
            bit = chance.randrange(8)

            def flip(data: bytearray, share: float = share, bit: int = bit) -> bytearray:
                data[int(share * len(data))] ^= 1 << bit
                return data

            yield Hostile(f"flip-{number}-{i}", _edit(number, flip))

            def cut(data: bytearray, share: float = share) -> bytearray:
                return data[: int(share * len(data))]

            yield Hostile(f"cut-{number}-{i}", _edit(number, cut))

            def zero(data: bytearray, share: float = share) -> bytearray:
                start = int(share * len(data))
                data[start : start + 512] = bytes(min(512, len(data) - start))
                return data

            yield Hostile(f"zero-{number}-{i}", _edit(number, zero))

            def forge(data: bytearray, share: float = share, bit: int = bit) -> bytearray:
                frames = frame_offsets(data)
                offset, length = frames[int(share * len(frames))]
                place = offset + FRAME_HEAD_BYTES + int(share * (length - FRAME_HEAD_BYTES))
                data[place] ^= 1 << bit
                _recheck(data, offset)
                return data

            yield Hostile(f"forge-{number}-{i}", _edit(number, forge))
        yield from _frame_games(number, chance)
        yield from _bombs(number)
    yield from _file_games()
    yield from _plants()


def _frame_games(number: int, chance: random.Random) -> Iterator[Hostile]:
    """Frames that are removed, doubled, exchanged or relabelled."""

    def with_frames(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[Path], None]:
        def edit(data: bytearray) -> bytes:
            frames = [bytes(data[o : o + n]) for o, n in frame_offsets(data)]
            end = HEADER_BYTES + sum(map(len, frames))
            return bytes(data[:HEADER_BYTES]) + b"".join(change(frames)) + bytes(data[end:])

        return _edit(number, edit)

    pick = chance.randrange(1, 4)
    yield Hostile(f"frame-removed-{number}", with_frames(lambda f: f[:pick] + f[pick + 1 :]))
    yield Hostile(f"frame-doubled-{number}", with_frames(lambda f: f[: pick + 1] + f[pick:]))
    yield Hostile(f"frames-exchanged-{number}", with_frames(lambda f: [f[1], f[0], *f[2:]]))
    yield Hostile(f"frames-reversed-{number}", with_frames(lambda f: f[::-1]))
    yield Hostile(f"all-frames-doubled-{number}", with_frames(lambda f: f + f))
    yield Hostile(f"no-frames-{number}", with_frames(lambda _: []))

    for field, place in (("kind", 4), ("flags", 5), ("codec", 6), ("number", 8)):

        def relabel(data: bytearray, place: int = place) -> bytearray:
            offset, _ = frame_offsets(data)[pick]
            data[offset + place] ^= 3
            _recheck(data, offset)
            return data

        yield Hostile(f"frame-{field}-forged-{number}", _edit(number, relabel))
    for field, place in (
        ("version", 8),
        ("state", 10),
        ("n", 12),
        ("store", 16),
        ("writer", 32),
        ("salt", 48),
        ("commitment", 72),
    ):

        def rehead(data: bytearray, place: int = place) -> bytearray:
            data[place] ^= 1
            struct.pack_into("<I", data, HEADER_BYTES - 4, zlib.crc32(data[: HEADER_BYTES - 4]))
            return data

        yield Hostile(f"header-{field}-forged-{number}", _edit(number, rehead))


def _bombs(number: int) -> Iterator[Hostile]:
    """Length fields that lie, and authentic frames that grow without end."""
    for length in (0, 27, 0x7FFFFFFF, 0xFFFFFFFF, 33 * 1024 * 1024):

        def lie(data: bytearray, length: int = length) -> bytearray:
            offset, _ = frame_offsets(data)[1]
            struct.pack_into("<I", data, offset + 12, length)
            return data

        yield Hostile(f"length-{length}-{number}", _edit(number, lie))

    def magic_flood(data: bytearray) -> bytes:
        return bytes(data) + (b"\xa6AGf\x01\x00\x02\x00" + struct.pack("<III", 9, 60_000, 0)) * 4000

    yield Hostile(f"magic-flood-{number}", _edit(number, magic_flood))

    def trailer(data: bytearray) -> bytes:
        return bytes(data[:-TRAILER_BYTES]) + pack_trailer(2**63, 0xFFFFFFFF)

    yield Hostile(f"trailer-bomb-{number}", _edit(number, trailer))

    def appended(plain: Callable[[], tuple[int, bytes]], kind: Kind) -> Callable[[Path], None]:
        """Append an authentic frame: what an attacker with the key, or a fault of ours, could write."""

        def apply(folder: Path) -> None:
            store = open_store(folder)
            path = _segments(folder)[number]
            data = path.read_bytes()
            header = unpack_header(data[:HEADER_BYTES])
            assert header is not None
            codec, body = plain()
            frame = pack_frame(
                header.seal_key(store.keystore.root),
                header.bound,
                kind=kind,
                codec=codec,
                number=60_000,
                plain=body,
            )
            path.write_bytes(data + frame)

        return apply

    def zstd_bomb() -> tuple[int, bytes]:
        _, packed = _codec.compress(bytes(100 * 1024 * 1024))
        return _codec.ZSTD, packed

    def zlib_bomb() -> tuple[int, bytes]:
        return _codec.ZLIB, struct.pack("<I", 1000) + zlib.compress(bytes(50 * 1024 * 1024))

    yield Hostile(f"zstd-bomb-{number}", appended(zstd_bomb, Kind.SPANS))
    yield Hostile(f"zlib-bomb-{number}", appended(zlib_bomb, Kind.FEATURES))
    yield Hostile(f"unknown-codec-{number}", appended(lambda: (9, b"x" * 50), Kind.SPANS))
    yield Hostile(f"not-rows-{number}", appended(lambda: (0, b"\xc1" * 50), Kind.SPANS))
    yield Hostile(f"deep-rows-{number}", appended(lambda: (0, b"\x91" * 5000 + b"\x00"), Kind.SPANS))
    yield Hostile(
        f"short-row-{number}", appended(lambda: (0, b"\x94\x01\xcd\xff\xff\x90\x91\x91\x01"), Kind.SPANS)
    )
    yield Hostile(f"not-outcomes-{number}", appended(lambda: (0, b"\x93\x01\x00\x91\x91\x01"), Kind.OUTCOMES))
    yield Hostile(
        f"not-features-{number}", appended(lambda: (0, b"\x01\x00\xff\xff" + bytes(60)), Kind.FEATURES)
    )


def _file_games() -> Iterator[Hostile]:
    """Files that are deleted, exchanged, copied, emptied, or another store's."""
    for number in range(3):

        def delete(folder: Path, number: int = number) -> None:
            _segments(folder)[number].unlink()

        yield Hostile(f"deleted-{number}", delete)

        def empty(folder: Path, number: int = number) -> None:
            _segments(folder)[number].write_bytes(b"")

        yield Hostile(f"empty-{number}", empty)

        def exchange(folder: Path, number: int = number) -> None:
            files = _segments(folder)
            one, two = files[number], files[(number + 1) % 3]
            data = one.read_bytes()
            one.write_bytes(two.read_bytes())
            two.write_bytes(data)

        yield Hostile(f"exchanged-{number}", exchange)

        def copy(folder: Path, number: int = number) -> None:
            path = _segments(folder)[number]
            (folder / "seg" / f"{'f' * 16}-00000000.ags").write_bytes(path.read_bytes())

        yield Hostile(f"copied-{number}", copy)

        def splice(folder: Path, number: int = number) -> None:
            files = _segments(folder)
            one, two = files[number], files[(number + 1) % 3]
            data = two.read_bytes()
            offset, length = frame_offsets(data)[1]
            one.write_bytes(one.read_bytes() + data[offset : offset + length])

        yield Hostile(f"spliced-{number}", splice)

        def unreadable(folder: Path, number: int = number) -> None:
            path = _segments(folder)[number]
            path.unlink()
            path.mkdir()

        yield Hostile(f"folder-in-place-{number}", unreadable)

        def fifo(folder: Path, number: int = number) -> None:
            path = _segments(folder)[number]
            path.unlink()
            os.mkfifo(path)

        yield Hostile(f"fifo-in-place-{number}", fifo)

        def link(folder: Path, number: int = number) -> None:
            path = _segments(folder)[number]
            target = folder / "elsewhere"
            path.rename(target)
            path.symlink_to(target)

        yield Hostile(f"link-in-place-{number}", link)

        def foreign(folder: Path, number: int = number) -> None:
            path = _segments(folder)[number]
            other = folder.parent / "other" / "seg"
            path.write_bytes(min(other.glob("*.ags")).read_bytes())

        yield Hostile(f"foreign-{number}", foreign)


def _plants() -> Iterator[Hostile]:
    """Things that do not belong into the folder."""

    def plant(name: str, make: Callable[[Path], object]) -> Hostile:
        return Hostile(f"planted-{name}", lambda folder: make(folder / "seg") and None)

    random_name = "0123456789abcdef-00000000.ags"
    yield plant("text", lambda seg: (seg / random_name).write_text("hello " * 100))
    yield plant("random", lambda seg: (seg / random_name).write_bytes(random.Random(5).randbytes(5000)))
    yield plant("zeros", lambda seg: (seg / random_name).write_bytes(bytes(5000)))
    yield plant("fifo", lambda seg: os.mkfifo(seg / random_name))
    yield plant("device-link", lambda seg: (seg / random_name).symlink_to("/dev/zero"))
    yield plant("passwd-link", lambda seg: (seg / random_name).symlink_to("/etc/passwd"))
    yield plant("loop-link", lambda seg: (seg / random_name).symlink_to(random_name))
    yield plant(
        "strange-names",
        lambda seg: [(seg / n).write_text("x") for n in ("a\nb", ".ags", "..ags", "\u202e.ags")],
    )
    yield plant("temporary", lambda seg: (seg / f".{random_name}.tmp").write_bytes(b"half"))
