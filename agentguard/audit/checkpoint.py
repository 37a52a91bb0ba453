"""
Checkpoints: signed statements of how many records a journal has, and their root.

The text is a C2SP checkpoint (origin, size, root, extension lines) in a C2SP
signed note, so that other tools can check it without any key of ours but the
public one. Pure: text in, values out.

Source: C2SP tlog-checkpoint and signed-note.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import NamedTuple

from agentguard.audit.notes import (
    ED25519,
    ML_DSA_44,
    NoteError,
    NoteKey,
    from_base64,
    sign_ed25519,
    sign_ml_dsa,
    to_base64,
)
from agentguard.seal import PostQuantumSigningKey, PostQuantumVerifyKey, SigningKey, VerifyKey

OPEN, CLOSED, ADOPTED, PRUNED = "open", "closed", "adopted", "pruned"
"""What the ledger may say of a journal; `STATES` has the numbers that follow each word."""
STATES = {OPEN: 0, CLOSED: 0, ADOPTED: 2, PRUNED: 5}
_SIGNATURES = re.compile(r"(— [^\n]{1,8000}\n){1,16}")


class Past(NamedTuple):
    """Removed journals that summaries no longer name one by one."""

    journals: int = 0
    records: int = 0
    chain: bytes = bytes(32)
    """SHA-256 over the one before and the head line of each, one after the other; zeros at first."""

    def with_heads(self, heads: Iterable[Head]) -> Past:
        """Take up the heads of more journals, in this order."""
        past = self
        for head in heads:
            chain = hashlib.sha256(past.chain + head.line().encode()).digest()
            past = Past(past.journals + 1, past.records + head.size, chain)
        return past


class Checkpoint(NamedTuple):
    """One entry of the ledger."""

    origin: str
    """`agentguard/<store id>/<writer>-<n>` for a journal, `agentguard/<store id>/heads` for a summary."""
    size: int
    """Records of the journal; of a summary, its journals."""
    root: bytes
    """RFC 6962 root over the leaves of the journal; of a summary, over its head lines."""
    sequence: int
    """Counts the entries of the ledger of a store, from 1."""
    previous: bytes
    """SHA-256 of the whole entry before, signature included; zeros for the first."""
    time_unix_ns: int
    """By the writer's clock; nothing is concluded from it."""
    state: str = OPEN
    """`open`, or `closed` where the writer ended in order: nothing may follow.

    `adopted` where it died, and a later process states what it found whole; `pruned` where
    retention removed the journal.
    """
    numbers: tuple[int, ...] = ()
    """Of a state that has some: see `Adoption` and `Pruning`."""
    heads: tuple[Head, ...] = ()
    """Of a summary: the last checkpoint of every journal."""
    past: Past = Past()
    """Of a summary: those that were removed so long ago that they are not among the heads."""

    @property
    def journal(self) -> str:
        """`<writer>-<n>`, or `heads`."""
        return self.origin.rpartition("/")[2]

    @property
    def own_head(self) -> Head:
        """What it states of its own journal, as a summary repeats it."""
        return Head(self.journal, self.size, self.root, self.state, self.numbers)


class Head(NamedTuple):
    """The last checkpoint of one journal, as a summary repeats it."""

    journal: str
    size: int
    root: bytes
    state: str
    numbers: tuple[int, ...] = ()

    def line(self) -> str:
        """The line of the summary."""
        stated = _words(self.state, self.numbers)
        return f"head {self.journal} {self.size} {to_base64(self.root)} {stated}"


class Adoption(NamedTuple):
    """What the state `adopted` says beside the size."""

    own_records: int
    """Records that the writer itself had stated; those above it were found by a later process."""
    time_unix_ns: int
    """When that was, by the later process's clock."""


class Pruning(NamedTuple):
    """What the state `pruned` says beside size and root."""

    first_unix_ns: int
    """Time of the oldest record that went."""
    last_unix_ns: int
    """Time of the newest."""
    time_unix_ns: int
    """When they went."""
    bytes: int
    """Size of the file."""
    own_records: int
    """As in `Adoption`; the size where the writer ended in order."""


def origin_of(store_id: bytes, journal: str) -> str:
    """Name the log that a checkpoint speaks of."""
    return f"agentguard/{store_id.hex()}/{journal}"


def key_name(store_id: bytes) -> str:
    """Name of the store's signing key in notes."""
    return f"agentguard/{store_id.hex()}"


def verifier_key_text(store_id: bytes, key: VerifyKey) -> str:
    """
    Write the public key as C2SP verifier keys are: `<name>+<key id>+<base64>`.

    Args:
        store_id:
            Whose key it is.
        key:
            The public key.

    Returns:
        One line without line feed, to be handed to an auditor.
    """
    return NoteKey(key_name(store_id), ED25519, key).text


def post_quantum_key_text(store_id: bytes, key: PostQuantumVerifyKey) -> str:
    """Write the ML-DSA-44 public key as a C2SP verifier key."""
    return NoteKey(key_name(store_id), ML_DSA_44, key).text


