"""
Small programs of guarded calls, each run twice: with the fast path, and without it.

A program is plain data, so that hypothesis can make and shrink it. What the two runs have to say (spans, records
of decisions, results, errors, counters) is put into one form, in which ids have the names `id-1`, `id-2` … by
the order in which they appear: of two runs that did the same, the stories are equal.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import agentguard
from agentguard.audit import StoredDecision, read_decisions
from agentguard.audit.records import CallRecord, decode, encode_decision
from agentguard.capture import http_hooks, queued
from agentguard.runtime import core, fast_path
from agentguard.runtime.active import ACTIVE
from agentguard.runtime.config import load_config
from agentguard.runtime.fast_call import FastCall
from agentguard.runtime.in_force import load_policies
from agentguard.runtime.registering import register_fact
from agentguard.values import DecisionRecord, Usage
from tests.support.clock import FrozenClock
from tests.support.ids import SequentialIds

_HEAD = """\
apiVersion: agentguard/v1
kind: Policy
metadata: {name: test, version: 1.0.0, title: Test, owner: owner@corp.example}
scope: {agents: ["*"], environments: ["*"]}
defaults: {unmatched: allow, mode: enforce, timezone: UTC}
rules:
"""

RULES = {
    "usual": """\
  - {id: U-1, title: Much, at: tool.before, when: "tool.name == 'write' && args.x > 90", then: deny}
  - {id: U-2, title: Often, at: tool.before, when: "tool.name == 'read' && tool.calls_5m > 6", then: warn}
  - {id: U-3, title: Long runs, at: tool.before, when: "run.tool_calls > 14 || run.errors > 8", then: deny}
  - {id: U-4, title: Shared, at: tool.before, when: "tool.name == 'shared' && agent.name == 'b' && args.x > 50",
     then: warn}
  - {id: U-5, title: Mail, at: tool.before, when: "recipients.exists(r, r.domain == 'evil.example')", then: deny}
  - {id: U-6, title: Models, at: model.before, when: "!(model.name in ['gpt-5', 'house-1', 'embed-1'])", then: deny}
  - {id: U-7, title: Spending, at: model.before, when: "run.cost_usd > 0.5 || run.tokens > 100000", then: warn}
  - {id: U-8, title: Mood, at: agent.before, when: "shop.mood == 'bad'", then: deny}
  - {id: U-9, title: Watched, at: tool.before, when: "tool.name == 'meth' && args.x > 40", then: deny,
     mode: shadow}
""",
    "after": """\
  - {id: B-1, title: Secret, at: tool.after, when: "tool.name == 'secretive' && result == 'secret'", then: deny}
  - {id: B-2, title: Said, at: tool.before, when: "principal.id == 'eve' && args.x > 60", then: deny}
""",
    "counting": """\
  - {id: C-1, title: Again, at: tool.before, when: "run.repeats > 2", then: warn}
  - {id: C-2, title: Calls, at: agent.before, when: "run.calls > 20", then: deny}
""",
    "agents": """\
  - {id: D-1, title: Agents, at: agent.before, when: "run.labels['team'] == 'red' && run.calls > 3", then: warn}
""",
}
"""Rules by name, to be put in force and exchanged."""


class Stop(BaseException):
    """Raised by a program as what no handler of errors takes."""


class Mood:
    """What the registered fact says, and how often it was asked."""

    now = "good"


def mood() -> str:
    """The registered fact of the rules."""
    return Mood.now


class Hostile:
    """A result of which every attribute raises."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


class Stream:
    """What a model SDK returns for a stream."""

    def __init__(self, items: Sequence[object]) -> None:
        self._items = iter(items)

    def __iter__(self) -> Iterator[object]:
        return self

    def __next__(self) -> object:
        return next(self._items)

    def close(self) -> None:
        self._items = iter(())


class _Request:
    method, url = "POST", "https://model.example/v1"

    def __init__(self, retry: str | None) -> None:
        self.headers = {} if retry is None else {"x-stainless-retry-count": retry}


class _Response:
    def __init__(self, status: int) -> None:
        self.status_code, self.request = status, _Request(None)


