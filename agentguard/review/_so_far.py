"""What a replay knows at a moment: the time, how far a run has come, and a call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from agentguard.state import Ticket, canonical_json

_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class EventClock:
    """The time of the event that is being replayed; it never goes back."""

    def __init__(self) -> None:
        self._now_ns = 0

    def go_to(self, unix_ns: int) -> None:
        """Let time pass until an event."""
        self._now_ns = max(self._now_ns, unix_ns)

    def unix_ns(self) -> int:
        """Give nanoseconds since 1970."""
        return self._now_ns

    def monotonic_ns(self) -> int:
        """Give the same: there is no other clock here."""
        return self._now_ns


@dataclass(slots=True)
class RunSoFar:
    """What a run has done; as `runtime` counts it."""

    calls: int = 0
    tool_calls: int = 0
    model_calls: int = 0
    errors: int = 0
    retries: int = 0
    tokens: int = 0
    cost_usd: float = 0.0
    tools: dict[str, int] = field(default_factory=dict)
    repeats: dict[tuple[str, bytes], int] | None = field(default_factory=dict)
    """How often each call was made; None once the arguments of one are not known."""
    has_diverged: bool = False


@dataclass(slots=True)
class CallSoFar:
    """One call, as far as it has come."""

    run: RunSoFar
    tool: str
    model: str
    tickets: tuple[Ticket, ...] = ()
    charged: set[tuple[str, str]] = field(default_factory=set)
    """Gates that this call was asked about."""
    is_allowed: bool = True
    """Whether it runs under the candidate."""
    repeats: int | None = 0


def count_repeat(run: RunSoFar, tool: str, args: Mapping[str, object] | None) -> int | None:
    """Count a call with these arguments; None where the arguments of one such call are not known."""
    if run.repeats is None or args is None:
        run.repeats = None
        return None
    key = (tool, canonical_json(args))
    before = run.repeats.get(key, 0)
    run.repeats[key] = before + 1
    return before


def window_s(window: object) -> float:
    """Read the window of a `history` function."""
    if isinstance(window, timedelta):
        return window.total_seconds()
    text = str(window)
    return float(text[:-1]) * _SECONDS[text[-1]]
