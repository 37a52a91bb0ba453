"""
OTLP over HTTP with protobuf bodies.

Source:
    OTLP specification 1.10, "OTLP/HTTP": statuses, `Retry-After`, partial success.
"""

from __future__ import annotations

import gzip
import os
import time
import urllib.request
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from urllib.parse import unquote, urlsplit

import certifi
import urllib3

from agentguard.export._config import OtlpConfig, is_loopback
from agentguard.export._encode import Item, encode_request
from agentguard.export._transport import Answer, Ending
from agentguard.forks import IMPORTS
from agentguard.values import Clock
from agentguard.version import __version__

_ANSWER_BYTES_MAX = 65_536
_CONNECT_S_MAX = 5.0
_GZIP_LEVEL = 3
"""Half the time of the default level for a few percent more bytes."""
_MISCONFIGURED = frozenset(
    {401, 403, 404, 405, 406, 407, 410, 411, 414, 415, 421, 426, 431, 451, 501, 505, 511}
)
"""What no other span would change: a person has to mend it."""
_UNREADABLE = frozenset({"HTTP 400", "HTTP 415"})


class HttpTransport:
    """One HTTP connection pool to one destination."""

    def __init__(self, config: OtlpConfig, *, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._pool = _pool_of(config)
        self._headers = {
            "Content-Type": "application/x-protobuf",
            "User-Agent": f"agentguard/{__version__}",
            "Accept-Encoding": "identity",
            **dict(config.headers),
        }
        self._is_gzip = config.compression == "gzip"
        self._is_gzip_proven = False

    def send(self, items: Sequence[Item]) -> Answer:
        """
        Send one request.

        Some receivers answer 400 or 415 to a compressed body. As long as no
        compressed body was taken, such an answer is checked with a plain one.
        """
        body = encode_request(items)
        if not self._is_gzip:
            return self._post(body, len(items))
        answer = self._post(gzip.compress(body, _GZIP_LEVEL, mtime=0), len(items), encoding="gzip")
        if answer.ending is Ending.SENT:
            self._is_gzip_proven = True
        elif answer.reason in _UNREADABLE and not self._is_gzip_proven:
            plain = self._post(body, len(items))
            self._is_gzip = plain.ending is not Ending.SENT
            return plain
        return answer

    def _post(self, body: bytes, n_items: int, *, encoding: str | None = None) -> Answer:
        """Send one body."""
        config = self._config
        for file in (config.ca_file, config.client_certificate_file, config.client_key_file):
            if file and not os.access(file, os.R_OK):
                return Answer(Ending.MISCONFIGURED, "TLS: a file of certificates or keys cannot be read")
        timeout_s = config.timeout_s
        deadline_s = time.monotonic() + timeout_s
        try:
            response = self._pool.urlopen(
                "POST",
                config.endpoint,
                body=body,
                headers=self._headers | ({"Content-Encoding": encoding} if encoding else {}),
                timeout=urllib3.Timeout(connect=min(timeout_s, _CONNECT_S_MAX), read=timeout_s),
                redirect=False,
                retries=False,
                preload_content=False,
            )
            answer = _read(response, deadline_s)
            if answer is None:
                response.close()
            else:
                response.release_conn()
            return self._judge(response, answer, n_items)
        except urllib3.exceptions.SSLError:
            return Answer(Ending.MISCONFIGURED, "TLS: the certificates do not fit")
        except (
            # A kind of time-out too, to urllib3: nobody listens, or the name is nobody's.
            urllib3.exceptions.NewConnectionError,
            urllib3.exceptions.ProtocolError,
            urllib3.exceptions.ProxyError,
        ):
            return Answer(Ending.RETRY, "ConnectionError")
        except urllib3.exceptions.TimeoutError:
            return Answer(Ending.RETRY, "no answer in time")
        except urllib3.exceptions.LocationValueError:
            return Answer(Ending.MISCONFIGURED, "the address is no URL")
        except (urllib3.exceptions.HTTPError, OSError) as error:
            # OSError: a file of certificates that is not there; what the network does is of the other kind.
            is_network = isinstance(error, (urllib3.exceptions.HTTPError, ConnectionError))
            return Answer(Ending.RETRY if is_network else Ending.MISCONFIGURED, type(error).__name__)

    def close(self) -> None:
        """Close the pool."""
        self._pool.clear()

    def _judge(self, response: urllib3.BaseHTTPResponse, body: bytes | None, n_items: int) -> Answer:
        status = response.status
        reason = f"HTTP {status}"
        if 200 <= status < 300:
            # The status alone says that the spans were taken: sending again what is there already would double it.
            rejected = _rejected(body, n_items)
            is_protobuf = response.headers.get("Content-Type", "").startswith("application/x-protobuf")
            is_unreadable = body is None or (rejected is None and is_protobuf)
            return Answer(Ending.SENT, reason, rejected or 0, is_unreadable=is_unreadable)
        if status == 413:
            return Answer(Ending.TOO_LARGE, reason)
        if status in _MISCONFIGURED or 300 <= status < 400:
            return Answer(Ending.MISCONFIGURED, reason)
        if status in {400, 422}:
            return Answer(Ending.REFUSED, reason)
        return Answer(Ending.RETRY, reason, retry_after_s=self._retry_after_s(response))

    def _retry_after_s(self, response: urllib3.BaseHTTPResponse) -> float | None:
        """Read `Retry-After`: seconds or a date (RFC 9110, section 10.2.3)."""
        text = response.headers.get("Retry-After", "").strip()
        if not text:
            return None
        if text.isdecimal() and text.isascii():
            return float(text[:9])
        try:
            moment = parsedate_to_datetime(text)
            return max(0.0, moment.timestamp() - self._clock.unix_ns() / 1e9)
        except (ValueError, TypeError, OverflowError):
            return None


def _read(response: urllib3.BaseHTTPResponse, deadline_s: float) -> bytes | None:
    """Read the answer, so that the connection can be used again; None where it is too long, broken or slow."""
    parts: list[bytes] = []
    n_bytes = 0
    try:
        while n_bytes <= _ANSWER_BYTES_MAX and time.monotonic() < deadline_s:
            part = response.read1(8192)
            if not part:
                return b"".join(parts)
            parts.append(part)
            n_bytes += len(part)
    except (
        Exception
    ):  # the answer's body is not worth a span: urllib3, http.client and ssl raise of their own
        return None
    return None


def _rejected(body: bytes | None, n_items: int) -> int | None:
    """Read how many spans the server says that it did not take; None where that is no such message."""
    if not body:
        return 0
    # Imported here: 4 MiB and a tenth of a second, and a backend that took all spans says nothing.
    with IMPORTS:
        from google.protobuf.message import DecodeError
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
    try:
        rejected = ExportTraceServiceResponse.FromString(body).partial_success.rejected_spans
    except (DecodeError, RuntimeError, ValueError):
        return None
    return min(max(int(rejected), 0), n_items)


def _pool_of(config: OtlpConfig) -> urllib3.PoolManager:
    """
    Make the pool of connections, over the proxy that the environment names.

    Spans for this machine never take the way over a proxy.
    """
    url = urlsplit(config.endpoint)
    is_own = is_loopback(url.hostname or "")
    environ = {} if is_own else os.environ
    options: dict[str, str] = {
        "cert_reqs": "CERT_REQUIRED",
        "ca_certs": config.ca_file
        or environ.get("REQUESTS_CA_BUNDLE")
        or environ.get("CURL_CA_BUNDLE")
        or certifi.where(),
    }
    if config.client_certificate_file:
        options["cert_file"] = config.client_certificate_file
        options["key_file"] = config.client_key_file or config.client_certificate_file
    if not is_own and not urllib.request.proxy_bypass(url.netloc.rpartition("@")[2]):
        proxies = urllib.request.getproxies()
        proxy = proxies.get(url.scheme) or proxies.get("all")
        if proxy:
            return _over(proxy, options)
    return urllib3.PoolManager(**options)  # type: ignore[arg-type]


def _over(proxy: str, options: dict[str, str]) -> urllib3.PoolManager:
    """Make a pool that goes over a proxy, with the name and password in its address."""
    address = proxy if "://" in proxy else f"http://{proxy}"
    auth = urllib3.util.parse_url(address).auth
    headers = urllib3.make_headers(proxy_basic_auth=unquote(auth)) if auth else None
    return urllib3.ProxyManager(address, proxy_headers=headers, **options)  # type: ignore[arg-type]
