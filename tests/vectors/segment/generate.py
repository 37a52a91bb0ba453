"""
Write the segment vectors, and check that both readers agree with them.

Run `python -m tests.vectors.segment.generate` after a change of the format that
is meant; then the version of the format must have changed too. Everything in the
vectors is made from fixed bytes, so a second run gives the same files.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from agentguard.seal import RootKey
from agentguard.store import _codec
from agentguard.store._content_keys import GroupKey
from agentguard.store._derive import encode_features
from agentguard.store._footer import Footer, Place, Places, tag_arrays, trace_tag
from agentguard.store._grid import grid_of, pack_grid
from agentguard.store._groups import SealedGroup, encode_content
from agentguard.store._keyring import SubjectKey
from agentguard.store._layout import (
    FRAME_HEAD_BYTES,
    HEADER_BYTES,
    Header,
    Kind,
    State,
    pack_frame,
    pack_trailer,
)
from agentguard.store._members import NO_MEMBERS, Member, Members
from agentguard.store._msgpack import encode
from agentguard.store._parts import Part, encode_parts
from agentguard.store._rows import encode_outcomes, encode_spans
from agentguard.store._subjects import encode_group, split_content
from agentguard.values import OutcomeRecord, SpanRecord, is_personal
from tests.support.spans import make_span
from tests.vectors.segment import reader

FOLDER = Path(__file__).parent
ROOT = bytes(range(32))
STORE_ID = bytes(range(100, 116))
WRITER = bytes(range(200, 208))
ALL, FIRST, LAST, NONE = range(6), range(4), range(4, 6), range(0)


class Vector(NamedTuple):
    """One file, and what a reader must say of it."""

    expect: str
    comment: str
    payload: str
    """SHA-256 of the JSON of the spans that are to be released, failure or not."""
    data: bytes
    roots: str = "1"
    keys: str = ""
    """References and keys of persons and conversations; `erased` for one that was."""

    def text(self) -> str:
        """The file: header lines, an empty line, base64."""
        body = base64.encodebytes(self.data).decode()
        return (
            f"expect: {self.expect}\ncomment: {self.comment}\npayload: {self.payload}\n"
            f"root: {ROOT.hex()}\nstore: {STORE_ID.hex()}\ngenerations: {self.roots}\n"
            + (f"keys: {self.keys}\n" if self.keys else "")
            + f"\n{body}"
        )


def load(path: Path) -> tuple[dict[str, str], bytes]:
    """Read one vector."""
    head, _, body = path.read_text().partition("\n\n")
    return dict(line.split(": ", 1) for line in head.splitlines()), base64.b64decode(body)


def payload_hash(spans: list[list[Any]]) -> str:
    """Hash what was released."""
    return hashlib.sha256(json.dumps(spans, sort_keys=True).encode()).hexdigest()


def released(records: list[tuple[int, SpanRecord]]) -> str:
    """Hash records as the second reader gives them."""
    rows = [[sequence, *record[:10], {k: list(v) if isinstance(v, tuple) else v for k, v in record.attributes.items()}]
            for sequence, record in records]  # fmt: skip
    return payload_hash(rows)


class _Random:
    """Bytes that look random and are the same in every run."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self, length: int) -> bytes:
        self._count += 1
        return hashlib.shake_128(b"vectors" + struct.pack("<I", self._count)).digest(length)


