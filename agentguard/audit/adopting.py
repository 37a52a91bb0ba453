"""
Adoption: what a crashed writer left behind its last checkpoint becomes provable.

Whoever comes next reads the abandoned journal, checks every link and MAC, and states
it in the ledger as *adopted*: by a later process, with how far the writer itself had
stated it. From then on a cut shows. A cut between the crash and the adoption does not,
and nothing here says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from agentguard.audit import format as layout
from agentguard.audit.checkpoint import ADOPTED, OPEN, Adoption
from agentguard.audit.disk import Safeguards
from agentguard.audit.keys import AuditKeys
from agentguard.audit.ledger import FOLDER, Ledger, claimed_heads
from agentguard.audit.ledger_reader import read_ledger
from agentguard.audit.lone_check import check_alone, load_dead, turn
from agentguard.audit.reader import FOLDER as DECISIONS
from agentguard.audit.reader import limit_of
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
        open_names = {name for name, head in claimed_heads(folder).items() if head.state == OPEN}
        if not is_mine or not open_names:
            return ()
        abandoned = []
        for name in sorted(open_names):
            path = folder / DECISIONS / f"{name}{SUFFIX}"
            if not path.exists():
                continue  # Verification names it as missing.
            try:
                is_dead = load_dead(path, keys, bytes_max=layout.HEADER.size) is not None
            except AuditError as error:
                on_failure(error)
                continue
            if is_dead:
                abandoned.append(path)
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
            stated = reading.stated.get(name)
            if stated is None or stated.is_final:
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
            ledger.append(
                journal=name,
                size=tree.size,
                root=tree.root(),
                state=ADOPTED,
                numbers=Adoption(own, clock.unix_ns()),
            )
            adopted.append(AdoptedJournal(name, tree.size, own, tree.root().hex()))
        return tuple(adopted)
