"""
Cutting the power under a file system, and looking at what the disk has.

A file system in a file, mounted over a loop device: ext4, XFS or Btrfs. The kernel is told to
shut it down at once, without flushing its journal: what was not forced to disk is
gone, as after a power cut. Needs root and Linux; `why_not` says what is missing.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.crash import Child

_SHUTDOWN = 0x8004587D
"""EXT4_IOC_SHUTDOWN, `_IOR('X', 125, __u32)`; XFS has the same call under the same number."""
_NO_LOG_FLUSH = 2
_WRITE_BACK = 2
"""SYNC_FILE_RANGE_WRITE: begins to write pages, and makes nothing durable."""


KINDS = {
    "ext4": (64, ["-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"], "commit=300"),
    "xfs": (320, ["-f"], "rw"),
    "btrfs": (160, ["-f"], "commit=300"),
}
"""Of each kind the size in MiB, what it is made with, and mounted with: nothing is written by itself for long."""


def why_not(kind: str = "ext4") -> str:
    """Say why the power cannot be cut here; empty where it can."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "cutting the power needs root on Linux"
    if shutil.which(f"mkfs.{kind}") is None or not Path("/dev/loop-control").exists():
        return f"cutting the power needs mkfs.{kind} and loop devices"
    return ""


@contextlib.contextmanager
def _mounted(image: Path, place: Path, options: str) -> Iterator[None]:
    subprocess.run(
        ["mount", "-o", f"loop,{options}", str(image), str(place)],
        check=True,
        capture_output=True,
        timeout=30,
    )
    try:
        yield
    finally:
        # The killed child's files may take a moment to be closed.
        for attempt in range(50):
            done = subprocess.run(["umount", str(place)], check=False, capture_output=True, timeout=30)
            if done.returncode == 0:
                break
            time.sleep(0.02 * (attempt + 1))
        else:
            raise AssertionError(f"cannot be unmounted: {done.stderr!r}")


class PowerRig:
    """A file system whose power can be cut."""

    def __init__(self, folder: Path, kind: str = "ext4") -> None:
        size_mib, options, self._options = KINDS[kind]
        self._image = folder / "disk.img"
        self._copied = folder / "copied.img"
        self._is_copied = kind == "btrfs"
        """It cannot be shut down: what its device holds at the moment of the cut is copied instead."""
        self.place = folder / "disk"
        self.place.mkdir()
        with self._image.open("wb") as file:
            file.truncate(size_mib << 20)
        subprocess.run(
            [f"mkfs.{kind}", "-q", *options, str(self._image)],
            check=True, capture_output=True, timeout=60,
        )  # fmt: skip

    @contextlib.contextmanager
    def mounted(self) -> Iterator[Path]:
        """Give the folder while it is mounted."""
        with _mounted(self._image, self.place, self._options):
            yield self.place

    def _copy(self) -> None:
        subprocess.run(["cp", "--sparse=always", str(self._image), str(self._copied)], check=True, timeout=60)

    def cut(self, child: Child, *, seed: int, within_s: float = 0.15) -> list[str]:
        """
        Run *child* in a process of its own on the file system, and cut the power at a random moment.

        Returns:
            What the child had acknowledged as safe.
        """
        chance = random.Random(seed)
        with self.mounted() as place:
            read_end, write_end = os.pipe()
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    os.close(read_end)
                    child(place, lambda text: os.write(write_end, text.encode() + b"\n") and None)
                except BaseException as error:
                    # After the cut every call fails: that is how the child ends.
                    status = 0 if isinstance(error, OSError) else 1
                finally:
                    os._exit(status)
            os.close(write_end)
            try:
                data = os.read(read_end, 65536)  # wait for the first acknowledgement
                deadline = time.monotonic() + chance.uniform(0, within_s)
                while time.monotonic() < deadline:
                    _write_back(place, chance)
                    time.sleep(chance.uniform(0, 0.01))
                # What was acknowledged up to here was acknowledged before the cut.
                os.set_blocking(read_end, False)
                with contextlib.suppress(BlockingIOError):
                    while part := os.read(read_end, 65536):
                        data += part
                if self._is_copied:
                    os.kill(pid, signal.SIGSTOP)
                    self._copy()
                else:
                    _shut_down(place)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                os.close(read_end)
        if self._is_copied:
            self._copied.replace(self._image)
        return data.decode().split("\n")[:-1]


def _write_back(place: Path, chance: random.Random) -> None:
    """Let the kernel write the pages of some file, as it does at any time by itself."""
    files = [path for path in place.rglob("*") if path.is_file()]
    if files:
        with contextlib.suppress(OSError):
            fd = os.open(chance.choice(files), os.O_RDONLY)
            try:
                ctypes.CDLL(None, use_errno=True).sync_file_range(
                    fd, ctypes.c_int64(0), ctypes.c_int64(0), _WRITE_BACK
                )
            finally:
                os.close(fd)


def _shut_down(place: Path) -> None:
    fd = os.open(place, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
    finally:
        os.close(fd)
