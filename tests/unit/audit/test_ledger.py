"""The ledger: rotation, many writers, damage, locks."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

import pytest

from agentguard.audit import Answer, Question, verify
from agentguard.audit.checkpoint import parse
from agentguard.audit.disk import Disk
from agentguard.audit.keys import AuditKeys
from agentguard.audit.ledger import Ledger
from agentguard.audit.ledger_files import files, locked, split
from agentguard.audit.ledger_reader import read_ledger
from agentguard.errors import AuditError
from agentguard.seal import Keystore
from tests.support.clock import FrozenClock
from tests.support.decisions import decision, open_journal, write_log

Log = tuple[Path, Keystore]


def make(log: Log, bytes_max: int = 1 << 20) -> Ledger:
    return Ledger(log[0], AuditKeys(log[1]), FrozenClock(), disk=Disk(), bytes_max=bytes_max)


def test_entries_count_up(log: Log) -> None:
    """Entries of several writers stand in one sequence, each naming the one before."""
    first, second = make(log), make(log)
    sequences = []
    for size in range(1, 5):
        for name, ledger in (("aa", first), ("bb", second)):
            sequences.append(
                ledger.append(journal=f"{name * 8}-0", size=size, root=bytes([size]) * 32, state="open")
            )
    assert sequences == list(range(2, 10))
    reading = read_ledger(log[0], AuditKeys(log[1]))
    assert (reading.problems, reading.count, reading.last_sequence) == ([], 9, 9)
    assert reading.stated["aa" * 8 + "-0"].last.size == 4


def test_it_rotates_and_stays_small(log: Log) -> None:
    """A full file is followed by one that begins with all heads; one older file is kept."""
    ledger = make(log, bytes_max=4000)
    for size in range(1, 120):
        ledger.append(journal=f"{size % 5:016x}-0", size=size, root=bytes(32), state="open")
    kept = files(log[0] / "log")
    assert len(kept) == 2
    assert kept[-1][0] > 5
    assert all(path.stat().st_size < 6000 for _, path in kept)
    reading = read_ledger(log[0], AuditKeys(log[1]))
    assert reading.problems == []
    assert {stated.last.size for stated in reading.stated.values()} == set(range(115, 120))


def test_a_rotated_ledger_still_proves_a_deletion(log: Log) -> None:
    """A journal whose own entries are long gone is still named by the summary."""
    write_log(*log, range(3))
    ledger = make(log, bytes_max=2000)
    for size in range(1, 40):
        ledger.append(journal=f"{7:016x}-0", size=size, root=bytes(32), state="open")
    assert files(log[0] / "log")[0][0] > 1
    gone = next((log[0] / "dec").iterdir())
    gone.unlink()
    findings = verify(*log).of(Question.COMPLETENESS).findings
    assert gone.stem in {finding.journal for finding in findings if finding.kind == "journal-missing"}


def test_a_damaged_end_denies(log: Log) -> None:
    """A last entry that was changed is not built upon: required records are denied until somebody looks."""
    write_log(*log, range(2))
    path = files(log[0] / "log")[-1][1]
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    last = list(split(bytes(data)))[-1]
    position = bytes(data).rindex(last) + last.index(b"seq ")
    data[position] ^= 1
    path.write_bytes(data)
    journal = open_journal(*log, on_internal_error=lambda where, error: None)
    with pytest.raises(AuditError, match="damaged") as caught:
        journal.append(decision(9))
    assert "decisions verify" in caught.value.__notes__[0]
    assert verify(*log).of(Question.INTEGRITY).answer is Answer.BAD
    # Nothing is left behind by the writers that were refused.
    assert len(list((log[0] / "dec").iterdir())) == 1


def test_zeros_at_the_end_are_torn(log: Log) -> None:
    """What a power cut leaves is cut off by the next writer."""
    write_log(*log, range(2))
    path = files(log[0] / "log")[-1][1]
    with path.open("ab") as file:
        file.write(bytes(512))
    write_log(*log, range(2))
    assert verify(*log).is_good
    assert b"\0" not in path.read_bytes()


def test_the_lock_is_not_waited_for_for_ever(log: Log) -> None:
    """A process that stopped while it held the lock gives an error, not a standstill."""
    make(log).peek()
    fd = os.open(log[0] / "log" / "lock", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    with (
        pytest.raises(AuditError, match="locked by another process"),
        locked(log[0] / "log", wait_s_max=0.05),
    ):
        pass
    os.close(fd)
    with locked(log[0] / "log", wait_s_max=0.05):
        pass


def test_threads_append_one_after_the_other(log: Log) -> None:
    """The ledger of one process may be used by its thread and its callers at once."""
    ledger = make(log)

    def work(name: str) -> None:
        for size in range(1, 11):
            ledger.append(journal=name, size=size, root=bytes(32), state="open")

    threads = [threading.Thread(target=work, args=(f"{number:016x}-0",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries = [parse(note) for note in split(files(log[0] / "log")[0][1].read_bytes())]
    assert [entry.sequence for entry in entries] == list(range(1, 42))
    assert read_ledger(log[0], AuditKeys(log[1])).problems == []


def test_no_checkpoint_follows_a_closing_one(log: Log) -> None:
    """A checkpoint that the thread was about to write when the file ended is not written behind the last one."""
    journal = open_journal(*log)
    journal.append(decision(1))
    file = journal._committer._file
    journal.append(decision(2))
    journal._committer.end("full")
    journal._committer._file = file
    file.unsynced.clear()
    journal._committer.checkpoint()
    journal._committer._file = None
    entries = [parse(note) for note in split(files(log[0] / "log")[0][1].read_bytes())]
    assert [entry.state for entry in entries if entry.journal != "heads"] == ["open", "closed"]
    assert journal.close(5.0)
