"""
Retention of the decision log: whole journals go, and what went is stated for good.

A journal goes once its newest record is old enough, or the log is too large. First the
ledger states its size, root and times as *pruned*, then an event of the log says the
same, then the file goes; so a journal that is gone without them is missed. What a hold
keeps stays, and so does what does not verify: that is evidence.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from agentguard.audit import format as layout
from agentguard.audit.checkpoint import OPEN, PRUNED, Checkpoint, Pruning
from agentguard.audit.disk import Safeguards
from agentguard.audit.journal_check import JournalCheck
from agentguard.audit.keys import AuditKeys
from agentguard.audit.ledger import Ledger, claimed_heads
from agentguard.audit.ledger_files import FOLDER
from agentguard.audit.ledger_reader import Stated, read_ledger
from agentguard.audit.lone_check import begun_unix_ns, check_alone, load_dead, turn
from agentguard.audit.reader import OPENING_BYTES_MAX, journal_paths, limit_of
from agentguard.audit.writer import SUFFIX
from agentguard.errors import AuditError
from agentguard.seal import Keystore, sync_folder
from agentguard.values import Clock

UNUSED_S_MIN = 86_400.0
"""A file that is in no ledger is left alone for so long: its writer may be about to enter it."""


class PrunedJournals(NamedTuple):
    """What one pass removed."""

    journals: int = 0
    records: int = 0
    size_bytes: int = 0
    held_journals: int = 0
    """Due, and kept by a legal hold."""
    damaged_journals: int = 0
    """Due, and kept because something is wrong with them."""


class _Due(NamedTuple):
    path: Path
    begun_unix_ns: int
    reason: str
    """`age` or `size`; empty where it is stated as removed already, and a crash came before it was."""


def prune_journals(
    folder: Path,
    keystore: Keystore,
    clock: Clock,
    *,
    age_s_max: float | None,
    size_bytes_max: int | None,
    is_held: Callable[[int, int], bool],
    record: Callable[[Mapping[str, object]], None],
    on_failure: Callable[[AuditError], None],
    safeguards: Safeguards | None = None,
) -> PrunedJournals:
    """
    Remove journals that are too old, and the oldest ones beyond the size.

    Only journals that ended, or were adopted, and never one before an earlier one of its
    writer. One process at a time does it.

    Args:
        folder:
            The store's folder.
        keystore:
            Its keys.
        clock:
            Says how old a record is.
        age_s_max:
            A journal goes once its newest record is older; None keeps all.
        size_bytes_max:
            What all journals may take; None for no bound.
        is_held:
            Whether a legal hold keeps what was recorded between two times (Unix, ns), both included.
        record:
            Brings an event with these details into the log, on disk when it returns.
        on_failure:
            Told of each journal that is due and not whole.
        safeguards:
            As the writers of the store have them.

    Returns:
        What went.

    Raises:
        AuditError: The ledger cannot be read or written, does not verify, or was set back.
        KeyUnavailableError: The store was opened to be read only.
        OSError: A file could not be removed.
    """
    keys = AuditKeys(keystore).for_writing()
    if (age_s_max is None and size_bytes_max is None) or not (folder / FOLDER).is_dir():
        return PrunedJournals()
    with turn(folder / FOLDER) as is_mine:
        if not is_mine:
            return PrunedJournals()
        now = clock.unix_ns()
        before_unix_ns = None if age_s_max is None else now - int(age_s_max * 1e9)
        _remove_unused(folder, keys, now)
        due = _due(folder, keys, before_unix_ns, size_bytes_max, on_failure)
        if not due:
            return PrunedJournals()
        ledger = Ledger.guarded(folder, keys, clock, safeguards or Safeguards())
        ledger.peek()  # In a store that was set back nothing is removed.
        reading = read_ledger(folder, keys)
        if reading.problems:
            raise AuditError(f"nothing is removed: {reading.problems[0][3]}")
        found = PrunedJournals()
        for one in due:
            name = one.path.stem
            stated = reading.stated.get(name)
            if stated is None or not stated.is_final or _has_earlier(one.path):
                continue
            # Where the opening alone is held, the rest need not be read.
            if is_held(one.begun_unix_ns, one.begun_unix_ns):
                found = found._replace(held_journals=found.held_journals + 1)
                continue
            try:
                journal = load_dead(one.path, keys)
                if journal is None:
                    continue
                check = check_alone(journal, keys, reading, limit=limit_of(one.path, keys))
                _check_end(check, stated.last)
            except AuditError as error:
                on_failure(error)
                found = found._replace(damaged_journals=found.damaged_journals + 1)
                continue
            if one.reason == "age" and check.newest_unix_ns >= (before_unix_ns or 0):
                continue
            if is_held(check.oldest_unix_ns, check.newest_unix_ns):
                found = found._replace(held_journals=found.held_journals + 1)
                continue
            _state(one, check, stated, ledger, record, now)
            one.path.unlink()
            sync_folder(one.path.parent)
            found = found._replace(
                journals=found.journals + 1,
                records=found.records + check.expected,
                size_bytes=found.size_bytes + len(journal.data),
            )
        return found


def _due(
    folder: Path,
    keys: AuditKeys,
    before_unix_ns: int | None,
    size_bytes_max: int | None,
    on_failure: Callable[[AuditError], None],
) -> list[_Due]:
    """List what may have to go, the oldest first, from the opening records alone."""
    heads = claimed_heads(folder)
    # In the order in which they were begun: behind the first one that is young enough all are.
    paths = journal_paths(folder)
    sizes = {path: _size(path) for path in paths}
    total = sum(sizes.values())
    due = []
    for path in paths:
        head = heads.get(path.stem)
        if head is None or head.state == OPEN:
            continue
        is_too_much = size_bytes_max is not None and total > size_bytes_max
        try:
            journal = load_dead(path, keys, bytes_max=OPENING_BYTES_MAX)
        except AuditError as error:
            on_failure(error)
            continue
        begun = begun_unix_ns(journal) if journal is not None else None
        if begun is None:
            continue
        is_too_old = before_unix_ns is not None and begun < before_unix_ns
        if not (is_too_old or is_too_much or head.state == PRUNED):
            break
        due.append(_Due(path, begun, "" if head.state == PRUNED else "size" if is_too_much else "age"))
        total -= sizes[path]
    return due


def _remove_unused(folder: Path, keys: AuditKeys, now_unix_ns: int) -> None:
    """
    Remove files that a crash left between their beginning and their entry in the ledger.

    They hold no record but the opening one, nothing was ever acknowledged in them, and
    verification misses none of them: they need no statement.
    """
    heads = claimed_heads(folder)
    for path in journal_paths(folder):
        with contextlib.suppress(FileNotFoundError):
            status = path.lstat()
            is_young = now_unix_ns - status.st_mtime_ns < UNUSED_S_MIN * 1e9
            if path.stem not in heads and status.st_size < OPENING_BYTES_MAX and not is_young:
                if status.st_size >= layout.HEADER.size and not _has_opening_alone(path, keys):
                    continue
                path.unlink()


def _has_opening_alone(path: Path, keys: AuditKeys) -> bool:
    """Whether a journal of nobody holds its opening record at most, and behind it nothing but what a crash leaves."""
    try:
        journal = load_dead(path, keys)
    except AuditError:
        return False
    parts = list(layout.scan(journal.data)) if journal is not None else []
    frames = [part for part in parts if isinstance(part, layout.Frame)]
    is_torn = all(part.is_torn for part in parts if isinstance(part, layout.Damage))
    return journal is not None and is_torn and sum(frame.records for frame in frames) <= 1


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0


def _check_end(check: JournalCheck, last: Checkpoint) -> None:
    """Make sure that what goes is what the ledger states at last, all of it."""
    if check.tree is None or (check.tree.size, check.tree.root()) != (last.size, last.root):
        raise AuditError(f"journal {check.name}: it does not end where checkpoint {last.sequence} states")


def _has_earlier(path: Path) -> bool:
    """Whether the journal before this one of the same writer is still there: this one may say how it ended."""
    writer, _, n = path.stem.rpartition("-")
    return int(n) > 0 and path.with_name(f"{writer}-{int(n) - 1}{SUFFIX}").exists()


def _state(
    one: _Due,
    check: JournalCheck,
    stated: Stated,
    ledger: Ledger,
    record: Callable[[Mapping[str, object]], None],
    now_unix_ns: int,
) -> None:
    """State in the ledger, and say in the log, that a journal is removed."""
    last, size_bytes = stated.last, len(check.journal.data)
    if stated.pruning is None:
        own = stated.adoption.own_records if stated.adoption is not None else last.size
        pruning = Pruning(check.oldest_unix_ns, check.newest_unix_ns, now_unix_ns, size_bytes, own)
        ledger.append(journal=check.name, size=last.size, root=last.root, state=PRUNED, numbers=pruning)
    record(
        {
            "journal": check.name,
            "records": last.size,
            "size_bytes": size_bytes,
            "root": last.root.hex(),
            "first_unix_ns": check.oldest_unix_ns,
            "last_unix_ns": check.newest_unix_ns,
            "reason": one.reason or "age",
        }
    )
