"""What is known of a call: the data that facts, decisions and records are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentguard.capture import Span
from agentguard.runtime.runs import Run
from agentguard.runtime.services import Services
from agentguard.runtime.spec import CallSpec
from agentguard.state import Ticket
from agentguard.values import Usage


class KnownCall:
    """The state of one guarded call; behaviour is in `calls.GuardedCall`."""

    __slots__ = (
        "agent",
        "agent_version",
        "args",
        "arguments",
        "error_type",
        "facts",
        "is_cancelled",
        "is_ended",
        "is_recorded",
        "kwargs",
        "model",
        "repeats",
        "result",
        "run",
        "services",
        "span",
        "spec",
        "tickets",
    )

    services: Services
    spec: CallSpec
    args: tuple[Any, ...]
    """To call with; redacted copies where a rule asked for it."""
    kwargs: Mapping[str, Any]
    arguments: dict[str, Any] | None
    """By parameter name; None where they do not fit the signature."""
    run: Run
    span: Span
    agent: str
    """Name of the innermost guarded agent, or empty."""
    agent_version: str
    model: str
    repeats: int
    """How often the run made this very call before."""
    result: object
    error_type: str
    is_cancelled: bool
    """Whether the task that waits for people has gone away."""
    is_ended: bool
    facts: dict[str, object] | None
    """Facts read so far; made when the engine is first asked."""
    is_recorded: bool
    """Whether the decision log has admitted the call, so that it must hear of its outcome."""

    tickets: tuple[Ticket, ...]
    """What the call settles with the limits of the machine when it ends."""

    @property
    def usage(self) -> Usage | None:
        """Tokens of the call itself, as far as known."""
        return self.span.usage

    @property
    def duration_ms(self) -> float:
        """How long the call took, or has run so far."""
        return self.span.elapsed_ns / 1e6
