"""
A call on the fast path: one object, which the store and the decision log read later.

Where something comes up (an error, a stream that is left, somebody who asks for the span) it grows into the `GuardedCall`
that it stands for, which began when it did; all that can be said of a call is said there.
"""

# ruff: noqa: SLF001 - a call grows into one of `calls`

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from opentelemetry.context import Context

from agentguard.capture import (
    SPAN_KEYS,
    SUMS_LOCK,
    UNPRICED,
    Rare,
    Reading,
    StreamUsage,
    UsageRow,
    chat_reading,
    extract_usage,
    is_stream,
    other_row,
    span_values,
    usage_of,
    watch_stream,
)
from agentguard.reckoning import RECKONING
from agentguard.runtime.calls import CALL_KEY, GuardedCall
from agentguard.runtime.fast_owing import OwingCall
from agentguard.runtime.lane import Lane
from agentguard.runtime.results import StreamEnd
from agentguard.runtime.runs import RUN_KEY, Run
from agentguard.runtime.services import Services
from agentguard.runtime.spec import CallSpec
from agentguard.values import Usage
from agentguard.values import attributes as names
from agentguard.wrapping import Hold, Passes

_OUR_KEYS: Final = frozenset({*SPAN_KEYS, CALL_KEY, RUN_KEY})
_NO_ARGUMENTS: Final[Mapping[str, Any]] = {}
_owe: Final = RECKONING.add
_ANYTHING: Final[Passes] = id
"""Of whatever comes nothing is to be noted."""


