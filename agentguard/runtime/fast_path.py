"""
The fast path: how a call begins of which there is nothing to say but that it ran.

Nearly every call is let run without a word, returns, and nobody looked at its span meanwhile. Nothing is
decided here that `calls` would decide otherwise: where this path does not know what to do it has done nothing
yet, and the call begins there.
"""

# ruff: noqa: SLF001 - a call on this path may be inside one of `calls`

from __future__ import annotations

from collections.abc import Mapping
from sys import modules as _modules
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanContext

from agentguard.capture import GENAI_UTIL, QUEUED_KEY, find_parent
from agentguard.runtime.calls import CALL_KEY, GuardedCall, begin
from agentguard.runtime.declaration import Declaration
from agentguard.runtime.fast_call import FastCall, FastFacts
from agentguard.runtime.lane import Lane, lane_of
from agentguard.runtime.mirror import has_provider
from agentguard.runtime.plain import COMPARABLE, plain
from agentguard.runtime.runs import RUN_KEY, Run, new_run
from agentguard.runtime.services import Services
from agentguard.values import Decision
from agentguard.wrapping import current_context

if TYPE_CHECKING:
    # Only the type: it loads the SDK.
    from agentguard.runtime.late_span import LateTracer

_OPEN: Final = object()
_new: Final = dict.__new__


