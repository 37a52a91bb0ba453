"""
Write the vectors of STORE files and boxes, and check that the second reader agrees.

Run `python -m tests.vectors.seal.generate`; all bytes are fixed.
"""

from __future__ import annotations

import base64
import hashlib
import struct
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from agentguard.seal import AuditorPublicKey, RootKey, create_keystore, create_wrap_key, seal_box
from agentguard.store import _keyring_file as layout
from tests.support.stores import KnownKey
from tests.vectors.seal import reader

FOLDER = Path(__file__).parent
ROOT = bytes(range(32))
STORE_ID = bytes(range(100, 116))
KEK = bytes([7]) * 32
AUDITOR_SECRET = bytes([5]) * 32
AUDITOR = AuditorPublicKey(bytes.fromhex("50a61409b1ddd0325e9b16b700e719e9772c07000b1bd7786e907c653d20495d"))
PURPOSE, CONTEXT = "approval", b"row 1"


class FixedRandom:
    """Bytes that look random and are the same in every run."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self, length: int) -> bytes:
        self._count += 1
        return hashlib.shake_128(b"seal" + struct.pack("<I", self._count)).digest(length)


def vectors() -> Iterator[tuple[str, str, str, bytes]]:
    """Name, format, expected verdict, bytes."""
    box = seal_box(RootKey(ROOT), b"plain text", purpose=PURPOSE, context=CONTEXT, random_bytes=FixedRandom())
    yield "box", "box", "success", box
    yield "box-cut", "box", "header failure", box[:80]
    yield "box-magic", "box", "header failure", b"AGB2" + box[4:]
    yield "box-salt", "box", "tampered", box[:10] + bytes([box[10] ^ 1]) + box[11:]
    yield "box-text", "box", "tampered", box[:-1] + bytes([box[-1] ^ 1])
    yield (
        "box-purpose",
        "box",
        "tampered",
        seal_box(RootKey(ROOT), b"x", purpose="other", context=CONTEXT, random_bytes=FixedRandom()),
    )
    yield (
        "box-context",
        "box",
        "tampered",
        seal_box(RootKey(ROOT), b"x", purpose=PURPOSE, context=b"row 2", random_bytes=FixedRandom()),
    )
    with tempfile.TemporaryDirectory() as base:
        chance = FixedRandom()
        keystore = create_keystore(Path(base) / "store", KnownKey(), random_bytes=chance)
        keystore.add_slot(KnownKey(9), random_bytes=chance)
        keystore.add_generation(random_bytes=chance)
        store = (Path(base) / "store" / "STORE").read_bytes()
        create_keystore(Path(base) / "other", KnownKey(8), random_bytes=chance)
        other = (Path(base) / "other" / "STORE").read_bytes()
        keystore.add_auditor(AUDITOR, random_bytes=chance)
        audited = (Path(base) / "store" / "STORE").read_bytes()

    def rechecked(place: int, whole: bytes = store) -> bytes:
        data = bytearray(whole)
        data[place] ^= 1
        data[-4:] = struct.pack("<I", zlib.crc32(data[:-4]))
        return bytes(data)

    yield "store", "store", "success", store
    yield "store-other-key", "store", "no key", other
    yield "store-flipped", "store", "damaged", store[:40] + bytes([store[40] ^ 1]) + store[41:]
    yield "store-cut", "store", "truncated", store[:50]
    yield "store-version", "store", "header failure", rechecked(8)
    yield "store-wrap-forged", "store", "tampered", rechecked(32 + 110)
    yield "store-second-slot-forged", "store", "tampered", rechecked(32 + 156 + 110)
    yield "store-generation-forged", "store", "tampered", rechecked(32 + 312 + 20)
    yield "store-mac-forged", "store", "tampered", rechecked(len(store) - 20)
    yield "store-with-auditor", "store", "success", audited
    yield "auditor", "auditor", "success", audited
    yield "auditor-none", "auditor", "no key", store
    bundle = 32 + 3 * 156 + 2 * 64 + 8
    for part, place in (("signature", 0), ("sender", 64), ("box", 96 + 60)):
        yield f"auditor-{part}-forged", "auditor", "tampered", rechecked(bundle + place, audited)
    yield from keyring_vectors()


def keyring_vectors() -> Iterator[tuple[str, str, str, bytes]]:
    """A wrap key with its keyring: whole, with an erased key, torn, damaged, with another wrap key, forged."""
    with tempfile.TemporaryDirectory() as base:
        files = {}
        for number in (1, 2):
            path = Path(base) / str(number)
            wrap = create_wrap_key(
                path, number, root=RootKey(ROOT), generation=1, store_id=STORE_ID, random_bytes=FixedRandom()
            )
            files[number] = path.read_bytes()
    entries = [layout.KeyEntry(bytes([i]) * 8, bytes([i]) * 32, bytes([i]) * 16, 20_000 + i) for i in (1, 2)]
    packed = [layout.pack_entry(wrap, entry) for entry in (entries[0], entries[1].erased())]
    ring = layout.pack_header(2, STORE_ID) + b"".join(packed)
    whole = files[2] + ring
    yield "keyring", "keyring", "success", whole
    yield "keyring-torn", "keyring", "success", whole[:-1]
    yield "keyring-entry-damaged", "keyring", "success", whole[:-90] + bytes([whole[-90] ^ 1]) + whole[-89:]
    yield "keyring-other-wrap-key", "keyring", "no key", files[1] + ring
    yield (
        "keyring-wrap-key-forged",
        "keyring",
        "tampered",
        whole[:130] + bytes([whole[130] ^ 1]) + whole[131:],
    )
    yield "keyring-header-damaged", "keyring", "header failure", whole[:155] + b"x" + whole[156:]


def load(path: Path) -> tuple[dict[str, str], bytes]:
    """Read one vector."""
    head, _, body = path.read_text().partition("\n\n")
    return dict(line.split(": ", 1) for line in head.splitlines()), base64.b64decode(body)


def second_reading(head: dict[str, str], data: bytes) -> tuple[str, bytes]:
    """What the second reader says."""
    if head["format"] == "box":
        return reader.open_box(data, ROOT, PURPOSE.encode(), CONTEXT)
    if head["format"] == "keyring":
        return reader.open_keyring(data, ROOT, STORE_ID)
    if head["format"] == "auditor":
        return reader.open_auditor(data, AUDITOR_SECRET, b"")
    return reader.open_store(data, KEK)


def main() -> None:
    """Write all vectors and check them."""
    for name, form, expect, data in vectors():
        head = {"expect": expect, "format": form}
        verdict, plain = second_reading(head, data)
        assert verdict == expect, f"{name}: got {verdict}, expected {expect}"
        digest = hashlib.sha256(plain).hexdigest() if plain else "none"
        text = f"expect: {expect}\nformat: {form}\npayload: {digest}\n\n{base64.encodebytes(data).decode()}"
        (FOLDER / f"{name}.txt").write_text(text)


if __name__ == "__main__":
    main()
