"""
Wrappers of generator functions and async generator functions: each step runs inside the call's context.

A context token never lives across a `yield`: for each step of a generator the
context is attached, the step runs, the context is detached, in one frame.
Otherwise a `break` of the caller leaks the span, and a generator that is closed
from another task cannot detach.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any

from opentelemetry.context import Context

from agentguard.wrapping.call import ActiveCall, BeginCall, admit, what_runs
from agentguard.wrapping.held import held_async_generator, held_generator
from agentguard.wrapping.lazy_context import LazyContext
from agentguard.wrapping.steps import attach, detach


def wrap_generator(function: Callable[..., Any], begin: BeginCall) -> Callable[..., Any]:
    """Wrap a generator function."""

    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        call = begin(args, kwargs)
        if call is None:
            return (yield from function(*args, **kwargs))
        if isinstance(call, LazyContext):
            return (yield from drive_generator(function(*args, **kwargs), call, call))
        inner = what_runs(function, call)(*call.args, **call.kwargs)
        return (yield from drive_generator(inner, call, call.context))

    return wrapper


def drive_generator(
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


def wrap_async_generator(
    function: Callable[..., Any], begin: BeginCall, runs: Callable[..., Callable[..., Any]] = what_runs
) -> Callable[..., Any]:
    """Wrap an async generator function."""

    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        call = begin(args, kwargs)
        if call is not None:
            if call.admission is not None:
                await admit(call, call.admission)
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
