"""
One guarded call, from its first question to its last record.

The order is fixed: a span begins; policy decides; the decision is recorded;
the function runs; policy judges the result; the span ends; the outcome is
recorded. Errors of watching end in `health`, errors of deciding end in a denial.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from sys import modules as _modules
from typing import Any

from opentelemetry.context import Context, create_key

from agentguard.capture import (
    GENAI_UTIL,
    QUEUED_KEY,
    Span,
    StreamUsage,
    announce_outer_call,
    context_with,
    find_parent,
    is_stream,
    narrower,
    take_inner_call,
    take_wait,
)
from agentguard.errors import ApprovalPending, CallDenied
from agentguard.event_loop import in_thread
from agentguard.redaction import Seen
from agentguard.runtime.deciding import (
    decide,
    note,
    put_on_record,
    put_on_record_async,
    undecided,
)
from agentguard.runtime.gates import add_unpriced, admission, ask_state, charged_usd, release, settle
from agentguard.runtime.holding import JudgedCall
from agentguard.runtime.later import Admitted
from agentguard.runtime.plain import fingerprint
from agentguard.runtime.results import follow_stream, returns_stream
from agentguard.runtime.runs import RUN_KEY, Run, new_run
from agentguard.runtime.services import Services
from agentguard.runtime.spec import CallSpec
from agentguard.values import (
    AttributeValue,
    DecisionRecord,
)
from agentguard.values import attributes as names
from agentguard.wrapping import current_context

CALL_KEY = create_key("agentguard-call")
_NO_ARGUMENTS: Mapping[str, Any] = {}
MODEL_CHARS_MAX = 256
"""Of a model's name on a span; the names of calls come from callers, and may be anything."""


