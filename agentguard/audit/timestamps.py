"""
Time stamps of RFC 3161: an authority signs that a checkpoint existed at a time.

Needs the package `rfc3161-client`, which the extra `timestamps` installs.

Source: RFC 3161 sections 2.4 and 3.4.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

from agentguard.audit.anchors import TIMEOUT_S, Anchor
from agentguard.errors import AuditError, SealError
from agentguard.seal import load_certificates, read_file, write_new_file

_CERTIFICATES_BYTES_MAX = 1 << 20


class TimestampAnchor:
    """Has notes time-stamped, and keeps note and receipt beside one another."""

    def __init__(
        self, url: str, folder: Path | None = None, *, roots: Path, timeout_s: float = TIMEOUT_S
    ) -> None:
        """
        Args:
            url:
                Of the authority; `https`, or plain `http` on this machine.
            folder:
                Where `<sequence>.checkpoint` and `<sequence>.tsr` are put; None: nowhere.
            roots:
                PEM file with the certificates that the authority's must lead to.
            timeout_s:
                Longest wait for an answer.

        Raises:
            AuditError: The package is not installed.
        """  # noqa: D205 - the arguments say it all
        from agentguard.audit.posting import post  # Loaded here, as `WebhookAnchor` does.

        self._url = url
        self._post = post
        self._library = _library()
        self._folder = folder
        self._roots = roots
        self._timeout_s = timeout_s

    @property
    def name(self) -> str:
        """`rfc3161:` and the address."""
        return f"rfc3161:{self._url.partition('?')[0]}"

    def keep(self, anchor: Anchor) -> bytes:
        """
        Ask for a time stamp, check it, and write note and receipt.

        Returns:
            The receipt: a TimeStampResp in DER, which `openssl ts -verify` checks too.

        Raises:
            AuditError: The authority did not answer, or not with a right time stamp.
        """
        request = self._library.TimestampRequestBuilder(data=anchor.note).build()
        received = self._post(
            self._url,
            request.as_bytes(),
            headers={"Content-Type": "application/timestamp-query"},
            timeout_s=self._timeout_s,
            name=self.name,
        )
        check_timestamp(received, anchor.note, roots=self._roots, nonce=request.nonce)
        if self._folder is None:
            return received
        stem = self._folder / f"{anchor.checkpoint.sequence:012d}"
        try:
            write_new_file(stem.with_suffix(".checkpoint"), anchor.note)
            write_new_file(stem.with_suffix(".tsr"), received)
        except (OSError, SealError) as error:
            raise AuditError(f"anchor {self.name}: the receipt cannot be written") from error
        return received


def is_installed() -> bool:
    """Whether time stamps can be asked for and checked here."""
    return importlib.util.find_spec("rfc3161_client") is not None


def check_timestamp(receipt: bytes, note: bytes, *, roots: Path, nonce: int | None = None) -> int:
    """
    Check that an authority stamped a note.

    Args:
        receipt:
            A TimeStampResp in DER.
        note:
            The very bytes that were stamped.
        roots:
            PEM file with the certificates that the authority's must lead to.
        nonce:
            Of the request, where it is known.

    Returns:
        The time that the authority states, Unix, in seconds.

    Raises:
        AuditError: It is not, by this note and these roots.
    """
    library = _library()
    try:
        certificates = load_certificates(read_file(roots, bytes_max=_CERTIFICATES_BYTES_MAX))
        response = library.decode_timestamp_response(receipt)
        builder = library.VerifierBuilder(roots=certificates, nonce=nonce)
        is_right = builder.build().verify_message(response, note)
        stated_unix_s = int(response.tst_info.gen_time.timestamp())
    except (OSError, SealError) as error:
        raise AuditError("time stamp: the certificates cannot be read") from error
    except (ValueError, library.VerificationError) as error:
        raise AuditError("time stamp: it is not right, or not for this checkpoint") from error
    if not is_right:
        raise AuditError("time stamp: it is not right, or not for this checkpoint")
    return stated_unix_s


def _library() -> ModuleType:
    """Load the library where it is installed."""
    try:
        return importlib.import_module("rfc3161_client")
    except ImportError as error:
        raise AuditError("time stamps need the package `rfc3161-client`").hint(
            "install agentguard[timestamps]"
        ) from error
