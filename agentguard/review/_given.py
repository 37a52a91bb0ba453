"""Facts that a person wrote down for a question, completed with neutral ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from agentguard.errors import PolicyDocumentError
from agentguard.policy import HISTORY_GIVEN
from agentguard.values import FACTS, FactSpec

NEVER_S = 1e12
"""What `drift.age_s` says where no check ran."""

NEUTRAL: Mapping[str, object] = {
    "tool.effect": "write",
    "tool.calls_5m": 0,
    "tool.error_rate_5m": 0.0,
    "args": {},
    "recipients": [],
    "agent.name": "",
    "agent.version": "",
    "model.name": "",
    "model.provider": "",
    "principal.id": "",
    "principal.roles": [],
    "run.id": "run",
    "run.labels": {},
    "run.calls": 0,
    "run.tool_calls": 0,
    "run.model_calls": 0,
    "run.repeats": 0,
    "run.errors": 0,
    "run.retries": 0,
    "run.tokens": 0,
    "run.cost_usd": 0.0,
    "run.duration_s": 0.0,
    "conversation.id": "",
    "cost.usd_today": 0.0,
    "tokens.today": 0,
    "env.name": "",
    "env.service": "",
    "drift.status": "unknown",
    "drift.kind": "",
    "drift.features": [],
    "drift.alarmed": {},
    "drift.age_s": NEVER_S,
    "policy.reload_failed": False,
    "deps.vulnerable": 0,
    "deps.age_days_max": 0,
    "call.error": "",
}
"""
What a first call of a run would find. Facts of one call (its tool, time, result,
duration, usage) have no neutral value: where a rule reads them, they are given.
"""


NO_PAST: Mapping[str, object] = {"history.sum": 0.0, "history.count": 0, "history.called": []}
"""What the functions of the past give where nothing was before."""


class GivenFacts(dict[str, object]):
    """
    Facts by name; what was not given is neutral, and noted when a rule reads it.

    Args:
        given:
            Values by name; a timestamp may be text in RFC 3339.

        specs:
            The catalogue.

    Raises:
        PolicyDocumentError: A timestamp cannot be read.
    """

    __slots__ = ("assumed",)

    def __init__(self, given: Mapping[str, object], specs: Mapping[str, FactSpec] = FACTS) -> None:
        super().__init__({name: _typed(name, value, specs.get(name)) for name, value in given.items()})
        for name in HISTORY_GIVEN:
            if name in self:
                self[name] = _history(name, self[name])
        self.assumed: dict[str, object] = {}
        """Neutral values that were read."""

    def __missing__(self, name: str) -> object:
        if name in NO_PAST:
            self.assumed[name] = NO_PAST[name]
            return _history(name, NO_PAST[name])
        value = NEUTRAL[name]
        self.assumed[name] = value
        return value


def _history(name: str, given: object) -> Callable[..., object]:
    """Answer a function of the past with what a person wrote: one number, or the tools that were called."""
    if name == "history.called":
        tools = frozenset(given) if isinstance(given, list) else frozenset()
        return lambda tool, _window: tool in tools
    return lambda *_: given


def _typed(name: str, value: object, spec: FactSpec | None) -> object:
    """Turn what a file can say into what the engine reads."""
    if spec is None:
        return value
    if spec.type == "timestamp" and isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError as error:
            raise PolicyDocumentError(f"fact `{name}`: `{value[:80]}` is no timestamp").hint(
                "write it as `2026-11-22T08:30:00Z`"
            ) from error
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    if spec.type == "double" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value
