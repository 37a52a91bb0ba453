"""
Anchors: checkpoints of the whole log that somebody else keeps.

A store that is set back whole, journals and ledger together, agrees with itself.
Only a checkpoint outside it tells. An anchor is one signed note over the heads of
all journals; a sink hands it to a file, a web address or a time-stamping authority.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from agentguard.audit.checkpoint import Checkpoint, parse
from agentguard.audit.disk import Safeguards
from agentguard.audit.keys import AuditKeys
from agentguard.audit.ledger import Ledger
from agentguard.audit.ledger_files import READ_BYTES_MAX, split
from agentguard.audit.notes import NoteError
from agentguard.errors import AuditError
from agentguard.seal import PRIVATE_FILE_MODE, Keystore, read_file, sync_data, write_all
from agentguard.values import Clock

TIMEOUT_S = 10.0


class Anchor(NamedTuple):
    """A checkpoint of all journals, to be kept outside the store."""

    note: bytes
    """The signed text: all that `verify` needs."""
    checkpoint: Checkpoint

    def attributes(self) -> Mapping[str, str | int]:
        """Write it as attributes of a span or log record, which a trace backend keeps."""
        return {
            "agentguard.log.origin": self.checkpoint.origin,
            "agentguard.log.sequence": self.checkpoint.sequence,
            "agentguard.log.journals": self.checkpoint.size,
            "agentguard.log.records": sum(head.size for head in self.checkpoint.heads),
            "agentguard.log.checkpoint": self.note.decode(),
        }


class AnchorSink(Protocol):
    """Somebody who keeps checkpoints."""

    @property
    def name(self) -> str:
        """Where it goes, without secrets."""
        ...

    def keep(self, anchor: Anchor) -> bytes:
        """
        Hand an anchor over.

        Returns:
            A receipt, empty where there is none.

        Raises:
            AuditError: It was not taken.
        """
        ...


def make_anchor(
    folder: Path, keystore: Keystore, clock: Clock, *, safeguards: Safeguards | None = None
) -> Anchor:
    """
    State all journals in one signed note, which becomes an entry of the ledger too.

    Args:
        folder:
            The store's folder.
        keystore:
            Its keys.
        clock:
            Stamps the note.
        safeguards:
            As the writers of the store have them.

    Returns:
        The anchor. It covers what running writers had stated, a second ago at most.

    Raises:
        AuditError: The ledger cannot be read or written.
        KeyUnavailableError: The store was opened to be read only.
    """
    ledger = Ledger.guarded(folder, AuditKeys(keystore).for_writing(), clock, safeguards or Safeguards())
    note = ledger.append_summary()
    return Anchor(note, parse(note))


def read_anchors(path: Path) -> list[bytes]:
    """
    Read the notes of a file that `FileAnchor` wrote, or that holds one note.

    Raises:
        AuditError: It cannot be read, or holds none.
    """
    try:
        data = read_file(path, bytes_max=READ_BYTES_MAX, follow_links=True)
    except OSError as error:
        raise AuditError(f"anchor: the file cannot be read ({error.strerror})") from error
    notes = list(split(data.rstrip(b"\n") + b"\n\n"))
    if not notes:
        raise AuditError("anchor: the file holds no checkpoint")
    return notes


class FileAnchor:
    """Appends notes to a file, which should lie on another machine or medium."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def name(self) -> str:
        """`file:` and the path."""
        return f"file:{self._path}"

    def keep(self, anchor: Anchor) -> bytes:
        """
        Append the note, on disk when this returns.

        Raises:
            AuditError: The file cannot be written.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(self._path, flags, PRIVATE_FILE_MODE)
            try:
                write_all(fd, anchor.note + b"\n")
                sync_data(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise AuditError(f"anchor {self.name}: cannot be written ({error.strerror})") from error
        return b""


class HookAnchor:
    """Hands anchors to a function, such as one that emits a log record over OTLP."""

    def __init__(self, name: str, take: Callable[[Anchor], object]) -> None:
        self._name = name
        self._take = take

    @property
    def name(self) -> str:
        """As given."""
        return self._name

    def keep(self, anchor: Anchor) -> bytes:
        """
        Call the function.

        Raises:
            AuditError: It raised.
        """
        try:
            self._take(anchor)
        except Exception as error:  # Whatever it is: the anchor was not taken.
            raise AuditError(f"anchor {self._name}: not taken ({type(error).__name__})") from error
        return b""


class WebhookAnchor:
    """
    Posts notes to a web address.

    `https` only, or plain `http` to this machine. The name is resolved once and the
    address that was looked at is the one that is used; redirects are not followed.
    """

    def __init__(
        self, url: str, *, headers: Mapping[str, str] | None = None, timeout_s: float = TIMEOUT_S
    ) -> None:
        # Sockets and TLS are loaded here, where posting is meant: most processes post nothing, and a
        # thread of ours that imports would be in the way of a fork.
        from agentguard.audit.posting import post

        self._url = url
        self._headers = dict(headers or {})
        self._timeout_s = timeout_s
        self._post = post

    @property
    def name(self) -> str:
        """The address without user, query and fragment."""
        parts = urlsplit(self._url)
        return f"{parts.scheme}://{parts.hostname or ''}{parts.path}"

    def keep(self, anchor: Anchor) -> bytes:
        """
        Post the note as text.

        Raises:
            AuditError: The address is not allowed, or did not answer with a 2xx status.
        """
        headers = {"Content-Type": "text/plain; charset=utf-8", **self._headers}
        return self._post(self._url, anchor.note, headers=headers, timeout_s=self._timeout_s, name=self.name)


def parse_anchor(note: bytes, keys: AuditKeys) -> Checkpoint:
    """
    Read a note that was kept elsewhere, and check that this store signed it.

    Raises:
        AuditError: It is no checkpoint, or not of this store.
    """
    try:
        checkpoint = parse(note)
    except NoteError as error:
        raise AuditError(f"anchor: {error}") from error
    if not keys.is_signed(note):
        raise AuditError("anchor: it is not signed by this store").hint(
            "an anchor of another store, or of one whose signing key was removed, says nothing about this one"
        )
    return checkpoint
