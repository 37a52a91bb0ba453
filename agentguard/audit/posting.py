"""
Posting to an address that somebody configured: encrypted or on this machine, never redirected.

The name is resolved once, and the address that was looked at is the one that is used.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

from agentguard.errors import AuditError

RESPONSE_BYTES_MAX = 1 << 20


def post(url: str, body: bytes, *, headers: Mapping[str, str], timeout_s: float, name: str) -> bytes:
    """
    Post bytes to an allowed address.

    Returns:
        The body of the answer, at most `RESPONSE_BYTES_MAX`.

    Raises:
        AuditError: The address is not allowed, cannot be reached, or refuses.
    """
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError as error:
        raise AuditError(f"anchor {name}: its port is no number from 0 to 65535") from error
    host = parts.hostname or ""
    if parts.scheme not in {"http", "https"} or not host or parts.username is not None:
        raise AuditError(f"anchor {name}: expected `https://host/path`, without user and password")
    port = port or (443 if parts.scheme == "https" else 80)
    try:
        address = _allowed_address(host, port, is_encrypted=parts.scheme == "https")
        connection = _Pinned(host, port, address, is_encrypted=parts.scheme == "https", timeout_s=timeout_s)
        try:
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("POST", path, body=body, headers=dict(headers))
            answer = connection.getresponse()
            received = answer.read(RESPONSE_BYTES_MAX + 1)
        finally:
            connection.close()
    except (OSError, http.client.HTTPException) as error:
        raise AuditError(f"anchor {name}: not reached ({type(error).__name__})") from error
    if not 200 <= answer.status < 300:
        raise AuditError(f"anchor {name}: answered with status {answer.status}, expected 2xx")
    if len(received) > RESPONSE_BYTES_MAX:
        raise AuditError(f"anchor {name}: answered with more than {RESPONSE_BYTES_MAX} bytes")
    return received


def _allowed_address(host: str, port: int, *, is_encrypted: bool) -> str:
    """Resolve a name, and refuse addresses that nobody keeps logs at."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for entry in found:
        address = ipaddress.ip_address(str(entry[4][0]).partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None)
        address = mapped or address
        if address.is_link_local or address.is_multicast or address.is_unspecified or address.is_reserved:
            raise AuditError(
                f"anchor: `{host}` is the address {address}, which is link-local or belongs to nobody"
            )
        if not is_encrypted and not address.is_loopback:
            raise AuditError(f"anchor: `{host}` is another machine, expected `https`")
    return str(found[0][4][0])


class _Pinned(http.client.HTTPConnection):
    """A connection to the very address that was looked at."""

    def __init__(self, host: str, port: int, address: str, *, is_encrypted: bool, timeout_s: float) -> None:
        super().__init__(host, port, timeout=timeout_s)
        self._address = address
        self._context = ssl.create_default_context() if is_encrypted else None

    def connect(self) -> None:
        """Connect, and for https check the certificate against the name."""
        self.sock = socket.create_connection((self._address, self.port), self.timeout)
        if self._context is not None:
            self.sock = self._context.wrap_socket(self.sock, server_hostname=self.host)
