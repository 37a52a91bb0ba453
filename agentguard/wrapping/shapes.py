"""
Wrapping of callables: a wrapper of the same shape for each shape of callable.

Takes a callable and the function that begins a call, gives a callable that
behaves as the first: same result, exception, signature and `inspect` answers,
same task, same generator protocol. What a call means (policy, span, store) is
not known here; it is behind `BeginCall` and `ActiveCall`.

A context token never lives across a `yield`: for each step of a generator the
context is attached, the step runs, the context is detached, in one frame.
Otherwise a `break` of the caller leaks the span, and a generator that is closed
from another task cannot detach.
"""

from __future__ import annotations

import copy
import functools
import inspect
import types
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Mapping
from sys import modules as _modules
from typing import Any, NoReturn, Protocol, TypeVar, cast

from opentelemetry.context import Context

from agentguard.event_loop import is_future
from agentguard.wrapping.held import Hold, held_async_generator, held_generator
from agentguard.wrapping.lazy_context import LazyContext
from agentguard.wrapping.steps import attach, detach

_F = TypeVar("_F", bound=Callable[..., Any])


class ActiveCall(Protocol):
    """
    One call between its beginning and its end. Only policy makes these methods raise.

    A call that is a `LazyContext` is its own context, and runs as it was called: nothing is to be awaited,
    nothing stands in for the function, and its arguments are those that were given.
    """

    @property
    def args(self) -> tuple[Any, ...]:
        """Positional arguments to call with; redacted copies where a rule asked for it."""
        ...

    @property
    def kwargs(self) -> Mapping[str, Any]:
        """Keyword arguments to call with."""
        ...

    @property
    def context(self) -> Context:
        """The context in which the function runs; the call itself where it runs as it was called."""
        ...

    @property
    def replacement(self) -> Callable[..., Any] | None:
        """What runs instead of the function, in the same shape; or None."""
        ...

    @property
    def admission(self) -> Callable[[], Awaitable[None]] | None:
        """What a coroutine awaits before the function may run, or None."""
        ...

    def finish(self, result: Any) -> Any:
        """End the call with its result; returns what the caller gets."""
        ...

    async def finish_async(self, result: Any) -> Any:
        """Do the same without blocking the event loop."""
        ...

    def fail(self, error: BaseException) -> None:
        """End the call with what it raised."""
        ...

    def chunk(self, item: Any) -> None:
        """Note one item of a generator."""
        ...

    def abandon(self) -> None:
        """End a generator that was closed before its end."""
        ...

    @property
    def holds_back(self) -> bool:
        """Whether items are to be judged before the caller sees them."""
        ...

    def hold(self) -> Hold:
        """Begin to judge the items of a generator."""
        ...


class BeginCall(Protocol):
    """Begins a call; None means that the function runs as if it were not wrapped."""

    def __call__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], /) -> ActiveCall | None:
        """May raise what policy raises."""
        ...


def wrap(callable_: _F, begin: BeginCall) -> _F:
    """
    Wrap a callable in one of its own shape.

    Args:
        callable_:
            Function, coroutine function, generator function, async generator
            function, method, `staticmethod`, `classmethod`, partial, or an
            object with `__call__`.
        begin:
            Called with the arguments of each call.

    Returns:
        The wrapper; `__wrapped__` is the original.

    Raises:
        TypeError: It cannot be called.
    """
    if isinstance(callable_, (staticmethod, classmethod)):
        return cast("_F", type(callable_)(wrap(callable_.__func__, begin)))
    if not callable(callable_):
        raise TypeError(f"agentguard wraps callables, got `{type(callable_).__name__}`")
    wrapper: Callable[..., Any]
    if inspect.isasyncgenfunction(callable_):
        wrapper = _async_generator(callable_, begin)
    elif inspect.iscoroutinefunction(callable_):
        wrapper = _coroutine(callable_, begin)
    elif inspect.isgeneratorfunction(callable_):
        wrapper = _generator(callable_, begin)
    elif isinstance(callable_, (types.FunctionType, types.BuiltinFunctionType, types.MethodType)):
        wrapper = _function(callable_, begin)
    elif inspect.isclass(callable_):
        raise TypeError(
            f"agentguard wraps callables, got the class `{callable_.__name__}`; decorate its methods"
        )
    else:
        return cast("_F", _GuardedObject(callable_, begin))
    return cast("_F", functools.wraps(callable_)(wrapper))


def _runs(function: Callable[..., Any], call: ActiveCall) -> Callable[..., Any]:
    """What runs: the function itself, or what stands in for it, which may be an object that counts as false."""
    return function if call.replacement is None else call.replacement


def _function(function: Callable[..., Any], begin: BeginCall) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = begin(args, kwargs)
        if call is None:
            return function(*args, **kwargs)
        if not isinstance(call, LazyContext):
            return _drive_function(function, call)
        token = attach(call)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            call.fail(error)
            raise
        finally:
            detach(token)
        if type(result) in _DONE:
            return call.finish(result)
        return _ended(result, call)

    return wrapper


