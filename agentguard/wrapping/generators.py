"""
Wrappers of generator functions and async generator functions: each step runs inside the call's context.

A context token never lives across a `yield`: for each step of a generator the
context is attached, the step runs, the context is detached, in one frame.
Otherwise a `break` of the caller leaks the span, and a generator that is closed
from another task cannot detach.
"""

# ruff: noqa: SIM105, PLR0915 - each step in one frame, and `suppress` would be dearer than the step

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any

from opentelemetry.context import Context

from agentguard.wrapping.call import ActiveCall, BeginCall, Passes, admit, what_runs
from agentguard.wrapping.held import held_async_generator, held_generator
from agentguard.wrapping.lazy_context import LazyContext
from agentguard.wrapping.steps import attach, detach, reset


def wrap_generator(
    function: Callable[..., Any], begin: BeginCall, runs: Callable[..., Callable[..., Any]] = what_runs
) -> Callable[..., Any]:
    """Wrap a generator function; `runs` says what runs of it in a call."""

    # The loop is in the wrapper: behind a `yield from` each item would pass through one more generator.
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        call = begin(args, kwargs)
        if call is None:
            return (yield from function(*args, **kwargs))
        context: Context
        if isinstance(call, LazyContext):
            context, inner = call, function(*args, **kwargs)
        else:
            context, inner = call.context, runs(function, call)(*call.args, **call.kwargs)
            if call.holds_back:
                return (yield from held_generator(inner, call))
        passes: Passes | None = None
        send: Callable[[Any], Any] = inner.send
        step, value = send, None
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
                reset(token)
                del value
            if passes is None:
                passes = call.chunk(item)
            elif not (found := passes(item)):
                passes = call.chunk(item, found)
            is_closing = False
            # The step runs outside the handler, so that the inner generator sees the same
            # exception context as without us.
            try:
                value = yield item
                step = send
            except GeneratorExit:
                is_closing = True
            except BaseException as thrown:
                value = thrown
                step = inner.throw
            if is_closing:
                return _close(inner, call, context)
        return call.finish(result)

    return wrapper


def _close(inner: Generator[Any, Any, Any], call: ActiveCall, context: Context) -> Any:
    """Close the inner generator in its context; Python 3.13 hands its return value to the closer."""
    token = attach(context)
    try:
        value: Any = inner.close()  # type: ignore[func-returns-value,unused-ignore]
    except BaseException as error:
        call.fail(error)
        raise
    finally:
        detach(token)
    call.abandon()
    return value


def wrap_async_generator(
    function: Callable[..., Any], begin: BeginCall, runs: Callable[..., Callable[..., Any]] = what_runs
) -> Callable[..., Any]:
    """Wrap an async generator function; `runs` as above."""

    # An async generator cannot `yield from`: each step is forwarded by hand, also where there is no call.
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        call = begin(args, kwargs)
        context: Context | None = None
        if isinstance(call, LazyContext):
            context, inner = call, function(*args, **kwargs)
        elif call is None:
            inner = function(*args, **kwargs)
        else:
            if call.admission is not None:
                await admit(call, call.admission)
            context, inner = call.context, runs(function, call)(*call.args, **call.kwargs)
            if call.holds_back:
                inner = held_async_generator(inner, call)
                call = context = None  # All that is to be done is done there.
        passes: Passes | None = None
        send: Callable[[Any], Awaitable[Any]] = inner.asend
        step, value = send, None
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
                    try:  # As `detach`, without its frame.
                        reset(token)
                    except ValueError:
                        pass
                del value
            if passes is not None:
                if call is not None and not (found := passes(item)):
                    passes = call.chunk(item, found)
            elif call is not None:
                passes = call.chunk(item)
            is_closing = False
            try:
                value = yield item
                step = send
            except GeneratorExit:
                is_closing = True
            except BaseException as thrown:
                value = thrown
                step = inner.athrow
            if is_closing:
                await _close_async(inner, call, context)
                return
        if isinstance(call, LazyContext):
            call.finish(None)
        elif call is not None:
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


async def _close_async(
    inner: AsyncGenerator[Any, Any], call: ActiveCall | None, context: Context | None
) -> None:
    """Close the inner generator in its context."""
    token = None if context is None else attach(context)
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
