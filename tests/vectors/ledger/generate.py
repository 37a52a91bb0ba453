"""
Write the ledger vectors.

Run `python -m tests.vectors.ledger.generate` after a change of the format that is meant. Ed25519
signs without chance, so a second run gives the same files.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from agentguard.audit.checkpoint import Checkpoint, Head, Past, entry_hash, origin_of, sign, verifier_key_text
from agentguard.audit.ledger import SUMMARY, summary_root
from agentguard.audit.tree import EMPTY_ROOT
from tests.support.clock import START_UNIX_NS
from tests.vectors.audit.generate import STORE_ID, keys

FOLDER = Path(__file__).parent
ONE, TWO = "c8c9cacbcccdcecf-0", "0011223344556677-0"
Said = tuple[str, int, bytes, str, tuple[int, ...]]
NOW = START_UNIX_NS


def root(number: int) -> bytes:
    """Any root."""
    return hashlib.sha256(bytes([number])).digest()


def entries(
    *said: Said | tuple[Head, ...], store_id: bytes = STORE_ID, past: Past | None = None
) -> list[bytes]:
    """Sign entries that follow one another: of a journal each, or of all heads."""
    notes: list[bytes] = []
    for one in said:
        heads = one if all(isinstance(part, Head) for part in one) else ()
        journal, size, own, state, numbers = (
            (SUMMARY, len(heads), summary_root(heads), "open", ()) if heads or not one else one  # type: ignore[arg-type,misc]
        )
        checkpoint = Checkpoint(
            origin=origin_of(store_id, journal), size=size, root=own, sequence=len(notes) + 1,
            previous=entry_hash(notes[-1]) if notes else bytes(32), time_unix_ns=NOW + len(notes),
            state=state, numbers=numbers, heads=heads, past=(past if journal == SUMMARY else None) or Past(),  # type: ignore[arg-type]
        )  # fmt: skip
        notes.append(sign(checkpoint, keys().signing_key, store_id))
    return notes


def text(notes: list[bytes]) -> str:
    """Write entries as they stand in a file."""
    return b"".join(note + b"\n" for note in notes).decode()


OPEN: Said = (ONE, 1, root(1), "open", ())
GROWN: Said = (ONE, 9, root(9), "open", ())
CLOSED: Said = (ONE, 10, root(10), "closed", ())
ADOPTED: Said = (ONE, 12, root(12), "adopted", (9, NOW + 50))
PRUNED: Said = (ONE, 10, root(10), "pruned", (NOW, NOW + 8, NOW + 99, 4321, 10))
OTHER: Said = (TWO, 0, EMPTY_ROOT, "open", ())


def vectors() -> dict[str, tuple[str, str, str]]:
    """Name: what is expected, a comment, the file."""
    whole = entries((), OPEN, OTHER, GROWN, CLOSED)
    removed = whole[:2] + whole[3:]
    summary = (
        Head(TWO, 3, root(3), "adopted", (2, NOW)),
        Head(ONE, 10, root(10), "pruned", (NOW, NOW + 8, NOW + 99, 4321, 10)),
    )
    stripped = entries(summary)[0].replace(b"adopted 2", b"adopted 3")
    return {
        "whole": ("success", "two journals, one of which ended in order", text(whole)),
        "adopted": (
            "success",
            "a journal of 9 stated records whose writer died; another process states 12",
            text(entries((), OPEN, GROWN, ADOPTED)),
        ),
        "pruned": (
            "success",
            "a journal that ended, and was removed by retention",
            text(entries((), OPEN, CLOSED, PRUNED)),
        ),
        "pruned-again": (
            "success",
            "the same said twice, as after a crash",
            text(entries((), OPEN, CLOSED, PRUNED, PRUNED)),
        ),
        "summary": ("success", "a file that begins with heads of all states", text(entries(summary))),
        "past": (
            "success",
            "removed journals that are only counted and chained, and one that is still named",
            text(entries(summary, past=Past().with_heads([Head(f"{7:016x}-0", 4, root(4), *PRUNED[3:])]))),
        ),
        "left-out": (
            "left out",
            "a summary that does not name a journal which stood before it in the file",
            text(entries((), OPEN, OTHER, (Head(ONE, 1, root(1), "open"),))),
        ),
        "summary-altered": ("altered", "a number of a head", text([stripped])),
        "removed": ("chain", "an entry taken out", text(removed)),
        "reordered": ("chain", "two entries exchanged", text([whole[0], whole[2], whole[1], *whole[3:]])),
        "no-beginning": ("cut", "the first entry is of a journal", text(entries(OPEN, GROWN))),
        "other-store": ("altered", "entries of another store", text(entries((), OPEN, store_id=bytes(16)))),
        "altered": (
            "altered",
            "a size, the signature as it was",
            text(whole[:-1]) + (whole[-1] + b"\n").decode().replace("\n10\n", "\n11\n"),
        ),
        "unknown-state": (
            "altered",
            "a state that no version has",
            text(entries((), (ONE, 1, root(1), "lost", ()))),
        ),
        "adopted-without-numbers": (
            "altered",
            "an adoption that does not say how far the writer had come",
            text(entries((), OPEN, (ONE, 12, root(12), "adopted", ()))),
        ),
        "shrinks": ("shrinks", "fewer records than before", text(entries((), GROWN, OPEN))),
        "pruned-other-root": (
            "pruned",
            "removed with another root than the last checkpoint's",
            text(entries((), OPEN, CLOSED, (*PRUNED[:2], root(77), *PRUNED[3:]))),
        ),
        "pruned-and-open": (
            "pruned",
            "a journal that goes on after its removal",
            text(entries((), OPEN, CLOSED, PRUNED, (ONE, 11, root(11), "open", ()))),
        ),
    }


def main() -> None:
    """Write all files."""
    key = verifier_key_text(STORE_ID, keys().verify_keys[0])
    for name, (expect, comment, content) in vectors().items():
        head = f"expect: {expect}\ncomment: {comment}\nkey: {key}\nstore: {STORE_ID.hex()}\n\n"
        (FOLDER / f"{name}.txt").write_text(head + content, encoding="utf-8")


if __name__ == "__main__":
    main()
