"""Which transport speaks the protocol of a destination."""

from __future__ import annotations

from agentguard.export._config import OtlpConfig
from agentguard.export._transport import Transport
from agentguard.forks import IMPORTS
from agentguard.values import Clock


def open_transport(config: OtlpConfig, *, clock: Clock) -> Transport:
    """Make the transport of a destination."""
    # Imported here: each of them loads a library that the other one, and a program that exports nothing,
    # does not need.
    if config.protocol == "grpc":
        with IMPORTS:
            from agentguard.export._grpc import GrpcTransport

        return GrpcTransport(config)
    with IMPORTS:
        from agentguard.export._http import HttpTransport

    return HttpTransport(config, clock=clock)
