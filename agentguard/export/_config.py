"""
Where spans go, and how: the checked settings of one OTLP destination.

Pure: the environment is handed in, nothing is opened or resolved here.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias
from urllib.parse import unquote, urlsplit

from agentguard.errors import ConfigurationError
from agentguard.export._content import CONTENTS, Content

Protocol: TypeAlias = Literal["http/protobuf", "grpc"]
PROTOCOLS: Final[tuple[Protocol, ...]] = ("http/protobuf", "grpc")

HTTP_PATH: Final = "/v1/traces"
DEFAULT_ENDPOINTS: Final[Mapping[str, str]] = {
    "http/protobuf": "http://localhost:4318",
    "grpc": "http://localhost:4317",
}

KEEP: Final = ("error", "violation", "slow")
SLOW_S: Final = 10.0

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OWN_HEADERS = frozenset(
    {"content-type", "content-length", "content-encoding", "host", "te", "transfer-encoding"}
)
_SCHEMES = ("http", "https")


@dataclass(frozen=True, slots=True)
class OtlpConfig:
    """
    One OTLP destination.

    Made by `otlp_config`, which checks it; headers may hold secrets and are not
    in the repr.
    """

    endpoint: str
    """Full URL of the trace endpoint for HTTP, `scheme://host:port` for gRPC."""
    protocol: Protocol = "http/protobuf"
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    content: Content = "none"
    """What becomes of recorded content: it stays, leaves redacted, or leaves as it is."""
    keep: tuple[str, ...] = ()
    """Reasons for which a trace is sent: error, violation, slow; empty: all traces are."""
    slow_s: float = SLOW_S
    """From which duration on a call is slow."""
    compression: Literal["gzip", "none"] = "gzip"
    ca_file: str = ""
    """PEM file of the authorities that may sign the server's certificate; empty: the system's."""
    client_certificate_file: str = ""
    client_key_file: str = field(default="", repr=False)
    timeout_s: float = 10.0
    """Longest wait for one request."""
    batch_spans_max: int = 1024
    """A crash between the answer and the cursor sends so many spans twice, at most."""
    batch_bytes_max: int = 3_500_000
    """Below the 4 MiB that gRPC servers take by default."""
    poll_interval_s: float = 1.0
    """Between two looks into the store."""
    backoff_s_max: float = 60.0
    """Longest wait between two tries, unless the server asks for more."""
    retry_after_s_max: float = 600.0
    """Longest wait that a server may ask for."""

    @property
    def destination(self) -> str:
        """
        Name the destination: 16 hexadecimal digits of endpoint and protocol.

        Cursor and election go by it, so that another key or another batch size
        does not send everything again.
        """
        return hashlib.sha256(f"{self.protocol} {self.endpoint}".encode()).hexdigest()[:16]

    @property
    def is_encrypted(self) -> bool:
        """Whether TLS protects the way."""
        return self.endpoint.startswith("https://")


def otlp_config(
    endpoint: str = "",
    *,
    protocol: str = "http/protobuf",
    headers: Iterable[tuple[str, str]] = (),
    content: str = "none",
    keep: Iterable[str] = (),
    slow_s: float = SLOW_S,
    ca_file: str = "",
    client_certificate_file: str = "",
    client_key_file: str = "",
    is_plaintext_allowed: bool = False,
    environ: Mapping[str, str] | None = None,
) -> OtlpConfig:
    """
    Check the settings of a destination.

    What is not given is read from `OTEL_EXPORTER_OTLP_*` in *environ*, the
    variables for traces before the general ones.

    Args:
        endpoint:
            URL of the collector; for HTTP `/v1/traces` is added where it is
            missing. Empty: from *environ*, else the local default.

        protocol:
            `http/protobuf` or `grpc`.

        headers:
            Sent with each request, such as an API key.

        content:
            What becomes of recorded content: `none`, `redacted` or `full` of it leaves the machine.

        keep:
            Reasons for which a trace is sent: error, violation, slow. None: all are sent.

        slow_s:
            From which duration on a call is slow, in seconds.

        ca_file:
            PEM file of the authorities that may sign the server's certificate.

        client_certificate_file:
            PEM file of our certificate, where the server wants one.

        client_key_file:
            Its key.

        is_plaintext_allowed:
            Whether spans may go over the network without TLS; to this machine
            they always may.

        environ:
            Environment variables; none by default.

    Raises:
        ConfigurationError: One or more settings are unusable; all problems are in it.
    """
    environ = environ or {}
    problems: list[str] = []
    if protocol not in PROTOCOLS:
        raise ConfigurationError(f"export: protocol is `{protocol}`, expected http/protobuf or grpc")
    is_http = protocol == "http/protobuf"
    exact = "" if endpoint else environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")
    written = (
        endpoint or exact or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "") or DEFAULT_ENDPOINTS[protocol]
    )
    is_plaintext_allowed = is_plaintext_allowed or _variable(environ, "INSECURE").lower() == "true"
    url = _endpoint(
        written,
        is_http=is_http,
        is_exact=bool(exact),
        is_plaintext_allowed=is_plaintext_allowed,
        problems=problems,
    )
    given = tuple(headers) or parse_headers(_variable(environ, "HEADERS"))
    compression = _variable(environ, "COMPRESSION") or "gzip"
    if compression not in ("gzip", "none"):
        problems.append(f"OTEL_EXPORTER_OTLP_COMPRESSION: got `{compression}`, expected gzip or none")
    certificate = client_certificate_file or _variable(environ, "CLIENT_CERTIFICATE")
    key = client_key_file or _variable(environ, "CLIENT_KEY")
    if content not in CONTENTS:
        problems.append(f"export: content is `{content}`, expected one of {', '.join(CONTENTS)}")
    reasons = tuple(dict.fromkeys(keep))
    problems.extend(
        f"export: keep has `{reason}`, expected some of {', '.join(KEEP)}"
        for reason in reasons
        if reason not in KEEP
    )
    if not 0 < slow_s <= 86_400:
        problems.append(f"export: slow_s is {slow_s:g}, expected seconds from 0 to 86400")
    if bool(certificate) != bool(key):
        problems.append("export: a client certificate and its key go together, got one of them")
    checked = _headers(given, problems, is_lower=not is_http)
    timeout_s = _timeout_s(_variable(environ, "TIMEOUT"), problems)
    if problems:
        raise ConfigurationError(*problems)
    return OtlpConfig(
        endpoint=url,
        protocol="http/protobuf" if is_http else "grpc",
        headers=checked,
        content=content if content in CONTENTS else "none",
        keep=reasons,
        slow_s=slow_s,
        compression="none" if compression == "none" else "gzip",
        ca_file=ca_file or _variable(environ, "CERTIFICATE"),
        client_certificate_file=certificate,
        client_key_file=key,
        timeout_s=timeout_s,
    )


def parse_headers(text: str) -> tuple[tuple[str, str], ...]:
    """
    Read headers as `OTEL_EXPORTER_OTLP_HEADERS` writes them.

    Parts without `=` are left out: nothing useful could be sent for them.

    Example:
        >>> parse_headers("api-key=a%20b, x-team=blue")
        (('api-key', 'a b'), ('x-team', 'blue'))

    Source:
        OpenTelemetry specification, protocol/exporter.md: W3C Baggage format, percent-encoded.
    """
    pairs = (part.partition("=") for part in text.split(",") if "=" in part)
    return tuple((unquote(name.strip()), unquote(value.strip())) for name, _, value in pairs)


def is_loopback(host: str) -> bool:
    """Whether a host name means this machine, without asking a resolver."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _variable(environ: Mapping[str, str], name: str) -> str:
    """Read a variable of the exporter, that for traces first."""
    return environ.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}") or environ.get(f"OTEL_EXPORTER_OTLP_{name}") or ""