def begin_fast(  # noqa: PLR0915 - one frame, and every attribute once: this is the way of most calls
    lane: Lane, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> FastCall | None:
    """
    Begin a call.

    Args:
        lane:
            One of the callable, in the runtime that is set up.
        args:
            Positional arguments, a receiver included.
        kwargs:
            Keyword arguments.

    Returns:
        The call; None where it is not for this path: then nothing has happened.
    """
    services = lane.services
    if services.engine is not lane.engine or GENAI_UTIL in _modules:
        return None
    tracer = None
    if lane.joins and has_provider():
        tracer = services.mirror.late_tracer()
        if tracer is None:
            return None
    call = _new(FastCall)
    context = current_context()
    if type(context) is FastCall and context.full is None:
        if not lane.is_agent:
            above = context.form
            if above.agent != lane.agent or above.agent_version != lane.agent_version:
                sibling = lane.siblings.get((above.agent, above.agent_version))
                if sibling is None:
                    return None
                lane = sibling
        if tracer is None and context.identity is not None:
            return None
        call.owner = context
        call.around = context.around
        call.run = run = context.run
        call.trace_id = context.trace_id
        call.parent_id = context.span_id
    else:
        found = _found_around(lane, call, context, is_beside=tracer is not None)
        if found is None:
            return None
        lane, run = found, call.run
    call.form = lane
    call.args = args
    call.kwargs = kwargs
    call.span_id = lane.ids.span_id()
    call.start_unix_ns = lane.unix_ns()
    call.start_monotonic_ns = started_ns = lane.monotonic_ns()
    try:
        if lane.kill.in_force_at(started_ns):
            return None
        arguments: Mapping[str, Any] | None
        given = args[1:] if lane.has_receiver else args
        if len(given) == lane.size and not kwargs:
            arguments = dict(zip(lane.names, given))  # noqa: B905 - there are as many
        else:
            arguments = _by_name(lane, args, given, kwargs)
            if arguments is None:
                return None
        if lane.plan is not None:
            if lane.decision is not _decision(lane, call, arguments):
                return None
            call.evaluation_ns = lane.monotonic_ns() - started_ns
    except Exception:
        # Whatever it was: `calls` meets it too, and says so.
        return None
    call.own = run.attributes() if run.conversation_id or run.labels else None
    call.full = call.usage = call.totals = call.identity = call.mirror = call.rare = call.stream = None
    if tracer is not None and not _begin_beside(lane, call, tracer, context):
        return None
    call.has_inner = False
    call.duration_ns = -1
    call.log_state = lane.first_log_state
    call.is_open = _OPEN
    in_flight, kind = lane.in_flight, lane.kind
    try:
        in_flight[kind] = call.in_flight = in_flight[kind] + 1
    except KeyError:
        in_flight[kind] = call.in_flight = 1
    run.count_call(is_tool=lane.is_tool, is_model=lane.is_model)
    if lane.plan is not None:
        lane.append_later(call)
    return call


def _by_name(
    lane: Lane, args: tuple[Any, ...], given: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    """Name the arguments of a call, some of which come by name; as `Binder.bind`, quicker where each parameter is given."""
    if len(given) + len(kwargs) == lane.size and len(given) < 2:
        arguments = {lane.first_name: given[0], **kwargs} if given else kwargs
        if arguments.keys() == lane.keys:
            return arguments
    return lane.binder.bind(args, kwargs)


def _decision(lane: Lane, call: FastCall, arguments: Mapping[str, Any]) -> Decision:
    """Ask the rules, as `deciding.judge` does."""
    facts = FastFacts(lane.constants)
    facts.call = call
    for value in arguments.values():
        kind = type(value)
        if kind not in COMPARABLE and (kind is not float or value - value != 0.0):
            facts["args"] = plain(arguments)
            return lane.follow(facts)
    facts["args"] = arguments
    silence = lane.silence
    if silence is None:
        silence = lane.learn_silence()
    return (
        silence.decision
        if silence is not None and silence.question(facts) == silence.nothing
        else lane.follow(facts)
    )


def _begin_beside(lane: Lane, call: FastCall, tracer: LateTracer, context: Context) -> bool:
    """Begin the span of the application's provider, as `Mirror.begin` does; False where that has to."""
    parent = context.identity if type(context) is FastCall else None
    try:
        if parent is None:
            parent = trace.get_current_span(context).get_span_context()
        mirror = tracer.decide(lane.name, context, parent, lane.span_kind, call.held)
        if mirror is None:
            return False
        identity = mirror.get_span_context()
        if not identity.is_valid:
            return False
    except Exception:
        # The sampler may be of any make. It is asked again, and what it raises is told of.
        return False
    try:
        tracer.announce(mirror, context)
    except Exception as error:
        # A processor, which may be of any make too. Others have heard of the span, so none is begun again.
        lane.environment.on_internal_error("capture.mirror", error)
        if parent.is_valid:
            call.identity = SpanContext(
                call.trace_id, call.span_id, False, parent.trace_flags, parent.trace_state
            )
        return True
    call.identity, call.mirror = identity, mirror
    call.trace_id, call.span_id = identity.trace_id, identity.span_id
    return True


def _found_around(lane: Lane, call: FastCall, context: Context, *, is_beside: bool) -> Lane | None:
    """Find what is around a call that is not right inside another one of this path; None where it is not for it."""
    services = lane.services
    owner: GuardedCall | None = None
    run: Run | None = None
    if not context:
        call.around = context
    elif type(context) is FastCall:
        owner, run, call.around = context.full, context.run, context.around
        if owner is None:
            return None  # It grows at this moment.
    elif QUEUED_KEY in context:
        return None
    else:
        # Nobody else has these keys: what is under them is ours.
        owner, run = context.get(CALL_KEY), context.get(RUN_KEY)  # type: ignore[assignment]
        call.around = context
    span = None if owner is None else owner.span
    if context:
        parent, above = find_parent(context, only_ours=not services.mirror.is_visible)
        # The span of a provider knows what has been decided about its trace.
        is_usual = is_beside or span is None or span.is_usual
        if parent is not span or above is not span or not is_usual:
            return None
    if span is None:
        call.trace_id, call.parent_id = services.ids.trace_id(), 0
    else:
        call.trace_id, call.parent_id = span._trace_id, span._span_id
    call.owner = owner
    call.run = new_run(services.ids, services.clock) if run is None else run
    if lane.is_agent:
        return lane
    agent, version = ("", "") if owner is None else (owner.agent, owner.agent_version)
    if agent == lane.agent and version == lane.agent_version:
        return lane
    return lane.siblings.get((agent, version))


def begin_and_learn(
    services: Services, declaration: Declaration, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> GuardedCall | None:
    """
    Begin a call that is not on the fast path, and find out whether those like it can be.

    Args and what is returned or raised are those of `calls.begin`.
    """
    call = begin(services, declaration, args, kwargs)
    if call is not None:
        lane = declaration.lane
        if not isinstance(lane, Lane) or not lane.is_for(call):
            try:
                declaration.lane = lane_of(call, lane, begin_fast) or declaration.lane
            except Exception as error:
                services.health("runtime.fast_path", error)
    return call
