"""
Adoption: what a crashed writer left behind its last checkpoint becomes provable.

Whoever comes next reads the abandoned journal, checks every link and MAC, and states
it in the ledger as *adopted*: by a later process, with how far the writer itself had
stated it. From then on a cut shows. A cut between the crash and the adoption does not,
and nothing here says otherwise. Who died before the ledger named its journal left an opening
record and no other: more than that, in no ledger, is what somebody took out of it, or put in.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from agentguard.audit import format as layout
from agentguard.audit.checkpoint import ADOPTED, OPEN, Adoption
from agentguard.audit.disk import Safeguards
from agentguard.audit.keys import AuditKeys
from agentguard.audit.ledger import Ledger, claimed_heads
from agentguard.audit.ledger_files import FOLDER
from agentguard.audit.ledger_reader import LedgerReading, Stated, read_ledger
from agentguard.audit.lone_check import check_alone, load_dead, opening_of, turn
from agentguard.audit.reader import FOLDER as DECISIONS
from agentguard.audit.reader import JournalBytes, limit_of
from agentguard.audit.writer import SUFFIX
from agentguard.errors import AuditError
from agentguard.seal import Keystore
from agentguard.values import Clock


class AdoptedJournal(NamedTuple):
    """A journal that was stated on behalf of its dead writer; also the details of the event that says so."""

    journal: str
    records: int
    own_records: int
    """How many the writer itself had stated."""
    root: str
    """Hexadecimal."""


def adopt_abandoned(
    folder: Path,
    keystore: Keystore,
    clock: Clock,
    *,
    on_failure: Callable[[AuditError], None],
    safeguards: Safeguards | None = None,
) -> tuple[AdoptedJournal, ...]:
    """
    State, on behalf of writers that died, what they left.

    One process at a time does it. A journal with anything wrong in it is left as it is, and so
    are all where the ledger does not verify: they are evidence.

    Args:
        folder:
            The store's folder.
        keystore:
            Its keys.
        clock:
            Stamps the statements.
        on_failure:
            Told of each journal that is not whole.
        safeguards:
            As the writers of the store have them.

    Returns:
        The journals that were adopted; none where another process sees to it.

    Raises:
        AuditError: The ledger cannot be read or written, does not verify, or was set back.
        KeyUnavailableError: The store was opened to be read only.
        OSError: The folder cannot be written to.
    """
    keys = AuditKeys(keystore).for_writing()
    if not (folder / FOLDER).is_dir():
        return ()
    with turn(folder / FOLDER) as is_mine:
        abandoned = _abandoned(folder, keys, on_failure) if is_mine else []
        if not abandoned:
            return ()
        ledger = Ledger.guarded(folder, keys, clock, safeguards or Safeguards())
        ledger.peek()  # A store that was set back is not built upon.
        reading = read_ledger(folder, keys)
        if reading.problems:
            raise AuditError(f"nothing is adopted: {reading.problems[0][3]}")
        adopted = []
        for path in abandoned:
            name = path.stem
            stated = reading.stated.get(name, Stated.nothing(name))
            if stated.is_final:
                continue
            try:
                journal = load_dead(path, keys)
                if journal is None:
                    continue
                check = check_alone(journal, keys, reading, limit=limit_of(path, keys))
            except AuditError as error:
                on_failure(error)
                continue
            tree, own = check.tree, stated.last.size
            # Of a journal whose disk failed no more may count than its writer wrote again elsewhere.
            if tree is None or tree.size < own:
                continue
            if name not in reading.stated:
                if not tree.size:
                    continue  # A header alone: there is nothing to state.
                if tree.size > 1 or not _is_of_this_ledger(journal, reading):
                    on_failure(AuditError(f"journal {name} is in no ledger, and no crash left it so"))
                    continue
            ledger.append(
                journal=name,
                size=tree.size,
                root=tree.root(),
                state=ADOPTED,
                numbers=Adoption(own, clock.unix_ns()),
            )
            adopted.append(AdoptedJournal(name, tree.size, own, tree.root().hex()))
        return tuple(adopted)


def _abandoned(folder: Path, keys: AuditKeys, on_failure: Callable[[AuditError], None]) -> list[Path]:
    """List journals whose writer died: those that are open in the ledger, and those that it does not name."""
    heads = claimed_heads(folder)
    abandoned = []
    for path in sorted((folder / DECISIONS).glob(f"*{SUFFIX}")):
        head = heads.get(path.stem)
        if head is not None and head.state != OPEN:
            continue
        try:
            is_dead = load_dead(path, keys, bytes_max=layout.HEADER.size) is not None
        except AuditError as error:
            # Of one that nobody stated not even the header need be whole; `verify` tells that from another's file.
            if head is not None:
                on_failure(error)
            continue
        if is_dead:
            abandoned.append(path)
    return abandoned


def _is_of_this_ledger(journal: JournalBytes, reading: LedgerReading) -> bool:
    """
    Whether a journal was begun behind an entry that the ledger still has.

    One that was removed long ago, so that the ledger only counts it, does not come back by being put back.
    """
    opening = opening_of(journal)
    named = opening.details.get("ledger") if opening is not None else None
    if not isinstance(named, dict):
        return False
    sequence = named.get("seq")
    if sequence == 0:
        return reading.last_sequence == 0 or 1 in reading.hashes
    own_hash = reading.hashes.get(sequence) if isinstance(sequence, int) else None
    return own_hash is not None and own_hash.hex() == named.get("hash")
