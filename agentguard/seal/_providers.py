"""
Where the key of a store comes from on every machine: a file, a passphrase, the environment.

A provider gives 32 bytes and keeps as little as it can. What it was given
stands in no message and no repr.
"""

from __future__ import annotations

import base64
import binascii
import logging
import os
import stat
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from agentguard.errors import KeyUnavailableError, SealError
from agentguard.seal._files import open_regular, write_new_file
from agentguard.seal._root import KEY_BYTES, RandomBytes

_log = logging.getLogger("agentguard.seal")

KEY_FILE_MODE = 0o400
KEY_FILE_BYTES_MAX = 4096
_READABLE_BY_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class PassphraseCost(NamedTuple):
    """What one guess of a passphrase costs."""

    memory_kib: int = 64 * 1024
    iterations: int = 3
    lanes: int = 4


PASSPHRASE_COST_MAX = PassphraseCost(memory_kib=1024 * 1024, iterations=16, lanes=16)
"""More than this is taken for damage, not for caution: it would stop the program that opens the store."""


class WrappingKey(ABC):
    """
    A provider that never gives its key away: it wraps and unwraps a random one.

    What `wrap` gives stands in the STORE file beside the slot.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of the provider."""

    def key(self, salt: bytes) -> bytes:
        """
        Refuse, since there is no key to give.

        Raises:
            KeyUnavailableError: Always.
        """
        del salt
        raise KeyUnavailableError(f"{self.name}: got a request for the key, expected to wrap one")

    @abstractmethod
    def wrap(self, key: bytes, store_id: bytes) -> bytes:
        """
        Wrap *key*, bound to the store.

        Raises:
            KeyUnavailableError: The service cannot be asked, or refuses.
        """

    @abstractmethod
    def unwrap(self, wrapped: bytes, store_id: bytes) -> bytes | None:
        """
        Undo `wrap`; `None` where another key wrapped it.

        Raises:
            KeyUnavailableError: The service cannot be asked, or refuses.
        """


class FileKey:
    """
    A key file: the base64 of 32 bytes on one line.

    It may be a symbolic link (mounted secrets are), but neither group nor world
    may read it. One exception: a file of root that the group may only read, which
    is how a container platform mounts a secret for an unprivileged user.
    """

    name = "file"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def key(self, salt: bytes) -> bytes:
        """
        Return 32 bytes; *salt* is ignored, since the file holds a key.

        Raises:
            KeyUnavailableError: The file is missing, open to others, or holds no key.
        """
        del salt
        where = f"key file {self.path}"
        return decode_key(read_secret(self.path, where), where)

    def __repr__(self) -> str:
        return f"FileKey({str(self.path)!r})"


class EnvironmentKey:
    """
    A key in an environment variable: the base64 of 32 bytes.

    The last choice: child processes inherit it, and it can be read in
    `/proc/PID/environ` for as long as the process lives.
    """

    name = "environment"

    def __init__(self, variable: str = "AGENTGUARD_KEY", *, environ: Mapping[str, str] | None = None) -> None:
        self.variable = variable
        self._environ = os.environ if environ is None else environ

    def key(self, salt: bytes) -> bytes:
        """
        Return 32 bytes, and log a warning; *salt* is ignored.

        Raises:
            KeyUnavailableError: The variable is not set, or holds no key.
        """
        del salt
        text = self._environ.get(self.variable, "")
        where = f"environment variable {self.variable}"
        if not text:
            raise KeyUnavailableError(f"{where}: got nothing, expected the base64 of {KEY_BYTES} bytes")
        key = decode_key(text.encode("utf-8", "replace"), where)
        _log.warning(
            "the key of the store stands in the environment variable %s, which every child process "
            "inherits; a key file is safer",
            self.variable,
        )
        return key

    def __repr__(self) -> str:
        return f"EnvironmentKey({self.variable!r})"


