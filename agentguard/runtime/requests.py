"""
Requests of a wrapped client: one request to a model is one governed call.

Takes what an adapter knows of the request (its body, how to send it), gives
the SDK's own result. An adapter in `integrations` finds the requests; policy,
span and record are those of every other call.

Inside a function with `@agentguard.model` a request joins the span of that
call, so that nothing is counted twice: its parameters, tokens and retries are
noted there. Policy is asked for both, because only the request says which model
is really called and with what.
"""

from __future__ import annotations

import types
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from opentelemetry.context import Context, get_current

from agentguard.capture import Span, is_stream, watch_stream
from agentguard.runtime.active import governing
from agentguard.runtime.beginning import MakeCall, begin
from agentguard.runtime.calls import CALL_KEY, GuardedCall
from agentguard.runtime.deciding import decide
from agentguard.runtime.declaration import Declaration
from agentguard.runtime.facts import facts_of
from agentguard.runtime.gates import release
from agentguard.runtime.holding import withhold
from agentguard.runtime.later import Admitted
from agentguard.runtime.results import follow_stream
from agentguard.runtime.services import Services
from agentguard.runtime.spec import CallSpec
from agentguard.values import AttributeValue, DecisionRecord, StateGate, Usage
from agentguard.values import attributes as names
from agentguard.wrapping import attach, detach

T = TypeVar("T")

_SAMPLED = (names.SERVER_ADDRESS, names.SERVER_PORT)
_GENERATORS = (types.GeneratorType, types.AsyncGeneratorType)


class RequestCall(GuardedCall):
    """A request with a span of its own."""

    __slots__ = ()

    def finish(self, result: Any) -> Any:
        """End the call with the SDK's result, or follow it where it is a stream."""
        if not self.is_ended and _is_streamed(result):
            return follow_stream(result, self)
        return super().finish(result)

    async def finish_async(self, result: Any) -> Any:
        """Do as `finish`, with what may wait for the disk in a thread."""
        if _is_streamed(result):
            return self.finish(result)
        return await super().finish_async(result)

    def withhold(self, what: str) -> None:
        """
        Deny a result that a rule is to judge and that cannot be shown to it.

        Args:
            what:
                Why, for the reviewer.

        Raises:
            CallDenied: Always.
        """
        withhold(self, what)