def _drive_function(function: Callable[..., Any], call: ActiveCall) -> Any:
    """Run a function, or what stands in for it, with the arguments of the call."""
    token = attach(call.context)
    try:
        result = _runs(function, call)(*call.args, **call.kwargs)
    except BaseException as error:
        call.fail(error)
        raise
    finally:
        detach(token)
    return _ended(result, call)


def _ended(result: Any, call: ActiveCall) -> Any:
    """End a call with its result, or when the work is done that the result stands for."""
    # By the type: `isinstance` would ask a result for its `__class__`, which may be anything and may raise.
    kind = type(result)
    if issubclass(kind, _LAZY) or ("asyncio" in _modules and is_future(kind)):
        return _lazy(result, call)
    return call.finish(result)


def _coroutine(function: Callable[..., Any], begin: BeginCall) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = begin(args, kwargs)
        if call is None:
            return await function(*args, **kwargs)
        if not isinstance(call, LazyContext):
            return await _drive_coroutine(lambda: _runs(function, call)(*call.args, **call.kwargs), call)
        token = attach(call)
        try:
            result = await function(*args, **kwargs)
        except GeneratorExit:
            call.abandon()
            raise
        except BaseException as error:
            call.fail(error)
            raise
        finally:
            detach(token)
        return call.finish(result)

    return wrapper


async def _admit(call: ActiveCall, admission: Callable[[], Awaitable[None]]) -> None:
    """Wait for the admission; a call that is cancelled meanwhile has ended too."""
    try:
        await admission()
    except BaseException as error:
        call.fail(error)
        raise


async def _drive_coroutine(start: Callable[[], Awaitable[Any]], call: ActiveCall) -> Any:
    """Await the admission, then the function, in the caller's own task."""
    if call.admission is not None:
        await _admit(call, call.admission)
    token = attach(call.context)
    try:
        result = await start()
    except GeneratorExit:
        call.abandon()
        raise
    except BaseException as error:
        call.fail(error)
        raise
    finally:
        detach(token)
    return await call.finish_async(result)


def _generator(function: Callable[..., Any], begin: BeginCall) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        call = begin(args, kwargs)
        if call is None:
            return (yield from function(*args, **kwargs))
        if isinstance(call, LazyContext):
            return (yield from _drive_generator(function(*args, **kwargs), call, call))
        inner = _runs(function, call)(*call.args, **call.kwargs)
        return (yield from _drive_generator(inner, call, call.context))

    return wrapper


def _drive_generator(
    inner: Generator[Any, Any, Any], call: ActiveCall, context: Context
) -> Generator[Any, Any, Any]:
    """Run a generator step by step, each step inside the call's context."""
    if call.holds_back:
        return (yield from held_generator(inner, call))
    step: Callable[[Any], Any] = inner.send
    value: Any = None
    while True:
        token = attach(context)
        try:
            item = step(value)
        except StopIteration as stop:
            result = stop.value
            break
        except BaseException as error:
            call.fail(error)
            raise
        finally:
            detach(token)
            del value
        call.chunk(item)
        is_closing = False
        # The step runs outside the handler, so that the inner generator sees the same
        # exception context as without us.
        try:
            value = yield item
            step = inner.send
        except GeneratorExit:
            is_closing = True
        except BaseException as thrown:
            value = thrown
            step = inner.throw
        if is_closing:
            return _close(inner, call)
    return call.finish(result)


def _close(inner: Generator[Any, Any, Any], call: ActiveCall) -> Any:
    """Close the inner generator in its context; Python 3.13 hands its return value to the closer."""
    token = attach(call.context)
    try:
        value: Any = inner.close()  # type: ignore[func-returns-value,unused-ignore]
    except BaseException as error:
        call.fail(error)
        raise
    finally:
        detach(token)
    call.abandon()
    return value


def _async_generator(
    function: Callable[..., Any], begin: BeginCall, runs: Callable[..., Callable[..., Any]] = _runs
) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        call = begin(args, kwargs)
        if call is not None:
            if call.admission is not None:
                await _admit(call, call.admission)
            args, kwargs = call.args, dict(call.kwargs)
        inner = (function if call is None else runs(function, call))(*args, **kwargs)
        if call is not None and call.holds_back:
            held = held_async_generator(inner, call)
            try:
                async for item in held:
                    yield item
            finally:
                await held.aclose()
            return
        # An async generator cannot `yield from`: each step is forwarded by hand.
        step: Callable[[Any], Awaitable[Any]] = inner.asend
        context = None if call is None else call.context
        value: Any = None
        while True:
            token = None if context is None else attach(context)
            try:
                item = await step(value)
            except StopAsyncIteration:
                break
            except BaseException as error:
                _end_step(call, error)
                raise
            finally:
                if token is not None:
                    detach(token)
                del value
            if call is not None:
                call.chunk(item)
            is_closing = False
            try:
                value = yield item
                step = inner.asend
            except GeneratorExit:
                is_closing = True
            except BaseException as thrown:
                value = thrown
                step = inner.athrow
            if is_closing:
                await _close_async(inner, call)
                return
        if call is not None:
            await call.finish_async(None)

    return wrapper


