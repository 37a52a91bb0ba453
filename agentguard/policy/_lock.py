"""
`agentguard.lock`: what a policy folder holds, by digest, under a signature.

Pure: who may sign is told by a verifier that is handed in. What is checked are
the very bytes that are loaded, and no file can be added, changed or left out.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from agentguard.errors import PolicyDocumentError
from agentguard.values import FACT_SCHEMA_VERSION, Verifier

LOCK_FILE = "agentguard.lock"
LOCK_VERSION = 1
LOCK_BYTES_MAX = 4 << 20
SIGNATURES_MAX = 16
SERIAL_MAX = 2**53 - 1

_CONTEXT = b"agentguard/v1/policy-lock\n"


@dataclass(frozen=True, slots=True)
class Lock:
    """The content of one lock file."""

    serial: int
    """Grows with every signing; an older one than the last seen is refused."""
    facts: str
    """Version of the catalogue of facts that it was made with."""
    files: Mapping[str, str]
    """SHA-256 in hexadecimal by path, relative to the folder, with `/`."""
    signatures: tuple[tuple[str, bytes], ...] = ()
    """Key id and Ed25519 signature."""

    @property
    def message(self) -> bytes:
        """What is signed: a context, and the canonical JSON of all but the signatures."""
        return _CONTEXT + _canonical(self._content()).encode("ascii")

    def _content(self) -> dict[str, object]:
        return {
            "version": LOCK_VERSION,
            "serial": self.serial,
            "facts": self.facts,
            "files": dict(self.files),
        }

    def signed(self, key_id: str, signature: bytes) -> Lock:
        """The same with one signature more; one of the same key is replaced."""
        kept = tuple(one for one in self.signatures if one[0] != key_id)
        return replace(self, signatures=(*kept, (key_id, signature)))

    def to_text(self) -> str:
        """JSON, as it lies in the folder."""
        signatures = [
            {"key_id": key_id, "ed25519": base64.b64encode(raw).decode()} for key_id, raw in self.signatures
        ]
        return json.dumps({**self._content(), "signatures": signatures}, indent=2, sort_keys=True) + "\n"


def make_lock(files: Mapping[str, bytes], *, serial: int) -> Lock:
    """
    Describe the files of a folder.

    Args:
        files:
            Content by relative path.
        serial:
            Greater than that of the lock before it.

    Returns:
        A lock without signatures.
    """
    return Lock(serial, FACT_SCHEMA_VERSION, {name: _digest(data) for name, data in sorted(files.items())})


def read_lock(folder: Path) -> Lock:
    """
    Read the lock of a folder; nothing of it is believed before `check_lock`.

    Raises:
        PolicyDocumentError: There is none, or it is not one.
    """
    path = folder / LOCK_FILE
    try:
        with path.open("rb") as file:
            data = file.read(LOCK_BYTES_MAX + 1)
    except OSError as error:
        raise PolicyDocumentError(f"{path}: cannot be read: {error.strerror}").hint(
            "`agentguard policy sign --key FILE` writes it"
        ) from error
    if len(data) > LOCK_BYTES_MAX:
        raise PolicyDocumentError(f"{path}: more than {LOCK_BYTES_MAX} bytes")
    try:
        return _parse(json.loads(data, object_pairs_hook=_unique))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, binascii.Error) as error:
        raise PolicyDocumentError(f"{path}: not a lock of this version ({type(error).__name__})") from error


def _parse(found: Any) -> Lock:
    """Take apart what was read; any surprise is an error."""
    if (
        set(found) != {"version", "serial", "facts", "files", "signatures"}
        or found["version"] != LOCK_VERSION
    ):
        raise ValueError("fields")
    serial, facts, files = found["serial"], found["facts"], found["files"]
    if type(serial) is not int or not 1 <= serial <= SERIAL_MAX or not isinstance(facts, str):
        raise ValueError("serial")
    if not all(isinstance(name, str) and isinstance(digest, str) for name, digest in files.items()):
        raise ValueError("files")
    if len(found["signatures"]) > SIGNATURES_MAX:
        raise ValueError("signatures")
    signatures = tuple(
        (str(one["key_id"]), base64.b64decode(one["ed25519"], validate=True)) for one in found["signatures"]
    )
    return Lock(serial, facts, files, signatures)


def check_lock(folder: Path, lock: Lock, files: Mapping[str, bytes], verifier: Verifier) -> list[str]:
    """
    Check a folder against its lock.

    Args:
        folder:
            For messages.
        lock:
            As `read_lock` gave it.
        files:
            Content by relative path, of everything that is about to be loaded from the folder.
        verifier:
            Knows the keys that may sign.

    Returns:
        What is wrong, one line each; empty: every byte is as it was signed.
    """
    path = folder / LOCK_FILE
    if not lock.signatures:
        return [f"{path}: not signed"]
    if not any(
        verifier.verify(key_id=key_id, signature=signature, message=lock.message)
        for key_id, signature in lock.signatures
    ):
        return [f"{path}: no signature of a key that may sign"]
    if lock.facts != FACT_SCHEMA_VERSION:
        return [
            f"{path}: made for facts of version {lock.facts}, this is {FACT_SCHEMA_VERSION}: sign it anew"
        ]
    wrong = [f"{folder / name}: not in the lock" for name in files if name not in lock.files]
    wrong.extend(f"{folder / name}: in the lock, and not there" for name in lock.files if name not in files)
    wrong.extend(
        f"{folder / name}: not what was signed"
        for name, data in files.items()
        if name in lock.files and lock.files[name] != _digest(data)
    )
    return sorted(wrong)


def check_signed(
    roots: Sequence[Path], sources: Sequence[tuple[str, bytes]], verifier: Verifier
) -> dict[str, int]:
    """
    Check all that is about to be loaded.

    Args:
        roots:
            What the configuration names: each a folder with its own lock.
        sources:
            Path and content of every file that was read.
        verifier:
            Knows the keys that may sign.

    Returns:
        Serial by real path of each folder.

    Raises:
        PolicyDocumentError: Anything is unsigned, or not as it was signed.
    """
    serials: dict[str, int] = {}
    covered: set[str] = set()
    wrong: list[str] = []
    for root in roots:
        if not root.is_dir():
            wrong.append(f"{root}: a single file is never signed, expected a folder with its {LOCK_FILE}")
            continue
        inside = {}
        for name, data in sources:
            relative = os.path.relpath(name, root)
            if not relative.startswith(".."):
                inside[str(PurePosixPath(*Path(relative).parts))] = data
                covered.add(name)
        try:
            lock = read_lock(root)
        except PolicyDocumentError as error:
            wrong.append(str(error))
            continue
        wrong.extend(check_lock(root, lock, inside, verifier))
        serials[os.path.realpath(root)] = lock.serial
    wrong.extend(f"{name}: in no signed folder" for name, _ in sources if name not in covered)
    if wrong:
        refusal = PolicyDocumentError(
            f"only signed policies are loaded: {wrong[0]}"
            + (f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else "")
        )
        for line in wrong[1:50]:
            refusal.add_note(line)
        raise refusal.hint("`agentguard policy verify` says what is wrong, `agentguard policy sign` signs")
    return serials


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _canonical(content: object) -> str:
    return json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Refuse a key that stands twice."""
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)