class GuardedCall(JudgedCall):
    """
    One call of one decorated callable: what `wrapping` drives.

    Made by `beginning.begin`; ended exactly once by `finish`, `fail` or `abandon`.
    """

    __slots__ = ("_outside", "admission", "content", "context", "stream")

    def __init__(
        self, services: Services, spec: CallSpec, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        self.services = services
        self.spec = spec
        self.args = args
        self.kwargs = kwargs
        self.arguments = spec.binder.bind(args, kwargs)
        self.admission: Callable[[], Awaitable[None]] | None = None
        self.stream: StreamUsage | None = None
        self.result = self.facts = self.detour = self.replacement = self.ending = None
        self.error_type = ""
        self.is_ended = self.is_cancelled = False
        self.repeats, self.tickets, self.unpriced_usd = 0, (), 0.0

        context = self._outside = current_context()
        # Nobody else has these keys: what is under them is ours.
        owner: GuardedCall | None = context.get(CALL_KEY)  # type: ignore[assignment]
        run: Run | None = context.get(RUN_KEY)  # type: ignore[assignment]
        if run is None:
            run = new_run(services.ids, services.clock)
        self.owner, self.run = owner, run
        kind = spec.governed_as
        name = spec.span_name
        own: dict[str, AttributeValue] | None = None
        outer_agent = ""
        if kind == "agent":
            self.agent, self.agent_version = spec.name, spec.version
        elif owner is None:
            self.agent = self.agent_version = ""
        else:
            self.agent, self.agent_version = owner.agent, owner.agent_version
            outer_agent = owner.agent
        if run.conversation_id or run.labels or spec.conversation_id is not None:
            own = self._facts_of_run()
        self.model = spec.model
        if kind == "model" and not spec.model and (model := self._requested_model()):
            self.model = model
            own = own or {}
            own[names.REQUEST_MODEL] = shown = model[:MODEL_CHARS_MAX]
            name = names.span_name(spec.operation, shown)
        if QUEUED_KEY in context and (waited_s := take_wait(context)) is not None:
            own = own or {}
            own[names.LOAD_WAITED_S] = waited_s
        beside = services.mirror
        sees_otel = beside.is_visible
        parent, above = find_parent(context, only_ours=not sees_otel)
        mode = services.capture if spec.capture is None else narrower(services.capture, spec.capture)
        self.content = services.content[mode]
        self.span = span = Span(  # By place: names would be put into a dict and taken out again.
            services.silent if mode == "none" else services.environment,
            name, spec.kind, spec.otel_kind, parent, above, spec.attributes, own, run.run_id, outer_agent,
        )  # fmt: skip
        mirror = beside.begin(span, context)
        more: dict[str, object] = {CALL_KEY: self, RUN_KEY: run}
        if GENAI_UTIL in _modules and beside.joins:
            more.update(announce_outer_call(spec.kind, context))
        self.context = context_with(span, context, current=mirror, is_visible=sees_otel, more=more)

    def grow(self) -> GuardedCall:
        """Give the call of which anything can be said: this one."""
        return self

    def name_model(self, model: str) -> None:
        """Say on the call and its span that it is to another model than it was."""
        self.model = model
        self.span.set_attribute(names.REQUEST_MODEL, model)
        self.span.update_name(names.span_name(self.spec.operation, model))

    def _requested_model(self) -> str:
        """Read the model from the arguments, where they name one."""
        model = self.arguments.get("model") if self.arguments else None
        # Plain text, whatever kind of text it is; by the type, since an argument may be anything.
        return str.__str__(model) if issubclass(type(model), str) else ""

    def _facts_of_run(self) -> dict[str, AttributeValue]:
        """Give labels and conversation: that of the run, or the one that the decorator says, which the run then has."""
        run = self.run
        if not run.conversation_id:
            given = self.spec.conversation_id
            if callable(given):
                given = given(*self.args, **self.kwargs)
            if isinstance(given, str) and given:
                run.conversation_id = str.__str__(given)
        return run.attributes()

    # Deciding

    def count(self) -> None:
        """Count the call of a tool in its run; a denied one counts too, or a loop of them would not show."""
        self.repeats = self.run.repeat(self.spec.name, fingerprint(self.arguments))

    def enter_run(self) -> None:
        """Count the call as one of its run; after the decision, which sees what was before it."""
        kind = self.spec.governed_as
        self.run.count_call(is_tool=kind == "tool", is_model=kind == "model")

    def admit(self, record: DecisionRecord) -> None:
        """
        Record a decision, and let the call run or stop it.

        May wait for the disk: in a coroutine it runs in a thread.

        Raises:
            CallDenied: The decision, or the failure to record it, forbids the call.
            ApprovalPending: A person must decide first.
        """
        record, token, frozen = admission(self, record)
        if frozen is not None:
            self._use_frozen(frozen)
        self._admitted(record, token)

    def admit_later(self, admitted: Admitted) -> None:
        """Let the call run, and have that recorded: nothing is to be waited for."""
        self.services.journal.append_later(admitted.admission)
        self.ending = admitted

    async def admit_async(self, record: DecisionRecord) -> None:
        """
        As `admit`, where nothing but the decision log is waited for: no thread is needed.

        Raises:
            CallDenied: The decision, or the failure to record it, forbids the call.
        """
        self._admitted(await put_on_record_async(self, record), "")

    def _admitted(self, record: DecisionRecord, token: str) -> None:
        decision = record.decision
        if not decision.is_allowed or decision.matched or decision.errors:
            note(self, record)
        if not decision.is_allowed:
            self.stop()
            raise ApprovalPending(record, token) if token else CallDenied(record)
        if decision.redact:
            self._redact_arguments(record)

    def _use_frozen(self, arguments: Mapping[str, Any]) -> None:
        """Run with the very copy that was approved: nobody can change it in between."""
        self.args, self.kwargs = self.spec.binder.unbind(arguments, receiver=self.args)
        self.arguments = dict(arguments)

    def _redact_arguments(self, record: DecisionRecord) -> None:
        """Replace what the detectors find in the arguments; what cannot be searched is not passed on."""
        from agentguard.redaction import redact

        skip = self.spec.binder.skip
        try:
            args, found = redact(self.args[skip:], record.decision.redact)
            kwargs, more = redact(dict(self.kwargs), record.decision.redact)
        except Exception as error:
            self._refuse(record, f"redaction of the arguments: {type(error).__name__}", error)
        assert isinstance(args, tuple)
        assert isinstance(kwargs, dict)
        self.args = (*self.args[:skip], *args)
        self.kwargs = kwargs
        self.arguments = self.spec.binder.bind(self.args, kwargs)
        self.span.set_attribute(names.CONTENT_REDACTIONS, found + more)

    def _refuse(self, record: DecisionRecord, what: str, error: Exception) -> None:
        """Deny because a modifier could not do its work."""
        self.services.health("redaction", error)
        record = put_on_record(self, record._replace(decision=undecided(what)))
        self.stop()
        raise CallDenied(record) from None

    def stop(self) -> None:
        """End a call that policy stopped: before it ran, or, where it has ended, without its result."""
        if self.tickets and not self.is_ended:
            release(self)
        self.span.deny()
        self._end()

    # Ending

    def chunk(self, item: Any, _found: object = False, /) -> None:
        """Look at one item of a generator: the first with content, and the tokens of a model's stream."""
        if self.spec.governed_as != "model":
            self.span.chunk()
            return
        if self.stream is None:
            self.stream = StreamUsage()
        if self.stream.chunk(item):
            self.span.chunk()

    def finish(self, result: Any) -> Any:
        """
        End the call with what the function returned.

        Returns:
            The result itself; a stand-in that counts where it is a stream; a
            redacted copy where a rule asked for that.

        Raises:
            CallDenied: A rule withholds the result.
        """
        if self.is_ended:
            return result
        spec = self.spec
        kind = spec.governed_as
        # As `returns_stream`, without its frame: this is the way of most calls.
        if kind != "tool" and is_stream(result):
            return follow_stream(result, self)
        if kind == "model" or spec.usage is not None:
            self.take_usage(result)
        return self.complete(result)

    async def finish_async(self, result: Any) -> Any:
        """Do as `finish`, with what may wait for the disk in a thread."""
        if self.holds_back and not returns_stream(result, self):
            return await in_thread(self.finish, result)
        return self.finish(result)

    def take_usage(self, result: object) -> None:
        """Read tokens from what a model call returned."""
        try:
            if self.spec.usage is not None:
                self.span.record_usage(self.spec.usage(result))
            elif self.spec.governed_as == "model":
                self.span.record_usage(result)
                if self.stream is not None:
                    self.span.record_usage(self.stream.usage())
        except Exception as error:
            self.services.health("capture.usage", error)

    def complete(self, result: Any) -> Any:
        """Let the after-rules judge a whole result, then end the span."""
        self.result = result
        self.is_ended = True
        engine, spec = self.services.engine, self.spec
        # As `holds_back`, without its frames.
        name = self.model if spec.governed_as == "model" else spec.name
        if engine is not None and engine.acts_after(spec.after, name):
            record = decide(self, spec.after)
            if record is not None:
                result = self._judged(record, result)
        self._end()
        return result

    def _judged(self, record: DecisionRecord, result: Any) -> Any:
        if record.decision.kill_scope:
            record = ask_state(self, record)
        record = put_on_record(self, record)
        decision = record.decision
        if not decision.is_allowed or decision.matched or decision.errors:
            note(self, record)
        if not decision.is_allowed:
            self.stop()
            raise CallDenied(record)
        if decision.redact:
            from agentguard.redaction import redact

            try:
                # An object that cannot be searched is withheld: it may hold what the rule takes out.
                result, found = redact(result, decision.redact, opaque="refuse")
            except Exception as error:
                self._refuse(record, f"redaction of the result: {type(error).__name__}", error)
            self.span.set_attribute(names.CONTENT_REDACTIONS, found)
        return result

    def fail(self, error: BaseException) -> None:
        """End the call with what it raised; the error itself goes its own way."""
        if self.span.is_recording():
            self.is_ended = True
            self.span.fail(error)
            self.error_type = str(self.span.attributes.get(names.ERROR_TYPE, ""))
            self._end(is_error=True)

    def abandon(self) -> None:
        """End a stream or generator that its consumer left."""
        if self.span.is_recording():
            self.is_ended = True
            self.span.abandon()
            self._end()

    def _capture_content(self) -> None:
        """Keep arguments and result, as far as the mode allows."""
        kind = self.spec.kind
        self.span.set_content(self.content.attributes(kind, self.arguments, is_input=True))
        if self.is_ended and not self.error_type:
            # Of a stream that was judged as it went by nothing was kept.
            result = None if type(self.result) is Seen else self.result
            self.span.set_content(self.content.attributes(kind, result, is_input=False))
        if self.run.principal and self.content.mode != "metadata":
            # Whose words these are: what is kept of a person can be found, and erased, by this.
            self.span.set_content({names.PRINCIPAL_ID: self.run.principal})

    def _end(self, *, is_error: bool = False) -> None:
        """End the span, count, record the outcome, and let go. Nothing here reaches the caller."""
        services, span, spec = self.services, self.span, self.spec
        try:
            if GENAI_UTIL in _modules and services.mirror.joins:
                take_inner_call(span, self.context)
            if self.content.is_on:
                self._capture_content()
            span.end()
            usage = span.counted_usage
            tokens, cost_usd, unpriced_usd = 0, 0.0, 0.0
            if usage is not None:
                tokens = (usage.input_tokens or 0) + (usage.output_tokens or 0)
                if usage.cost_usd is None:
                    cost_usd = unpriced_usd = charged_usd(services, None, tokens, usage.model or self.model)
                else:
                    cost_usd = usage.cost_usd
                    unpriced = span.unpriced_attempts
                    if unpriced is not None:
                        unpriced_usd = charged_usd(services, None, *unpriced)
                        cost_usd += unpriced_usd
            if unpriced_usd or self.unpriced_usd:
                add_unpriced(self, unpriced_usd)
            if self.tickets:
                settle(self, usage, cost_usd, is_error=is_error)
            if is_error or tokens or cost_usd or span.retries:
                self.run.count_end(is_error=is_error, tokens=tokens, cost_usd=cost_usd, retries=span.retries)
            if spec.governed_as == "tool":
                services.state.rates.record(spec.name, is_error=is_error)
            if tokens or cost_usd:
                services.state.spend.add(usd=cost_usd, tokens=tokens)
            if self.ending is not None and self.ending.is_due:
                services.journal.append_later(self.ending.outcome)
        except Exception as error:
            services.health("runtime.end", error)
        # The call holds its context and its facts, and both hold the call: such a circle would
        # stay until the collector of the interpreter runs, and make it run often.
        owner = self.owner
        if owner is not None and owner.is_ended:
            # Or a task that makes its own successor, forever, would hold each one before it by this.
            self._outside = Context({key: value for key, value in self._outside.items() if key != CALL_KEY})
        self.context, self.facts = self._outside, None
        # Its context may live on, in a task that nobody waits for; what it worked on need not.
        self.owner = self.ending = self.result = self.arguments = None
        self.args, self.kwargs = (), _NO_ARGUMENTS
