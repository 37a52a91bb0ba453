"""
OTLP over gRPC.

Source:
    OTLP specification 1.10, "OTLP/gRPC": which statuses are worth a retry, `RetryInfo`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from agentguard.export._config import OtlpConfig
from agentguard.export._encode import Item, encode_request
from agentguard.export._transport import Answer, Ending
from agentguard.version import __version__

_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_ANSWER_BYTES_MAX = 65_536
_DETAILS = "grpc-status-details-bin"

_HANDSHAKE = ("handshake failed", "peer certificate", "verification check failed")
"""What gRPC says, in words only, of certificates that it does not accept."""

_ENDINGS = {
    grpc.StatusCode.INVALID_ARGUMENT: Ending.REFUSED,
    grpc.StatusCode.UNAUTHENTICATED: Ending.MISCONFIGURED,
    grpc.StatusCode.PERMISSION_DENIED: Ending.MISCONFIGURED,
    grpc.StatusCode.UNIMPLEMENTED: Ending.MISCONFIGURED,
    grpc.StatusCode.NOT_FOUND: Ending.MISCONFIGURED,
    grpc.StatusCode.FAILED_PRECONDITION: Ending.MISCONFIGURED,
}
"""All other statuses are worth another try."""


class GrpcTransport:
    """One gRPC channel to one destination."""

    def __init__(self, config: OtlpConfig) -> None:
        self._config = config
        self._problem = ""
        parts = urlsplit(config.endpoint)
        options = [
            ("grpc.max_receive_message_length", _ANSWER_BYTES_MAX),
            ("grpc.primary_user_agent", f"agentguard/{__version__}"),
            # The delivery waits as long as it wants to; the channel shall not add its own minute.
            ("grpc.max_reconnect_backoff_ms", 2000),
            ("grpc.enable_retries", 0),
        ]
        compression = (
            grpc.Compression.Gzip if config.compression == "gzip" else grpc.Compression.NoCompression
        )
        if config.is_encrypted:
            self._channel = grpc.secure_channel(
                parts.netloc, self._credentials(), options=options, compression=compression
            )
        else:
            self._channel = grpc.insecure_channel(parts.netloc, options=options, compression=compression)
        self._export = self._channel.unary_unary(
            _METHOD,
            # Bytes go as they are.
            request_serializer=None,
            response_deserializer=ExportTraceServiceResponse.FromString,
        )

    def send(self, items: Sequence[Item]) -> Answer:
        """Send one request."""
        if self._problem:
            return Answer(Ending.MISCONFIGURED, self._problem)
        request = encode_request(items)
        try:
            response = self._export(request, timeout=self._config.timeout_s, metadata=self._config.headers)
        except grpc.RpcError as error:
            return _judge(error)
        except ValueError:
            # "Cannot invoke RPC on closed channel": shutdown came in between.
            return Answer(Ending.RETRY, "channel closed")
        rejected = response.partial_success.rejected_spans
        return Answer(Ending.SENT, "gRPC OK", rejected=min(max(rejected, 0), len(items)))

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def _credentials(self) -> grpc.ChannelCredentials:
        """Read the certificates; a file that cannot be read is said with each request, not raised into a thread."""
        files = (self._config.ca_file, self._config.client_key_file, self._config.client_certificate_file)
        contents: list[bytes | None] = []
        for file in files:
            try:
                contents.append(Path(file).read_bytes() if file else None)
            except OSError:
                contents.append(None)
                self._problem = "TLS: a certificate file cannot be read"
        return grpc.ssl_channel_credentials(*contents)


def _judge(error: Any) -> Answer:
    """Say what a failed call means; *error* is both an `RpcError` and a `Call`."""
    code = error.code()
    reason = f"gRPC {code.name}"
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        # The one status with two meanings: too much at once, or one message too large.
        if "larger than max" in (error.details() or ""):
            return Answer(Ending.TOO_LARGE, reason)
        return Answer(Ending.RETRY, reason, retry_after_s=_retry_after_s(error))
    details = (error.details() or "").lower()
    if code is grpc.StatusCode.UNAVAILABLE and any(words in details for words in _HANDSHAKE):
        return Answer(Ending.MISCONFIGURED, "TLS: the certificates do not fit")
    ending = _ENDINGS.get(code, Ending.RETRY)
    return Answer(ending, reason, retry_after_s=_retry_after_s(error) if ending is Ending.RETRY else None)


def _retry_after_s(error: Any) -> float | None:
    """Read `RetryInfo` from the trailing metadata."""
    for name, value in error.trailing_metadata() or ():
        if name != _DETAILS:
            continue
        try:
            for detail in Status.FromString(value).details:
                info = RetryInfo()
                if detail.Unpack(info):
                    seconds: float = info.retry_delay.seconds + info.retry_delay.nanos / 1e9
                    return max(0.0, seconds)
        except (DecodeError, RuntimeError, ValueError, TypeError):
            return None
    return None