class _Maker:
    """Puts segments together from fixed bytes."""

    def __init__(self, state: State = State.LIVE, n: int = 0, version: int = 1) -> None:
        root = RootKey(ROOT)
        chance = _Random()
        salt = chance(24)
        bare = Header(state, n, STORE_ID, WRITER, 1, salt, bytes(32), version)
        self.header = bare._replace(commitment=bare.seal_key(root).commitment)
        self.key = self.header.seal_key(root)
        self.key._random_bytes = chance
        self.frames: list[bytes] = []
        self.places: list[Place] = []
        self.members = NO_MEMBERS

    def add(self, kind: Kind | int, plain: bytes, *, codec: int | None = None, **place: Any) -> None:
        """Append a frame; with a codec the plain text is taken as it is."""
        data = plain
        if codec is None:
            codec, data = _codec.compress(plain)
        frame = pack_frame(
            self.key, self.header.bound, kind=kind, codec=codec, number=len(self.frames), plain=data,
            is_last=kind in {Kind.END, Kind.FOOTER},
        )  # fmt: skip
        offset = HEADER_BYTES + sum(map(len, self.frames))
        self.places.append(
            Place(
                int(kind),
                offset,
                len(frame),
                place.get("first", 0),
                place.get("rows", 0),
                *place.get("starts", (0, 0)),
            )
        )
        self.frames.append(frame)

    def add_spans(self, first: int, count: int) -> None:
        """Append spans and their features."""
        records = [make_span(i) for i in range(first, first + count)]
        starts = (records[0].start_unix_ns, records[-1].start_unix_ns)
        self.add(Kind.SPANS, encode_spans(records, first), first=first, rows=count, starts=starts)
        self.add(
            Kind.FEATURES,
            encode_features(grid_of(records, first)),
            first=first,
            rows=count,
            starts=starts,
        )

    def data(self) -> bytes:
        """The file so far."""
        return self.header.pack() + b"".join(self.frames)

    def sealed(self) -> bytes:
        """The file with footer and trailer."""
        tags, chunks = tag_arrays((trace_tag(bytes.fromhex(make_span(i).trace_id)), 0) for i in range(6))
        offset = HEADER_BYTES + sum(map(len, self.frames))
        footer = Footer(
            Places.of(self.places), tags, chunks, spans=6, outcomes=1, damage={}, sealed_unix_ns=1,
            members=self.members,
        )  # fmt: skip
        self.add(Kind.FOOTER, footer.pack())
        return self.data() + pack_trailer(offset, len(self.frames[-1]))


def _live() -> _Maker:
    maker = _Maker()
    maker.add(Kind.RESOURCE, encode({"resource": {"service.name": "x"}, "created_unix_ns": 1}))
    maker.add_spans(0, 4)
    maker.add_spans(4, 2)
    maker.add(Kind.OUTCOMES, encode_outcomes([OutcomeRecord("b000000000000000", 5, "a", "b", 0.5)], 0))
    maker.add(Kind.END, b"", codec=0)
    return maker


def _pack() -> bytes:
    """A pack of two segments, the second of which was written twice in part."""
    maker = _Maker(State.PACKED, n=3)
    contents = [encode_spans([make_span(i) for i in numbers], numbers[0]) for numbers in (FIRST, range(2, 6))]
    parts = [
        Part(WRITER, n, first, 4, plain) for n, first, plain in zip((0, 1), (0, 2), contents, strict=True)
    ]
    starts = (make_span(0).start_unix_ns, make_span(5).start_unix_ns)
    maker.add(Kind.SPANS, encode_parts(parts), rows=8, starts=starts)
    about = encode({"resource": {}, "created_unix_ns": 1})
    maker.add(Kind.RESOURCE, encode_parts([Part(WRITER, n, 0, 0, about) for n in (0, 1)]))
    maker.members = Members.of([Member(WRITER, 0, 4, 4), Member(WRITER, 1, 4, 6)])
    return maker.sealed()


def _records(*numbers: int) -> str:
    return released([(i, make_span(i)) for i in numbers])