def _endpoint(
    written: str, *, is_http: bool, is_exact: bool, is_plaintext_allowed: bool, problems: list[str]
) -> str:
    """Check an endpoint and write it out in full; problems are added to the list."""
    text = written if "://" in written else f"{'http' if _is_local(written) else 'https'}://{written}"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        problems.append(f"export: endpoint `{written[:200]}` is no URL, expected http(s)://HOST:PORT")
        return ""
    if parts.scheme not in _SCHEMES or not host:
        problems.append(f"export: endpoint `{written[:200]}` is no URL, expected http(s)://HOST:PORT")
        return ""
    if parts.username is not None or parts.password is not None:
        problems.append("export: the endpoint holds a user or a password, expected them in a header")
        return ""
    if _is_link_local(host):
        # Addresses such as 169.254.169.254 give out a machine's credentials.
        problems.append(f"export: endpoint `{host}` is link-local, expected a collector's address")
    if parts.scheme == "http" and not is_loopback(host) and not is_plaintext_allowed:
        problems.append(
            f"export: endpoint `{written[:200]}` would send spans over the network in clear, "
            "expected https:// (or OTEL_EXPORTER_OTLP_INSECURE=true where that is meant)"
        )
    netloc = parts.netloc if port is not None or is_http else f"{parts.netloc}:4317"
    if not is_http:
        return f"{parts.scheme}://{netloc}"
    path = parts.path if is_exact or parts.path.endswith(HTTP_PATH) else parts.path.rstrip("/") + HTTP_PATH
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{netloc}{path}{query}"


def _is_local(written: str) -> bool:
    """Whether `host:port` without a scheme is on this machine."""
    return is_loopback(urlsplit(f"//{written}").hostname or "")


def _is_link_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_link_local
    except ValueError:
        return False


def _headers(
    given: Iterable[tuple[str, str]], problems: list[str], *, is_lower: bool
) -> tuple[tuple[str, str], ...]:
    """Check names and values; a value is never quoted in a problem, it may be a secret."""
    checked = []
    for name, value in given:
        if not _HEADER_NAME.fullmatch(name):
            problems.append(f"export: header name `{name[:60]}` holds a character that a header cannot have")
        elif name.lower() in _OWN_HEADERS:
            problems.append(f"export: header `{name}` is set by the exporter itself")
        elif not value.isascii() or not value.isprintable():
            problems.append(
                f"export: the value of header `{name}` holds a character that a header cannot have"
            )
        else:
            checked.append((name.lower() if is_lower else name, value))
    return tuple(checked)


def _timeout_s(text: str, problems: list[str]) -> float:
    """Read the timeout of the specification, in milliseconds."""
    if not text:
        return 10.0
    try:
        timeout_s = int(text) / 1000
    except ValueError:
        timeout_s = 0.0
    if not 0 < timeout_s <= 600:
        problems.append(
            f"OTEL_EXPORTER_OTLP_TIMEOUT: got `{text[:40]}`, expected milliseconds from 1 to 600000"
        )
    return timeout_s
