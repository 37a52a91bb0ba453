"""
The same record of steps, taken below all rooms: whatever a program does to the files of a folder.

Knows nothing of formats or of how a room reaches its files: the functions of `os` are
watched. Folders are taken for durable once made, file names and contents are not.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.sim_disk import Step


class RecordedFolder:
    """Watches a folder and all below it from now on; `steps` begins with what is there."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *, skip: tuple[str, ...] = ()) -> None:
        """
        Watch.

        Args:
            folder: The root of all names.
            monkeypatch: Takes the watching back at the end of the test.
            skip: Kinds of steps that are not recorded: a disk that does not do them, for control arms.
        """
        self.folder = folder
        self.steps: list[Step] = []
        self._skip = skip
        self._root = str(folder) + os.sep
        self._open_files: dict[int, int] = {}
        self._folders: dict[int, str] = {}
        self._sizes: dict[int, int] = {}
        self._by_name: dict[str, int] = {}
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                number = self._new(self._name(path))
                self._note(Step("write", number, data=path.read_bytes()))
                self._note(Step("sync", number), is_setup=True)
                self._sizes[number] = path.stat().st_size
        for inner in {path.parent for path in folder.rglob("*")} | {folder}:
            self._note(Step("names", name=self._name(inner)), is_setup=True)
        self.setup = len(self.steps)
        """So many steps stand for what was there; a cut comes after them."""
        for name in (
            "open",
            "write",
            "fsync",
            "fdatasync",
            "ftruncate",
            "rename",
            "replace",
            "unlink",
            "close",
        ):
            monkeypatch.setattr(os, name, getattr(self, f"_{name}")(getattr(os, name)))

    def acknowledge(self, number: int) -> None:
        """Note that somebody was told that everything up to *number* is safe."""
        self.steps.append(Step("ack", number))

    def _note(self, step: Step, *, is_setup: bool = False) -> None:
        if is_setup or step.kind not in self._skip:
            self.steps.append(step)

    def _name(self, path: object) -> str:
        text = os.fspath(path)  # type: ignore[call-overload]
        return "" if text + os.sep == self._root else str(text).removeprefix(self._root)

    def _is_ours(self, path: object) -> bool:
        return isinstance(path, str | Path) and (str(path) + os.sep).startswith(self._root)

    def _new(self, name: str) -> int:
        number = len(self._sizes)
        self._sizes[number], self._by_name[name] = 0, number
        self._note(Step("create", number, name))
        return number

    def _open(self, real: Callable[..., int]) -> Callable[..., int]:
        def call(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
            is_ours = self._is_ours(path)
            is_new = is_ours and bool(flags & os.O_CREAT) and not Path(path).exists()
            fd = real(path, flags, *args, **kwargs)
            self._open_files.pop(fd, None)
            self._folders.pop(fd, None)
            if is_ours:
                if flags & os.O_DIRECTORY or Path(path).is_dir():
                    self._folders[fd] = self._name(path)
                else:
                    name = self._name(path)
                    self._open_files[fd] = self._new(name) if is_new else self._by_name[name]
            return fd

        return call

    def _write(self, real: Callable[..., int]) -> Callable[..., int]:
        def call(fd: int, data: Any) -> int:
            number = self._open_files.get(fd)
            if number is None:
                return real(fd, data)
            # Where it lands: at the end of a file that is appended to, else where the descriptor stands.
            is_appended = bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND)
            place = os.fstat(fd).st_size if is_appended else os.lseek(fd, 0, os.SEEK_CUR)
            count = real(fd, data)
            self._note(Step("write", number, data=bytes(data[:count]), offset=place))
            return count

        return call

    def _fsync(self, real: Callable[[int], None]) -> Callable[[int], None]:
        def call(fd: int) -> None:
            # Not the real one: what counts is the record.
            if fd in self._folders:
                self._note(Step("names", name=self._folders[fd]))
            elif fd in self._open_files:
                self._note(Step("sync", self._open_files[fd]))
            else:
                real(fd)

        return call

    _fdatasync = _fsync

    def _ftruncate(self, real: Callable[[int, int], None]) -> Callable[[int, int], None]:
        def call(fd: int, length: int) -> None:
            size = os.fstat(fd).st_size
            real(fd, length)
            if (number := self._open_files.get(fd)) is not None:
                grown = bytes(length - size) if length > size else b""
                self._note(Step("write" if grown else "cut", number, data=grown, offset=min(size, length)))

        return call

    def _rename(self, real: Callable[..., None]) -> Callable[..., None]:
        def call(source: Any, target: Any, **kwargs: Any) -> None:
            real(source, target, **kwargs)
            if self._is_ours(source) and self._is_ours(target):
                old, new = self._name(source), self._name(target)
                self._by_name[new] = self._by_name.pop(old)
                self._note(Step("rename", name=old, other=new))

        return call

    _replace = _rename

    def _unlink(self, real: Callable[..., None]) -> Callable[..., None]:
        def call(path: Any, **kwargs: Any) -> None:
            real(path, **kwargs)
            if self._is_ours(path):
                self._by_name.pop(self._name(path), None)
                self._note(Step("unlink", name=self._name(path)))

        return call

    def _close(self, real: Callable[[int], None]) -> Callable[[int], None]:
        def call(fd: int) -> None:
            self._open_files.pop(fd, None)
            self._folders.pop(fd, None)
            real(fd)

        return call