def vectors() -> Iterator[tuple[str, Vector]]:
    """Give all vectors by name; each has one thing wrong, or none."""

    def vector(expect: str, comment: str, spans: range, data: bytes, roots: str = "1") -> Vector:
        return Vector(expect, comment, _records(*spans), data, roots)

    def changed(data: bytes, change: Callable[[bytearray], object]) -> bytes:
        copy = bytearray(data)
        change(copy)
        return bytes(copy)

    live = _live()
    good = live.data()
    offsets = [place.offset for place in live.places]
    yield "live", vector("success", "a live segment that was closed", ALL, good)
    sealed = _Maker(State.SEALED)
    sealed.add(Kind.RESOURCE, encode({"resource": {}, "created_unix_ns": 1}))
    sealed.add_spans(0, 6)
    sealed_data = sealed.sealed()
    yield "sealed", vector("success", "a sealed segment with footer", ALL, sealed_data)
    finished = _Maker(State.FINISHED)
    finished.add(Kind.RESOURCE, encode({"resource": {}, "created_unix_ns": 1}))
    finished.add_spans(0, 6)
    data = finished.sealed()
    cut = data[: sum(map(len, finished.frames[:-1])) + HEADER_BYTES]
    begun = finished.header._replace(state=State.LIVE).pack()
    yield "finished", vector("success", "a segment that its writer sealed where it lies", ALL, data)
    yield "finished-cut", vector("no footer", "the same, cut off behind its last spans", ALL, cut)
    yield (
        "finished-begun",
        vector("success", "the same, whose header was not changed yet", ALL, begun + data[HEADER_BYTES:]),
    )
    yield (
        "finished-no-trailer",
        vector("no footer", "the same, without its last byte", ALL, data[:-1]),
    )
    yield "packed", vector("success", "two segments of a writer in one pack", ALL, _pack())
    strange = _Maker(State.PACKED)
    strange.add(Kind.SPANS, encode((1, [(b"short", 0, 0, 1, encode_spans([make_span(0)], 0))])), codec=0)
    yield (
        "part-of-nobody",
        vector("decode failure", "a part whose writer is too short", NONE, strange.sealed()),
    )
    empty = _Maker()
    empty.add(Kind.RESOURCE, encode({"resource": {}, "created_unix_ns": 1}))
    yield "empty", vector("success", "no spans yet", NONE, empty.data())
    two = [
        make_span(0),
        make_span(1, name="look", kind="tool", otel_kind="internal", attributes={"gen_ai.tool.name": "look"}),
    ]
    for name, expect, texts in (
        ("by-group", "success", ("chat gpt-5", "look")),
        ("by-other-groups", "decode failure", ("chat gpt-5", "look", "look")),
    ):
        grouped = _Maker()
        kinds = {"kind": (("model", "tool"),), "otel_kind": (("client", "internal"),)}
        grid = msgspec.structs.replace(grid_of(two, 0), name=(texts,), status=(("error", "ok"),), **kinds)
        grouped.add(Kind.SPANS, pack_grid(grid))
        found = released(list(enumerate(two)) if expect == "success" else [])
        yield name, Vector(expect, "columns with a text for each group", found, grouped.data())
    raw = _Maker()
    raw.add(Kind.SPANS, encode_spans([make_span(0)], 0), codec=0)
    yield "codec-raw", vector("success", "a frame that is not compressed", range(1), raw.data())
    packed = _Maker()
    plain = encode_spans([make_span(0)], 0)
    packed.add(Kind.SPANS, struct.pack("<I", len(plain)) + zlib.compress(plain), codec=1)
    yield "codec-zlib", vector("success", "a frame compressed by zlib", range(1), packed.data())
    unknown = _live()
    unknown.add(99, b"later", codec=0)
    yield (
        "unknown-kind",
        vector("success", "a kind of frame that is not known is passed over", ALL, unknown.data()),
    )

    yield "no-key", vector("no key", "the generation of the root is not at hand", NONE, good, "2")
    yield (
        "wrong-magic",
        vector("header failure", "another kind of file", NONE, changed(good, lambda d: d.__setitem__(0, 0))),
    )
    yield (
        "header-flipped",
        vector(
            "header failure",
            "one bit of the salt",
            NONE,
            changed(good, lambda d: d.__setitem__(50, d[50] ^ 1)),
        ),
    )
    newer = _Maker(version=2)
    newer.add(Kind.RESOURCE, b"\x80", codec=0)
    yield "newer-version", vector("header failure", "version 2", NONE, newer.data())

    def rechecked(data: bytearray) -> bytearray:
        struct.pack_into("<I", data, 124, zlib.crc32(data[:124]))
        return data

    yield "foreign-store", vector(
        "header failure", "the id of another store", NONE,
        changed(good, lambda d: (d.__setitem__(16, 0), rechecked(d))),
    )  # fmt: skip
    yield "salt-forged", vector(
        "tampered", "another salt with a right checksum: the commitment differs", NONE,
        changed(good, lambda d: (d.__setitem__(50, d[50] ^ 1), rechecked(d))),
    )  # fmt: skip
    yield "cut-header", vector("truncated", "64 bytes", NONE, good[:64])
    yield (
        "cut-frame",
        vector("truncated", "ends within the second frame of spans", FIRST, good[: offsets[3] + 60]),
    )
    yield "cut-head", vector("truncated", "ends within a frame head", FIRST, good[: offsets[3] + 7])
    yield "header-only", vector("truncated", "nothing behind the header", NONE, good[:128])
    yield "damaged-frame", vector(
        "damaged", "one bit of the first frame of spans; the rest is read", LAST,
        changed(good, lambda d: d.__setitem__(offsets[1] + 70, d[offsets[1] + 70] ^ 1)),
    )  # fmt: skip
    yield "length-bomb", vector(
        "damaged", "a length of 4 GiB", LAST,
        changed(good, lambda d: struct.pack_into("<I", d, offsets[1] + 12, 0xFFFFFFFF)),
    )  # fmt: skip
    for place, what in ((5, "flags"), (8, "number"), (FRAME_HEAD_BYTES + 40, "ciphertext")):

        def forge(data: bytearray, place: int = place) -> None:
            start, size = offsets[1], live.places[1].size_bytes
            data[start + place] ^= 2
            body = data[start : start + 16] + data[start + FRAME_HEAD_BYTES : start + size]
            struct.pack_into("<I", data, start + 16, zlib.crc32(body))

        yield (
            f"forged-{what}",
            vector("tampered", f"{what} changed, checksum made right", LAST, changed(good, forge)),
        )
    double = good[: offsets[3]] + good[offsets[1] : offsets[2]] + good[offsets[3] :]
    yield "doubled-frame", vector("tampered", "a frame of spans is there twice", ALL, double)
    other = _Maker(n=1)
    other.add_spans(0, 1)
    yield (
        "spliced-frame",
        vector("tampered", "a frame of the writer's next segment", ALL, good + other.frames[0]),
    )
    for name, codec, body in (
        ("unknown-codec", 9, b"x" * 40),
        ("zstd-bomb", 2, struct.pack("<I", 1000) + _codec.zstd.compress(bytes(1_000_000))),
        ("not-zstd", 2, struct.pack("<I", 10) + b"no zstd at all"),
        ("not-messagepack", 0, b"\xc1" * 20),
        ("short-column", 0, encode((1, 9, 2, bytes(32), bytes(16), bytes(16), *[["x"]] * 13, []))),
        ("few-fields", 0, encode((1, 9, 0))),
    ):
        bad = _live()
        bad.add(Kind.SPANS, body, codec=codec)
        yield name, vector("decode failure", f"an authentic frame: {name}", ALL, bad.data())
    yield from _content_vectors()


