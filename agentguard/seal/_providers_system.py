"""Where the key of a store comes from on a machine that keeps secrets: systemd, a descriptor, a keyring."""

from __future__ import annotations

import base64
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agentguard.errors import KeyUnavailableError
from agentguard.seal._keyring import is_clear, open_keyring
from agentguard.seal._providers import KEY_FILE_BYTES_MAX, decode_key, read_secret
from agentguard.seal._root import KEY_BYTES, RandomBytes

_CREDENTIAL_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,255}", re.ASCII)
KEYRING_USER = "agentguard"


class SystemdKey:
    """
    A credential of systemd (`LoadCredential=`, `LoadCredentialEncrypted=`): the base64 of 32 bytes.

    It is a file in memory that only the service can read.

    Source:
        systemd.exec(5), section Credentials.
    """

    name = "systemd"

    def __init__(self, credential: str, *, environ: Mapping[str, str] | None = None) -> None:
        self.credential = credential
        self._environ = os.environ if environ is None else environ

    def key(self, salt: bytes) -> bytes:
        """
        Return 32 bytes; *salt* is ignored.

        Raises:
            KeyUnavailableError: There is no such credential, or it holds no key.
        """
        del salt
        where = f"systemd credential {self.credential}"
        if not _CREDENTIAL_NAME.fullmatch(self.credential) or self.credential in {".", ".."}:
            raise KeyUnavailableError("systemd credential: got a name with other characters, expected a name")
        folder = self._environ.get("CREDENTIALS_DIRECTORY", "")
        if not folder:
            raise KeyUnavailableError(
                f"{where}: got no CREDENTIALS_DIRECTORY, expected to run as a service"
            ).hint(f"LoadCredentialEncrypted={self.credential}:FILE in the unit")
        return decode_key(read_secret(Path(folder) / self.credential, where, may_group_read=True), where)

    def __repr__(self) -> str:
        return f"SystemdKey({self.credential!r})"


class DescriptorKey:
    """
    An open file descriptor from which the base64 of 32 bytes is read, once.

    Whoever starts the program hands it over; it stands in no file, no variable,
    and is closed to child programs once it was read.
    """

    name = "fd"

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._key: bytes | None = None

    def key(self, salt: bytes) -> bytes:
        """
        Return 32 bytes; *salt* is ignored.

        Raises:
            KeyUnavailableError: The descriptor is not open for reading, or gives no key.
        """
        del salt
        if self._key is None:
            where = f"file descriptor {self.fd}"
            try:
                text = _read_descriptor(self.fd)
            except OSError as error:
                raise KeyUnavailableError(f"{where}: cannot be read: {error.strerror or error}").hint(
                    f"hand it over open: agentguard … {self.fd}< FILE"
                ) from error
            if not text.strip():
                raise KeyUnavailableError(f"{where}: got nothing, expected a key").hint(
                    "a pipe can be read once: hand over a new one"
                )
            self._key = decode_key(text, where)
        return self._key

    def __repr__(self) -> str:
        return f"DescriptorKey({self.fd})"


class KeyringKey:
    """
    A key in the keyring of the desktop, or another one that `keyring` knows: the base64 of 32 bytes.

    A backend that keeps secrets in clear is refused, also where it is one of several.
    """

    name = "keyring"

    def __init__(self, service: str) -> None:
        self.service = service

    def key(self, salt: bytes) -> bytes:
        """
        Return 32 bytes; *salt* is ignored.

        Raises:
            KeyUnavailableError: There is no keyring, it keeps secrets in clear, is
                locked, or holds no key under that name.
        """
        del salt
        where = f"keyring {self.service}"
        backend = self._backend()
        try:
            text = backend.get_password(self.service, KEYRING_USER)
        except Exception as error:
            # Each backend has errors of its own; their texts may quote what they hold.
            raise KeyUnavailableError(f"{where}: cannot be read: {type(error).__name__}").hint(
                "unlock the keyring"
            ) from error
        if text is None:
            raise KeyUnavailableError(f"{where}: got nothing, expected a key").hint(
                f"`agentguard store key add keyring:{self.service}` puts one there"
            )
        return decode_key(text.encode("utf-8", "replace"), where)

    def create(self, *, random_bytes: RandomBytes = os.urandom) -> bool:
        """
        Put a new key there; False where there is one already, which stays.

        Raises:
            KeyUnavailableError: There is no keyring, it keeps secrets in clear, or refuses.
        """
        backend = self._backend()
        try:
            if backend.get_password(self.service, KEYRING_USER) is not None:
                return False
            text = base64.b64encode(random_bytes(KEY_BYTES)).decode()
            backend.set_password(self.service, KEYRING_USER, text)
        except Exception as error:  # The same.
            raise KeyUnavailableError(
                f"keyring {self.service}: cannot be written: {type(error).__name__}"
            ).hint("unlock the keyring") from error
        return True

    def _backend(self) -> Any:
        backend = open_keyring()
        if backend is None:
            raise KeyUnavailableError("keyring: got no package `keyring`, expected it").hint(
                "pip install 'agentguard[keyring]'"
            )
        if is_clear(backend):
            raise KeyUnavailableError(
                f"keyring: got {type(backend).__name__}, which keeps secrets in clear or not at all, "
                "expected one that encrypts"
            ).hint("use a key file (`file:PATH`), which at least says what it is")
        return backend

    def __repr__(self) -> str:
        return f"KeyringKey({self.service!r})"


def _read_descriptor(fd: int) -> bytes:
    """Read a little from a descriptor; one that can be read again is left as it was."""
    if stat.S_ISREG(os.fstat(fd).st_mode):
        text = os.pread(fd, KEY_FILE_BYTES_MAX, 0)
    else:
        parts: list[bytes] = []
        while sum(map(len, parts)) < KEY_FILE_BYTES_MAX:
            part = os.read(fd, KEY_FILE_BYTES_MAX)
            if not part:
                break
            parts.append(part)
            if b"\n" in part:
                break  # Whoever writes to a pipe may hold it open.
        text = b"".join(parts)
    os.set_inheritable(fd, False)
    return text
