"""
What is known of a call before it begins: what calls of one callable have in common under one agent.

Worked out at a call that went the long way without anything coming up; those like it may then take the fast path.
"""

# ruff: noqa: SLF001 - a lane is made of a call and its span

from __future__ import annotations

from collections.abc import Callable, Mapping
from sys import intern
from typing import TYPE_CHECKING, Any, Final

from agentguard.audit import CallForm
from agentguard.capture import UNPRICED, SpanForm
from agentguard.runtime.calls import GuardedCall
from agentguard.runtime.config import Config
from agentguard.runtime.declaration import Begin
from agentguard.runtime.facts import PROVIDERS, CallFacts
from agentguard.runtime.later import Admitted, takes_turns
from agentguard.runtime.mirror import KINDS
from agentguard.runtime.plain import plain
from agentguard.runtime.spec import CallSpec
from agentguard.values import AttributeValue, Decision
from agentguard.values import attributes as names

if TYPE_CHECKING:
    # Only the types: without policies neither YAML nor pydantic is loaded.
    from agentguard.policy import Engine, Plan

UNTOLD, DUE, TOLD = range(3)
"""What the decision log knows of a call's end: it need not be told yet, it must be, it has seen it."""
_LOCAL_PRICE: Final[dict[str, AttributeValue]] = {names.COST_SOURCE: "local"}
_LANES_MAX: Final = 64
"""Agents under which one callable has lanes; then they are made anew."""
_OFTEN: Final = 256
"""Calls after which their question gets a function of its own: what it takes to make it delays one call."""
_COUNTERS: Final = ("run.calls", "run.tool_calls", "run.model_calls")
"""Facts that are whole numbers of ours, under the same names as on the call."""


