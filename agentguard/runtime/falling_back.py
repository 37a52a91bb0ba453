"""
Calls that a rule sends to another model or function.

What the call goes to is asked about anew, with the facts of what it is then;
limits, approvals, record and span are those of what really runs. What cannot
be sent there is denied.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agentguard.errors import PolicyEvaluationError
from agentguard.runtime.arguments import Binder
from agentguard.runtime.deciding import decide, undecided
from agentguard.runtime.known import Detour
from agentguard.runtime.registering import StandIn, stand_ins
from agentguard.runtime.spec import CallSpec, make_spec
from agentguard.values import Decision, DecisionRecord, DenialKind, Effect, Fallback, Point
from agentguard.values import attributes as names

if TYPE_CHECKING:
    from agentguard.runtime.known import KnownCall


def send_on(call: KnownCall, record: DecisionRecord) -> DecisionRecord:
    """
    Follow the fallbacks that hold whatever state says.

    Args:
        call:
            The call; what it runs and with which arguments is changed.
        record:
            What the engine decided about it.

    Returns:
        The decision about what the call has become.
    """
    # Imported here, as below: a decision with fallbacks comes of documents, so `policy` is loaded already.
    from agentguard.policy import fallback_of

    while record.decision.fallbacks:
        fallback = fallback_of(record.decision, name=called(call))
        if fallback is None:
            break
        record = _send(call, record, fallback, "")
    return record


def send_on_refused(call: KnownCall, record: DecisionRecord, refused: Decision) -> DecisionRecord | None:
    """
    Follow the fallback that stands in for a limit.

    Args:
        call:
            The call; what it runs and with which arguments is changed.
        record:
            What the engine decided, before the limit was asked.
        refused:
            What the limit says.

    Returns:
        The decision about what the call has become; None where it stays refused. What could not be asked is no
        limit that refuses.
    """
    from agentguard.policy import fallback_of

    if refused.kind is not DenialKind.WAIT or not record.decision.fallbacks:
        return None
    fallback = fallback_of(
        record.decision, name=called(call), refused_by=refused.rule_id, policy=refused.policy
    )
    if fallback is None:
        return None
    return send_on(call, _send(call, record, fallback, f" ({refused.reason})"))


def called(call: KnownCall) -> str:
    """Name what the call is to: a model, tool or agent."""
    return call.model if call.spec.governed_as == "model" else call.spec.name


def _send(call: KnownCall, record: DecisionRecord, fallback: Fallback, because: str) -> DecisionRecord:
    """Send a call to one model or function, and ask about it there."""
    from agentguard.policy import FALLBACKS_MAX, carried

    before, demanded = call.detour, record.decision
    was = called(call)
    path = (*(before.path if before is not None else ()), was)
    target = fallback.model or fallback.function
    try:
        if target in path:
            raise PolicyEvaluationError(f"fallbacks go in a circle: {' to '.join((*path, target))}")
        if len(path) > FALLBACKS_MAX:
            raise PolicyEvaluationError(f"more than {FALLBACKS_MAX} fallbacks one after the other")
        if fallback.model:
            _use_model(call, fallback.model)
        else:
            _use_function(call, fallback.function)
    except Exception as error:
        said = str(error) if isinstance(error, PolicyEvaluationError) else type(error).__name__
        return record._replace(decision=_impossible(demanded, fallback, said))
    why = f"sent from {was or 'an unnamed model'} to {fallback.target} by {fallback.rule_id}{because}"
    rules = (*(before.rules if before is not None else ()), f"{fallback.policy}/{fallback.rule_id}")
    call.detour = Detour(path, rules, demanded, why)
    call.facts = None
    call.span.set_attributes({names.FALLBACK_FROM: path[0], names.FALLBACK_RULE_ID: ",".join(rules)})
    again = decide(call, Point(record.point))
    engine = call.services.engine
    if again is None or engine is None:
        return record._replace(decision=undecided("no policies are in force any more"))
    return again._replace(decision=carried(engine.bundle, demanded, again.decision, why))


def _impossible(decision: Decision, fallback: Fallback, said: str) -> Decision:
    """Deny a call that a rule sends where it cannot go."""
    what = f"{fallback.rule_id}: no fallback to {fallback.target}: {said}"
    return replace(
        decision,
        effect=Effect.DENY,
        rule_id=fallback.rule_id,
        policy=fallback.policy,
        kind=DenialKind.FORBIDDEN,
        reason=f"denied because it cannot be sent on: {what}",
        agent_message="",
        errors=(*decision.errors, what),
        approval=None,
        wait_s=0.0,
        gates=(),
        fallbacks=(),
    )


def _use_model(call: KnownCall, model: str) -> None:
    """Put another model into the arguments."""
    arguments = call.arguments
    if arguments is None or not isinstance(arguments.get("model", 0), str | None):
        raise PolicyEvaluationError(
            f"{call.spec.name} takes no argument `model`; send it to a registered function"
        )
    changed = {**arguments, "model": model}
    call.args, call.kwargs = call.spec.binder.unbind(changed, receiver=call.args)
    call.arguments = changed
    call.name_model(model)


def _use_function(call: KnownCall, name: str) -> None:
    """Put another function in place of the one that was called, with the same arguments by name."""
    found = stand_ins().get(name)
    if found is None:
        raise PolicyEvaluationError("it is not registered")
    was = call.spec
    spec = _spec(found, was, name)
    if call.arguments is None:
        raise PolicyEvaluationError("the arguments do not fit the signature")
    bound = spec.binder.bind((), call.arguments)
    if bound is None:
        raise PolicyEvaluationError(f"it does not take the arguments of {was.name}")
    call.args, call.kwargs = spec.binder.unbind(bound, receiver=())
    call.arguments = bound
    call.spec = spec
    call.replacement = found.function
    call.span.set_attributes(spec.attributes)
    if spec.governed_as == "model":
        call.name_model(spec.model or name)
    else:
        if spec.governed_as == "agent":
            call.agent, call.agent_version = name, spec.version
        call.span.update_name(spec.span_name)


def _spec(found: StandIn, was: CallSpec, name: str) -> CallSpec:
    """Describe a function that stands in for another: what it is, and how the other was called."""
    options = dict(found.options)
    kind = options.pop("kind", was.kind)
    spec = make_spec(found.function, kind=kind, **{**options, "name": name})
    if spec.governed_as != was.governed_as:
        raise PolicyEvaluationError(f"it is a {spec.governed_as}, and {was.name} a {was.governed_as}")
    ours, theirs = _shape(found.function), _shape(was.function)
    if ours != theirs:
        raise PolicyEvaluationError(f"it is {ours}, and {was.name} {theirs}")
    return replace(
        spec, kind=was.kind, operation=was.operation, otel_kind=was.otel_kind, capture=was.capture,
        binder=Binder(found.function), is_async=was.is_async, provider=spec.provider or was.provider,
    )  # fmt: skip


_SHAPES: tuple[tuple[Callable[[Any], bool], str], ...] = (
    (inspect.isasyncgenfunction, "an async generator function"),
    (inspect.iscoroutinefunction, "a coroutine function"),
    (inspect.isgeneratorfunction, "a generator function"),
)


def _shape(function: Callable[..., Any]) -> str:
    """Say how a function is called: what stands in for it must be called the same way."""
    call = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
    return next((said for is_such, said in _SHAPES if is_such(function) or is_such(call)), "a plain function")