def body_text(checkpoint: Checkpoint) -> str:
    """Write what is signed."""
    past = checkpoint.past
    lines = [
        checkpoint.origin,
        str(checkpoint.size),
        to_base64(checkpoint.root),
        f"seq {checkpoint.sequence}",
        f"prev {checkpoint.previous.hex()}",
        f"time {checkpoint.time_unix_ns}",
        f"state {_words(checkpoint.state, checkpoint.numbers)}",
        *([f"past {past.journals} {past.records} {past.chain.hex()}"] if past.journals else ()),
        *(head.line() for head in checkpoint.heads),
    ]
    return "\n".join(lines) + "\n"


def sign(
    checkpoint: Checkpoint,
    key: SigningKey,
    store_id: bytes,
    post_quantum: PostQuantumSigningKey | None = None,
) -> bytes:
    """
    Write a signed note.

    Args:
        checkpoint:
            What is stated.
        key:
            The store's signing key.
        store_id:
            Gives the key its name.
        post_quantum:
            Signs in a second line.

    Returns:
        UTF-8 text that ends with the line feed of its last signature line.
    """
    name, body = key_name(store_id), body_text(checkpoint).encode()
    note = body + b"\n" + sign_ed25519(name, body, key)
    if post_quantum is not None:
        seconds = max(checkpoint.time_unix_ns, 0) // 1_000_000_000
        note += sign_ml_dsa(name, body, post_quantum, time_unix_s=seconds)
    return note


def parse(note: bytes) -> Checkpoint:
    """
    Read a checkpoint without checking its signature.

    Args:
        note:
            What `sign` wrote.

    Returns:
        What is stated, by whomever.

    Raises:
        NoteError: It is not such a note, byte for byte.
    """
    try:
        text = note.decode()
        body, _, signatures = text.partition("\n\n")
        origin, size, root, *extensions = body.split("\n")
        fields = [line.split(" ") for line in extensions]
        values = {field[0]: field[1] for field in fields if len(field) > 1}
        past = next((field[1:] for field in fields if field[0] == "past"), None)
        state, *numbers = next(field[1:] for field in fields if field[0] == "state")
        checkpoint = Checkpoint(
            origin=origin,
            size=_number(size),
            root=from_base64(root, 32),
            sequence=_number(values["seq"]),
            previous=bytes.fromhex(values["prev"]),
            time_unix_ns=_number(values["time"]),
            state=state,
            numbers=_numbers(numbers),
            heads=tuple(
                Head(field[1], _number(field[2]), from_base64(field[3], 32), field[4], _numbers(field[5:]))
                for field in fields
                if field[0] == "head"
            ),
            past=Past(_number(past[0]), _number(past[1]), bytes.fromhex(past[2])) if past else Past(),
        )
    except (ValueError, LookupError, TypeError, StopIteration) as error:
        raise NoteError("it is not a signed checkpoint") from error
    said = [
        (checkpoint.state, checkpoint.numbers),
        *((head.state, head.numbers) for head in checkpoint.heads),
    ]
    if any(STATES.get(state) != len(numbers) for state, numbers in said):
        raise NoteError("it says a state that this program does not know")
    # Nothing but signature lines may follow: what stands there is signed by nobody.
    if not _SIGNATURES.fullmatch(signatures) or body_text(checkpoint) != f"{body}\n":
        raise NoteError("it is not written as checkpoints are")
    return checkpoint


def is_signed(
    note: bytes, key: VerifyKey, store_id: bytes, post_quantum: PostQuantumVerifyKey | None = None
) -> bool:
    """
    Whether a note carries the store's right signature.

    Args:
        note:
            What `sign` wrote. Signature lines of other keys are passed over, as
            witnesses add theirs.
        key:
            The store's public key.
        store_id:
            Gives the key its name.
        post_quantum:
            Where it is given and a line is of it, that must be right too.

    Returns:
        True where one line has the key's name and id, and its signature is right.
    """
    name = key_name(store_id)
    try:
        if NoteKey(name, ED25519, key).checks(note) is not True:
            return False
        return post_quantum is None or NoteKey(name, ML_DSA_44, post_quantum).checks(note) is not False
    except NoteError:
        return False


def entry_hash(note: bytes) -> bytes:
    """SHA-256 of a whole entry: what the next one names as `prev`."""
    return hashlib.sha256(note).digest()


def _words(state: str, numbers: tuple[int, ...]) -> str:
    """Write a state and its numbers."""
    return " ".join((state, *map(str, numbers)))


def _numbers(texts: list[str]) -> tuple[int, ...]:
    return tuple(map(_number, texts))


def _number(text: str) -> int:
    """Read a decimal number without sign or leading zeros."""
    if not text.isascii() or not text.isdigit() or (text != "0" and text.startswith("0")) or len(text) > 20:
        raise NoteError("it is no number")
    return int(text)
