"""
Erasing: whose content it is, what a legal hold says of it, and the order of things.

The decision log says it first, then the keys go: an erasure that a crash cut off is
on record, and is done again by asking again. Nothing in a segment is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from agentguard.errors import KeyUnavailableError, StoreError
from agentguard.store._content_frame import InContent
from agentguard.store._damage import DamageReport
from agentguard.store._hold import Hold, Holds
from agentguard.store._keyring import Keyring, Subject
from agentguard.store._query import Query
from agentguard.store._rows import SHAPE, START, VALUES, Row
from agentguard.values.attributes import AGENT_NAME

_HARMLESS = frozenset({"torn", "duplicate", "missing"})
"""Damage behind which nothing is that could still be read."""

_MAY_COME_BACK = frozenset({"unreadable", "no-key", "newer"})
"""Damage behind which content is that may be read another time, or by others."""

Record = Callable[[Mapping[str, object]], None]
"""Writes down, durably, that a subject is erased; raises where it cannot."""


class Erasure(NamedTuple):
    """What erasing a subject reaches, or reached."""

    keys: int
    """Of the subject, in the keyring."""
    spans: int
    """Whose content is sealed with one of them."""
    held_spans: int
    """Of these, what a legal hold keeps."""
    hold: Hold | None
    """The first hold that does."""
    damage: DamageReport
    """What could not be looked at."""


def look(query: Query, keyring: Keyring, subjects: Collection[Subject], holds: Collection[Hold]) -> Erasure:
    """
    Say what erasing would reach; reads every frame of spans, and opens no content.

    Raises:
        KeyUnavailableError: There are keys, and the wrap key is not there.
    """
    refs = keyring.refs_of(subjects)
    spans = held = 0
    keeping: Hold | None = None
    for batch in query.batches() if refs else ():
        places = [list(names).index(AGENT_NAME) if AGENT_NAME in names else -1 for names in batch.shapes]
        for row in batch.rows:
            if refs.isdisjoint(_refs_of(row)):
                continue
            spans += 1
            place = places[row[SHAPE]]
            agent = row[VALUES][place] if place >= 0 else None
            hold = next((one for one in holds if _is_held(one, row[START], agent)), None)
            held += hold is not None
            keeping = keeping or hold
    return Erasure(len(refs), spans, held, keeping, query.damage)


def erase(
    query: Query, keyring: Keyring, subjects: Collection[Subject], holds: Holds, record: Record
) -> Erasure:
    """
    Erase all keys of some subjects, unless a legal hold keeps any of what they seal.

    Raises:
        StoreError: A hold keeps it; the holds cannot be read; what may be held cannot be read; the disk refused.
        TamperedError: The holds are not what was written.
        KeyUnavailableError: There are keys, and the wrap key is not there.
    """
    with holds.unchanging() as held:
        found = look(query, keyring, subjects, held)
        if found.hold is not None:
            raise StoreError(
                f"erase: got {found.held_spans} spans that the legal hold {found.hold.hold_id} keeps, expected none"
            ).hint(
                f"`agentguard store hold list` says why; after `agentguard store hold remove {found.hold.hold_id}`"
                " it can be erased"
            )
        unread = sum(count for kind, count in found.damage.counts.items() if kind not in _HARMLESS)
        if held and unread:
            raise StoreError(
                f"erase: got {unread} places that cannot be read, expected to know whether a hold keeps them"
            ).hint("`agentguard store repair` puts damaged files aside")
        if found.keys:
            for subject in subjects:
                record(
                    {
                        "subject_mac": keyring.subject_id(subject).hex(),
                        "kind": subject.kind,
                        "generation": keyring.number,
                        "keys": found.keys,
                        "spans": found.spans,
                    }
                )
        # Without a key left, a wrap key that a crash left behind is destroyed now.
        keyring.erase(subjects)
    return found


def refs_in_use(query: Query) -> frozenset[bytes]:
    """
    Name all keys that seal some content in the store; reads every frame of spans.

    Raises:
        KeyUnavailableError: A file cannot be opened just now: which keys it needs is not known.
    """
    refs = frozenset(ref for batch in query.batches() for row in batch.rows for ref in _refs_of(row))
    unread = _MAY_COME_BACK.intersection(query.damage.counts)
    if unread:
        raise KeyUnavailableError(
            f"keys in use: got files that are {', '.join(sorted(unread))}, expected all"
        )
    return refs


def _refs_of(row: Row) -> tuple[bytes, ...]:
    """The references of the keys that seal the content of a row; none where it has no such content."""
    last = row[-1]
    return last.refs if isinstance(last, InContent) else ()


def _is_held(hold: Hold, start_unix_ns: int, agent: object) -> bool:
    """Whether a span is held."""
    return hold.overlaps(start_unix_ns, start_unix_ns) and hold.agent in (None, agent)