class _Journal:
    """
    Stands before a decision log: keeps what it is handed, and has it written when the test says so.

    The real log writes at a moment of its own: before a call ends, or after it, which are two different pairs of records.
    """

    def __init__(self, real: Any) -> None:
        self._real = real
        self.pattern: Sequence[bool] = (False,)
        self._taken = 0
        self._left: list[Any] = []
        self.written: list[Any] = []

    def begin(self, pattern: Sequence[bool]) -> None:
        """Forget everything; what comes next is written at once where the pattern, again and again, says so."""
        self.pattern, self._taken, self._left, self.written = pattern, 0, [], []

    def append(self, record: DecisionRecord) -> None:
        self._take(lambda: encode_decision(record), at_once=True)

    async def append_async(self, record: DecisionRecord) -> None:
        self.append(record)

    def append_later(self, source: Callable[[], bytes | None]) -> None:
        self._take(source, at_once=self.pattern[self._taken % len(self.pattern)])
        self._taken += 1

    def _take(self, source: Callable[[], bytes | None], *, at_once: bool) -> None:
        place: list[Any] = [source]
        self.written.append(place)
        if at_once:
            place[0] = source()
        else:
            self._left.append(place)

    def end(self) -> list[StoredDecision]:
        """Have everything written that is not yet."""
        for place in self._left:
            place[0] = place[0]()
        self._left = []
        made = [place[0] for place in self.written if place[0] is not None]
        self.written = []
        return [  # type: ignore[return-value] # no events among them
            decode(one.whole if isinstance(one, CallRecord) else one, journal="j", index=0) for one in made
        ]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class _ThreadIds(SequentialIds):
    """Ids in sequence for the threads of the program, and others for the threads behind it."""

    def __init__(self) -> None:
        super().__init__(1)
        self._behind = SequentialIds(1 << 40)

    def _is_behind(self) -> bool:
        return threading.current_thread().name.startswith("agentguard")

    def trace_id(self) -> int:
        return self._behind.trace_id() if self._is_behind() else super().trace_id()

    def span_id(self) -> int:
        return self._behind.span_id() if self._is_behind() else super().span_id()


@contextmanager
def _no_lanes() -> Iterator[None]:
    """Let no call take the fast path that has not taken it yet."""
    before = fast_path.lane_of
    fast_path.lane_of = lambda *_: None  # type: ignore[assignment]
    try:
        yield
    finally:
        fast_path.lane_of = before


