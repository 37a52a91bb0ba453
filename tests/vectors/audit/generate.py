"""
Write the decision-log vectors.

Run `python -m tests.vectors.audit.generate` after a change of the format that is meant; then the
version of the format must have changed too. Everything is made from fixed bytes, so a second run gives the same files.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import struct
import tempfile
import zlib
from pathlib import Path
from typing import Any, cast

from agentguard.audit import format as layout
from agentguard.audit.disk import Disk
from agentguard.audit.keys import AuditKeys
from agentguard.audit.records import CallForm, CallRecord, encode_decision
from agentguard.audit.writer import JournalFile
from agentguard.seal import Keystore, RootKey
from agentguard.values import Effect
from tests.support.clock import START_UNIX_NS
from tests.support.decisions import decision

FOLDER = Path(__file__).parent
ROOT = bytes(range(32))
STORE_ID = bytes(range(100, 116))
WRITER = bytes(range(200, 208))


class Keys:
    """A keystore with one root."""

    store_id = STORE_ID
    generation = 1

    def __init__(self, root: bytes = ROOT) -> None:
        self._root = RootKey(root)

    def root_of(self, generation: int) -> RootKey:
        return self._root


def keys(root: bytes = ROOT) -> AuditKeys:
    """Keys of the vectors' store."""
    return AuditKeys(cast("Keystore", Keys(root)))


def fixed_bytes() -> Any:
    """A stand-in for the random source that gives the same bytes in every run."""
    counter = itertools.count()

    def draw(length: int) -> bytes:
        return (
            hashlib.sha256(b"vectors" + next(counter).to_bytes(4, "big"))
            .digest()[:length]
            .ljust(length, b"\x5a")
        )

    return draw


def journal(*batches: list[bytes], forms: dict[bytes, bytes] | None = None) -> bytes:
    """Write a journal of an opening and these records, one frame for each batch; short records have these forms."""
    with tempfile.TemporaryDirectory() as folder:
        draw = fixed_bytes()
        import agentguard.seal._box as box
        import agentguard.seal._root as root

        # Nonces and salts of the seal come from the system; for fixed files they must not.
        kept = root.os.urandom
        root.os.urandom = box.os.urandom = draw
        defaults = box.seal_box.__kwdefaults__, root.SealKey.__init__.__kwdefaults__
        box.seal_box.__kwdefaults__ = {**defaults[0], "random_bytes": draw}
        root.SealKey.__init__.__kwdefaults__ = {**defaults[1], "random_bytes": draw}  # type: ignore[misc]
        try:
            file = JournalFile(
                Path(folder),
                keys(),
                layout.JournalId(STORE_ID, WRITER, 0),
                disk=Disk(),
                random_bytes=draw,
                opening={"service": "vectors", "ledger": {"seq": 1, "hash": "00" * 32}},
                time_unix_ns=START_UNIX_NS,
                ledger_sequence=1,
            )
            for records in batches:
                file.append(records, forms or {}, sync=False)
            file.abandon()
            return file.path.read_bytes()
        finally:
            root.os.urandom = kept
            box.seal_box.__kwdefaults__ = defaults[0]
            root.SealKey.__init__.__kwdefaults__ = defaults[1]  # type: ignore[misc]


def short(number: int, *, outcome: str = "", principal: str = "") -> CallRecord:
    """A short record; with an outcome, of a call that had ended."""
    shared = decision(0, effect=Effect.ALLOW)._replace(
        decision_id="", time_unix_ns=0, call_id="", trace_id="", run_id="", principal=""
    )
    ended = START_UNIX_NS + 50 if outcome else 0
    made = CallForm(shared).fill(
        number, number << 64, START_UNIX_NS + number, 11, ended, outcome, "run-7", principal
    )
    assert isinstance(made, CallRecord)
    return made


def frames(data: bytes) -> list[bytes]:
    """Cut a journal into its frames."""
    return [data[part.offset : part.end] for part in layout.scan(data) if isinstance(part, layout.Frame)]


def mended(frame: bytes, position: int) -> bytes:
    """Flip a bit and make the checksums right again."""
    changed = bytearray(frame)
    changed[position] ^= 1
    size = layout.PREFIX.size
    prefix = bytes(changed[: size - 4])
    body = bytes(changed[size:-4])
    return prefix + struct.pack(">I", zlib.crc32(prefix)) + body + struct.pack(">I", zlib.crc32(body))