USER, TALK, OTHER = (
    SubjectKey(bytes([number]) * 8, RootKey(bytes([number + 100]) * 32)) for number in (1, 2, 3)
)


def subject_keys(head: dict[str, str]) -> dict[bytes, bytes | None]:
    """Keys of persons and conversations by reference; `None` for what was erased."""
    pairs = [pair.split("=") for pair in head.get("keys", "").split()]
    return {bytes.fromhex(ref): None if key == "erased" else bytes.fromhex(key) for ref, key in pairs}


def _told(*keys: SubjectKey, erased: SubjectKey | None = None) -> str:
    """Keys as a header line."""
    named = [f"{key.ref.hex()}={key.key._key.hex()}" for key in keys]
    return " ".join([*named, *([f"{erased.ref.hex()}=erased"] if erased else [])])


def _content_spans() -> list[SpanRecord]:
    """A user in a conversation, the conversation alone, and somebody of whom nothing is known."""
    spans = [make_span(i) for i in range(4)]
    for i, more in enumerate(({"user.id": "ann"}, {"user.id": "ann"}, {})):
        content = {"gen_ai.conversation.id": "c", "gen_ai.input.messages": f"words {i}", "x.note": (1, 2)}
        spans[i] = spans[i]._replace(attributes={**spans[i].attributes, **more, **content})
    spans[1] = spans[1]._replace(status_description="ann was not there")
    return spans


def _said(first: int, count: int, spans: list[SpanRecord], forged: int | None = None) -> tuple[bytes, bytes]:
    """A frame of spans, and of their content; the last byte of one group may be wrong."""
    grid, groups = split_content(grid_of(spans[first : first + count], first))
    nonce, sealed = hashlib.shake_128(b"nonce" + bytes([first])).digest(12), []
    for number, ((user, _), parts) in enumerate(groups.items()):
        of_user = USER if user else None
        places, piece = encode_group(parts)
        # One piece as a live file has it, one as a sealed file has it.
        blob = GroupKey(STORE_ID, of_user, TALK).seal_at(
            nonce, b"\x00" + piece if first else _codec.compress_content(piece)
        )
        blob = blob[:-1] + bytes([blob[-1] ^ (number == forged)])
        sealed.append(SealedGroup(nonce, of_user.ref if of_user else b"", TALK.ref, places, blob))
    return pack_grid(grid), encode_content(first, count, sealed)