class World:
    """One runtime, its callables, and what happened in it."""

    def __init__(
        self, folder: Path, *, is_fast: bool, rules: str | None, is_real: bool = False, **settings: object
    ) -> None:
        """
        Set up.

        Args:
            folder:
                Empty; of this world.
            is_fast:
                Whether calls may take the fast path.
            rules:
                A name of `RULES`; None for no policies.
            is_real:
                Have spans and decisions written to the store, and read them there.
            settings:
                As for `agentguard.init`.
        """
        self.is_fast, self.is_real = is_fast, is_real
        self.clock, ids = FrozenClock(), _ThreadIds()
        given: dict[str, object] = {
            "store": folder / "store",
            "drift_interval_s": 0,
            "strict": True,
            **settings,
        }
        bundles: dict[str, Any] = {}
        if rules is not None:
            for name, text in RULES.items():
                path = folder / name
                path.mkdir(parents=True)
                (path / "test.yaml").write_text(_HEAD + text, encoding="utf-8")
                bundles[name] = load_policies(load_config({**given, "policies": path}))
            given["policies"] = folder / rules
        self.bundles = bundles
        self.rules = self._in_force = rules
        real = core.SystemClock, core.RandomIds
        core.SystemClock, core.RandomIds = (lambda: self.clock), (lambda: ids)  # type: ignore[assignment,misc]
        try:
            self.runtime = core.Runtime(load_config(given))
        finally:
            core.SystemClock, core.RandomIds = real  # type: ignore[misc]
        self.journal = _Journal(self.runtime.journal)
        self.sources: list[Any] = []
        if not is_real:
            self.runtime.journal = self.journal  # type: ignore[assignment]
            self.runtime.environment.sink = self._keep
            self.runtime.silent.sink = self._keep
        self.seen: list[object] = []
        self.fast_calls = self.calls = 0
        self._read = 0, 0
        self._plans: list[tuple[Any, str]] = []
        self._later: list[tuple[contextvars.Context, Any]] = []
        self._forgotten: list[asyncio.Future[Any]] = []
        self._is_in_loop = False
        self._loop = asyncio.new_event_loop()
        self.functions = self._make_functions()

    def close(self) -> None:
        """Shut down."""
        self._loop.close()
        self.runtime.shutdown(10.0)
        self.runtime.state.close()

    def _keep(self, source: Any) -> bool:
        """Stand for the store's writer; it takes everything, and adds nothing to the sums before somebody asks."""
        self.sources.append(source)
        return True

    # What is guarded

    def _make_functions(self) -> dict[str, Any]:
        inside = self._inside

        def plain(token: int, x: Any = 1, *, to: str = "") -> Any:
            return inside(token)

        def many(token: int, *more: Any, x: Any = 1, **others: Any) -> Any:
            return inside(token)

        async def later(token: int, x: Any = 1, *, to: str = "") -> Any:
            return await self._inside_async(token)

        def items(token: int, x: Any = 1, *, to: str = "") -> Any:
            yield 1
            yield inside(token)
            return "end"

        def asked(token: int, x: Any = 1, *, to: str = "", model: str = "gpt-5") -> Any:
            return inside(token)

        class Box:
            @agentguard.tool(name="meth")
            def meth(self, token: int, x: Any = 1, *, to: str = "") -> Any:
                return inside(token)

            @staticmethod
            @agentguard.tool(name="static")
            def static(token: int, x: Any = 1, *, to: str = "") -> Any:
                return inside(token)

        class Callable_:
            def __call__(self, token: int, x: Any = 1, *, to: str = "") -> Any:
                return inside(token)

        box = Box()
        return {
            "a": agentguard.agent(name="a", version="1")(plain),
            "b": agentguard.agent(name="b")(plain),
            "b2": agentguard.agent(name="b", version="2")(plain),
            "conv": agentguard.agent(name="conv", conversation_id="c-7")(plain),
            "flow": agentguard.workflow(name="flow")(plain),
            "read": agentguard.tool(name="read", effect="read")(plain),
            "write": agentguard.tool(name="write")(plain),
            "shared": agentguard.tool(name="shared", attributes={"own.key": 7})(plain),
            "secretive": agentguard.tool(name="secretive")(plain),
            "many": agentguard.tool(name="many")(many),
            "silent": agentguard.tool(name="silent", capture="none")(plain),
            "retr": agentguard.retriever(name="docs")(plain),
            "plan": agentguard.guard(kind="plan", name="plan")(plain),
            "meth": box.meth,
            "static": box.static,
            "object": agentguard.tool(name="object")(Callable_()),
            "priced": agentguard.model(provider="openai", model="gpt-5")(plain),
            "unpriced": agentguard.model(model="house-1")(plain),
            "unknown": agentguard.model(model="other-1")(plain),
            "asked": agentguard.model(provider="openai")(asked),
            "told": agentguard.model(model="gpt-5", usage=lambda _: Usage(3, 4, model="gpt-5"))(plain),
            "embed": agentguard.model(model="embed-1", operation="embeddings")(plain),
            "aio": agentguard.tool(name="aio")(later),
            "aio_agent": agentguard.agent(name="a", version="1")(later),
            "aio_model": agentguard.model(provider="openai", model="gpt-5")(later),
            "items": agentguard.tool(name="items")(items),
        }  # fmt: skip

    def _inside(self, token: int) -> Any:
        body, outcome = self._plans[token]
        self.do(body)
        return self._outcome(outcome)

    async def _inside_async(self, token: int) -> Any:
        body, outcome = self._plans[token]
        await self._do_async(body)
        return self._outcome(outcome)

    def _outcome(self, outcome: str) -> Any:
        match outcome:
            case "raise":
                raise ValueError("wrong")
            case "stop":
                raise Stop
            case "cancel":
                raise asyncio.CancelledError
            case "stream":
                return Stream([{"choices": [{"delta": {"content": "x"}}]}, _ANSWERS["usage"]])
            case "generator":
                return (number for number in (1, 2))
            case "coroutine":
                return self._answer_later()
            case "future":
                future = self._loop.create_future()
                future.set_result("done")
                return future
            case "hostile":
                return Hostile()
            case _:
                return _ANSWERS[outcome]

    async def _answer_later(self) -> object:
        return _ANSWERS["usage"]

    # What programs do

    def do(self, ops: Sequence[Any]) -> None:
        """Run a program."""
        for op in ops:
            getattr(self, "do_" + op[0])(*op[1:])

    async def _do_async(self, ops: Sequence[Any]) -> None:
        for op in ops:
            if op[0] == "call" and op[1].startswith("aio"):
                await self._acall(*op[1:])
            elif op[0] == "task":
                await self._task(*op[1:])
            else:
                self.do([op])
            await asyncio.sleep(0)

    def _arguments(self, body: Any, outcome: str, given: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        self._plans.append((body, outcome))
        token = len(self._plans) - 1
        args, kwargs = _ARGUMENTS[given]
        return (token, *args), dict(kwargs)

    def do_call(self, name: str, body: Any, outcome: str, given: str, is_caught: bool) -> None:
        """Call something."""
        args, kwargs = self._arguments(body, outcome, given)
        if name.startswith("aio"):
            if self._is_in_loop:
                return
            self._in_loop([("call", name, body, outcome, given, is_caught)])
            return
        try:
            result = self.functions[name](*args, **kwargs)
            result = self._used_up(result)
        except (Exception, Stop, asyncio.CancelledError) as error:
            self.seen.append((name, "raised", _told(error)))
            if not is_caught:
                raise
        else:
            self.seen.append((name, "gave", _shown(result)))

    async def _acall(self, name: str, body: Any, outcome: str, given: str, is_caught: bool) -> None:
        args, kwargs = self._arguments(body, outcome, given)
        try:
            result = await self.functions[name](*args, **kwargs)
            if asyncio.iscoroutine(result) or asyncio.isfuture(result):
                result = await result
            else:
                result = self._used_up(result)
        except (Exception, Stop, asyncio.CancelledError) as error:
            self.seen.append((name, "raised", _told(error)))
            if not is_caught:
                raise
        else:
            self.seen.append((name, "gave", _shown(result)))

    def _used_up(self, result: Any) -> Any:
        """Consume what is not there yet: all of it, or the beginning."""
        kind = type(result).__name__
        if asyncio.iscoroutine(result) or asyncio.isfuture(result):
            if self._is_in_loop:
                if asyncio.iscoroutine(result):
                    return _driven(result)
                self._forgotten.append(result)
                return kind
            return self._loop.run_until_complete(result)
        if kind in {"generator", "Stream"} or hasattr(type(result), "__next__"):
            if len(self._plans) % 3 == 0:
                first = next(result, None)
                result.close()
                return [first, "left"]
            return list(result)
        return result

    async def _task(self, ops: Any, is_awaited: bool) -> None:
        task = asyncio.get_running_loop().create_task(self._safely(ops))
        if is_awaited:
            await task
        else:
            self._forgotten.append(task)

    async def _safely(self, ops: Any) -> None:
        try:
            await self._do_async(ops)
        except (Exception, Stop, asyncio.CancelledError) as error:
            self.seen.append(("task", _told(error)))

    def do_task(self, ops: Any, is_awaited: bool) -> None:
        """A task, where no loop runs: as a loop of its own."""
        if self._is_in_loop:
            return
        self._in_loop([("task", ops, is_awaited)])

    def _in_loop(self, ops: Any) -> None:
        async def main() -> None:
            try:
                await self._do_async(ops)
            finally:
                await self._rest()

        self._is_in_loop = True
        try:
            self._loop.run_until_complete(main())
        finally:
            self._is_in_loop = False

    async def _rest(self) -> None:
        """Wait for what nobody waits for."""
        while self._forgotten:
            await asyncio.wait([self._forgotten.pop()])

    def do_thread(self, ops: Any, is_now: bool) -> None:
        """Run something with this context in another thread: now, or when the program is over."""
        context = contextvars.copy_context()
        if is_now:
            self._in_thread(context, ops)
        else:
            self._later.append((context, ops))

    def _in_thread(self, context: contextvars.Context, ops: Any) -> None:
        def work() -> None:
            try:
                context.run(self.do, ops)
            except (Exception, Stop, asyncio.CancelledError) as error:
                self.seen.append(("thread", _told(error)))

        is_in_loop, self._is_in_loop = self._is_in_loop, True
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        self._is_in_loop = is_in_loop

    def do_run(self, known: str, body: Any) -> None:
        """Open a run."""
        facts = _RUNS[known]
        with agentguard.run(**facts) as run:
            try:
                self.do(body)
            finally:
                self.seen.append(("run", _run_of(run)))

    def do_span(self, body: Any) -> None:
        """Record a block."""
        with agentguard.span("block", kind="plan"):
            self.do(body)

    def do_queued(self, body: Any) -> None:
        """Run something as if it had waited."""
        work = queued(lambda: self.do(body), self.clock.monotonic_ns)
        self.clock.advance(0.25)
        work()

    def do_current(self, what: str) -> None:
        """Look at the span of this call, or write to it."""
        span = agentguard.current()
        if span is None:
            self.seen.append("no span")
            return
        match what:
            case "look":
                self.seen.append(
                    (
                        span.name,
                        span.call_id,
                        span.trace_id,
                        span.status,
                        span.usage,
                        span.totals,
                        span.attributes,
                    )
                )
            case "set":
                span.set("own.colour", "red").event("seen", {"n": 1})
            case "name":
                span.update_name("renamed")
            case "end":
                span.end()
            case "error":
                span.record_exception(KeyError("k"))
            case "usage":
                agentguard.record_usage(input_tokens=5, output_tokens=6)
            case "retry":
                agentguard.record_retry(1, ValueError("x"), 0.5)
            case "http":
                hooks = http_hooks()
                hooks.request(_Request("0"))
                hooks.response(_Response(503))
                self.clock.advance(0.5)
                hooks.request(_Request("1"))

    def do_otel(self, what: str, body: Any) -> None:
        """Do what applications do with OpenTelemetry's context, around something."""
        match what:
            case "look":
                context = trace.get_current_span().get_span_context()
                carrier: dict[str, str] = {}
                TraceContextTextMapPropagator().inject(carrier)
                found = dict(otel_context.get_current())
                self.seen.append(
                    (
                        f"{context.trace_id:032x}",
                        f"{context.span_id:016x}",
                        context.is_valid,
                        carrier,
                        len(found),
                    )
                )
                self.do(body)
            case "baggage":
                token = otel_context.attach(baggage.set_baggage("who", "me"))
                try:
                    self.do(body)
                finally:
                    otel_context.detach(token)
                self.seen.append(dict(baggage.get_all()))
            case "value":
                token = otel_context.attach(otel_context.set_value("k", len(otel_context.get_current())))
                try:
                    self.do(body)
                    self.seen.append(otel_context.get_value("k"))
                finally:
                    otel_context.detach(token)
            case "remote":
                # Sampled or not, with a state or without one.
                flags, state = (
                    TraceFlags(len(self.seen) % 2),
                    TraceState([("far", "1")] * (len(self.seen) % 3 > 0)),
                )
                far = SpanContext(
                    0xABC << 96, 0xDEF << 48, is_remote=True, trace_flags=flags, trace_state=state
                )
                token = otel_context.attach(trace.set_span_in_context(NonRecordingSpan(far)))
                try:
                    self.do(body)
                finally:
                    otel_context.detach(token)
            case "noop":
                with trace.get_tracer("app").start_as_current_span("noop"):
                    self.do(body)
            case "again":
                token = otel_context.attach(otel_context.get_current())
                try:
                    self.do(body)
                finally:
                    otel_context.detach(token)
            case "empty":
                token = otel_context.attach(otel_context.Context())
                try:
                    self.do(body)
                finally:
                    otel_context.detach(token)

    def do_counters(self) -> None:
        """Look at the counters of the run."""
        run = otel_context.get_current().get(core_run_key())
        self.seen.append(None if run is None else _run_of(run))

    def do_advance(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)

    def do_mood(self, now: str) -> None:
        """Change what the registered fact says."""
        Mood.now = now

    def do_rules(self, name: str) -> None:
        """Put other rules in force."""
        if self.rules is not None:
            self.runtime.put_in_force(self.bundles[name])
            self._in_force = name

    def do_kill(self, scope: str) -> None:
        """Set a kill order."""
        self.runtime.state.kill.set(scope, reason="test", by="test")

    def do_lift(self, scope: str) -> None:
        """Lift it."""
        self.runtime.state.kill.clear(scope)

    # What it comes to

    def play(self, program: Sequence[Any], pattern: Sequence[bool] = (False,)) -> list[Any]:
        """
        Run a program.

        Args:
            program:
                Its statements.
            pattern:
                Which of the records of the decision log are written at once; the others when everything is over.

        Returns:
            Its story.
        """
        self.seen, self._plans, self._later, self._forgotten = [], [], [], []
        self.sources.clear()
        self.journal.begin(pattern)
        Mood.now = "good"
        before, ACTIVE.runtime = ACTIVE.runtime, self.runtime
        counts = dict(self.runtime.health.counts)
        # A stream that nobody reads ends when it is collected: in both ways when the program says so, and not before.
        is_collecting = gc.isenabled()
        gc.disable()
        try:
            if self.is_fast:
                self._play(program)
            else:
                with _no_lanes():
                    self._play(program)
        finally:
            ACTIVE.runtime = before
            if is_collecting:
                gc.enable()
        runtime = self.runtime
        story = [
            self.seen,
            self._spans(),
            self._decisions(),
            {kind: number for kind, number in runtime.environment.in_flight.items() if number},
            [
                (name, runtime.state.rates.calls(name, 300.0), runtime.state.rates.error_rate(name, 300.0))
                for name in ("read", "write", "shared", "meth", "many", "docs", "aio", "static", "silent")
            ],
            round(runtime.state.spend.usd_today(), 9), runtime.state.spend.tokens_today(),
            {kind: number for kind, number in runtime.health.counts.items() if number != counts.get(kind)},
            runtime.environment.late_writes, sorted(runtime.unpriced), self.clock.unix_ns(),
        ]  # fmt: skip
        return normal(story)  # type: ignore[no-any-return]

    def _play(self, program: Sequence[Any]) -> None:
        for statement in program:
            self._in_context([statement])
            while self._later:
                context, ops = self._later.pop(0)
                self._in_thread(context, ops)
        for scope in tuple(self.runtime.state.kill.in_force()):
            self.runtime.state.kill.clear(scope)
        if self.rules is not None and self._in_force != self.rules:
            self.do_rules(self.rules)

    def _in_context(self, ops: Any) -> None:
        try:
            contextvars.copy_context().run(self.do, ops)
        except (Exception, Stop, asyncio.CancelledError) as error:
            self.seen.append(("top", _told(error)))
        if self._forgotten:
            self._loop.run_until_complete(self._rest())
        # What a traceback held is over now, in both ways.
        gc.collect(0)

    def _spans(self) -> list[Any]:
        if self.is_real:
            assert self.runtime.flush(10.0).is_complete
            found = sorted(self.runtime.store.query().spans(), key=lambda span: span.span_id)
            new, self._read = found[self._read[0] :], (len(found), self._read[1])
            return [span._asdict() for span in new]
        self.calls += len(self.sources)
        self.fast_calls += sum(type(source) is FastCall for source in self.sources)
        return [source.record()._asdict() for source in self.sources]

    def _decisions(self) -> list[Any]:
        if not self.is_real:
            found = self.journal.end()
            return [_decision(stored) for stored in found]
        assert self.runtime.flush(10.0).is_complete
        found = list(read_decisions(self.runtime.store.folder, self.runtime.store.keystore))
        new, self._read = found[self._read[1] :], (self._read[0], len(found))
        return _joined(new)


def _driven(coroutine: Any) -> Any:
    """Run a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits")


def core_run_key() -> str:
    """The key of the current run."""
    from agentguard.runtime.runs import RUN_KEY

    return RUN_KEY


def _decision(stored: StoredDecision) -> dict[str, Any]:
    return {"facts": stored.facts, **stored.record._asdict()}


def _joined(found: Sequence[StoredDecision]) -> list[Any]:
    """Say of each call how it ended, whether its end is in the record that admitted it or in one of its own."""
    ends = {
        stored.record.call_id: (stored.record.outcome, stored.record.time_unix_ns)
        for stored in found
        if stored.record.point == "outcome"
    }
    told = []
    for stored in found:
        record = stored.record
        if record.point == "outcome":
            continue
        end = (record.outcome, record.ended_unix_ns) if record.outcome else ends.get(record.call_id)
        told.append({**record._replace(outcome="", ended_unix_ns=0, decision_id="")._asdict(), "end": end})
    return told


def _run_of(run: Any) -> tuple[object, ...]:
    return (
        run.run_id, run.calls, run.tool_calls, run.model_calls, run.errors, run.retries, run.tokens,
        round(run.cost_usd, 9), run.conversation_id, dict(run.labels), run.principal,
    )  # fmt: skip


def _told(error: BaseException) -> tuple[str, str, object]:
    record = getattr(error, "record", None)
    return type(error).__name__, str(error), record._asdict() if isinstance(record, DecisionRecord) else None


def _shown(result: object) -> object:
    return result if isinstance(result, (str, dict, list, type(None), Usage, int)) else type(result).__name__


def program_of(data: bytes) -> list[Any]:
    """Read a program out of bytes, whatever they are: fewer and smaller ones are a simpler program."""
    rest = list(reversed(data))

    def pick(choices: Sequence[Any]) -> Any:
        return choices[(rest.pop() if rest else 0) % len(choices)]

    def body(depth: int) -> list[Any]:
        return (
            [statement(depth) for _ in range(pick((0, 1, 0, 2, 1, 3)))] if depth < _DEPTH_MAX and rest else []
        )

    def statement(depth: int) -> tuple[Any, ...]:
        kind = pick(_KINDS)
        if kind == "rare":
            kind = pick(("rules", "lift", "rules", "kill"))
        match kind:
            case "call":
                return kind, pick(_NAMES), body(depth + 1), "text", "one", True
            case "odd":
                return (
                    "call",
                    pick(_NAMES),
                    body(depth + 1),
                    pick(OUTCOMES),
                    pick(ARGUMENTS),
                    bool(pick((1, 0))),
                )
            case "paid":
                return "call", pick(_MODELS), body(depth + 1), pick(_PAID), "few", True
            case "thread" | "task":
                return kind, body(depth + 1), bool(pick((1, 0)))
            case "run":
                return kind, pick(RUNS), body(depth + 1)
            case "span" | "queued":
                return kind, body(depth + 1)
            case "otel":
                return kind, pick(_LOOKS), body(depth + 1)
            case "counters":
                return (kind,)
            case _:
                return kind, pick(_SMALL[kind])

    found = []
    while rest:
        found.append(statement(0))
    return found


_ID = re.compile(r"0x[0-9a-f]+|(?<![0-9a-f])(?:[0-9a-f]{32}|[0-9a-f]{16})(?![0-9a-f])")
"""Ids, and where an object lies in memory."""


def normal(story: Any) -> Any:
    """Give ids the names of their order of appearance, and plain types to all else."""
    known: dict[str, str] = {}

    def name(found: re.Match[str]) -> str:
        return known.setdefault(found.group(), f"id-{len(known) + 1}")

    def walk(value: Any) -> Any:
        if isinstance(value, str):
            return _ID.sub(name, str(value))
        if isinstance(value, dict):
            return {key: walk(value[key]) for key in sorted(value)}
        if isinstance(value, (list, tuple)):
            asdict = getattr(value, "_asdict", None)
            return walk(asdict()) if asdict is not None else [walk(item) for item in value]
        if isinstance(value, float):
            return repr(value)
        if isinstance(value, (int, type(None))):
            return value
        return _ID.sub(name, repr(value))

    return walk(story)


_ANSWERS: dict[str, Any] = {
    "none": None,
    "text": "fine",
    "secret": "secret",
    "usage": {
        "id": "c-1", "model": "gpt-5", "choices": [{"finish_reason": "stop"}],
        "usage": {"prompt_tokens": 120, "completion_tokens": 9},
    },
    "usage_other": {"model": "house-1", "usage": {"prompt_tokens": 1000, "completion_tokens": 10}},
    "usage_unnamed": {"id": "c-2", "choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 7}},
    "usage_zero": {"model": "gpt-5", "usage": {"prompt_tokens": 0, "completion_tokens": 0}},
    "usage_part": {"model": "gpt-5", "usage": {"prompt_tokens": 5}},
    "no_usage": {"id": "c-3", "choices": []},
    "usage_cost": Usage(10, 20, model="gpt-5", cost_usd=0.3),
    "usage_object": Usage(10, 20, cache_read_tokens=4, model="gpt-5", finish_reasons=("stop",)),
}  # fmt: skip

OUTCOMES = (*_ANSWERS, "raise", "stop", "cancel", "stream", "generator", "coroutine", "future", "hostile")

_ARGUMENTS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "few": ((), {}),
    "one": ((5,), {}),
    "big": ((95,), {}),
    "middle": ((), {"x": 55}),
    "named": ((), {"x": 2, "to": "a@corp.example"}),
    "evil": ((3,), {"to": "x@evil.example, y@corp.example"}),
    "nan": ((float("nan"),), {}),
    "nested": (({"n": [1, {"m": (2, 3)}]},), {"to": "b@corp.example"}),
    "object": ((object,), {}),
    "text": (("many",), {}),
    "wrong": ((1, 2, 3), {}),
    "unknown": ((), {"y": 1}),
    "twice": ((1,), {"x": 2}),
    "huge": ((10**30,), {}),
}

ARGUMENTS = tuple(_ARGUMENTS)

_RUNS: dict[str, dict[str, Any]] = {
    "bare": {},
    "labels": {"labels": {"team": "red"}, "conversation_id": "c-1"},
    "person": {"principal": "eve", "roles": ["admin"]},
}

RUNS = tuple(_RUNS)


def register_mood() -> None:
    """Register the fact that the rules read; before a runtime is set up."""
    register_fact("shop.mood", str, mood, trusted=True)


_DEPTH_MAX = 4
_MODELS = ("priced", "unpriced", "asked", "told", "embed", "aio_model")
_PAID = (
    "usage",
    "usage_other",
    "usage_unnamed",
    "usage_cost",
    "usage_object",
    "usage_part",
    "no_usage",
    "usage_zero",
)
_NAMES = (
    "read", "a", "priced", "shared", "b", "write", "meth", "unpriced", "aio", "many", "b2", "flow", "retr", "static",
    "object", "aio_agent", "embed", "plan", "silent", "secretive", "asked", "told", "aio_model", "conv", "unknown",
    "items",
)  # fmt: skip
_LOOKS = ("look", "baggage", "value", "again", "noop", "remote", "empty")
_SMALL: dict[str, tuple[Any, ...]] = {
    "current": ("look", "set", "name", "error", "usage", "retry", "http", "end"),
    "advance": (0.0, 0.001, 1.5, 61.0),
    "mood": ("good", "bad"),
    "rules": tuple(RULES),
    "kill": ("tool:read", "agent:a", "all"),
    "lift": ("tool:read", "agent:a", "all"),
}
_KINDS = (
    *["call"] * 12, *["odd"] * 6, *["paid"] * 6, "thread", "thread", "task", "task", "run", "run", "span", "queued",
    "otel", "otel", "current", "current", "counters", "advance", "advance", "mood", "rare",
)  # fmt: skip