def vectors() -> dict[str, tuple[str, str, bytes, bytes]]:
    """Name: what is expected, a comment, the root key, the journal."""
    records = [
        encode_decision(decision(1)),
        encode_decision(decision(2, effect=Effect.ALLOW)),
        encode_decision(decision(2, effect=Effect.ALLOW, point="outcome", outcome="ok")),
    ]
    whole = journal(*([record] for record in records))
    batch = journal(records[:1], records * 3)
    ended = decision(3, effect=Effect.ALLOW, outcome="ok", ended_unix_ns=START_UNIX_NS + 5)
    ran, going = short(4, outcome="error", principal="käthe"), short(5)
    known = {ran.form.digest: ran.form.text}
    other = short(6)
    newer_form = CallForm(ran.form.shared._replace(agent="other")).text.replace(b'"v":1', b'"v":2')
    newer_digest = hashlib.sha256(newer_form).digest()
    head, parts = whole[: layout.HEADER.size], frames(whole)
    newer = bytearray(head[:100])
    newer[9] = 6
    flipped = bytearray(whole)
    flipped[len(head) + len(parts[0]) + 120] ^= 4

    def put(*chosen: bytes) -> bytes:
        return head + b"".join(chosen)

    return {
        "whole": ("success", "an opening, a denial, an admission, its outcome", ROOT, whole),
        "ended": (
            "success",
            "an admission that says how the call ended",
            ROOT,
            journal([encode_decision(ended)]),
        ),
        "batch": ("success", "two frames, the second of nine records", ROOT, batch),
        "short": (
            "success",
            "short records: of a call that failed, and of one that goes on; one that is whole between them",
            ROOT,
            journal([ran.record, records[0], going.record], forms=known),
        ),
        "short-other-form": (
            "tampered",
            "a short record, and another form than it names",
            ROOT,
            journal([other.record], forms={other.form.digest: other.form.text.replace(b"allow", b"alloy")}),
        ),
        "short-newer-form": (
            "decode failure",
            "a short record whose form is of version 2",
            ROOT,
            journal([going.record[:1] + newer_digest + going.record[33:]], forms={newer_digest: newer_form}),
        ),
        "short-outcome": (
            "decode failure",
            "a short record with an outcome that there is not",
            ROOT,
            journal([ran.record[:81] + b"\x09" + ran.record[82:]], forms=known),
        ),
        "short-lengths": (
            "decode failure",
            "a short record whose principal is longer than all of it",
            ROOT,
            journal([ran.record[:84] + b"\x7f\xff" + ran.record[86:]], forms=known),
        ),
        "batch-altered": (
            "tampered",
            "the leaf hash of the fifth record of a frame, checksums mended",
            ROOT,
            batch[: len(head)]
            + frames(batch)[0]
            + frames(batch)[1]
            + mended(frames(batch)[2], layout.PREFIX.size + 4 * 32),
        ),
        "frame-number": (
            "tampered",
            "the number of a frame, checksums mended",
            ROOT,
            put(parts[0], mended(parts[1], 23), *parts[2:]),
        ),
        "opening-only": ("success", "a journal without decisions", ROOT, put(parts[0])),
        "empty": ("success", "a header without frames", ROOT, head),
        "other-root": ("no key", "opened with another root key", bytes(32), whole),
        "cut-header": ("header failure", "ends within the header", ROOT, whole[:60]),
        "newer-version": (
            "header failure",
            "version 6",
            ROOT,
            bytes(newer) + struct.pack(">I", zlib.crc32(newer)) + whole[104:],
        ),
        "flipped-header": (
            "header failure",
            "one bit of the salt",
            ROOT,
            head[:50] + bytes([head[50] ^ 1]) + whole[51:],
        ),
        "flipped-body": ("damaged", "one bit of a sealed body", ROOT, bytes(flipped)),
        "altered-body": (
            "tampered",
            "one bit of a sealed body, checksums mended",
            ROOT,
            put(parts[0], mended(parts[1], 130), *parts[2:]),
        ),
        "altered-sequence": (
            "tampered",
            "another ledger sequence, checksums mended",
            ROOT,
            put(parts[0], mended(parts[1], 31), *parts[2:]),
        ),
        "altered-mac": (
            "tampered",
            "one bit of a MAC, checksums mended",
            ROOT,
            put(parts[0], mended(parts[1], len(parts[1]) - 10), *parts[2:]),
        ),
        "removed": ("tampered", "a record taken out", ROOT, put(parts[0], parts[2], parts[3])),
        "reordered": ("tampered", "two records exchanged", ROOT, put(parts[0], parts[2], parts[1], parts[3])),
        "doubled": ("tampered", "a record twice", ROOT, put(parts[0], parts[1], parts[1], parts[2])),
        "no-opening": ("tampered", "the opening record taken out", ROOT, put(*parts[1:])),
        "cut-frame": ("truncated", "ends within a frame", ROOT, whole[:-50]),
        "cut-prefix": (
            "truncated",
            "ends within the prefix of a frame",
            ROOT,
            put(*parts[:3]) + parts[3][:40],
        ),
        "no-json": ("decode failure", "authentic, and no JSON", ROOT, journal([b"{"])),
        "newer-record": (
            "decode failure",
            "a record of version 2",
            ROOT,
            journal([b'{"v":2,"kind":"decision"}']),
        ),
    }


def main() -> None:
    """Write all files."""
    for name, (expect, comment, root, data) in vectors().items():
        body = base64.encodebytes(data).decode()
        (FOLDER / f"{name}.txt").write_text(
            f"expect: {expect}\ncomment: {comment}\nroot: {root.hex()}\nstore: {STORE_ID.hex()}\n\n{body}"
        )


if __name__ == "__main__":
    main()
