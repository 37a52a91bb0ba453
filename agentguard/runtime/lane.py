"""
What is known of a call before it begins: what calls of one callable have in common under one agent.

Worked out at a call that went the long way without anything coming up; those like it may then take the fast path.
"""

# ruff: noqa: SLF001 - a lane is made of a call and its span

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Final

from agentguard.audit import CallForm
from agentguard.capture import SpanForm
from agentguard.runtime.calls import GuardedCall
from agentguard.runtime.later import Admitted, takes_turns
from agentguard.values import AttributeValue, Decision
from agentguard.values import attributes as names

if TYPE_CHECKING:
    # Only the type: without policies neither YAML nor pydantic is loaded.
    from agentguard.policy import Plan

_LOCAL_PRICE: Final[dict[str, AttributeValue]] = {names.COST_SOURCE: "local"}
_LANES_MAX: Final = 64
"""Agents under which one callable has lanes; then they are made anew."""


class Lane(SpanForm):
    """What the calls of one callable under one agent have in common, in one runtime under one bundle."""

    __slots__ = (
        "agent", "agent_version", "append_later", "binder", "called_name", "constants", "content", "engine", "follow", "forms",
        "governed_as", "ids", "in_flight", "is_agent", "is_model", "is_told_twice", "is_tool", "joins", "kill",
        "monotonic_ns", "own", "plan", "rates", "revision", "services", "siblings", "sink", "spec", "spend", "unix_ns",
    )  # fmt: skip

    def __init__(self, call: GuardedCall, plan: Plan | None, siblings: dict[tuple[str, str], Lane]) -> None:
        """
        Work it out.

        Args:
            call:
                One that could have been on the fast path.
            plan:
                What its kind of question is asked; None where no policies are loaded.
            siblings:
                Lanes of the same callable, by agent and version.
        """
        services, spec = call.services, call.spec
        self.services, self.engine, self.revision = services, services.engine, services.revision
        self.spec, self.binder, self.content = spec, spec.binder, call.content
        self.siblings = siblings
        self.called_name = spec.name
        self.plan = plan
        self.governed_as = spec.governed_as
        self.is_agent, self.is_model = spec.governed_as == "agent", spec.governed_as == "model"
        self.is_tool = spec.governed_as == "tool"
        self.agent, self.agent_version = call.agent, call.agent_version
        # The span, as `calls` would begin it.
        self.environment = environment = call.span._environment
        self.name, self.kind, self.otel_kind = spec.span_name, spec.kind, spec.otel_kind
        self.attributes = spec.attributes
        self.agent_name = "" if self.is_agent else call.agent
        self.own = _LOCAL_PRICE if self.is_model and environment.profile != "compat" else None
        """What stands on the span of a call that we have priced."""
        # Looked up once, for all calls.
        self.unix_ns, self.monotonic_ns = environment.unix_ns, environment.monotonic_ns
        self.in_flight, self.sink = environment.in_flight, environment.sink
        state = services.state
        self.ids, self.kill, self.rates, self.spend = services.ids, state.kill, state.rates, state.spend
        self.append_later = services.journal.append_later
        self.joins = services.mirror.joins
        self.is_told_twice = not takes_turns()
        if services.engine is not None:
            self.follow = services.engine.follow
        self.constants: dict[str, object] = (
            {"model.name": spec.model}
            if self.is_model
            else {"tool.name": spec.name, "tool.effect": spec.effect}
        )
        """Facts that are the same for each call."""
        self.forms: dict[str, tuple[Decision, CallForm]] = {}
        """By principal: what the decision log writes of each call."""

    def is_for(self, call: GuardedCall) -> bool:
        """Whether calls like this one have a lane, this one or a sibling of it."""
        services = call.services
        return (
            self.services is services
            and self.engine is services.engine
            and (call.agent, call.agent_version) in self.siblings
        )


def lane_of(call: GuardedCall, known: object) -> Lane | None:
    """
    Make a lane for calls like one that has just begun, where there can be one.

    Args:
        call:
            Begun by `calls.begin`.
        known:
            The last lane of the callable; None where it has none.

    Returns:
        The lane; None where something has to be looked at in each call.
    """
    services, spec, engine = call.services, call.spec, call.services.engine
    is_model = spec.governed_as == "model"
    if (
        (engine is not None and type(call.ending) is not Admitted)
        or spec.usage is not None
        or spec.conversation_id is not None
        or (is_model and not spec.model)
        or call.content.is_on
        or call.span.is_mirrored
        or inspect.isgeneratorfunction(spec.function)
        or inspect.isasyncgenfunction(spec.function)
    ):
        return None
    plan = None
    if engine is not None:
        name = spec.model if is_model else spec.name
        plan = engine.plan_of(spec.before, call.agent, services.config.environment, name)
        if (
            plan is None
            or engine.has_history
            or (engine.counts_repeats and spec.governed_as == "tool")
            or engine.acts_after(spec.after, name)
        ):
            return None
    siblings: dict[tuple[str, str], Lane] = {}
    if isinstance(known, Lane) and known.services is services and known.engine is engine:
        siblings = known.siblings
    if len(siblings) >= _LANES_MAX:
        siblings.clear()
    made = siblings[call.agent, call.agent_version] = Lane(call, plan, siblings)
    return made
