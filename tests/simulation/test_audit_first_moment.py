"""Writers that die in their first moment: killed for real, before and after every operation on the disk."""

from __future__ import annotations

import os
import shutil
import signal
import zlib
from pathlib import Path

import pytest

from agentguard.audit import (
    Answer,
    NoteKey,
    Question,
    StoredDecision,
    adopt_abandoned,
    check_proof,
    prove,
    read_entries,
    verify,
)
from agentguard.audit.disk import Disk
from agentguard.audit.ledger import claimed_heads
from agentguard.errors import AuditError
from agentguard.seal import Keystore
from agentguard.values import RecordMode
from tests.support.clock import FrozenClock
from tests.support.decisions import decision, make_keystore, open_journal, write_log

Log = tuple[Path, Keystore]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """The folder of a store, and its keys."""
    return make_keystore(tmp_path)


_OPERATIONS_MAX = 60


class DeadlyDisk(Disk):
    """Kills the process at its n-th operation: before it, in the middle of it, or after it."""

    __slots__ = ("_left", "_when")

    def __init__(self, operation: int, when: str) -> None:
        self._left = operation
        self._when = when

    def _step(self, when: str) -> None:
        if self._left == 0 and self._when == when:
            os.kill(os.getpid(), signal.SIGKILL)

    def write(self, fd: int, data: bytes) -> None:
        """Write, or die."""
        self._left -= 1
        self._step("before")
        if self._left == 0 and self._when == "within":
            super().write(fd, data[: len(data) // 2])
            self._step("within")
        super().write(fd, data)
        self._step("after")

    def write_file(self, path: Path, data: bytes) -> None:
        """Write a file, or die."""
        self._left -= 1
        self._step("before")
        self._step("within")
        super().write_file(path, data)
        self._step("after")

    def sync(self, fd: int) -> None:
        """Sync, or die."""
        self._left -= 1
        self._step("before")
        self._step("within")
        super().sync(fd)
        self._step("after")


def write_and_die(log: Log, operation: int, when: str) -> bool:
    """Let a process write two decisions and be killed at an operation; False where it came to its end."""
    pid = os.fork()
    if pid == 0:
        try:
            journal = open_journal(*log, disk=DeadlyDisk(operation, when))
            for number in range(2):
                journal.append(decision(0x500 + number, mode=RecordMode.REQUIRED))
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def adopt(log: Log) -> tuple[str, ...]:
    """Look after the log, and say what was adopted."""

    def fail(error: AuditError) -> None:
        raise error

    return tuple(one.journal for one in adopt_abandoned(*log, FrozenClock(), on_failure=fail))


def check_all_is_stated(log: Log) -> int:
    """Every record that can be read is stated, and every decision can be proven; returns how many journals there are."""
    report = verify(*log)
    assert report.is_good, report.first_bad
    key = NoteKey.parse(report.verifier_key)
    heads = claimed_heads(log[0])
    journals = set()
    for entry in read_entries(*log):
        journals.add(entry.journal)
        assert entry.index < heads[entry.journal].size
        if isinstance(entry, StoredDecision):
            check_proof(prove(*log, entry.record.decision_id), key)
    return len(journals)


@pytest.mark.parametrize("is_first", [True, False])
def test_whatever_a_killed_writer_left_is_adopted(log: Log, is_first: bool) -> None:
    """Whether its file is all there is, has its opening record alone, is in the ledger, or holds decisions."""
    if not is_first:
        write_log(*log, range(3))
    adopted = left = 0
    for operation in range(1, _OPERATIONS_MAX):
        kills = [write_and_die(log, operation, when) for when in ("before", "within", "after")]
        adopted += len(adopt(log))
        left = check_all_is_stated(log)
        if not any(kills):
            break
    else:
        pytest.fail(f"more than {_OPERATIONS_MAX} operations for two decisions")
    assert adopted >= 10
    assert left >= adopted


def died_before_it_was_stated(log: Log) -> Path:
    """A journal of this store that the ledger does not name: the opening record is on disk, and no more."""
    before = set((log[0] / "dec").iterdir())
    for operation in range(1, _OPERATIONS_MAX):
        write_and_die(log, operation, "after")
        for path in set((log[0] / "dec").iterdir()) - before:
            if path.stem not in claimed_heads(log[0]) and path.stat().st_size > 400:
                return path
            before.add(path)
    pytest.fail("no writer died between its opening record and the ledger")


def test_an_opening_alone_is_adopted(log: Log) -> None:
    """A process that died before the ledger named its journal: it is stated as found, nothing of it by its writer."""
    write_log(*log, range(3))
    path = died_before_it_was_stated(log)
    assert path.stem not in claimed_heads(log[0])
    assert path.stem in adopt(log)
    head = claimed_heads(log[0])[path.stem]
    assert (head.state, head.size, head.numbers[0]) == ("adopted", 1, 0)
    line = verify(*log).of(Question.UNANCHORED_TAIL)
    assert line.answer is Answer.NOTED


def test_a_foreign_journal_is_not_adopted(log: Log, tmp_path: Path) -> None:
    """One of another store, whole, and its opening alone: whatever it says, it has not our keys."""
    write_log(*log, range(3))
    (tmp_path / "other").mkdir()
    other = make_keystore(tmp_path / "other")
    write_log(*other, range(2))
    for path in (other[0] / "dec").iterdir():
        shutil.copy(path, log[0] / "dec" / path.name)
        foreign = bytearray(path.read_bytes())
        foreign[16:32] = log[1].store_id
        foreign[100:104] = zlib.crc32(foreign[:100]).to_bytes(4, "big")
        (log[0] / "dec" / path.name.replace("-0", "-1")).write_bytes(foreign)
    before = set(claimed_heads(log[0]))
    assert adopt(log) == ()
    assert set(claimed_heads(log[0])) == before
    assert not verify(*log).is_good


def test_what_was_taken_out_of_the_ledger_is_not_adopted(log: Log) -> None:
    """A journal with decisions that no ledger names is evidence, whoever's keys it has."""
    write_log(*log, range(3))
    (path,) = (log[0] / "dec").iterdir()
    shutil.rmtree(log[0] / "log")
    write_log(*log, range(0x20, 0x22))
    failures: list[AuditError] = []
    assert adopt_abandoned(*log, FrozenClock(), on_failure=failures.append) == ()
    assert [path.stem in str(error) for error in failures] == [True]
    assert not verify(*log).is_good


def test_an_opening_of_long_ago_is_not_adopted(log: Log) -> None:
    """The opening of a journal that was begun behind an entry which the ledger no longer has, put back alone."""
    write_log(*log, range(3))
    path = died_before_it_was_stated(log)
    shutil.rmtree(log[0] / "log")
    write_log(*log, range(0x20, 0x22))
    failures: list[AuditError] = []
    adopted = adopt_abandoned(*log, FrozenClock(), on_failure=failures.append)
    assert path.stem not in {one.journal for one in adopted}
