"""The wrapper changes nothing of what it wraps: eleven checks, and more, for each shape of callable."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import functools
import gc
import inspect
import logging
import pickle
import traceback
from typing import Any

import pytest
from opentelemetry import context as otel_context

from agentguard.wrapping import wrap

KEY = otel_context.create_key("test-call")


class Call:
    """Notes how a call went; implements `ActiveCall`."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, holds_back: bool = False) -> None:
        self.args = args
        self.kwargs = kwargs
        self.context = otel_context.set_value(KEY, self)
        self.admission = None
        self.replacement = None
        self.holds_back = holds_back
        self.events: list[Any] = []
        self.held: list[Any] = []

    def finish(self, result: Any) -> Any:
        self.events.append(("finish", result))
        return result

    async def finish_async(self, result: Any) -> Any:
        return self.finish(result)

    def fail(self, error: BaseException) -> None:
        self.events.append(("fail", type(error).__name__))

    def chunk(self, item: Any, _found: object = False, /) -> None:
        self.events.append(("chunk", item))

    def abandon(self) -> None:
        self.events.append(("abandon",))

    def hold(self) -> Call:
        return self

    must_judge = False

    def feed(self, item: Any) -> list[Any]:
        self.held.append(item)
        return []

    def judge(self) -> None:
        raise AssertionError

    def end(self, value: Any) -> tuple[list[Any], Any]:
        self.events.append(("release", list(self.held), value))
        return [item * 10 for item in self.held], value


class Recorder:
    """Begins calls and keeps them; implements `BeginCall`."""

    def __init__(self, *, holds_back: bool = False) -> None:
        self.calls: list[Call] = []
        self.holds_back = holds_back

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any], /) -> Call:
        call = Call(args, kwargs, holds_back=self.holds_back)
        self.calls.append(call)
        return call

    @property
    def events(self) -> list[Any]:
        assert len(self.calls) == 1
        return self.calls[0].events


def nothing(_args: Any, _kwargs: Any, /) -> None:
    """Begin no call: what a disabled runtime does."""


@pytest.fixture
def begin() -> Recorder:
    return Recorder()


def test_function_keeps_result_signature_and_name(begin: Recorder) -> None:
    """A plain function stays what it is for callers and for `inspect`."""

    def add(left: int, right: int = 2) -> int:
        """Add."""
        return left + right

    guarded = wrap(add, begin)
    assert guarded(1) == 3
    assert inspect.signature(guarded) == inspect.signature(add)
    assert (guarded.__name__, guarded.__doc__, guarded.__wrapped__) == ("add", "Add.", add)  # type: ignore[attr-defined]
    assert begin.events == [("finish", 3)]


@pytest.mark.parametrize("begins", ["call", "nothing"])
def test_inspect_answers_are_kept(begins: str) -> None:
    """`inspect.is*function` says of the wrapper what it says of the original."""
    begin = Recorder() if begins == "call" else nothing

    def plain() -> None: ...
    async def coroutine() -> None: ...
    def generator() -> Any:
        yield 1

    async def async_generator() -> Any:
        yield 1

    for function in (plain, coroutine, generator, async_generator):
        guarded = wrap(function, begin)  # type: ignore[arg-type]
        for question in (
            inspect.isfunction,
            inspect.iscoroutinefunction,
            inspect.isgeneratorfunction,
            inspect.isasyncgenfunction,
        ):
            assert question(guarded) == question(function), (function, question)


def test_exception_is_the_same_object_with_its_traceback(begin: Recorder) -> None:
    """What the function raises arrives unchanged: identity, cause, context, innermost frame."""
    error = ValueError("boom")

    def fails() -> None:
        raise error

    with pytest.raises(ValueError, match="boom") as caught:
        wrap(fails, begin)()
    assert caught.value is error
    assert error.__context__ is None
    assert error.__cause__ is None
    assert traceback.extract_tb(error.__traceback__)[-1].name == "fails"
    assert begin.events == [("fail", "ValueError")]


def test_type_error_of_wrong_arguments_is_the_functions_own(begin: Recorder) -> None:
    """A wrong call raises the TypeError that the function itself would."""

    def one(value: int) -> int:
        return value

    with pytest.raises(TypeError, match="one"):
        wrap(one, begin)(1, 2)  # type: ignore[call-arg]


def test_function_runs_in_the_calls_context(begin: Recorder) -> None:
    """The context is current inside the function, and restored after it."""
    before = otel_context.get_current()
    guarded = wrap(lambda: otel_context.get_value(KEY), begin)
    assert guarded() is begin.calls[0]
    assert otel_context.get_current() is before


