"""Every vector of STORE files and boxes, read by two readers that share no code."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest

from agentguard.errors import AgentGuardError, KeyUnavailableError, SealError, TamperedError
from agentguard.seal import AuditorKey, RootKey, open_box, open_keystore
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
        with pytest.raises(ERRORS[head["expect"]]):
            read()
