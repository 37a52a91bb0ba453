"""What is known of a call: the data that facts, decisions and records are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from agentguard.capture import Span
from agentguard.runtime.runs import Run
from agentguard.runtime.services import Services
from agentguard.runtime.spec import CallSpec
from agentguard.state import Ticket
from agentguard.values import Decision, DecisionRecord, Usage


class Detour(NamedTuple):
    """The way of a call that rules have sent elsewhere."""

    path: tuple[str, ...]
    """Names of what it was to, the one that was asked for first."""
    rules: tuple[str, ...]
    """`policy/rule` of each step."""
    demanded: Decision
    """What was said of it before the last step; its demands stay."""
    why: str
    """The last step, for the reviewer."""


class Ending(Protocol):
    """What the decision log hears of a call's end."""

    @property
    def is_due(self) -> bool:
        """Whether it must be given the outcome, once the span of the call has ended."""
        ...

    def outcome(self) -> tuple[bytes, object] | bytes | None:
        """Write the record that closes the call; a `values.DecisionSource`."""
        ...


class KnownCall:
    """The state of one guarded call; behaviour is in `calls.GuardedCall`."""

    __slots__ = (
        "agent",
        "agent_version",
        "args",
        "arguments",
        "detour",
        "ending",
        "error_type",
        "facts",
        "is_cancelled",
        "is_ended",
        "kwargs",
        "model",
        "owner",
        "repeats",
        "replacement",
        "result",
        "run",
        "services",
        "span",
        "spec",
        "tickets",
        "unpriced_usd",
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
    ending: Ending | None
    """What the decision log hears of the call's end; None while it has not admitted the call."""

    tickets: tuple[Ticket, ...]
    """What the call settles with the limits of the machine when it ends."""

    owner: KnownCall | None
    """The guarded call inside which it was made."""

    unpriced_usd: float
    """What calls inside it were charged for want of a price: sums of known costs do not have it."""

    detour: Detour | None
    """How it came to be what it is, where a rule has sent it elsewhere."""

    replacement: Callable[..., Any] | None
    """What runs instead of the function that was called."""

    def name_model(self, model: str) -> None:
        """Say that the call is to another model than it was."""
        raise NotImplementedError

    def open_gates(self, record: DecisionRecord) -> DecisionRecord:
        """Leave out the gates that were asked for this call already."""
        return record

    @property
    def usage(self) -> Usage | None:
        """Tokens of the call itself, as far as known."""
        return self.span.usage

    @property
    def duration_ms(self) -> float:
        """How long the call took, or has run so far."""
        return self.span.elapsed_ns / 1e6
