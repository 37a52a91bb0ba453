"""
How a call begins: its span, the decision on it, and the record of that.

What may wait for the disk, or for people, is put off in a coroutine until it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from agentguard.errors import CallDenied
from agentguard.runtime.calls import GuardedCall
from agentguard.runtime.deciding import judge, record_of, undecidable
from agentguard.runtime.declaration import Declaration
from agentguard.runtime.falling_back import send_on
from agentguard.runtime.later import Admitted
from agentguard.runtime.services import Services
from agentguard.runtime.spec import CallSpec, spec_of
from agentguard.runtime.waiting import admit_in_thread
from agentguard.values import Effect, RecordMode

MakeCall = Callable[[Services, CallSpec, tuple[Any, ...], Mapping[str, Any]], GuardedCall]


def begin(
    services: Services,
    declaration: Declaration,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    make: MakeCall = GuardedCall,
) -> GuardedCall | None:
    """
    Begin one call: span, decision, record.

    Args:
        services:
            The wired whole.
        declaration:
            What was decorated.
        args:
            Positional arguments, a receiver included.
        kwargs:
            Keyword arguments.
        make:
            Makes the call.

    Returns:
        The call, whose `args` and `kwargs` are to be used; None where the
        function runs as if it were not wrapped.

    Raises:
        CallDenied: Policy said no.
        ApprovalPending: A person must decide first.
    """
    try:
        spec = declaration.spec
        if type(spec) is not CallSpec:
            spec = spec_of(declaration)
        call = make(services, spec, args, kwargs)
        if call.arguments is None and spec.binder.is_exact:
            call.span.discard()
            return None  # The call itself raises the TypeError that the caller is to see.
        engine = services.engine
        if engine is not None and engine.counts_repeats and spec.governed_as == "tool":
            call.count()
    except Exception as error:
        services.health("runtime.begin", error)
        if services.engine is None:
            return None
        raise CallDenied(undecidable(services, declaration, type(error).__name__)) from None
    monotonic_ns = services.clock.monotonic_ns
    started_ns = monotonic_ns()
    decision = judge(call, spec.before, engine)
    call.enter_run()
    if decision is None:
        return call
    revision = engine.bundle.revision if engine is not None else ""
    evaluation_ns = monotonic_ns() - started_ns
    if decision.is_plain and engine is not None and not engine.has_history:
        call.admit_later(Admitted(call, spec.before, decision, revision, evaluation_ns))
        return call
    record = record_of(call, spec.before, decision, revision, evaluation_ns)
    if decision.fallbacks:
        record = send_on(call, record)
        decision = record.decision
    if spec.is_async and (
        decision.record is not RecordMode.ASYNC
        or not decision.is_allowed
        or decision.redact
        or decision.gates
    ):
        is_light = not (
            decision.gates
            or decision.kill_scope
            or decision.redact
            or decision.effect is Effect.REQUIRE_APPROVAL
            or (services.engine is not None and services.engine.has_history)
        )
        call.admission = (
            partial(call.admit_async, record) if is_light else partial(admit_in_thread, call, record)
        )
        return call
    call.admit(record)
    return call
