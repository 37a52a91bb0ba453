"""
Backup and restore: the files of a store as they are, with an authentic list of them.

Everything in a backup is sealed already. Wrap keys, locks and the state of the
machine (rates, approvals) stay behind: what was erased must not come back with an
old backup. A backup is taken while others write; a live segment is
taken up to its last whole frame.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import shutil
import stat
import time
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from agentguard.errors import SealError, StoreError, TamperedError
from agentguard.seal import (
    PRIVATE_FILE_MODE,
    PRIVATE_FOLDER_MODE,
    STORE_FILE,
    Keystore,
    open_keystore,
    open_regular,
    read_file,
    sync_data,
    sync_folder,
    write_all,
    write_new_file,
)
from agentguard.store._disk import try_lock, unlock
from agentguard.store._keyring_file import KEYRING_BYTES_MAX, KEYRING_FILE, wrap_file
from agentguard.store._keyring_file import unpack_header as unpack_keyring_header
from agentguard.store._layout import (
    FRAME_HEAD_BYTES,
    HEADER_BYTES,
    PACK_SUFFIX,
    State,
    unpack_frame_head,
    unpack_header,
)
from agentguard.values import KeyProvider

LIST_FILE: Final = "BACKUP"
LIST_VERSION: Final = 1
_LABEL: Final = b"agentguard/v1/backup"
_ROOT_FILES: Final = (STORE_FILE, KEYRING_FILE)
_FOLDERS: Final = ("seg", "dec", "log", "blobs", "quarantine")
"""Copied in this order, `dec` and `log` under the ledger's lock."""
_LOCK_WAIT_S_MAX: Final = 30.0
_LIST_BYTES_MAX: Final = 256 * 1024 * 1024
_DEPTH_MAX: Final = 8
_ROUNDS_MAX: Final = 16
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", re.ASCII)
_LEFT_OUT = re.compile(r"lock|.*\.(?:lock|tmp|new)", re.ASCII)
_PIECE_BYTES: Final = 1 << 20


class Backup(NamedTuple):
    """What a backup holds."""

    files: int
    size_bytes: int
    created_unix_ns: int
    store_id: str


def back_up(folder: Path, target: Path, *, keystore: Keystore, now_unix_ns: int) -> Backup:
    """
    Copy a store into a new folder; others may write to the store meanwhile.

    Args:
        folder:
            The store.

        target:
            Must not be there, or be an empty folder. It appears once it is whole.

        keystore:
            The keys of the store: they authenticate the list of files.

        now_unix_ns:
            The time, for the list.

    Raises:
        StoreError: The target is in use, or a file cannot be read or written.
    """
    with _new_folder(target) as place:
        found: list[tuple[str, int, str]] = []
        try:
            found.append((STORE_FILE, *_copy(folder / STORE_FILE, place / STORE_FILE)))
            found += _copy_segments(folder, place)
            # After the segments: a key is there before anything that is sealed with it.
            with suppress(FileNotFoundError):
                found.append((KEYRING_FILE, *_copy(folder / KEYRING_FILE, place / KEYRING_FILE)))
            with _ledger(folder):
                # No checkpoint comes in between: what the ledger states is in the journals that follow it.
                found += _copy_folder(folder, place, "log")
                found += _copy_folder(folder, place, "dec")
            for name in ("blobs", "quarantine"):
                found += _copy_folder(folder, place, name)
            document = {
                "version": LIST_VERSION,
                "store_id": keystore.store_id.hex(),
                "generation": keystore.generation,
                "created_unix_ns": now_unix_ns,
                "files": found,
            }
            plain = json.dumps(document, separators=(",", ":")).encode()
            mac = keystore.root.mac(_LABEL, plain).hex().encode()
            write_new_file(place / LIST_FILE, plain + b"\n" + mac + b"\n")
        except (OSError, SealError) as error:
            raise StoreError(f"backup: {error}") from error
    return Backup(len(found), sum(size for _, size, _ in found), now_unix_ns, keystore.store_id.hex())


