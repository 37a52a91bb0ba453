"""Key providers: file, environment, passphrase."""

from __future__ import annotations

import base64
import logging
import os
import stat
from pathlib import Path

import pytest

from agentguard.errors import ConfigurationError, KeyUnavailableError, SealError
from agentguard.seal import (
    EnvironmentKey,
    FileKey,
    PassphraseCost,
    PassphraseKey,
    create_key_file,
    provider_from,
)

CHEAP = PassphraseCost(memory_kib=64, iterations=1, lanes=1)
KEY = base64.b64encode(bytes(range(32))).decode()


def test_create_key_file(tmp_path: Path) -> None:
    """A new key file is 0400, holds a fresh key, and is never overwritten."""
    provider = create_key_file(tmp_path / "deep" / "key")
    assert stat.S_IMODE(provider.path.stat().st_mode) == 0o400
    assert stat.S_IMODE(provider.path.parent.stat().st_mode) == 0o700
    key = provider.key(b"")
    assert len(key) == 32
    assert key != create_key_file(tmp_path / "other").key(b"")
    with pytest.raises(KeyUnavailableError, match="expected none"):
        create_key_file(provider.path)
    assert provider.key(b"") == key


def test_umask_does_not_loosen_a_key_file(tmp_path: Path) -> None:
    """With umask 0 the file is 0400 all the same."""
    before = os.umask(0)
    try:
        path = create_key_file(tmp_path / "key").path
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o400


@pytest.mark.parametrize("mode", [0o440, 0o444, 0o404, 0o660, 0o666, 0o777, 0o420])
def test_open_key_files_are_refused(tmp_path: Path, mode: int) -> None:
    """A key that group or world may touch is refused, and chmod is the hint."""
    path = create_key_file(tmp_path / "key").path
    path.chmod(mode)
    with pytest.raises(KeyUnavailableError, match=f"got mode {mode:04o}") as caught:
        FileKey(path).key(b"")
    assert any("chmod 400" in note for note in caught.value.__notes__)


def test_key_file_may_be_a_link(tmp_path: Path) -> None:
    """Mounted secrets are symbolic links."""
    provider = create_key_file(tmp_path / "..data")
    link = tmp_path / "key"
    link.symlink_to("..data")
    assert FileKey(link).key(b"") == provider.key(b"")


def test_a_fifo_is_no_key_file(tmp_path: Path) -> None:
    """A planted FIFO is refused at once, and does not hang."""
    os.mkfifo(tmp_path / "key", 0o400)
    with pytest.raises(KeyUnavailableError, match="not a regular file"):
        FileKey(tmp_path / "key").key(b"")


@pytest.mark.parametrize("content", [b"", b"short", b"!" * 44, base64.b64encode(b"x" * 31), b"\xff" * 44])
def test_files_without_a_key_are_refused(tmp_path: Path, content: bytes) -> None:
    """What is in the file is not repeated."""
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o400)
    with pytest.raises(KeyUnavailableError, match="expected") as caught:
        FileKey(path).key(b"")
    if content:
        assert content.decode("latin-1") not in str(caught.value)


def test_missing_key_file(tmp_path: Path) -> None:
    """A missing file is named, with the way out."""
    with pytest.raises(KeyUnavailableError, match="got nothing") as caught:
        FileKey(tmp_path / "none").key(b"")
    assert "agentguard init" in caught.value.__notes__[0]


def test_environment_key_warns(caplog: pytest.LogCaptureFixture) -> None:
    """The environment works, with a warning that names the variable and not the key."""
    provider = EnvironmentKey(environ={"AGENTGUARD_KEY": KEY})
    with caplog.at_level(logging.WARNING):
        assert provider.key(b"") == bytes(range(32))
    assert "AGENTGUARD_KEY" in caplog.text
    assert KEY not in caplog.text
    assert KEY not in repr(provider)


@pytest.mark.parametrize("value", ["", "secret-that-is-no-base64", KEY[:-8]])
def test_bad_environment_keys(value: str) -> None:
    """A missing or wrong value is refused and not repeated."""
    with pytest.raises(KeyUnavailableError) as caught:
        EnvironmentKey(environ={"AGENTGUARD_KEY": value}).key(b"")
    assert not value or value not in str(caught.value)


def test_passphrase_depends_on_salt_and_form() -> None:
    """Another salt gives another key; the two Unicode forms of a letter give the same."""
    one = PassphraseKey(lambda: "caf\u00e9 au lait", cost=CHEAP)
    two = PassphraseKey(lambda: "cafe\u0301 au lait", cost=CHEAP)
    salt = bytes(16)
    assert one.key(salt) == two.key(salt)
    assert one.key(salt) != one.key(b"\x01" * 16)
    assert "caf" not in repr(one)


def test_passphrase_costs_are_bounded() -> None:
    """A cost that would stop the program is refused before it is paid."""
    provider = PassphraseKey(lambda: "x", cost=PassphraseCost(memory_kib=2**31, iterations=1, lanes=1))
    with pytest.raises(SealError, match="expected at most"):
        provider.key(bytes(16))


def test_empty_passphrase_is_refused() -> None:
    """An empty passphrase is none."""
    with pytest.raises(KeyUnavailableError, match="got nothing"):
        PassphraseKey(lambda: "", cost=CHEAP).key(bytes(16))


def test_provider_from(tmp_path: Path) -> None:
    """Each setting gives its provider; an unknown one is refused and not repeated."""
    path = create_key_file(tmp_path / "key").path
    assert provider_from(f"file:{path}", environ={}).name == "file"
    assert provider_from("env", environ={"AGENTGUARD_KEY": KEY}).key(b"") == bytes(range(32))
    assert provider_from("env:OTHER", environ={"OTHER": KEY}).key(b"") == bytes(range(32))
    assert provider_from("passphrase", environ={"AGENTGUARD_PASSPHRASE": "x"}).name == "passphrase"
    for spec in (
        "",
        "file:",
        KEY,
        "vault:x",
        "passphrase:now",
        "fd:1",
        "fd:x",
        "kms:",
        "keyring:",
        "systemd:",
    ):
        with pytest.raises(ConfigurationError) as caught:
            provider_from(spec, environ={})
        assert not spec or KEY not in str(caught.value)