def _end_step(call: ActiveCall | None, error: BaseException) -> None:
    """End a call by what a step raised; one that is closed while it waits, as event loops do, is abandoned."""
    if call is None:
        return
    if isinstance(error, GeneratorExit):
        call.abandon()
    else:
        call.fail(error)


async def _close_async(inner: AsyncGenerator[Any, Any], call: ActiveCall | None) -> None:
    token = attach(call.context) if call is not None else None
    try:
        await inner.aclose()
    except BaseException as error:
        _end_step(call, error)
        raise
    finally:
        if token is not None:
            detach(token)
    if call is not None:
        call.abandon()


_DONE = frozenset({str, int, float, bool, bytes, dict, list, tuple, type(None)})
"""What most functions return; of these nothing is to be waited for."""
_LAZY = (types.GeneratorType, types.AsyncGeneratorType, types.CoroutineType)
"""What a plain function may return while its work is still to be done; futures besides."""


def _lazy(result: Any, call: ActiveCall) -> Any:
    """End the call when the work that a plain function handed out is done."""
    if isinstance(result, types.GeneratorType):
        return _drive_generator(result, call, call.context)
    if isinstance(result, types.AsyncGeneratorType):
        # What stands in for the function has run: this is what it handed out.
        return _async_generator(
            lambda *_args, **_kwargs: result, lambda _args, _kwargs: call, lambda function, _: function
        )()
    if isinstance(result, types.CoroutineType):
        return _drive_coroutine(lambda: cast("Coroutine[Any, Any, Any]", result), call)
    import asyncio  # Loaded by now: the result is a future of it, see `event_loop`.

    if call.holds_back:
        return asyncio.ensure_future(_drive_coroutine(lambda: result, call), loop=result.get_loop())

    def done(future: asyncio.Future[Any]) -> None:
        if future.cancelled():
            call.fail(asyncio.CancelledError())
        elif (error := future.exception()) is not None:
            call.fail(error)
        else:
            call.finish(future.result())

    result.add_done_callback(done)
    return result


class _GuardedObject:
    """
    Stands before an object with `__call__`; all else is the object's own.

    `isinstance` sees the object's class, so that frameworks which look at types
    treat it as what it is.
    """

    def __init__(self, target: Callable[..., Any], begin: BeginCall) -> None:
        object.__setattr__(self, "__wrapped__", target)
        # The shape is that of `__call__`, or of what a partial stands for.
        called = target if isinstance(target, functools.partial) else target.__call__  # type: ignore[operator]
        function = called.func if isinstance(called, functools.partial) else called
        shape = (
            _async_generator
            if inspect.isasyncgenfunction(function)
            else _coroutine
            if inspect.iscoroutinefunction(function)
            else _generator
            if inspect.isgeneratorfunction(function)
            else _function
        )
        object.__setattr__(self, "_agentguard_call", shape(called, begin))
        object.__setattr__(self, "_agentguard_begin", begin)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return object.__getattribute__(self, "_agentguard_call")(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "__wrapped__"), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(object.__getattribute__(self, "__wrapped__"), name, value)

    def __repr__(self) -> str:
        return repr(object.__getattribute__(self, "__wrapped__"))

    def __eq__(self, other: object) -> bool:
        target = object.__getattribute__(self, "__wrapped__")
        if isinstance(other, _GuardedObject):
            other = object.__getattribute__(other, "__wrapped__")
        return bool(target == other)

    def __hash__(self) -> int:
        return hash(object.__getattribute__(self, "__wrapped__"))

    def __copy__(self) -> _GuardedObject:
        return self._agentguard_again(copy.copy(object.__getattribute__(self, "__wrapped__")))

    def __deepcopy__(self, memo: dict[int, Any]) -> _GuardedObject:
        return self._agentguard_again(copy.deepcopy(object.__getattribute__(self, "__wrapped__"), memo))

    def _agentguard_again(self, target: Callable[..., Any]) -> _GuardedObject:
        """Guard a copy as the original is guarded."""
        return _GuardedObject(target, object.__getattribute__(self, "_agentguard_begin"))

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        # What came back from a pickle would be the bare object: unguarded, and nobody would see it.
        raise TypeError("a guarded object cannot be pickled; guard it where it is used")

    @property
    def __class__(self) -> type:
        return type(object.__getattribute__(self, "__wrapped__"))

    @__class__.setter
    def __class__(self, value: type) -> None:
        raise TypeError("the class of a guarded object cannot be changed")