class Lane(SpanForm):
    """What the calls of one callable under one agent have in common, in one runtime under one bundle."""

    __slots__ = (
        "agent",
        "agent_version",
        "append_later",
        "begin",
        "bits",
        "call_form",
        "content",
        "decision",
        "engine",
        "first_log_state",
        "ids",
        "in_flight",
        "inside",
        "is_agent",
        "is_model",
        "is_tool",
        "joins",
        "kill",
        "known",
        "last_5m",
        "left",
        "mark",
        "model_rates",
        "monotonic_ns",
        "own",
        "plan",
        "question",
        "rates",
        "revision",
        "services",
        "siblings",
        "sink",
        "span_kind",
        "spec",
        "spend",
        "unix_ns",
        "usual_result",
        "usual_stream",
    )  # fmt: skip

    begin: Begin
    """Begins a call; made of all else."""

    def __init__(
        self, call: GuardedCall, plan: Plan | None, decision: Decision | None, siblings: dict[str, Lane]
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
                Lanes of the same callable, by what is `inside` them.
        """
        services, spec = call.services, call.spec
        state, environment = services.state, call.span._environment
        self.services, self.engine, self.revision = services, services.engine, services.revision
        self.spec, self.content = spec, call.content
        self.siblings = siblings
        self.is_agent, self.is_model = spec.governed_as == "agent", spec.governed_as == "model"
        self.is_tool = spec.governed_as == "tool"
        self.agent, self.agent_version = call.agent, call.agent_version
        self.inside = inside_of(call.agent, call.agent_version)
        """The agent in whose hands calls inside these are: one object for each, to be compared by identity."""
        # The span, as `calls` would begin it.
        self.environment = environment
        self.name, self.kind, self.otel_kind = spec.span_name, spec.kind, spec.otel_kind
        self.attributes = spec.attributes
        self.agent_name = "" if self.is_agent else call.agent
        self.own = _LOCAL_PRICE if self.is_model and environment.profile != "compat" else None
        """What stands on the span of a call that we have priced."""
        # The question, as `calls` would ask it.
        self.plan, self.decision = plan, decision
        self.known = _known(spec, services.config, call.agent, call.agent_version)
        """Facts that are the same for each call."""
        self.question: Callable[[Any, object], object] | None = _not_known
        """Asks what is left of all rules; gives False where none has anything to say. None: none ever has."""
        self.left = _OFTEN
        """Calls until that is made; negative: never."""
        # The record, as `calls` would have it written.
        self.append_later = services.journal.append_later
        self.first_log_state = UNTOLD if takes_turns() or plan is None else DUE
        self.call_form: CallForm | None = None
        """What the decision log writes of all calls; it makes it when it first writes of one."""
        # Looked up once, for all calls.
        self.joins, self.span_kind = services.mirror.joins, KINDS[spec.otel_kind]
        self.ids = services.ids
        self.mark, self.bits = self.ids.drawing()
        self.unix_ns, self.monotonic_ns = environment.unix_ns, environment.monotonic_ns
        self.model_rates = UNPRICED if environment.rates is None else environment.rates
        self.in_flight, self.sink = environment.in_flight, environment.sink
        self.kill, self.spend = state.kill, state.spend
        self.rates = state.rates.of(spec.name) if self.is_tool else None
        self.last_5m = self.rates.window(300.0) if self.rates is not None else None
        self.usual_result: type | None = None
        """Class of the last result that was no stream: nearly all are of one."""
        self.usual_stream: type | None = None
        """Class of the last one that was."""

    def is_answer(self, call: Any, arguments: Mapping[str, Any]) -> bool:
        """Ask each rule, as `deciding.judge` does; False where they say anything else than they usually do."""
        assert self.engine is not None
        assert self.plan is not None
        self.left -= 1
        if self.left == 0:
            self._learn(self.engine, self.plan)
        facts = CallFacts({**self.known, "args": plain(arguments)})
        facts.call = call
        return self.engine.follow(self.plan, facts) is self.decision

    def _learn(self, engine: Engine, plan: Plan) -> None:
        """Make what is asked from now on."""
        # Imported here: there is an engine, so policies are loaded; without them they never are.
        from agentguard.policy import CountedFact, FactSources

        counters = {name: CountedFact(tuple(name.split("."))) for name in _COUNTERS}
        others: dict[str, Callable[[Any], object]] = dict(PROVIDERS)
        if (recent := self.last_5m) is not None:
            counters["tool.calls_5m"] = CountedFact(("start_unix_ns",), recent.calls)
            others["tool.error_rate_5m"] = lambda call: recent.error_rate(call.start_unix_ns)
        silence = engine.silence_of(plan, FactSources(self.known, counters, others))
        if silence is not None and silence.decision is self.decision:
            self.question = silence.question

    def is_for(self, call: GuardedCall) -> bool:
        """Whether calls like this one have a lane, this one or a sibling of it."""
        services = call.services
        return (
            self.services is services
            and self.engine is services.engine
            and self.mark[0] == 1  # As long as this is the process in which it was made.
            and inside_of(call.agent, call.agent_version) in self.siblings
        )


def inside_of(agent: str, version: str) -> str:
    """Give the one object that stands for an agent in one version."""
    return intern(f"{agent}\0{version}")


def _known(spec: CallSpec, config: Config, agent: str, version: str) -> dict[str, str]:
    """Name the facts that are the same for each call of a callable under an agent."""
    found = {
        "agent.name": agent,
        "agent.version": version,
        "env.name": config.environment,
        "env.service": config.service,
    }
    if spec.governed_as == "tool":
        found |= {"tool.name": spec.name, "tool.effect": spec.effect}
    elif spec.governed_as == "model":
        found |= {"model.name": spec.model, "model.provider": spec.provider}
    return found


def _not_known(_call: object, _args: object) -> bool:
    """Stand for what is not made yet."""
    return True


def lane_of(call: GuardedCall, known: object, beginner: Callable[[Lane], Begin]) -> Lane | None:
    """
    Make a lane for calls like one that has just begun, where there can be one.

    Args:
        call:
            Begun by `beginning.begin`.
        known:
            The last lane of the callable; None where it has none.
        beginner:
            Makes what begins calls on a lane.

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
    siblings: dict[str, Lane] = {}
    if isinstance(known, Lane) and known.services is services and known.engine is engine and known.mark[0]:
        siblings = known.siblings
    if len(siblings) >= _LANES_MAX:
        siblings.clear()
    made = Lane(call, plan, decision, siblings)
    made.begin = beginner(made)
    siblings[made.inside] = made
    return made
