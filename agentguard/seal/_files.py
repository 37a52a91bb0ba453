"""
Files that hold secrets or sealed bytes: opened carefully, written whole.

Every function here refuses what an attacker with write access to a parent
folder could plant: symbolic links, FIFOs, devices, files of other owners.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import sys
from pathlib import Path

from agentguard.errors import SealError, StoreError

_READ_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
_FULL_FSYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)

PRIVATE_FILE_MODE = 0o600
PRIVATE_FOLDER_MODE = 0o700


def sync_data(fd: int) -> None:
    """
    Bring the bytes of *fd* to stable storage.

    On macOS `fsync` leaves them in the drive's cache, so `F_FULLFSYNC` is used
    there; where a file system does not know it, plain `fsync` is the best there is.
    """
    if _FULL_FSYNC is not None:
        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, _FULL_FSYNC)
            return
        os.fsync(fd)
        return
    if sys.platform != "darwin":
        os.fdatasync(fd)


def sync_folder(folder: Path) -> None:
    """Bring new, renamed and removed names of *folder* to stable storage."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        # Some network and overlay file systems cannot sync a folder; the data
        # itself was synced, so the name is all that a power cut could lose.
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """
    Write all of *data*; a short write is continued, never taken for success.

    Raises:
        OSError: The system refused, such as on a full disk; a part may be written.
    """
    view = memoryview(data)
    while view:
        count = os.write(fd, view)
        if count <= 0:
            raise OSError(errno.EIO, "the system wrote nothing and gave no error")
        view = view[count:]


def open_regular(path: Path, *, follow_links: bool = False) -> int:
    """
    Open a regular file for reading, and nothing else.

    Args:
        path:
            The file.

        follow_links:
            Whether a symbolic link may stand at the end of the path.

    Returns:
        A file descriptor that is not inherited by child programs.

    Raises:
        OSError: It cannot be opened; ELOOP where it is a link.
        SealError: It is a folder, FIFO, socket or device.
    """
    # O_NONBLOCK: opening a planted FIFO must not wait for a writer.
    fd = os.open(path, _READ_FLAGS if follow_links else _READ_FLAGS | os.O_NOFOLLOW)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise SealError(f"{path}: got something that is not a regular file, expected a file")


def read_file(path: Path, *, bytes_max: int, follow_links: bool = False) -> bytes:
    """
    Read a small regular file whole.

    Raises:
        OSError: It cannot be read.
        SealError: It is no regular file, or longer than *bytes_max*.
    """
    fd = open_regular(path, follow_links=follow_links)
    try:
        parts: list[bytes] = []
        size = 0
        while part := os.read(fd, min(1 << 16, bytes_max + 1 - size)):
            parts.append(part)
            size += len(part)
            if size > bytes_max:
                raise SealError(f"{path}: got more than {bytes_max} bytes, expected at most that")
        return b"".join(parts)
    finally:
        os.close(fd)


def write_new_file(path: Path, data: bytes, *, mode: int = PRIVATE_FILE_MODE) -> None:
    """
    Create *path* with *data*, durable, and never replace what is there.

    Raises:
        FileExistsError: Something has that name.
        OSError: It cannot be written; nothing is left behind.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        os.fchmod(fd, mode)  # The umask may have taken bits away, never added any.
        write_all(fd, data)
        os.fsync(fd)
    except BaseException:
        with contextlib.suppress(OSError):
            path.unlink()
        raise
    finally:
        os.close(fd)
    sync_folder(path.parent)


def write_file_atomic(path: Path, data: bytes) -> None:
    """
    Replace *path* by *data*: a reader sees the old bytes or the new ones.

    The new bytes are on disk before the name points to them.

    Raises:
        OSError: It cannot be written; the old file is still there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
    write_new_file(temporary, data)
    try:
        os.replace(temporary, path)  # noqa: PTH105 - both are Paths, the call is the point
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def ensure_private_folder(folder: Path) -> None:
    """
    Make sure that *folder* exists and that nobody else can write into it.

    A parent that others may write to is accepted, since volumes of container
    platforms are made so; the folder itself never.

    Raises:
        StoreError: It is a link or no folder, belongs to someone else, or others may write.
    """
    try:
        folder.mkdir(mode=PRIVATE_FOLDER_MODE, parents=True)
    except FileExistsError:
        pass
    except OSError as error:
        raise StoreError(f"{folder}: cannot be made: {error.strerror or error}").hint(
            "choose a folder that this user may write to"
        ) from error
    check_private_folder(folder)


def check_private_folder(folder: Path) -> None:
    """
    Refuse a folder that somebody else could change.

    Raises:
        StoreError: It is missing, a link or no folder, belongs to someone else,
            or its group or the world may write.
    """
    try:
        status = os.lstat(folder)
    except FileNotFoundError as error:
        raise StoreError(f"{folder}: got nothing, expected a store folder").hint(
            "`agentguard init` makes one"
        ) from error
    except OSError as error:
        raise StoreError(f"{folder}: cannot be read: {error.strerror or error}") from error
    if stat.S_ISLNK(status.st_mode):
        raise StoreError(f"{folder}: got a symbolic link, expected a folder").hint(
            "name the folder that the link points to"
        )
    if not stat.S_ISDIR(status.st_mode):
        raise StoreError(f"{folder}: got a file, expected a folder")
    if status.st_uid != os.geteuid() and os.geteuid() != 0:
        raise StoreError(
            f"{folder}: got a folder of user {status.st_uid}, expected one of user {os.geteuid()}"
        )
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise StoreError(
            f"{folder}: got mode {stat.S_IMODE(status.st_mode):04o}, expected no write for group and others"
        ).hint(f"chmod 700 {folder}")
