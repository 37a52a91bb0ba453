"""Reading X.509 certificates, for the checks of time stamps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentguard.errors import SealError

if TYPE_CHECKING:
    from cryptography import x509


def load_certificates(pem: bytes) -> list[x509.Certificate]:
    """
    Read all certificates of a PEM text.

    Raises:
        SealError: There is none in it, or one does not parse.
    """
    # Late: a megabyte of code that only the checks of time stamps need.
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise SealError("certificates: got no PEM certificate, expected one or more") from None