class JoinedCall(RequestCall):
    """A request inside a guarded model call: judged by itself, recorded on the span of that call."""

    __slots__ = ("_outer",)

    def __init__(
        self,
        outer: GuardedCall,
        services: Services,
        spec: CallSpec,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> None:
        self._outer = outer
        self.services = services
        self.spec = spec
        self.args = args
        self.kwargs = kwargs
        self.arguments = spec.binder.bind(args, kwargs)
        self.admission = None
        self.result = None
        self.error_type = ""
        self.is_ended = False
        self.facts = None
        self.ending = None
        self.repeats = 0
        self.tickets = ()
        self.detour = None
        self.replacement = None
        self.owner = None
        self.unpriced_usd = 0.0
        self.run = outer.run
        self.agent, self.agent_version = outer.agent, outer.agent_version
        self.model = self._requested_model()
        self.content = outer.content
        self.stream = None
        self.span = outer.span
        self.context = self._outside = get_current()
        if self.model and not outer.model:
            outer.model = self.model
            outer.span.set_attribute(names.REQUEST_MODEL, self.model)
            outer.span.update_name(names.span_name(outer.spec.operation, self.model))
        known = outer.span.attributes
        outer.span.set_attributes(
            {name: value for name, value in spec.attributes.items() if name not in known}
        )

    def open_gates(self, record: DecisionRecord) -> DecisionRecord:
        """Leave out what the outer call has been charged with already: it is one model call."""
        if not record.decision.gates:
            return record
        first = decide(self._outer, self._outer.spec.before)
        asked = {_counted(gate, self._outer) for gate in first.decision.gates} if first is not None else set()
        gates = tuple(gate for gate in record.decision.gates if _counted(gate, self) not in asked)
        return record._replace(decision=replace(record.decision, gates=gates))

    def name_model(self, model: str) -> None:
        """Say on the call around it too that another model is asked."""
        self._outer.name_model(model)
        self.model = model

    def enter_run(self) -> None:
        """Count nothing: the call around it was counted."""

    def admit(self, record: DecisionRecord) -> None:
        """Let the request run or stop it; the outer call settles and tells the decision log how it ended."""
        outer = self._outer
        super().admit(self.open_gates(record))
        outer.tickets, self.tickets = (*outer.tickets, *self.tickets), ()
        outer.ending = outer.ending or self.ending

    def admit_later(self, admitted: Admitted) -> None:
        """Let the request run; the outer call tells the decision log how it ended."""
        super().admit_later(admitted)
        self._outer.ending = self._outer.ending or admitted

    @property
    def holds_back(self) -> bool:
        """No: the after-rules judge what the function around it returns."""
        return False

    def finish(self, result: Any) -> Any:
        """Note the tokens of the answer."""
        self.is_ended = True
        if _is_streamed(result):
            return watch_stream(result, _JoinedEnd(self.span))
        self.take_usage(result)
        return result

    def complete(self, result: Any) -> Any:
        """Leave the end to the call around it."""
        self.is_ended = True
        return result

    def stop(self) -> None:
        """Give back what was set aside; the call around it goes on, and may ask another model."""
        if self.tickets:
            release(self)

    def fail(self, error: BaseException) -> None:
        """Leave the end to the call around it, which may try again."""

    def abandon(self) -> None:
        """Leave the end to the call around it."""
        self.is_ended = True


class _JoinedEnd:
    """Notes what a stream inside a guarded model call has used; implements `capture.StreamObserver`."""

    __slots__ = ("_span",)

    context: Context | None = None

    def __init__(self, span: Span) -> None:
        self._span = span

    def first_chunk(self) -> Callable[[], object]:
        """Note the time to the first content; that of further content is noted where somebody measures it."""
        self._span.first_chunk()
        return self._span.chunk

    def end(self, usage: Usage | None, outcome: str, error: BaseException | None) -> None:  # noqa: ARG002 - the port's signature
        """Take the tokens, where the call around it still runs."""
        if usage is not None and self._span.is_recording():
            self._span.record_usage(usage)


def _counted(gate: StateGate, call: GuardedCall) -> tuple[object, ...]:
    """Say what a gate counts for a call: two gates that count the same are one."""
    facts = facts_of(call)
    return (gate.policy, gate.rule_id, *(facts.get(name) for name in gate.key))


def _is_streamed(result: object) -> bool:
    """Whether the answer comes piece by piece; some SDKs hand out generators."""
    return isinstance(result, _GENERATORS) or is_stream(result)


def declare_request(*, provider: str, operation: str, is_async: bool) -> Declaration:
    """
    Say what the requests of one kind have in common.

    Args:
        provider:
            The convention's name of the provider.
        operation:
            chat, generate_content, text_completion, embeddings, or another one.
        is_async:
            Whether they are sent with `send_request_async`.

    Returns:
        What `send_request` is to be given, to be kept with the client.
    """
    return Declaration(
        _async_request if is_async else _request,
        {
            "kind": "embeddings" if operation == "embeddings" else "model",
            "name": f"{provider} {operation}",
            "provider": provider,
            "operation": operation,
        },
    )


def _request(**_body: object) -> None:
    """Have the signature of a request: its body by name."""


async def _async_request(**_body: object) -> None:
    """Have it for clients that are awaited."""


def _begin(
    declaration: Declaration, body: Mapping[str, Any], attributes: Mapping[str, AttributeValue]
) -> RequestCall | None:
    """Begin a governed request; None where it goes out as if the client were not wrapped."""
    runtime = governing()
    if runtime is None:
        return None
    outer = get_current().get(CALL_KEY)
    known = {name: attributes[name] for name in _SAMPLED if name in attributes}

    def make(
        services: Services, spec: CallSpec, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> RequestCall:
        # Known when the span begins, so that samplers of the application see it.
        return RequestCall(services, replace(spec, attributes={**spec.attributes, **known}), args, kwargs)

    how: MakeCall = make
    if isinstance(outer, GuardedCall) and outer.spec.governed_as == "model" and outer.span.is_recording():
        how = partial(JoinedCall, outer)
    call = begin(runtime, declaration, (), body, how)
    if call is not None:
        call.span.set_attributes(attributes)
    return call  # type: ignore[return-value] # both ways of making one give a RequestCall


def send_request(
    declaration: Declaration,
    body: Mapping[str, Any],
    send: Callable[[Mapping[str, Any] | None], T],
    *,
    attributes: Mapping[str, AttributeValue],
    finish: Callable[[RequestCall, T], T] | None = None,
) -> T:
    """
    Send one request of a client as a governed model call.

    Args:
        declaration:
            Made with `declare_request`.
        body:
            The request by parameter name, as policy is to see it: `model` names
            the model. It is not changed.
        send:
            Sends it; gets None where the request is to go out as it is, else the
            body that a rule has changed.
        attributes:
            What the request says of itself, for the span.
        finish:
            Ends the call for results that are neither an answer nor a stream of
            one.

    Returns:
        The SDK's result; a stand-in that counts where it is a stream.

    Raises:
        CallDenied: Policy said no; nothing was sent, or the answer is withheld.
        ApprovalPending: A person must decide first.
    """
    call = _begin(declaration, body, attributes)
    if call is None:
        return send(None)
    token = attach(call.context)
    try:
        if call.replacement is None:
            result = send(None if call.kwargs is body else call.kwargs)
        else:
            result = call.replacement(*call.args, **call.kwargs)
    except BaseException as error:
        call.fail(error)
        raise
    finally:
        detach(token)
    return call.finish(result) if finish is None else finish(call, result)


async def send_request_async(
    declaration: Declaration,
    body: Mapping[str, Any],
    send: Callable[[Mapping[str, Any] | None], Awaitable[T]],
    *,
    attributes: Mapping[str, AttributeValue],
    finish: Callable[[RequestCall, T], Awaitable[T]] | None = None,
) -> T:
    """Do as `send_request`, in the caller's task and without blocking its event loop."""
    call = _begin(declaration, body, attributes)
    if call is None:
        return await send(None)
    if call.admission is not None:
        try:
            await call.admission()
        except BaseException as error:
            call.fail(error)
            raise
    token = attach(call.context)
    try:
        if call.replacement is None:
            result = await send(None if call.kwargs is body else call.kwargs)
        else:
            result = await call.replacement(*call.args, **call.kwargs)
    except GeneratorExit:
        call.abandon()
        raise
    except BaseException as error:
        call.fail(error)
        raise
    finally:
        detach(token)
    return await (call.finish_async(result) if finish is None else finish(call, result))
