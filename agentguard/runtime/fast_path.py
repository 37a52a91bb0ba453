"""
The fast path: how a call begins of which there is nothing to say but that it ran.

Nearly every call is let run without a word, returns, and nobody looked at its span meanwhile. Nothing is
decided here that `calls` would decide otherwise: where this path does not know what to do it has done nothing
yet, and the call begins there.
"""

# ruff: noqa: SLF001 - a call on this path may be inside one of `calls`

from __future__ import annotations

from collections.abc import Callable, Mapping
from sys import modules as _modules
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanContext

from agentguard.capture import GENAI_UTIL, QUEUED_KEY, find_parent
from agentguard.runtime.beginning import begin
from agentguard.runtime.calls import CALL_KEY, GuardedCall
from agentguard.runtime.declaration import IN_CHARGE, Begin, Declaration
from agentguard.runtime.fast_call import FastCall
from agentguard.runtime.lane import Lane, inside_of, lane_of
from agentguard.runtime.mirror import BARE_GETTER
from agentguard.runtime.plain import COMPARABLE
from agentguard.runtime.runs import RUN_KEY, Run
from agentguard.runtime.services import Services
from agentguard.wrapping import current_context

if TYPE_CHECKING:
    # Only the type: it loads the SDK.
    from agentguard.runtime.late_span import LateTracer

_OPEN: Final = object()
_new: Final = dict.__new__


def beginner(lane: Lane) -> Begin:  # noqa: PLR0915 - as `begin`, which is in it
    """
    Make what begins the calls of a lane.

    What they have in common is looked up here, once. What may change is looked at in each call: whether the
    runtime and its rules are those of the lane, whether this is its process, whether anything is stopped.
    """
    services, engine, joins = lane.services, lane.engine, lane.joins
    mark, bits, unix_ns, monotonic_ns = lane.mark, lane.bits, lane.unix_ns, lane.monotonic_ns
    kill, numbers, paged = lane.kill, lane.kill.numbers, lane.kill.PAGED
    needed, siblings = None if lane.is_agent else lane.inside, lane.siblings
    is_as_ever, is_governed = asker(lane), lane.plan is not None
    is_tool, is_model, in_flight, kind = lane.is_tool, lane.is_model, lane.in_flight, lane.kind
    append_later, log_state = lane.append_later, lane.first_log_state

    # One frame: this is the way of most calls.
    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> FastCall | None:
        if IN_CHARGE.runtime is not services or services.engine is not engine:
            return None
        if not mark[0] or GENAI_UTIL in _modules:
            return None
        tracer = None
        # As `has_provider`.
        if joins and (trace._TRACER_PROVIDER is not None or trace.get_tracer_provider is not BARE_GETTER):
            tracer = services.mirror.late_tracer()
            if tracer is None:
                return None
        call = _new(FastCall)
        context = current_context()
        if type(context) is FastCall and context.full is None:
            if needed is not None and context.form.inside is not needed:
                sibling = siblings.get(context.form.inside)
                return None if sibling is None else sibling.begin(args, kwargs)
            far = None if tracer is not None else context.identity
            call.owner = context
            call.around = context.around
            call.run = run = context.run
            call.trace_id = context.trace_id
            call.parent_id = context.span_id
        else:
            found = _found_around(lane, call, context)
            if found is not lane:
                return None if found is None else found.begin(args, kwargs)
            run, far = call.run, call.identity
        call.form, call.args, call.kwargs = lane, args, kwargs
        call.span_id = bits(64) or 1
        call.start_unix_ns = unix_ns()
        call.start_monotonic_ns = started_ns = monotonic_ns()
        try:
            if (numbers[paged] != kill.calm or started_ns > kill.due_ns) and kill.in_force_at(started_ns):
                return None
            if not is_as_ever(call, args, kwargs):
                return None
        except Exception:
            # Whatever it was: `calls` meets it too, and says so.
            return None
        call.own = run.attributes() if run.conversation_id or run.labels else None
        call.full = call.usage = call.totals = call.identity = call.mirror = call.rare = call.stream = None
        if tracer is not None:
            if not _begin_beside(lane, call, tracer, context):
                return None
        elif far is not None:
            call.identity = SpanContext(call.trace_id, call.span_id, False, far.trace_flags, far.trace_state)
        call.has_inner, call.duration_ns, call.log_state, call.is_open = False, -1, log_state, _OPEN
        try:
            in_flight[kind] = call.in_flight = in_flight[kind] + 1
        except KeyError:
            in_flight[kind] = call.in_flight = 1
        # As `Run.count_call`. Taken by its methods, an interrupt in between would leave it locked.
        with run.lock:
            if is_tool:
                run.tool_calls += 1
            elif is_model:
                run.model_calls += 1
            else:
                run.other_calls += 1
        if is_governed:
            append_later(call)
        return call

    return begin