def _content_vectors() -> Iterator[tuple[str, Vector]]:
    """Content that is sealed for a user and a conversation: opened, erased, without a key, forged."""
    spans = _content_spans()

    def made(first: int = 0, count: int = 4, forged: int | None = None) -> _Maker:
        maker = _Maker()
        maker.add(Kind.RESOURCE, encode({"resource": {"service.name": "x"}, "created_unix_ns": 1}))
        of_spans, of_content = _said(first, count, spans, forged)
        maker.add(Kind.CONTENT, of_content, codec=0)
        maker.add(Kind.SPANS, of_spans)
        return maker

    def without(numbers: Iterable[int], why: str) -> str:
        bare = []
        for i, span in enumerate(spans):
            if i in numbers:
                kept = {k: v for k, v in span.attributes.items() if not is_personal(k)}
                changed = {**kept, "agentguard.content.unreadable": why}
                bare.append((i, span._replace(attributes=changed, status_description="")))
            else:
                bare.append((i, span))
        return released(bare)

    whole, all_keys = made().data(), _told(USER, TALK)
    yield "content", Vector("success", "sealed for two groups", without((), ""), whole, keys=all_keys)
    erased = _told(TALK, erased=USER)
    yield (
        "content-user-erased",
        Vector("success", "the user was erased", without((0, 1), "erased"), whole, keys=erased),
    )
    erased = _told(USER, erased=TALK)
    yield (
        "content-conversation-erased",
        Vector("success", "the conversation was erased", without((0, 1, 2), "erased"), whole, keys=erased),
    )
    yield (
        "content-no-key",
        Vector("success", "no key is known", without((0, 1, 2), "no_key"), whole, keys=_told(OTHER)),
    )
    forged = made(forged=0).data()
    yield (
        "content-forged",
        Vector(
            "decode failure", "a group that does not open", without((0, 1), "damaged"), forged, keys=all_keys
        ),
    )
    starts = (spans[0].start_unix_ns, spans[3].start_unix_ns)
    sealed = _Maker(State.SEALED)
    sealed.add(Kind.CONTENT, _said(0, 4, spans)[1], codec=0, rows=4)
    for first in (0, 2):
        chunk = pack_grid(split_content(grid_of(spans[first : first + 2], first))[0])
        sealed.add(Kind.SPANS, chunk, first=first, rows=2, starts=starts)
    yield (
        "content-sealed",
        Vector("success", "two chunks behind their content", without((), ""), sealed.sealed(), keys=all_keys),
    )
    packed = _Maker(State.PACKED, n=1)
    pieces = [(n, first, count, *_said(first, count, spans)) for n, first, count in ((0, 0, 1), (1, 1, 3))]
    for kind, place in ((Kind.CONTENT, 4), (Kind.SPANS, 3)):
        parts = [Part(WRITER, piece[0], piece[1], piece[2], piece[place]) for piece in pieces]
        packed.add(kind, encode_parts(parts), rows=4, starts=starts if kind == Kind.SPANS else (0, 0))
    packed.members = Members.of([Member(WRITER, 0, 1, 1), Member(WRITER, 1, 3, 4)])
    yield (
        "content-packed",
        Vector("success", "content of two segments", without((), ""), packed.sealed(), keys=all_keys),
    )
    bad = _Maker()
    group = (TALK.ref, b"", [0, 9])
    bad.add(Kind.CONTENT, encode((1, 0, 4, [(bytes(12), [group], [bytes(20)])])), codec=0)
    bad.add_spans(0, 4)
    bare = released([(i, make_span(i)) for i in range(4)])
    yield "content-of-no-span", Vector("decode failure", "a place beyond the frame", bare, bad.data())


def check(path: Path) -> None:
    """Let the second reader read one vector."""
    head, data = load(path)
    roots = {int(g): bytes.fromhex(head["root"]) for g in head["generations"].split(",")}
    store_id = bytes.fromhex(head["store"])
    result = reader.read(data, store_id=store_id, roots=roots, keys=subject_keys(head))
    assert result.verdict == head["expect"], f"{path.name}: got {result.verdict}, expected {head['expect']}"
    assert payload_hash(result.spans) == head["payload"], f"{path.name}: other spans"


def main() -> None:
    """Write all vectors and check them."""
    for name, vector in vectors():
        path = FOLDER / f"{name}.txt"
        path.write_text(vector.text())
        check(path)
        print(f"{vector.expect:15} {name}")


if __name__ == "__main__":
    main()