def test_methods_of_all_kinds(begin: Recorder) -> None:
    """Instance, class and static methods keep their receivers, decorated above or below."""

    class Account:
        factor = 2

        def method(self, value: int) -> int:
            return self.factor * value

        method = wrap(method, begin)

        @classmethod
        def of_class(cls, value: int) -> int:
            return cls.factor * value

        of_class = wrap(of_class, begin)  # type: ignore[type-var, assignment]

        @staticmethod
        def static(value: int) -> int:
            return value

        static = wrap(static, begin)  # type: ignore[type-var, assignment]

    assert Account().method(3) == 6
    assert Account.of_class(4) == 8
    assert Account().of_class(4) == 8
    assert Account.static(5) == 5
    assert len(begin.calls) == 4


def test_bound_method_partial_and_callable_object(begin: Recorder) -> None:
    """Whatever can be called can be wrapped, and an object keeps its class and attributes."""

    class Greeter:
        greeting = "hello"

        def __call__(self, name: str) -> str:
            return f"{self.greeting} {name}"

        def other(self) -> str:
            return self.greeting

    greeter = wrap(Greeter(), begin)
    assert greeter("ann") == "hello ann"
    assert isinstance(greeter, Greeter)
    assert greeter.other() == "hello"
    greeter.greeting = "bye"
    assert greeter("ann") == "bye ann"
    assert wrap(functools.partial(pow, 2), begin)(5) == 32
    assert wrap(Greeter().other, begin)() == "hello"
    assert wrap(len, begin)([1, 2]) == 2
    assert len(begin.calls) == 5


def test_copies_of_a_guarded_object_are_guarded(begin: Recorder) -> None:
    """A copy is guarded too; a pickle, which would lose the guard, is refused."""

    class Adder:
        def __init__(self, amounts: list[int]) -> None:
            self.amounts = amounts

        def __call__(self, value: int) -> int:
            return value + self.amounts[0]

    adder = wrap(Adder([1]), begin)
    for made in (copy.copy(adder), copy.deepcopy(adder)):
        assert made(1) == 2
        assert isinstance(made, Adder)
    assert len(begin.calls) == 2
    assert copy.deepcopy(adder).amounts is not adder.amounts
    assert {adder: 1}[adder] == 1
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(adder)


def test_async_callable_object(begin: Recorder) -> None:
    """An object whose `__call__` is a coroutine function is awaited."""

    class Fetcher:
        async def __call__(self, value: int) -> int:
            await asyncio.sleep(0)
            return value + 1

    assert asyncio.run(wrap(Fetcher(), begin)(1)) == 2
    assert begin.events == [("finish", 2)]


def test_class_is_refused() -> None:
    """A class is not a call; the message says what to decorate instead."""
    with pytest.raises(TypeError, match="decorate its methods"):
        wrap(int, nothing)
    with pytest.raises(TypeError, match="got `int`"):
        wrap(3, nothing)  # type: ignore[type-var]


def test_coroutine_runs_in_the_callers_task(begin: Recorder) -> None:
    """No new task is made: the task inside is the task outside."""

    async def inside() -> asyncio.Task[Any] | None:
        await asyncio.sleep(0)
        return asyncio.current_task()

    async def main() -> None:
        assert await wrap(inside, begin)() is asyncio.current_task()

    asyncio.run(main())


def test_cancelled_coroutine_is_marked_and_still_cancelled(begin: Recorder) -> None:
    """Cancellation reaches the function, the span and the caller."""
    seen: list[str] = []

    async def sleeps() -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def main() -> None:
        task = asyncio.create_task(wrap(sleeps, begin)())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert seen == ["cancelled"]
    assert begin.events == [("fail", "CancelledError")]


def test_coroutine_never_awaited_to_its_end_is_abandoned(begin: Recorder) -> None:
    """A coroutine that is closed half-way ends its call, and complains in no log."""

    class Pause:
        def __await__(self) -> Any:
            yield

    async def waits() -> None:
        await Pause()

    coroutine = wrap(waits, begin)()
    contextvars.copy_context().run(coroutine.send, None)
    coroutine.close()
    assert begin.events == [("abandon",)]


def test_asend_and_send_deliver_their_values(begin: Recorder) -> None:
    """Values sent into a generator arrive, sync and async, also with no call begun."""

    def echo() -> Any:
        received = yield "first"
        while received is not None:
            received = yield received
        return "done"

    async def async_echo() -> Any:
        received = yield "first"
        while received is not None:
            received = yield received

    for start in (begin, nothing):
        guarded = wrap(echo, start)()
        assert next(guarded) == "first"
        assert guarded.send("a") == "a"
        with pytest.raises(StopIteration) as stop:
            guarded.send(None)
        assert stop.value.value == "done"

        async def main(start: Any = start) -> None:
            stream = wrap(async_echo, start)()
            assert await stream.asend(None) == "first"
            assert await stream.asend("a") == "a"
            with pytest.raises(StopAsyncIteration):
                await stream.asend(None)

        asyncio.run(main())
    assert begin.calls[0].events[-1] == ("finish", "done")