def restore(source: Path, target: Path, *, provider: KeyProvider, keys_from: Path | None = None) -> Backup:
    """
    Make a store of a backup: every file is what the list says, and nothing else is taken.

    Args:
        source:
            A folder that `back_up` made.

        target:
            Must not be there, or be an empty folder. It appears once it is whole.

        provider:
            A key that opens the store.

        keys_from:
            A folder with the keyring and the wrap key as they are now, such as the store
            that was damaged. Without it content that is sealed for persons cannot be read,
            and with it only what was not erased since the backup.

    Raises:
        StoreError: The target is in use; the backup holds a link or a name that no backup has;
            a file cannot be read or written; *keys_from* has no keyring of this store.
        TamperedError: The list or a file was altered, or a file is missing.
        KeyUnavailableError: The provider gives no key, or another one.
    """
    _refuse_link(source)
    keystore = open_keystore(source, provider)
    document = _read_list(source, keystore)
    with _new_folder(target) as place:
        for name, size, digest in document["files"]:
            parts = _checked_parts(name)
            for depth in range(1, len(parts)):
                _refuse_link(source.joinpath(*parts[:depth]))
            (place / name).parent.mkdir(mode=PRIVATE_FOLDER_MODE, parents=True, exist_ok=True)
            try:
                copied = _copy(source / name, place / name, is_single=True)
            except FileNotFoundError:
                raise TamperedError(
                    f"backup: got no `{name}`, expected the file that the list names"
                ) from None
            except (OSError, SealError) as error:
                raise StoreError(f"restore: {error}") from error
            if copied != (size, digest):
                raise TamperedError(f"backup: `{name}` is not the file that the list names")
        for name in ("seg", "blobs"):
            (place / name).mkdir(mode=PRIVATE_FOLDER_MODE, exist_ok=True)
        if keys_from is not None:
            _take_keys(keys_from, place, keystore.store_id)
    sizes = sum(size for _, size, _ in document["files"])
    return Backup(len(document["files"]), sizes, document["created_unix_ns"], document["store_id"])


def _take_keys(source: Path, place: Path, store_id: bytes) -> None:
    """
    Take the keyring and its wrap key from where they are now.

    Raises:
        StoreError: They are not there, are another store's, or cannot be copied.
    """
    try:
        head = read_file(source / KEYRING_FILE, bytes_max=KEYRING_BYTES_MAX)
        number = unpack_keyring_header(head, store_id)
        if number is None:
            raise StoreError(
                f"{source}: got a keyring of another store, or a damaged one, expected this store's"
            )
        (place / KEYRING_FILE).unlink(missing_ok=True)
        for name in (KEYRING_FILE, wrap_file(number)):
            _copy(source / name, place / name, is_single=True)
    except (OSError, SealError) as error:
        raise StoreError(f"{source}: got no keyring with its wrap key, expected both: {error}") from error


def _read_list(source: Path, keystore: Keystore) -> dict[str, Any]:
    """
    Read the list of files.

    Raises:
        StoreError: There is none, or it is of a later version.
        TamperedError: It was altered, or belongs to another store.
    """
    try:
        data = read_file(source / LIST_FILE, bytes_max=_LIST_BYTES_MAX)
    except (OSError, SealError) as error:
        raise StoreError(f"{source}: got no list of files, expected a backup: {error}").hint(
            "`agentguard store backup DIR` makes one"
        ) from error
    plain, _, mac = data.rstrip(b"\n").rpartition(b"\n")
    try:
        document: dict[str, Any] = json.loads(plain)
        root = keystore.root_of(int(document["generation"]))
    except (ValueError, TypeError, KeyError) as error:
        raise TamperedError("backup: the list of files does not decode") from error
    if not hmac.compare_digest(root.mac(_LABEL, plain).hex().encode(), mac):
        raise TamperedError("backup: the list of files was altered, or is that of another store")
    if document["version"] != LIST_VERSION:
        raise StoreError(f"backup: got version {document['version']}, expected {LIST_VERSION}")
    return document


def _checked_parts(name: object) -> tuple[str, ...]:
    """
    Take a name apart; only such as a backup has.

    Raises:
        StoreError: It is another one: a way out of the folder, or an unknown place.
    """
    parts = tuple(str(name).split("/"))
    is_known = parts[0] in _FOLDERS if len(parts) > 1 else parts[0] in _ROOT_FILES
    if not is_known or len(parts) > _DEPTH_MAX or not all(map(_PART.fullmatch, parts)):
        raise StoreError(f"backup: got the name {str(name)[:200]!r}, expected one that a backup has")
    return parts


