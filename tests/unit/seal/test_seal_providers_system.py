"""Key providers of the system: systemd credentials, descriptors, keyrings, and refusals of devices."""

from __future__ import annotations

import base64
import importlib.machinery
import os
import sys
import types
from pathlib import Path

import pytest

from agentguard.errors import ConfigurationError, KeyUnavailableError
from agentguard.seal import (
    DescriptorKey,
    KeyringKey,
    KmsKey,
    Pkcs11Key,
    SystemdKey,
    WrappingKey,
    create_key,
    create_keystore,
    keyring_backend,
    open_keystore,
    provider_from,
)
from tests.support.stores import KnownKey

RAW = bytes(range(32))
KEY = base64.b64encode(RAW)


def test_systemd_credential(tmp_path: Path) -> None:
    """The credential is read from the folder of the service; rights of the group may show, others may not."""
    path = tmp_path / "store-key"
    path.write_bytes(KEY + b"\n")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    for mode in (0o400, 0o440):
        path.chmod(mode)
        assert provider_from("systemd:store-key", environ=environ).key(b"") == RAW
    path.chmod(0o444)
    with pytest.raises(KeyUnavailableError, match="mode 0444"):
        SystemdKey("store-key", environ=environ).key(b"")


def test_systemd_refusals(tmp_path: Path) -> None:
    """No service, no such credential, and a name that leads out of the folder."""
    with pytest.raises(KeyUnavailableError, match="CREDENTIALS_DIRECTORY"):
        SystemdKey("k", environ={}).key(b"")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    with pytest.raises(KeyUnavailableError, match="got nothing"):
        SystemdKey("k", environ=environ).key(b"")
    for name in ("../k", "..", "a/b", "a b"):
        with pytest.raises(KeyUnavailableError, match="expected a name"):
            SystemdKey(name, environ=environ).key(b"")


def test_descriptor_of_a_pipe() -> None:
    """A pipe is read once, the key stays in the provider, and child programs do not get the descriptor."""
    reading, writing = os.pipe()
    os.set_inheritable(reading, True)
    os.write(writing, KEY + b"\n")
    provider = provider_from(f"fd:{reading}")
    assert provider.key(b"") == provider.key(b"salt") == RAW
    assert not os.get_inheritable(reading)
    assert "hidden" not in repr(provider)
    assert KEY.decode() not in repr(provider)
    os.close(writing)
    with pytest.raises(KeyUnavailableError, match="got nothing"):
        DescriptorKey(reading).key(b"")
    os.close(reading)
    with pytest.raises(KeyUnavailableError, match="cannot be read"):
        DescriptorKey(reading).key(b"")


def test_descriptor_of_a_file(tmp_path: Path) -> None:
    """A file can be read again by another provider."""
    (tmp_path / "key").write_bytes(KEY)
    fd = os.open(tmp_path / "key", os.O_RDONLY)
    try:
        assert DescriptorKey(fd).key(b"") == DescriptorKey(fd).key(b"") == RAW
    finally:
        os.close(fd)


class EncryptingKeyring:
    """A backend as the `keyring` package has them, that keeps secrets well."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], str] = {}
        self.is_locked = False

    def get_password(self, service: str, username: str) -> str | None:
        if self.is_locked:
            raise RuntimeError(f"locked: {self.kept}")
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password


class PlaintextKeyring(EncryptingKeyring):
    """One that keeps them in clear."""


class Renamed(PlaintextKeyring):
    """The same under another name."""


class Chain(EncryptingKeyring):
    """One that asks several."""

    def __init__(self, *backends: object) -> None:
        super().__init__()
        self.backends = list(backends)


def install(monkeypatch: pytest.MonkeyPatch, backend: object) -> None:
    """Make *backend* the one that `keyring` uses."""
    module = types.ModuleType("keyring")
    module.__spec__ = importlib.machinery.ModuleSpec("keyring", None)
    module.get_keyring = lambda: backend  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", module)


def test_keyring(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A key is made once, opens the store, and is missed by its name."""
    backend = EncryptingKeyring()
    install(monkeypatch, backend)
    provider = provider_from("keyring:agents")
    with pytest.raises(KeyUnavailableError, match="got nothing"):
        provider.key(b"")
    assert create_key(provider)
    assert not create_key(provider)
    store = create_keystore(tmp_path / "s", provider)
    assert open_keystore(tmp_path / "s", KeyringKey("agents")).root == store.root
    assert keyring_backend() == ("EncryptingKeyring", False)
    backend.is_locked = True
    with pytest.raises(KeyUnavailableError, match="RuntimeError") as caught:
        provider.key(b"")
    assert backend.kept["agents", "agentguard"] not in str(caught.value)


