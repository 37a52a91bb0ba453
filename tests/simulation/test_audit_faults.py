"""Every write and every sync of the decision log fails once: what was acknowledged is there, and the log verifies."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentguard.audit import DecisionJournal, JournalLimits, Safeguards, read_decisions, verify
from agentguard.audit.disk import Disk
from agentguard.errors import AgentGuardError
from agentguard.values import RecordMode
from tests.support.clock import FrozenClock
from tests.support.decisions import decision, make_keystore

LIMITS = JournalLimits(
    window_s=0.001, checkpoint_interval_s=0.02, checkpoint_records_max=4, journal_bytes_max=5_000
)


class FailingOnce(Disk):
    """Fails one operation; of a write a part arrives."""

    def __init__(self, at: int, number: int, share: float) -> None:
        self._at, self._number, self._share = at, number, share
        self.operations = 0
        self.has_failed = False

    def _may_fail(self, fd: int = -1, data: bytes = b"") -> None:
        self.operations += 1
        if self.operations == self._at and not self.has_failed:
            self.has_failed = True
            if data:
                os.write(fd, data[: int(len(data) * self._share)])
            raise OSError(self._number, os.strerror(self._number))

    def write(self, fd: int, data: bytes) -> None:
        self._may_fail(fd, data)
        super().write(fd, data)

    def write_file(self, path: Path, data: bytes) -> None:
        self._may_fail()
        super().write_file(path, data)

    def sync(self, fd: int) -> None:
        self._may_fail()
        super().sync(fd)


def fail_every_operation(folder: Path, number: int, share: float, *, step: int = 1) -> Iterator[int]:
    """Let each operation of a run, or each so many, fail in turn; gives how many required records were refused each time."""
    for at in range(1, 10_000, step):
        disk = FailingOnce(at, number, share)
        place = folder / f"{number}-{share}-{at}"
        place.mkdir()
        store, keystore = make_keystore(place)
        acknowledged, refused = set(), 0
        try:
            journal = DecisionJournal.open(
                store,
                keystore=keystore,
                clock=FrozenClock(),
                on_internal_error=lambda *_: None,
                limits=LIMITS,
                disk=disk,
                safeguards=Safeguards(reserve_bytes=64 << 10),
            )
        except (AgentGuardError, OSError):
            continue  # It could not even be opened, and nothing was promised.
        for record in range(12):
            try:
                journal.append(decision(record, mode=RecordMode.REQUIRED))
                acknowledged.add(record)
            except AgentGuardError:
                refused += 1
        journal.close(5.0)
        found = [int(entry.record.decision_id, 16) for entry in read_decisions(store, keystore)]
        assert acknowledged <= set(found), f"operation {at}: acknowledged and lost"
        assert len(found) == len(set(found)), f"operation {at}: there twice"
        report = verify(store, keystore)
        assert report.is_good, f"operation {at}: {report.first_bad}"
        # What fails once is tried again: no call is denied for it.
        assert refused == 0, f"operation {at}: {refused} records refused"
        if not disk.has_failed:
            return
        yield refused
    raise AssertionError("a run never ends")


FAULTS = [(errno.ENOSPC, 0.5), (errno.EIO, 0.0), (errno.EDQUOT, 0.9)]


@pytest.mark.parametrize(("number", "share"), FAULTS)
def test_every_operation_fails_once(tmp_path: Path, number: int, share: float) -> None:
    """Each fourth one: full disk, quota, input/output error."""
    assert len(list(fail_every_operation(tmp_path, number, share, step=4))) >= 5


@pytest.mark.long
@pytest.mark.parametrize(("number", "share"), FAULTS)
def test_really_every_operation_fails_once(tmp_path: Path, number: int, share: float) -> None:
    """The same for each of them."""
    assert len(list(fail_every_operation(tmp_path, number, share))) >= 20