def test_throw_reaches_the_generator_with_a_clean_context(begin: Recorder) -> None:
    """`throw` lands at the yield; an exception raised later has no foreign `__context__`."""

    def survives() -> Any:
        try:
            yield 1
        except KeyError:
            yield "caught"
        raise ValueError("later")

    plain, guarded = survives(), wrap(survives, begin)()
    contexts = []
    for generator in (plain, guarded):
        assert next(generator) == 1
        assert generator.throw(KeyError("x")) == "caught"
        with pytest.raises(ValueError, match="later") as caught:
            next(generator)
        contexts.append(caught.value.__context__)
    assert contexts == [None, None]


def test_athrow_reaches_the_async_generator(begin: Recorder) -> None:
    """The same for an async generator."""

    async def survives() -> Any:
        try:
            yield 1
        except KeyError:
            yield "caught"

    async def main() -> None:
        stream = wrap(survives, begin)()
        assert await anext(stream) == 1
        assert await stream.athrow(KeyError("x")) == "caught"
        await stream.aclose()

    asyncio.run(main())
    assert begin.events[-1] == ("abandon",)


def test_close_runs_the_finally_of_the_generator(begin: Recorder) -> None:
    """Closing runs the cleanup inside, in the call's context, and marks the call abandoned."""
    inside: list[Any] = []

    def numbers() -> Any:
        try:
            yield 1
            yield 2
        finally:
            inside.append(otel_context.get_value(KEY))

    generator = wrap(numbers, begin)()
    next(generator)
    generator.close()
    assert inside == begin.calls
    assert begin.events == [("chunk", 1), ("abandon",)]


def test_generator_that_ignores_close_raises_as_without_us(begin: Recorder) -> None:
    """A generator that yields on close is a RuntimeError, wrapped or not."""

    def stubborn() -> Any:
        try:
            yield 1
        except GeneratorExit:
            yield 2

    generator = wrap(stubborn, begin)()
    next(generator)
    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        generator.close()
    assert begin.events[-1] == ("fail", "RuntimeError")


def test_asyncio_timeout_inside_an_async_generator_fires(begin: Recorder) -> None:
    """A timeout across a yield still sees its own task."""

    async def slow() -> Any:
        async with asyncio.timeout(0.01):
            yield 1
            await asyncio.sleep(30)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async for _ in wrap(slow, begin)():
                pass

    asyncio.run(main())
    assert begin.events[-1] == ("fail", "TimeoutError")


def test_same_task_across_yields(begin: Recorder) -> None:
    """Each step of an async generator runs in the consumer's task."""
    tasks: list[Any] = []

    async def numbers() -> Any:
        for number in range(3):
            tasks.append(asyncio.current_task())
            await asyncio.sleep(0)
            yield number

    async def main() -> None:
        assert [n async for n in wrap(numbers, begin)()] == [0, 1, 2]
        assert set(tasks) == {asyncio.current_task()}

    asyncio.run(main())