class FastCall(OwingCall):
    """One call on the fast path; what `wrapping` drives, as a `GuardedCall`."""

    __slots__ = (
        "args",
        "around",
        "kwargs",
        "stream",
    )

    form: Lane
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    around: Mapping[str, object]
    """The nearest context that is not of a call on this path."""
    run: Run
    stream: StreamUsage | None
    """What the items of a model's generator said."""

    replacement: Final = None
    repeats: Final = 0
    error_type: Final = ""
    holds_back: Final = False

    # What runs the function asks

    def finish(  # noqa: PLR0915 - one frame, and every attribute once: this is the way of most calls
        self, result: Any, told: Usage | UsageRow | Reading | None = None
    ) -> Any:
        """As `GuardedCall.finish`; what a stream has told that it used is not looked for."""
        lane = self.form
        if lane.services.engine is not lane.engine:
            # Rules that came into force meanwhile may judge the result.
            return self.grow().finish(result)
        usage: Usage | UsageRow | Reading | None = told
        if not lane.is_tool:
            if type(result) is not lane.usual_result:
                if type(result) is lane.usual_stream or is_stream(result):
                    if self.full is not None:
                        return self.full.finish(result)
                    lane.usual_stream = type(result)  # It goes on until that has ended.
                    return watch_stream(result, self, lane.model_rates if lane.is_model else UNPRICED)
                lane.usual_result = type(result)
            if lane.is_model:
                if told is None:
                    if self.stream is None or result is not None:
                        usage = (
                            chat_reading(result)
                            or other_row(result, lane.model_rates)
                            or extract_usage(result)
                        )
                    if self.stream is not None:
                        if usage is not None:
                            # What it says may be what its items said.
                            return self.grow().finish(result)
                        usage = self.stream.said()
                if usage is not None and self.has_inner:
                    # What it says may be what a call inside it said.
                    return self._finish_grown(result, told)
        try:
            # One step of the interpreter: either the call ends here, or it has grown.
            del self.is_open
        except AttributeError:
            return self._finish_grown(result, told)
        self.args = ()
        self.kwargs = _NO_ARGUMENTS
        self.duration_ns = lane.monotonic_ns() - self.start_monotonic_ns
        try:
            in_flight, kind = lane.in_flight, lane.kind
            # As `load.leave`, without its frame; a forked child has no entry for what its parent began. Nothing
            # is called between reading the entry and storing it: threads would be switched there.
            try:
                others = in_flight[kind]
                if others:
                    in_flight[kind] = others - 1
            except KeyError:
                pass
            if usage is not None or self.has_inner:
                self.usage = usage
                self.stream = None
                owner = self.owner
                if owner is None:
                    if usage is not None:  # Else only calls inside it have something to add, to it.
                        _owe(self)
                elif type(owner) is FastCall and owner.full is None:
                    if owner.duration_ns < 0:
                        owner.has_inner = True
                    else:
                        self.owner = None  # It has ended without this one.
                    _owe(self)
                else:
                    _owe(self)
                    RECKONING.settle()  # Its span can be looked at, and ended, by anyone.
            else:
                self.owner = None
            if lane.rates is not None:
                lane.rates.record(False, self.start_unix_ns + self.duration_ns)
            if self.mirror is not None:
                self.end_mirror()
            if not lane.sink(self):
                RECKONING.settle()  # Nobody will, on another thread.
            if self.log_state:
                lane.append_later(self.outcome)
        except Exception as error:
            lane.services.health("runtime.end", error)
        return result

    def _finish_grown(self, result: Any, told: Usage | UsageRow | Reading | None) -> Any:
        """End what it has grown into."""
        full = self.grow()
        if told is not None and not full.is_ended:
            full.span.record_usage(_unpriced(told, self.form))
        return full.finish(result)

    async def finish_async(self, result: Any) -> Any:
        """As `finish`: nothing in it waits."""
        return self.finish(result)

    def fail(self, error: BaseException) -> None:
        """As `GuardedCall.fail`."""
        self.grow().fail(error)

    def chunk(self, item: Any, found: object = False, /) -> Passes | None:
        """As `GuardedCall.chunk`; once there is content, hardly an item is to be noted."""
        form, stream = self.form, self.stream
        passes: Passes | None = _ANYTHING
        try:
            if stream is None and form.is_model:
                stream = self.stream = StreamUsage(form.model_rates)
            # Who makes a call grow takes this away first, and then takes over what is here. So what is put here
            # is taken over if this is still there after it.
            self.is_open  # noqa: B018
        except AttributeError:
            self.grow().chunk(item)
            return None
        if stream is not None:
            if (found is None and stream.take_reading(item)) or not stream.chunk(item):
                return None
            passes = stream.passes
        if self.rare is not None:
            self.note_chunk()
        else:
            self.first_chunk()
        return None if form.environment.measures_chunks else passes

    # What a stream tells that it has returned; as `results.StreamEnd`

    def first_chunk(self) -> Callable[[], object] | None:
        """Note the time to the first content; that of further content, where somebody measures it."""
        try:
            self.is_open  # noqa: B018 - whether it is there: it may have ended, or grown meanwhile
            form = self.form
            first_chunk_ns = form.monotonic_ns() - self.start_monotonic_ns
            measures_chunks = form.environment.measures_chunks
            self.rare = Rare.whole(first_chunk_ns) if measures_chunks else first_chunk_ns
            self.is_open  # noqa: B018
        except AttributeError:
            return StreamEnd(self.grow(), is_held=False).first_chunk()
        return self._later_chunk if measures_chunks else None

    def _later_chunk(self) -> None:
        """Note a further chunk with content."""
        if self.full is None:
            self.note_chunk()
        else:
            self.full.span.chunk()

    def end(
        self, usage: Usage | UsageRow | Reading | None, outcome: str, error: BaseException | None
    ) -> None:
        """End the call; one that was left, or that nobody expected to say what it used, grows."""
        lane = self.form
        if (
            self.full is None
            and outcome == names.OUTCOME_OK
            and (usage is None or lane.is_model)
            and lane.services.engine is lane.engine
        ):
            self.finish(None, usage)
        else:
            StreamEnd(self.grow(), is_held=False).end(usage and _unpriced(usage, lane), outcome, error)

    def abandon(self) -> None:
        """As `GuardedCall.abandon`."""
        self.grow().abandon()

    def hold(self) -> Hold:
        """As `GuardedCall.hold`."""
        return self.grow().hold()

    @property
    def context(self) -> FastCall:
        """The context in which the function runs."""
        return self

    @property
    def admission(self) -> None:
        """Nothing is to be awaited."""
        return

    # What facts are read from

    @property
    def services(self) -> Services:
        """The wired whole."""
        return self.form.services

    @property
    def spec(self) -> CallSpec:
        """What was decorated."""
        return self.form.spec

    @property
    def agent(self) -> str:
        """Name of the innermost guarded agent, or empty."""
        return self.form.agent

    @property
    def agent_version(self) -> str:
        """Its version."""
        return self.form.agent_version

    @property
    def model(self) -> str:
        """What is asked for, where a model is called."""
        return self.form.spec.model

    @property
    def arguments(self) -> dict[str, Any] | None:
        """By parameter name."""
        return self.form.spec.binder.bind(self.args, self.kwargs)

    # Growing

    def grow(self) -> GuardedCall:
        """
        Become a call of which anything can be said.

        Returns:
            The call, begun when this one was; one that has ended where this one has.
        """
        full = self.full
        if full is not None:
            return full
        RECKONING.settle()
        owner = self.owner  # Once: a call that ends in another thread lets go of it.
        if type(owner) is FastCall:
            owner = owner.grow()
        with SUMS_LOCK:
            full = self.full
            if full is None:
                try:
                    del self.is_open
                except AttributeError:
                    is_open = False
                else:
                    is_open = True
                full = self.full = self._grown(owner, is_open=is_open)
                # These are the other one's now, which lets go of them when it ends.
                self.owner, self.args, self.kwargs = None, (), _NO_ARGUMENTS
        return full

    def _grown(self, owner: Any, *, is_open: bool) -> GuardedCall:
        lane = self.form
        call = GuardedCall.__new__(GuardedCall)
        call.services, call.spec = lane.services, lane.spec
        call.args, call.kwargs = self.args, self.kwargs
        call.arguments = self.arguments if is_open else {}
        call.admission, call.stream = None, self.stream
        call.result = call.facts = call.detour = call.replacement = None
        call.error_type = ""
        call.is_ended, call.is_cancelled = not is_open, False
        call.repeats, call.tickets, call.unpriced_usd = 0, (), 0.0
        call.owner = owner if is_open else None
        call.run = self.run
        call.agent, call.agent_version, call.model = lane.agent, lane.agent_version, lane.spec.model
        call.content = lane.content
        call.span = self.grown_span(None if owner is None else owner.span, is_open=is_open)
        call._outside = Context(self.around)
        call.context = self if is_open else call._outside
        call.ending = self if is_open and lane.plan is not None else None
        return call

    def get(self, key: str, default: object = None) -> object:
        """As of a dict; for what is around this call, its run, and the span of the provider, it need not grow."""
        if key not in _OUR_KEYS:
            return self.around.get(key, default)
        if key == SPAN_KEYS[0]:
            mirror = self.mirror
            if mirror is not None:
                return mirror
        elif key == RUN_KEY:
            return self.run
        return super().get(key, default)

    def work_out(self) -> Mapping[str, object]:
        """Give what is current in this call, to those who look for it in OpenTelemetry's context."""
        mirror = self.mirror
        call = self.grow()
        is_visible = self.form.services.mirror.is_visible
        return {
            **self.around,
            **span_values(call.span, current=mirror, is_visible=is_visible),
            CALL_KEY: call,
            RUN_KEY: self.run,
        }


def _unpriced(said: Usage | UsageRow | Reading, lane: Lane) -> Usage | None:
    """Give what was said alone, for a span that puts the price to it itself."""
    usage = usage_of(said, lane.model_rates)
    return Usage._make((*usage[:-1], None)) if type(usage) is tuple else usage  # type: ignore[return-value]
