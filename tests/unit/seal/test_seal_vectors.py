"""Every vector of STORE files and boxes, read by two readers that share no code."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import cast

import pytest

from agentguard.errors import AgentGuardError, KeyUnavailableError, SealError, TamperedError
from agentguard.seal import AuditorKey, Keystore, RootKey, open_box, open_keystore
from agentguard.store._keyring import Keyring
from tests.support.clock import FrozenClock
from tests.support.stores import KnownKey
from tests.vectors.seal import generate

VECTORS = sorted(generate.FOLDER.glob("*.txt"))
ERRORS: dict[str, type[AgentGuardError]] = {
    "no key": KeyUnavailableError,
    "tampered": TamperedError,
    "damaged": TamperedError,
    "truncated": TamperedError,
    "header failure": SealError,
}


class _Keys:
    """A keystore with one root."""

    generations = (1,)
    store_id = generate.STORE_ID

    def root_of(self, generation: int) -> RootKey:
        assert generation == 1
        return RootKey(generate.ROOT)


def read_keyring(folder: Path, data: bytes) -> bytes:
    """Reference, key and state of each entry."""
    number = int.from_bytes(data[16:20], "little")
    (folder / f"wrap-{number:08x}.agw").write_bytes(data[:140])
    (folder / "keyring.agk").write_bytes(data[140:])
    keyring = Keyring(folder, cast("Keystore", _Keys()), FrozenClock())
    if not keyring.number:
        raise SealError("this is no keyring")
    return b"".join(e.ref + e.key + bytes([e.is_erased]) for e in keyring._entries())


def test_there_are_vectors() -> None:
    """Each verdict has one."""
    assert {generate.load(path)[0]["expect"] for path in VECTORS} == {"success", *ERRORS}


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_second_reader(path: Path) -> None:
    """The reader that was written from the page alone agrees."""
    head, data = generate.load(path)
    verdict, plain = generate.second_reading(head, data)
    assert verdict == head["expect"]
    assert (hashlib.sha256(plain).hexdigest() if plain else "none") == head["payload"]


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_own_reader(path: Path, tmp_path: Path) -> None:
    """Our reader gives the same, or the error of that failure."""
    head, data = generate.load(path)

    def read() -> bytes:
        if head["format"] == "box":
            return open_box(RootKey(generate.ROOT), data, purpose=generate.PURPOSE, context=generate.CONTEXT)
        if head["format"] == "keyring":
            return read_keyring(tmp_path, data)
        folder = tmp_path / "store"
        folder.mkdir(mode=0o700)
        (folder / "STORE").write_bytes(data)
        if head["format"] == "auditor":
            secret = tmp_path / "auditor"
            secret.write_text(f"x25519-secret:{base64.b64encode(generate.AUDITOR_SECRET).decode()}")
            secret.chmod(0o400)
            return open_keystore(folder, AuditorKey(secret)).root.derive(b"agentguard/v1/seg")
        return open_keystore(folder, KnownKey()).root._key

    if head["expect"] == "success":
        assert hashlib.sha256(read()).hexdigest() == head["payload"]
    else:
        expected = ERRORS[head["expect"]]
        if (head["format"], expected) == ("keyring", TamperedError):
            # A wrap key that does not open is one that is not there: content says so, and nothing fails.
            expected = KeyUnavailableError
        with pytest.raises(expected):
            read()