def asker(lane: Lane) -> Callable[[FastCall, tuple[Any, ...], dict[str, Any]], bool]:
    """Make what looks at the arguments of a call, and whether rules say of it what they say of all calls of the lane."""
    binder, monotonic_ns, question, is_governed = (
        lane.spec.binder, lane.monotonic_ns, lane.question, lane.plan is not None,
    )  # fmt: skip
    names, has_receiver = binder.names_in_order or (), binder.skip > 0
    size, keys = -1 if binder.names_in_order is None else len(names), frozenset(names)
    first, second, *_ = *names, "", ""

    def is_as_ever(call: FastCall, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        nonlocal question
        given = args[1:] if has_receiver else args
        count = len(given)
        if count + len(kwargs) != size:
            bound = binder.bind(args, kwargs)
            if bound is None:
                return False
            arguments = bound
        else:
            # As `Binder.bind`; a dict that is written down is made in a fifth of the time that `zip` takes.
            if count == 1:
                arguments = {first: given[0]}
            elif count == 2:
                arguments = {first: given[0], second: given[1]}
            else:
                arguments = dict(zip(names, given))  # noqa: B905 - the others come by name
            if kwargs:
                arguments |= kwargs
                if len(arguments) != size or not keys.issuperset(kwargs):
                    return False
        if is_governed:
            for value in arguments.values():
                of = type(value)
                if of not in COMPARABLE and (of is not float or value - value != 0.0):
                    answer: object = None
                    break
            else:
                answer = question is not None and question(call, arguments)
            if answer is not False:
                if not lane.is_answer(call, arguments):
                    return False
                question = lane.question
            call.evaluation_ns = monotonic_ns() - call.start_monotonic_ns
        return True

    return is_as_ever


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


def _found_around(lane: Lane, call: FastCall, context: Context) -> Lane | None:
    """
    Find what is around a call that is not right inside another one of this path; None where it is not for it.

    The identity of the call is to have the flags and the state of the one that it has then.
    """
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
    call.identity = None
    if span is None:
        call.trace_id, call.parent_id = lane.bits(128) or 1, 0
    else:
        call.trace_id, call.parent_id = span._trace_id, span._span_id
    if context:
        parent, above = find_parent(context, only_ours=not services.mirror.is_visible)
        if above is not span:
            return None
        if parent is not span:
            if type(parent) is not SpanContext or not parent.is_remote:
                return None  # What is said of a call under a foreign span of this process is said there.
            call.identity, call.trace_id, call.parent_id = parent, parent.trace_id, parent.span_id
        elif span is not None and not span.is_usual:
            call.identity = span.get_span_context()
    call.owner = owner
    call.run = (
        Run((lane.bits(128) or 1).to_bytes(16, "big").hex(), start_ns=lane.monotonic_ns())
        if run is None
        else run
    )
    if lane.is_agent:
        return lane
    return lane.siblings.get(
        inside_of("", "") if owner is None else inside_of(owner.agent, owner.agent_version)
    )


def begin_and_learn(
    services: Services, declaration: Declaration, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> GuardedCall | None:
    """
    Begin a call that is not on the fast path, and find out whether those like it can be.

    Args and what is returned or raised are those of `beginning.begin`.
    """
    call = begin(services, declaration, args, kwargs)
    if call is not None:
        lane = declaration.lane
        if not isinstance(lane, Lane) or not lane.is_for(call):
            try:
                made = lane_of(call, lane, beginner)
                if made is not None:
                    declaration.lane, declaration.begin = made, made.begin
            except Exception as error:
                services.health("runtime.fast_path", error)
    return call
