"""Room kept for decisions: they outlive everything else on a full disk."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentguard.audit import DecisionJournal, StoredEvent, read_decisions, read_entries, verify
from agentguard.audit.disk import Disk, ReservingDisk, Safeguards
from agentguard.errors import AuditError
from agentguard.seal import Keystore
from tests.support.clock import FrozenClock
from tests.support.decisions import SLOW, decision, make_keystore

Log = tuple[Path, Keystore]


class SmallDisk(Disk):
    """A disk of so many bytes, of which the reserve holds some."""

    def __init__(self, reserve: Path) -> None:
        self.reserve = reserve
        self.room: int | None = None
        self.held = 0

    def _room(self) -> int:
        size = self.reserve.stat().st_size if self.reserve.exists() else 0
        freed, self.held = self.held - size, size
        assert self.room is not None
        self.room += freed
        return self.room

    def write(self, fd: int, data: bytes) -> None:
        if self.room is None:
            super().write(fd, data)
            return
        fitting = min(self._room(), len(data))
        os.write(fd, data[:fitting])
        self.room -= fitting
        if fitting < len(data):
            raise OSError(errno.ENOSPC, "test")

    def truncate(self, fd: int, length: int) -> None:
        if self.room is not None:
            self.room += os.fstat(fd).st_size - length
        super().truncate(fd, length)

    def fill(self) -> None:
        """Nothing is free from now on but what the reserve gives back."""
        self.held, self.room = self.reserve.stat().st_size, 0


def open_with_reserve(log: Log, reserve_bytes: int, disk: Disk | None = None) -> DecisionJournal:
    """Open a journal with a reserve of that size, already filled."""
    journal = DecisionJournal.open(
        log[0],
        keystore=log[1],
        clock=FrozenClock(),
        on_internal_error=lambda where, error: None,
        limits=SLOW,
        disk=disk,
        safeguards=Safeguards(reserve_bytes=reserve_bytes),
    )
    journal._committer._disk.keep_reserve()
    return journal


def test_decisions_go_on_in_the_reserve(log: Log) -> None:
    """On a full disk required records are still made durable, and the log says so."""
    disk = SmallDisk(log[0] / "reserve.bin")
    journal = open_with_reserve(log, 1 << 20, disk)
    journal.append(decision(0))
    disk.fill()
    for number in range(1, 40):
        journal.append(decision(number))
    assert disk.reserve.stat().st_size < 1 << 20
    disk.room = None
    assert journal.close(5.0)
    assert len(list(read_decisions(*log))) == 40
    kinds = [entry.kind for entry in read_entries(*log) if isinstance(entry, StoredEvent)]
    assert "journal.reserve" in kinds
    assert verify(*log).is_good


def test_the_reserve_ends(log: Log) -> None:
    """When the reserve is used up too, required records are refused, and nothing is half written."""
    disk = SmallDisk(log[0] / "reserve.bin")
    journal = open_with_reserve(log, 64 << 10, disk)
    journal.append(decision(0))
    disk.fill()
    done = 0
    with pytest.raises(AuditError, match="could not be brought to disk"):
        for number in range(1, 10_000):
            journal.append(decision(number))
            done = number
    assert done >= 4
    disk.room = None
    journal.append(decision(10_000))
    assert journal.close(5.0)
    assert len(list(read_decisions(*log))) == done + 2
    assert verify(*log).is_good


def test_the_reserve_is_filled_again(log: Log) -> None:
    """What was used is held back again once there is room."""
    disk = ReservingDisk(Disk(), log[0] / "reserve.bin", 1 << 20)
    disk.keep_reserve()
    assert (log[0] / "reserve.bin").stat().st_size == 1 << 20
    assert (log[0] / "reserve.bin").stat().st_blocks * 512 >= 1 << 20
    os.truncate(log[0] / "reserve.bin", 1000)
    disk.keep_reserve()
    assert (log[0] / "reserve.bin").stat().st_size == 1 << 20


def test_no_reserve(log: Log) -> None:
    """A size of 0 keeps none."""
    ReservingDisk(Disk(), log[0] / "reserve.bin", 0).keep_reserve()
    assert not (log[0] / "reserve.bin").exists()


@contextlib.contextmanager
def small_file_system(folder: Path, size: str) -> Iterator[Path]:
    """Mount a file system of its own."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True, capture_output=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_file_system_that_is_full(tmp_path: Path) -> None:
    """On a real full file system telemetry fails and decisions go on."""
    with small_file_system(tmp_path / "small", "3m") as folder:
        log = make_keystore(folder)
        journal = open_with_reserve(log, 1 << 20)
        journal.append(decision(0))
        with contextlib.suppress(OSError), (folder / "telemetry").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        with pytest.raises(OSError, match="No space"), (folder / "more").open("wb", buffering=0) as file:
            file.write(bytes(4096))
        for number in range(1, 60):
            journal.append(decision(number))
        assert journal.close(5.0)
        assert len(list(read_decisions(*log))) == 60
        assert verify(*log).is_good
