"""
What is known of a call before it begins: what calls of one callable have in common under one agent.

Worked out at a call that went the long way without anything coming up; those like it may then take the fast path.
"""

# ruff: noqa: SLF001 - a lane is made of a call and its span

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from agentguard.audit import CallForm
from agentguard.capture import UNPRICED, SpanForm
from agentguard.runtime.calls import GuardedCall
from agentguard.runtime.facts import PROVIDERS
from agentguard.runtime.later import Admitted, takes_turns
from agentguard.runtime.mirror import KINDS
from agentguard.values import AttributeValue, Decision
from agentguard.values import attributes as names

if TYPE_CHECKING:
    # Only the type: without policies neither YAML nor pydantic is loaded.
    from agentguard.policy import Plan, Silence

UNTOLD, DUE, TOLD = range(3)
"""What the decision log knows of a call's end: it need not be told yet, it must be, it has seen it."""
_LOCAL_PRICE: Final[dict[str, AttributeValue]] = {names.COST_SOURCE: "local"}
_LANES_MAX: Final = 64
"""Agents under which one callable has lanes; then they are made anew."""


class Lane(SpanForm):
    """What the calls of one callable under one agent have in common, in one runtime under one bundle."""

    __slots__ = (
        "agent",
        "agent_version",
        "append_later",
        "begin",
        "binder",
        "constants",
        "content",
        "decision",
        "engine",
        "first_log_state",
        "first_name",
        "forms",
        "has_receiver",
        "ids",
        "in_flight",
        "is_agent",
        "is_model",
        "is_tool",
        "joins",
        "keys",
        "kill",
        "last_5m",
        "model_rates", "monotonic_ns",
        "names",
        "own",
        "plan",
        "rates",
        "revision",
        "services",
        "siblings",
        "silence",
        "sink",
        "size",
        "span_kind",
        "spec",
        "spend",
        "unix_ns",
    )  # fmt: skip

    def __init__(
        self,
        call: GuardedCall,
        plan: Plan | None,
        decision: Decision | None,
        siblings: dict[tuple[str, str], Lane],
        begin: Callable[..., Any],
    ) -> None:
        """
        Work it out.

        Args:
            call:
                One that could have been on the fast path.
            plan:
                What its kind of question is asked; None where no policies are loaded.
            decision:
                The answer where no rule has anything to say; None as above.
            siblings:
                Lanes of the same callable, by agent and version.
            begin:
                Begins a call on this lane.
        """
        self.begin = begin
        services, spec = call.services, call.spec
        state, environment = services.state, call.span._environment
        self.services, self.engine, self.revision = services, services.engine, services.revision
        self.spec, self.binder, self.content = spec, spec.binder, call.content
        self.siblings = siblings
        self.is_agent, self.is_model = spec.governed_as == "agent", spec.governed_as == "model"
        self.is_tool = spec.governed_as == "tool"
        self.agent, self.agent_version = call.agent, call.agent_version
        # The span, as `calls` would begin it.
        self.environment = environment
        self.name, self.kind, self.otel_kind = spec.span_name, spec.kind, spec.otel_kind
        self.attributes = spec.attributes
        self.agent_name = "" if self.is_agent else call.agent
        self.own = _LOCAL_PRICE if self.is_model and environment.profile != "compat" else None
        """What stands on the span of a call that we have priced."""
        # The question, as `calls` would ask it.
        self.plan, self.decision = plan, decision
        self.silence: Silence | None = None
        """Set when the question has been asked often."""
        self.constants: dict[str, object] = (
            {"model.name": spec.model}
            if self.is_model
            else {"tool.name": spec.name, "tool.effect": spec.effect}
        )
        """Facts that are the same for each call."""
        in_order, self.has_receiver = spec.binder.names_in_order, spec.binder.skip > 0
        self.names = in_order or ()
        """Of the parameters, where each can be given by place or by name; else see the binder."""
        self.first_name = self.names[0] if self.names else ""
        self.keys, self.size = frozenset(self.names), -1 if in_order is None else len(self.names)
        # The record, as `calls` would have it written.
        self.append_later = services.journal.append_later
        self.first_log_state = UNTOLD if takes_turns() or plan is None else DUE
        self.forms: dict[str, CallForm] = {}
        """By principal: what the decision log writes of each call."""
        # Looked up once, for all calls.
        self.joins, self.span_kind = services.mirror.joins, KINDS[spec.otel_kind]
        self.ids, self.unix_ns, self.monotonic_ns = (
            services.ids,
            environment.unix_ns,
            environment.monotonic_ns,
        )
        self.model_rates = UNPRICED if environment.rates is None else environment.rates
        self.in_flight, self.sink = environment.in_flight, environment.sink
        self.kill, self.spend = state.kill, state.spend
        self.rates = state.rates.of(spec.name) if self.is_tool else None
        self.last_5m = self.rates.window(300.0) if self.rates is not None else None

    def follow(self, facts: Mapping[str, object]) -> Decision:
        """Ask each rule."""
        assert self.engine is not None
        assert self.plan is not None
        return self.engine.follow(self.plan, facts)

    def learn_silence(self) -> Silence | None:
        """Look whether there is by now what can be asked instead of each rule."""
        assert self.engine is not None
        assert self.plan is not None
        self.silence = found = self.engine.silence_of(self.plan)
        return found

    def is_for(self, call: GuardedCall) -> bool:
        """Whether calls like this one have a lane, this one or a sibling of it."""
        services = call.services
        return (
            self.services is services
            and self.engine is services.engine
            and (call.agent, call.agent_version) in self.siblings
        )


def lane_of(call: GuardedCall, known: object, begin: Callable[..., Any]) -> Lane | None:
    """
    Make a lane for calls like one that has just begun, where there can be one.

    Args:
        call:
            Begun by `calls.begin`.
        known:
            The last lane of the callable; None where it has none.
        begin:
            Begins a call on a lane: takes the lane, and positional and keyword arguments.

    Returns:
        The lane; None where something has to be looked at in each call.
    """
    services, spec, engine = call.services, call.spec, call.services.engine
    is_model = spec.governed_as == "model"
    if (
        spec.usage is not None
        or spec.conversation_id is not None
        or (is_model and not spec.model)
        or call.content.is_on
    ):
        return None
    plan = decision = None
    if engine is not None:
        name = spec.model if is_model else spec.name
        plan = engine.plan_of(spec.before, call.agent, services.config.environment, name)
        if (
            plan is None
            or type(call.ending) is not Admitted
            or engine.has_history
            # A fact of the application's own is asked once a call, and here it may be asked in vain.
            or not engine.reads_of(plan) <= PROVIDERS.keys()
            or (engine.counts_repeats and spec.governed_as == "tool")
            or engine.acts_after(spec.after, name)
        ):
            return None
        decision = call.ending.decision
    siblings: dict[tuple[str, str], Lane] = {}
    if isinstance(known, Lane) and known.services is services and known.engine is engine:
        siblings = known.siblings
    if len(siblings) >= _LANES_MAX:
        siblings.clear()
    made = siblings[call.agent, call.agent_version] = Lane(call, plan, decision, siblings, begin)
    return made
