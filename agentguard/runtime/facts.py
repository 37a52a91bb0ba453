"""
The facts of one call: each is worked out when a rule first reads it.

Names and meanings are those of the catalogue in `values/facts.py`; a fact that
has no provider here is missing, and a rule that reads it cannot be evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, ClassVar

from agentguard.redaction import Pieces, Seen
from agentguard.runtime.known import KnownCall
from agentguard.runtime.plain import FLAT, plain

NS = 1_000_000_000
NEVER_S = 1e12
"""Stands for "never" where a fact counts seconds: finite, so that it compares."""


def _arguments(call: KnownCall) -> object:
    if call.arguments is None:
        raise KeyError("args")
    return plain(call.arguments)


_ADDRESS = re.compile(r"[^\s<>,;\"']{1,64}@([^\s<>,;\"'@]{1,253})")


def _recipients(call: KnownCall) -> object:
    """Find mail addresses in the arguments that name recipients, lists and comma-joined text alike."""
    found: list[dict[str, str]] = []

    def read(value: object) -> None:
        if isinstance(value, str):
            found.extend(
                {"address": match.group(0).lower(), "domain": match.group(1).lower().rstrip(".>")}
                for match in _ADDRESS.finditer(value[:65_536])
            )
        elif isinstance(value, Mapping):
            for part in value.values():
                read(part)
        elif isinstance(value, (list, tuple)):
            for part in value:
                read(part)

    arguments = plain(call.arguments or {})
    if isinstance(arguments, dict):
        for name in ("to", "cc", "bcc", "recipients", "recipient"):
            read(arguments.get(name))
    return found


def _result(call: KnownCall) -> object:
    if not call.is_ended:
        raise KeyError("result")
    result = call.result
    if isinstance(result, Seen):
        return [result]  # In a list, since conditions take plain data only.
    if isinstance(result, Mapping) and isinstance(result.get("items"), Pieces):
        # Detectors are to see the texts of a stream together.
        return {"items": Pieces(plain(list(result["items"]))), "value": plain(result.get("value"))}  # type: ignore[call-overload]
    return plain(result)


def _drift_age_s(call: KnownCall) -> float:
    checked = call.services.verdict.time_unix_ns
    return (call.services.clock.unix_ns() - checked) / NS if checked else NEVER_S


def _window_s(window: object) -> float:
    """Read the window of a `history` function; the documents were checked, so a text is right."""
    if isinstance(window, timedelta):
        return window.total_seconds()
    text = str(window)
    return float(text[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[text[-1]]


def _history_sum(call: KnownCall) -> object:
    def total(argument: str, window: object, key: str) -> float:
        return call.services.state.memory.total(call.spec.name, argument, key, _window_s(window))

    return total


def _history_count(call: KnownCall) -> object:
    def count(window: object, key: str) -> int:
        return call.services.state.memory.count(call.spec.name, key, _window_s(window))

    return count


def _history_called(call: KnownCall) -> object:
    def called(tool: str, window: object) -> bool:
        last_ns = call.run.last_ns(tool)
        return last_ns is not None and call.services.clock.monotonic_ns() - last_ns <= _window_s(window) * NS

    return called


def _usage(field: str) -> Callable[[KnownCall], object]:
    def read(call: KnownCall) -> object:
        tokens = getattr(call.usage, field) if call.usage is not None else None
        if tokens is None:
            raise KeyError(f"usage.{field}")
        return tokens

    return read


PROVIDERS: Mapping[str, Callable[[KnownCall], object]] = {
    "tool.name": attrgetter("spec.name"),
    "tool.effect": attrgetter("spec.effect"),
    "tool.calls_5m": lambda call: call.services.state.rates.calls(call.spec.name, 300.0),
    "tool.error_rate_5m": lambda call: call.services.state.rates.error_rate(call.spec.name, 300.0),
    "args": _arguments,
    "recipients": _recipients,
    "agent.name": attrgetter("agent"),
    "agent.version": attrgetter("agent_version"),
    "model.name": attrgetter("model"),
    "model.provider": attrgetter("spec.provider"),
    "principal.id": attrgetter("run.principal"),
    "principal.roles": lambda call: list(call.run.roles),
    "run.id": attrgetter("run.run_id"),
    "run.labels": attrgetter("run.labels"),
    "run.calls": attrgetter("run.calls"),
    "run.tool_calls": attrgetter("run.tool_calls"),
    "run.model_calls": attrgetter("run.model_calls"),
    "run.repeats": attrgetter("repeats"),
    "run.errors": attrgetter("run.errors"),
    "run.retries": attrgetter("run.retries"),
    "run.tokens": attrgetter("run.tokens"),
    "run.cost_usd": attrgetter("run.cost_usd"),
    "run.duration_s": lambda call: (call.services.clock.monotonic_ns() - call.run.start_ns) / NS,
    "conversation.id": attrgetter("run.conversation_id"),
    "cost.usd_today": lambda call: call.services.state.spend.usd_today(),
    "tokens.today": lambda call: call.services.state.spend.tokens_today(),
    "env.name": attrgetter("services.config.environment"),
    "env.service": attrgetter("services.config.service"),
    "time.now": lambda call: datetime.fromtimestamp(call.services.clock.unix_ns() / NS, tz=UTC),
    "drift.status": lambda call: str(call.services.verdict.status),
    "drift.kind": attrgetter("services.verdict.kind"),
    "drift.features": lambda call: list(call.services.verdict.drifted),
    "drift.alarmed": attrgetter("services.verdict.alarmed"),
    "drift.age_s": _drift_age_s,
    "quality.features": lambda call: list(call.services.verdict.drifted_data),
    "accuracy.lower": attrgetter("services.verdict.accuracy_lower"),
    "policy.reload_failed": attrgetter("services.reload_failed"),
    "deps.vulnerable": attrgetter("services.vulnerable_dependencies"),
    "deps.age_days_max": attrgetter("services.dependency_age_days_max"),
    "history.sum": _history_sum,
    "history.count": _history_count,
    "history.called": _history_called,
    "result": _result,
    "call.duration_ms": attrgetter("duration_ms"),
    "call.error": attrgetter("error_type"),
    "usage.input_tokens": _usage("input_tokens"),
    "usage.output_tokens": _usage("output_tokens"),
}
"""Where each fact of the catalogue comes from."""


class CallFacts(dict[str, object]):
    """Facts by name; a missing one raises KeyError, which the engine takes as "cannot be evaluated"."""

    __slots__ = ("call",)

    call: Any
    """A `KnownCall`, or what has all that facts are read from."""
    providers: ClassVar[Mapping[str, Callable[[Any], object]]] = PROVIDERS

    def __missing__(self, name: str) -> object:
        try:
            value = self.providers[name](self.call)
        except KeyError:
            if name in PROVIDERS:
                raise
            value = self.call.services.registered_facts[name]()
        self[name] = value
        return value

    def __contains__(self, name: object) -> bool:
        """Whether the fact has a value."""
        try:
            self[name]  # type: ignore[index]
        except KeyError:
            return False
        return True

    def get(self, name: str, default: object = None) -> object:
        """The value of a fact, or the default where it is missing."""
        try:
            return self[name]
        except KeyError:
            return default


def facts_of(call: KnownCall) -> dict[str, object]:
    """Give the facts of a call; those that were read before are not worked out again."""
    facts = call.facts
    if facts is None:
        facts = call.facts = new_facts(call)
    return facts


def new_facts(call: KnownCall) -> CallFacts:
    """Give facts of a call that nobody else sees; what nearly every rule asks for is there already."""
    facts = CallFacts()
    facts.call = call
    spec, arguments = call.spec, call.arguments
    # Putting these in costs less than one look-up that misses.
    if spec.governed_as == "model":
        facts["model.name"] = call.model
    else:
        facts["tool.name"], facts["tool.effect"] = spec.name, spec.effect
    if arguments is not None and FLAT.issuperset(map(type, arguments.values())):
        # The engine asks for them first, whatever the rules are.
        facts["args"] = arguments
    return facts