@pytest.mark.parametrize(
    "backend",
    [PlaintextKeyring(), Renamed(), Chain(EncryptingKeyring(), PlaintextKeyring())],
    ids=["plaintext", "subclass", "in a chain"],
)
def test_clear_keyring_is_refused(monkeypatch: pytest.MonkeyPatch, backend: EncryptingKeyring) -> None:
    """A backend that keeps secrets in clear neither gives nor gets one."""
    install(monkeypatch, backend)
    with pytest.raises(KeyUnavailableError, match="in clear"):
        KeyringKey("agents").key(b"")
    with pytest.raises(KeyUnavailableError, match="in clear"):
        KeyringKey("agents").create()
    assert backend.kept == {}
    found = keyring_backend()
    assert found is not None
    assert found[1]


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("keyring.backends.null", "Keyring"),
        ("keyring.backends.fail", "Keyring"),
        ("keyrings.alt.file", "PlaintextKeyring"),
        ("keyrings.alt.Gnome", "Keyring"),
    ],
)
def test_known_backends_that_keep_nothing_safe(
    monkeypatch: pytest.MonkeyPatch, module: str, name: str
) -> None:
    """Backends that are known to keep secrets in clear, or not at all, are refused by their home."""
    kind = type(name, (EncryptingKeyring,), {"__module__": module})
    install(monkeypatch, kind())
    with pytest.raises(KeyUnavailableError, match="in clear"):
        KeyringKey("agents").key(b"")


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an optional package is not installed, the message says which extra brings it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    uri = "pkcs11:token=t;object=o?module-path=/m&pin-source=file:/p"
    for provider in (KeyringKey("x"), Pkcs11Key(uri)):
        with pytest.raises(KeyUnavailableError, match="got no package") as caught:
            provider.key(bytes(16))
        assert f"agentguard[{provider.name}]" in str(caught.value.__notes__)
    with pytest.raises(KeyUnavailableError, match="got no package `boto3`"):
        KmsKey("alias/x").wrap(bytes(32), bytes(16))


@pytest.mark.parametrize(
    "uri",
    [
        "pkcs11:token=t",
        "pkcs11:token=t;object=o?module-path=/m",
        "pkcs11:token=t;object=o;id=5?module-path=/m&pin-source=file:/p",
        "pkcs11:token=t;object=o?module-path=/m&pin-source=file:/p&pin-value=1234",
    ],
)
def test_pkcs11_uris_that_are_refused(uri: str) -> None:
    """A URI that leaves something open, or holds a PIN, is no provider; the PIN is not repeated."""
    with pytest.raises(ConfigurationError) as caught:
        provider_from(uri)
    assert "1234" not in str(caught.value)


class Service(WrappingKey):
    """A wrapping service, as a KMS is."""

    name = "kms"

    def __init__(self, pad: int) -> None:
        self._pad = bytes([pad]) * 32
        self.asked = 0

    def wrap(self, key: bytes, store_id: bytes) -> bytes:
        return bytes([self._pad[0]]) + bytes(a ^ b for a, b in zip(key, self._pad, strict=True)) + store_id

    def unwrap(self, wrapped: bytes, store_id: bytes) -> bytes | None:
        self.asked += 1
        if wrapped[0] != self._pad[0] or wrapped[33:] != store_id:
            return None
        return bytes(a ^ b for a, b in zip(wrapped[1:33], self._pad, strict=True))


def test_wrapping_service(tmp_path: Path) -> None:
    """What a service wrapped stands in the file; only its own slots are asked of it."""
    store = create_keystore(tmp_path, KnownKey())
    store.add_slot(Service(3))
    store.add_slot(Service(4))
    service = Service(4)
    assert open_keystore(tmp_path, service).root == store.root
    assert service.asked == 2
    assert open_keystore(tmp_path, KnownKey()).root == store.root
    with pytest.raises(KeyUnavailableError, match="opens none"):
        open_keystore(tmp_path, Service(5))
    with pytest.raises(KeyUnavailableError, match="expected to wrap"):
        service.key(b"")


def test_passphrase_from_a_file(tmp_path: Path) -> None:
    """`AGENTGUARD_PASSPHRASE_FILE` names a file whose last line break is no part of the passphrase."""
    path = tmp_path / "p"
    path.write_text("correct horse\n")
    path.chmod(0o400)
    store = create_keystore(
        tmp_path / "s", provider_from("passphrase", environ={"AGENTGUARD_PASSPHRASE": "correct horse"})
    )
    opened = open_keystore(
        tmp_path / "s", provider_from("passphrase", environ={"AGENTGUARD_PASSPHRASE_FILE": str(path)})
    )
    assert opened.root == store.root
    path.chmod(0o444)
    with pytest.raises(KeyUnavailableError, match="0444"):
        provider_from("passphrase", environ={"AGENTGUARD_PASSPHRASE_FILE": str(path)}).key(bytes(16))