def test_break_leaks_no_context_and_logs_nothing(begin: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    """After an early break the caller's context is what it was, at once."""

    def numbers() -> Any:
        yield 1
        yield 2

    async def async_numbers() -> Any:
        yield 1
        yield 2

    before = otel_context.get_current()
    with caplog.at_level(logging.WARNING):
        for _ in wrap(numbers, begin)():
            assert otel_context.get_current() is before
            break
        gc.collect()

        async def main() -> None:
            inner = otel_context.get_current()
            stream = wrap(async_numbers, begin)()
            async for _ in stream:
                assert otel_context.get_current() is inner
                break
            await stream.aclose()
            assert otel_context.get_current() is inner

        asyncio.run(main())
    assert otel_context.get_current() is before
    assert caplog.records == []
    assert [call.events[-1] for call in begin.calls] == [("abandon",), ("abandon",)]


def test_aclose_from_another_task_logs_nothing(begin: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    """A generator that is closed from another task than it ran in raises and logs nothing."""

    async def numbers() -> Any:
        yield 1
        await asyncio.sleep(0)
        yield 2

    async def main() -> None:
        stream = wrap(numbers, begin)()
        await anext(stream)
        await asyncio.create_task(stream.aclose())

    with caplog.at_level(logging.DEBUG, logger="opentelemetry"):
        asyncio.run(main())
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []
    assert begin.events[-1] == ("abandon",)


def test_error_while_iterating_is_recorded(begin: Recorder) -> None:
    """An error of a later step fails the call, although earlier steps went well."""

    async def numbers() -> Any:
        yield 1
        raise RuntimeError("late")

    async def main() -> None:
        with pytest.raises(RuntimeError, match="late"):
            async for _ in wrap(numbers, begin)():
                pass

    asyncio.run(main())
    assert begin.events == [("chunk", 1), ("fail", "RuntimeError")]


def test_lazy_results_of_plain_functions_end_with_their_work(begin: Recorder) -> None:
    """A plain function that hands out a generator, a coroutine or a task ends when that does."""

    async def work() -> int:
        await asyncio.sleep(0)
        return 7

    def numbers() -> Any:
        yield 1

    async def main() -> None:
        assert await wrap(lambda: work(), begin)() == 7  # noqa: PLW0108
        assert await wrap(lambda: asyncio.create_task(work()), begin)() == 7
        assert list(wrap(lambda: numbers(), begin)()) == [1]  # noqa: PLW0108

    asyncio.run(main())
    assert [call.events[-1] for call in begin.calls] == [("finish", 7), ("finish", 7), ("finish", None)]


def test_what_stands_in_for_a_function_runs_once() -> None:
    """What stands in for a plain function may hand out any kind of generator; it is not run again for its items."""
    runs: list[str] = []

    def numbers() -> Any:
        yield 1

    async def async_numbers() -> Any:
        yield 2

    def stand_in(kind: str) -> Any:
        runs.append(kind)
        return numbers() if kind == "sync" else async_numbers()

    def begin(args: Any, kwargs: Any, /) -> Call:
        call = Call(args, kwargs)
        call.replacement = stand_in  # type: ignore[assignment]
        return call

    async def main() -> list[int]:
        return [number async for number in wrap(lambda _: None, begin)("async")]

    assert list(wrap(lambda _: None, begin)("sync")) == [1]
    assert asyncio.run(main()) == [2]
    assert runs == ["sync", "async"]


def test_held_generator_shows_nothing_before_it_is_judged() -> None:
    """With an enforcing after-rule all items are collected and judged first."""
    begin = Recorder(holds_back=True)
    produced: list[int] = []

    def numbers() -> Any:
        for number in (1, 2):
            produced.append(number)
            yield number
        return "end"

    generator = wrap(numbers, begin)()
    assert next(generator) == 10
    assert produced == [1, 2]
    assert list(generator) == [20]
    assert begin.events[-1] == ("release", [1, 2], "end")

    async def async_numbers() -> Any:
        yield 1

    async def main() -> None:
        assert [n async for n in wrap(async_numbers, Recorder(holds_back=True))()] == [10]

    asyncio.run(main())


def test_admission_is_awaited_before_the_function_runs() -> None:
    """What a coroutine must wait for comes before its first step; a cancelled wait ends the call."""
    order: list[str] = []

    class Admitted(Call):
        def __init__(self, args: Any, kwargs: Any) -> None:
            super().__init__(args, kwargs)
            self.admission = self.admit  # type: ignore[assignment]

        async def admit(self) -> None:
            order.append("admitted")
            if self.args == ("deny",):
                raise PermissionError("denied")

    async def runs(_what: str) -> None:
        order.append("ran")

    calls: list[Admitted] = []

    def begin(args: Any, kwargs: Any, /) -> Admitted:
        calls.append(Admitted(args, kwargs))
        return calls[-1]

    asyncio.run(wrap(runs, begin)("go"))
    with pytest.raises(PermissionError):
        asyncio.run(wrap(runs, begin)("deny"))
    assert order == ["admitted", "ran", "admitted"]
    assert calls[1].events == [("fail", "PermissionError")]


def test_a_generator_closed_while_it_waits_is_abandoned() -> None:
    """An event loop that ends closes what still waits: nobody wanted more, and nothing failed."""
    recorder = Recorder()

    class Waits:
        """Something that an event loop waits for; here nobody runs one."""

        def __await__(self) -> Any:
            yield

    async def source() -> Any:
        yield 1
        await Waits()

    stream = wrap(source, recorder)()
    with pytest.raises(StopIteration) as first:
        anext(stream).__await__().send(None)
    assert first.value.value == 1
    step = anext(stream).__await__()
    step.send(None)
    with pytest.raises(GeneratorExit):
        step.throw(GeneratorExit())
    assert recorder.calls[0].events == [("chunk", 1), ("abandon",)]
