"""From the setting `key` to the provider that it names."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from agentguard.errors import ConfigurationError, KeyUnavailableError
from agentguard.seal._auditor import AuditorKey
from agentguard.seal._providers import (
    EnvironmentKey,
    FileKey,
    PassphraseKey,
    create_key_file,
    read_secret,
)
from agentguard.seal._providers_device import KmsKey, Pkcs11Key
from agentguard.seal._providers_system import DescriptorKey, KeyringKey, SystemdKey
from agentguard.values import KeyProvider

_EXPECTED = (
    "`file:PATH`, `passphrase`, `systemd:NAME`, `fd:N`, `keyring:SERVICE`, `kms:ARN`, `pkcs11:URI`, "
    "`auditor:FILE` or `env`"
)
_FD_MAX = 1 << 20
_OUTPUT_FDS = frozenset({1, 2})


def provider_from(
    spec: str,
    *,
    environ: Mapping[str, str] | None = None,
    passphrase_source: Callable[[], str] | None = None,
) -> KeyProvider:
    """
    Make the provider that a setting names.

    Args:
        spec:
            `file:PATH`, `passphrase`, `systemd:NAME`, `fd:N`, `keyring:SERVICE`,
            `kms:ARN`, `pkcs11:URI`, `auditor:FILE`, `env` or `env:VARIABLE`.

        environ:
            The environment; where not given, that of the process.

        passphrase_source:
            Asks for the passphrase; where not given, it is taken from
            `AGENTGUARD_PASSPHRASE`, from the file that `AGENTGUARD_PASSPHRASE_FILE`
            names, or asked for on the terminal.

    Raises:
        ConfigurationError: The setting names no provider.
    """
    variables = os.environ if environ is None else environ
    kind, _, rest = spec.partition(":")
    if kind == "file" and rest:
        return FileKey(Path(rest).expanduser())
    if kind == "env":
        return EnvironmentKey(rest or "AGENTGUARD_KEY", environ=variables)
    if kind == "passphrase" and not rest:
        return PassphraseKey(passphrase_source or (lambda: _passphrase(variables)))
    if kind == "systemd" and rest:
        return SystemdKey(rest, environ=variables)
    if kind == "fd" and rest.isascii() and rest.isdigit() and int(rest) < _FD_MAX:
        if int(rest) not in _OUTPUT_FDS:
            return DescriptorKey(int(rest))
    elif kind == "keyring" and rest:
        return KeyringKey(rest)
    elif kind == "kms" and rest:
        return KmsKey(rest)
    elif kind == "pkcs11" and rest:
        return Pkcs11Key(rest)
    elif kind == "auditor" and rest:
        return AuditorKey(Path(rest).expanduser())
    # The setting may be a key that was pasted into the wrong place: it is not repeated.
    raise ConfigurationError(f"key: got an unknown provider, expected {_EXPECTED}")


def create_key(provider: KeyProvider) -> bool:
    """
    Make the key of a provider that keeps it, where there is none yet.

    Returns:
        Whether one was made. Nothing is ever overwritten; what keeps no key of its
        own (a passphrase, a device, a descriptor) has nothing to make.

    Raises:
        KeyUnavailableError: It cannot be made.
    """
    if isinstance(provider, FileKey) and not provider.path.exists():
        create_key_file(provider.path)
        return True
    return isinstance(provider, KeyringKey) and provider.create()


def _passphrase(environ: Mapping[str, str]) -> str:
    """Take the passphrase from the environment, from a file, or from the person."""
    given = environ.get("AGENTGUARD_PASSPHRASE", "")
    named = environ.get("AGENTGUARD_PASSPHRASE_FILE", "")
    if given:
        return given
    if named:
        text = read_secret(Path(named).expanduser(), "passphrase file", may_group_read=False)
        try:
            return text.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise KeyUnavailableError("passphrase file: got no text, expected a passphrase") from None
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return ""
    # Imported here: few programs ask a person, and it stays in memory.
    import getpass

    return getpass.getpass("passphrase of the store: ")