class PassphraseKey:
    """
    A passphrase, made costly to guess by Argon2id.

    Args of the constructor: a function that gives the passphrase when it is
    needed (so that nothing keeps it), and what a guess shall cost.

    Source:
        RFC 9106, section 4: the second recommended option, 64 MiB and 3 passes.
    """

    name = "passphrase"

    def __init__(self, passphrase_source: Callable[[], str], *, cost: PassphraseCost | None = None) -> None:
        self._source = passphrase_source
        self.cost = cost or PassphraseCost()

    def key(self, salt: bytes) -> bytes:
        """
        Return 32 bytes made of passphrase and *salt*.

        Raises:
            KeyUnavailableError: There is no passphrase, or it is empty.
        """
        return self.key_at_cost(salt, self.cost)

    def key_at_cost(self, salt: bytes, cost: PassphraseCost) -> bytes:
        """
        Return the key as a slot that was made at *cost* needs it.

        Raises:
            KeyUnavailableError: There is no passphrase, or it is empty.
            SealError: The cost is out of bounds.
        """
        is_bounded = all(1 <= got <= most for got, most in zip(cost, PASSPHRASE_COST_MAX, strict=True))
        if not is_bounded or cost.memory_kib < 8 * cost.lanes:
            raise SealError(
                f"passphrase: got the cost {tuple(cost)}, expected at most {tuple(PASSPHRASE_COST_MAX)}"
            )
        passphrase = self._source()
        if not passphrase:
            raise KeyUnavailableError("passphrase: got nothing, expected one")
        # The same passphrase may be typed in two Unicode forms.
        secret = unicodedata.normalize("NFC", passphrase).encode("utf-8", "surrogatepass")
        return Argon2id(
            salt=salt,
            length=KEY_BYTES,
            iterations=cost.iterations,
            lanes=cost.lanes,
            memory_cost=cost.memory_kib,
        ).derive(secret)

    def __repr__(self) -> str:
        return "PassphraseKey(hidden)"


def read_secret(path: Path, where: str, *, may_group_read: bool = False) -> bytes:
    """
    Read a small file that holds a secret, and refuse one that others may read.

    Args:
        path:
            The file; a symbolic link is followed, since mounted secrets are links.

        where:
            How messages name it.

        may_group_read:
            Whether group-readable is fine, whoever owns it: what a service manager
            hands out carries an access list, which shows as rights of the group.

    Raises:
        KeyUnavailableError: It is missing, no regular file, or open to others.
    """
    try:
        fd = open_regular(path, follow_links=True)
    except FileNotFoundError as error:
        raise KeyUnavailableError(f"{where}: got nothing, expected a key").hint(
            "`agentguard init` makes one"
        ) from error
    except OSError as error:
        raise KeyUnavailableError(f"{where}: cannot be read: {error.strerror or error}") from error
    except SealError as error:
        raise KeyUnavailableError(str(error)) from error
    try:
        status = os.fstat(fd)
        text = os.read(fd, KEY_FILE_BYTES_MAX)
    finally:
        os.close(fd)
    mode = stat.S_IMODE(status.st_mode)
    is_handed_out = may_group_read or status.st_uid == 0 != os.geteuid()
    if mode & _READABLE_BY_OTHERS and not (is_handed_out and mode & _READABLE_BY_OTHERS == stat.S_IRGRP):
        raise KeyUnavailableError(f"{where}: got mode {mode:04o}, expected 0400").hint(f"chmod 400 {path}")
    return text


def create_key_file(path: str | os.PathLike[str], *, random_bytes: RandomBytes = os.urandom) -> FileKey:
    """
    Write a new random key to *path*, mode 0400, and return its provider.

    Missing parent folders are made with mode 0700.

    Raises:
        KeyUnavailableError: Something has that name already, or it cannot be written.
    """
    target = Path(path)
    write_secret(target, base64.b64encode(random_bytes(KEY_BYTES)) + b"\n")
    return FileKey(target)


def write_secret(target: Path, text: bytes) -> None:
    """
    Write a new file of mode 0400; missing parent folders are made with mode 0700.

    Raises:
        KeyUnavailableError: Something has that name already, or it cannot be written.
    """
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_new_file(target, text, mode=KEY_FILE_MODE)
    except FileExistsError as error:
        raise KeyUnavailableError(f"key file {target}: got a file of that name, expected none").hint(
            "a key is never overwritten: what it sealed could not be read any more"
        ) from error
    except OSError as error:
        raise KeyUnavailableError(f"key file {target}: cannot be written: {error.strerror or error}").hint(
            'name a place that this user may write to: `key = "file:PATH"`, AGENTGUARD_KEY_FILE'
        ) from error


def decode_key(text: bytes, where: str) -> bytes:
    """Decode the base64 of a key, without ever repeating it."""
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise KeyUnavailableError(
            f"{where}: got no base64, expected the base64 of {KEY_BYTES} bytes"
        ) from None
    if len(key) != KEY_BYTES:
        raise KeyUnavailableError(f"{where}: got {len(key)} bytes in base64, expected {KEY_BYTES}")
    return key