def _refuse_link(path: Path) -> None:
    """
    See that a folder is one.

    Raises:
        StoreError: It is a link, or something else.
        TamperedError: It is not there.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        raise StoreError(f"{path}: got nothing, expected a backup") from None
    if not stat.S_ISDIR(mode):
        raise StoreError(f"{path}: got a link or a file, expected a folder")


@contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """
    Fill a folder beside *target*, and give it its name once it is whole.

    Raises:
        StoreError: The target is in use, or cannot be made.
    """
    if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise StoreError(f"{target}: got something that is there already, expected no folder or an empty one")
    place = target.with_name(f".{target.name}.{os.urandom(4).hex()}.tmp")
    try:
        place.mkdir(mode=PRIVATE_FOLDER_MODE, parents=True)
    except OSError as error:
        raise StoreError(f"{target}: cannot be made: {error.strerror or error}") from error
    try:
        yield place
        for path, _, _ in os.walk(place):
            sync_folder(Path(path))
        place.replace(target)
        sync_folder(target.parent)
    except OSError as error:
        raise StoreError(f"{target}: cannot be made: {error.strerror or error}") from error
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _copy_segments(folder: Path, place: Path) -> list[tuple[str, int, str]]:
    """Copy all segments; one that is gone went into a pack, perhaps, which comes with the next round."""
    found: list[tuple[str, int, str]] = []
    for _ in range(_ROUNDS_MAX):
        gone: list[str] = []
        copied = _copy_folder(folder, place, "seg", but={name for name, _, _ in found}, gone=gone)
        found += copied
        if not gone and not any(name.endswith(PACK_SUFFIX) for name, _, _ in copied):
            break
    return found


def _copy_folder(
    folder: Path, place: Path, name: str, *, but: Container[str] = (), gone: list[str] | None = None
) -> list[tuple[str, int, str]]:
    """Copy the files of a folder; what is removed meanwhile was old, and what is a link is left out."""
    found: list[tuple[str, int, str]] = []
    if not (folder / name).is_dir():
        return found
    for base, folders, files in os.walk(folder / name):
        folders.sort()
        for each in sorted(files):
            if _LEFT_OUT.fullmatch(each) or not _PART.fullmatch(each):
                continue
            source = Path(base) / each
            if str(source.relative_to(folder)) in but:
                continue
            target = place / source.relative_to(folder)
            target.parent.mkdir(mode=PRIVATE_FOLDER_MODE, parents=True, exist_ok=True)
            try:
                found.append((str(source.relative_to(folder)), *_copy(source, target)))
            except FileNotFoundError:
                if gone is not None:
                    gone.append(each)
    return found


def _copy(source: Path, target: Path, *, is_single: bool = False) -> tuple[int, str]:
    """
    Copy one regular file, durably; returns its length and digest.

    Raises:
        OSError: It cannot be read or written.
        SealError: It is no regular file, or with *is_single* one that has another name as well.
    """
    reading = open_regular(source)
    try:
        status = os.fstat(reading)
        if is_single and status.st_nlink != 1:
            raise SealError(f"{source}: got a file with {status.st_nlink} names, expected one with one")
        left = _whole_bytes(reading, status.st_size)
        digest, size = hashlib.sha256(), 0
        writing = os.open(
            target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE_FILE_MODE
        )
        try:
            while left and (piece := os.read(reading, min(left, _PIECE_BYTES))):
                digest.update(piece)
                write_all(writing, piece)
                left -= len(piece)
                size += len(piece)
            sync_data(writing)
        finally:
            os.close(writing)
        return size, digest.hexdigest()
    finally:
        os.close(reading)


def _whole_bytes(fd: int, size_bytes: int) -> int:
    """How much of a live segment is whole frames; all of any other file, and of a damaged one."""
    header = unpack_header(os.pread(fd, HEADER_BYTES, 0))
    if header is None or header.state != State.LIVE:
        return size_bytes
    offset = HEADER_BYTES
    while offset < size_bytes:
        data = os.pread(fd, FRAME_HEAD_BYTES, offset)
        head = unpack_frame_head(data, 0)
        if head is None:
            return size_bytes if len(data) == FRAME_HEAD_BYTES else offset
        end = offset + FRAME_HEAD_BYTES + head.length
        if end > size_bytes:
            break
        offset = end
    return offset


@contextmanager
def _ledger(folder: Path) -> Iterator[None]:
    """
    Hold the ledger's lock, so that no checkpoint is stated meanwhile.

    Raises:
        StoreError: Another process has held it for long.
    """
    try:
        fd = os.open(folder / "log" / "lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        yield  # Nothing was decided yet.
        return
    try:
        deadline = time.monotonic() + _LOCK_WAIT_S_MAX
        while not try_lock(fd):
            if time.monotonic() >= deadline:
                raise StoreError(
                    f"backup: the ledger was locked by another process for {_LOCK_WAIT_S_MAX:g} s"
                )
            time.sleep(0.005)
        try:
            yield
        finally:
            unlock(fd)
    finally:
        os.close(fd)
