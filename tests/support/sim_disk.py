"""
A file system in memory that may lose whatever was not forced to disk.

`SimDisk` writes to a real folder and keeps a record of every step. From the record
`crash_state` makes one of the states that a disk may be in after a cut: each sector
that was not synced may be there or not, lengths may have grown before the bytes
came, and names that were not synced may be missing, from some point on.

Source: what ext4 and XFS promise of fdatasync, rename and fsync of a folder; as in
SQLite's and FoundationDB's simulators.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from pathlib import Path

from agentguard.store import Disk

SECTOR_BYTES = 512


@dataclass
class _File:
    """What a file holds for sure, and what was written since."""

    durable: bytes = b""
    pending: list[tuple[int, bytes]] = field(default_factory=list)
    """Place and bytes of each write; a cut back is a place and nothing."""


@dataclass(frozen=True)
class Step:
    """One step of the record."""

    kind: str
    number: int = 0
    """Which file, in the order in which they were made; for `ack` what was acknowledged."""
    name: str = ""
    other: str = ""
    data: bytes = b""
    offset: int = 0


class SimDisk(Disk):
    """The real disk, and a record of all that was done to it."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._numbers: dict[int, int] = {}
        self._sizes: dict[int, int] = {}
        self._count = 0

    def acknowledge(self, number: int) -> None:
        """Note that somebody was told that everything up to *number* is safe."""
        self.steps.append(Step("ack", number))

    def create(self, path: Path) -> int:
        fd = super().create(path)
        self._count += 1
        self._numbers[fd], self._sizes[fd] = self._count, 0
        self.steps.append(Step("create", self._count, path.name))
        return fd

    def create_over(self, path: Path) -> int:
        if path.exists():
            self.unlink(path)
        return self.create(path)

    def write(self, fd: int, data: bytes) -> None:
        super().write(fd, data)
        self.steps.append(Step("write", self._numbers[fd], data=bytes(data), offset=self._sizes[fd]))
        self._sizes[fd] += len(data)

    def overwrite(self, fd: int, data: bytes) -> None:
        super().overwrite(fd, data)
        self.steps.append(Step("write", self._numbers[fd], data=bytes(data)))

    def truncate(self, fd: int, size_bytes: int) -> None:
        super().truncate(fd, size_bytes)
        self.steps.append(Step("cut", self._numbers[fd], offset=size_bytes))
        self._sizes[fd] = size_bytes

    def sync(self, fd: int) -> None:
        # Not the real one: this folder is in memory, and the record is what counts.
        self.steps.append(Step("sync", self._numbers[fd]))

    def sync_folder(self, folder: Path) -> None:
        # All names are of one folder here.
        self.steps.append(Step("names"))

    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        self.steps.append(Step("rename", name=source.name, other=target.name))

    def link(self, source: Path, target: Path) -> None:
        super().link(source, target)

    def unlink(self, path: Path) -> None:
        super().unlink(path)
        self.steps.append(Step("unlink", name=path.name))

    def close(self, fd: int) -> None:
        self._numbers.pop(fd, None)
        super().close(fd)


def crash_state(steps: list[Step], cut: int, chance: random.Random) -> tuple[dict[str, bytes], int]:
    """
    Make one of the states after a cut behind the first *cut* steps.

    Returns:
        The files by name, and what was acknowledged last (-1 for nothing).
    """
    files: dict[int, _File] = {}
    durable_names: dict[str, int] = {}
    pending_names: list[Step] = []
    acknowledged = -1
    for step in steps[:cut]:
        if step.kind == "ack":
            acknowledged = step.number
        elif step.kind == "write":
            files[step.number].pending.append((step.offset, step.data))
        elif step.kind == "cut":
            files[step.number].pending.append((step.offset, b""))
        elif step.kind == "sync":
            file = files[step.number]
            file.durable, file.pending = _apply_all(file), []
        elif step.kind == "names":
            kept = []
            for each in pending_names:
                if _folder_of(each) == step.name:
                    _name(durable_names, each)
                else:
                    kept.append(each)
            pending_names = kept
        else:
            if step.kind == "create":
                files[step.number] = _File()
            pending_names.append(step)
    # Names go to a journal of the file system in their order: some of the last ones may be missing.
    for each in pending_names[: chance.randint(0, len(pending_names))]:
        _name(durable_names, each)
    return {name: _torn(files[number], chance) for name, number in durable_names.items()}, acknowledged


def _folder_of(step: Step) -> str:
    """The folder that a change of names belongs to; empty for the root."""
    return (step.other or step.name).rpartition("/")[0]


def _name(names: dict[str, int], step: Step) -> None:
    """Apply one change of names."""
    if step.kind == "create":
        names[step.name] = step.number
    elif step.kind == "rename":
        if step.name in names:
            names[step.other] = names.pop(step.name)
    else:
        names.pop(step.name, None)


def _apply_all(file: _File) -> bytes:
    """All writes in their order."""
    content = bytearray(file.durable)
    for offset, data in file.pending:
        if data:
            content[offset : offset + len(data)] = data
        else:
            del content[offset:]
    return bytes(content)


def _torn(file: _File, chance: random.Random) -> bytes:
    """Any sectors of what was written since the last sync, in a file of any length up to the last one."""
    if not file.pending:
        return file.durable
    whole = _apply_all(file)
    mode = chance.randrange(5)
    if mode == 0:
        return file.durable
    if mode == 1:
        return whole
    end = chance.randint(min(len(file.durable), len(whole)), len(whole))
    if mode == 2:
        return whole[:end]
    # The length came before the bytes: what is missing reads as zeros.
    content = bytearray(len(whole) if mode == 3 else end)
    content[: len(file.durable)] = file.durable[: len(content)]
    for start in range(0, len(content), SECTOR_BYTES):
        stop = start + SECTOR_BYTES
        if chance.random() < 0.5:
            piece = whole[start:stop][: len(content) - start]
            content[start : start + len(piece)] = piece
    return bytes(content)


def write_state(folder: Path, files: dict[str, bytes]) -> None:
    """Put the files of a state into a folder and the folders in it, and nothing else."""
    for path in folder.rglob("*"):
        if not path.is_dir():
            path.unlink()
    for name, content in files.items():
        if "/" in name:
            (folder / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(fd, content)
        os.close(fd)
