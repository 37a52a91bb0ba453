"""Wrappers of functions and coroutine functions, and of work that a function hands out undone."""

from __future__ import annotations

import types
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from contextvars import Token
from sys import modules as _modules
from typing import Any, Final, cast

from opentelemetry.context import Context

from agentguard.event_loop import is_future
from agentguard.wrapping.call import ActiveCall, BeginCall, Shortcut, admit, what_runs
from agentguard.wrapping.generators import wrap_async_generator, wrap_generator
from agentguard.wrapping.steps import attach, detach, reset

_KINDS_MAX: Final = 256
_done: Final[set[type]] = {str, int, float, bool, bytes, dict, list, tuple, type(None)}
"""Types of results of which nothing is to be waited for: those that most functions return, and what was seen."""
_LAZY = (types.GeneratorType, types.AsyncGeneratorType, types.CoroutineType)
"""What a plain function may return while its work is still to be done; futures besides."""


def wrap_function(function: Callable[..., Any], begin: BeginCall, shortcut: Shortcut) -> Callable[..., Any]:
    """Wrap a function."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        quick = shortcut.begin
        call = quick(args, kwargs)
        if call is None:
            return _run(function, begin, args, kwargs)
        token = attach(call)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            _fail(call, error, token)
            raise
        try:  # noqa: SIM105 - as `detach`, without its frame or any other
            reset(token)
        except ValueError:
            pass
        try:
            is_done = type(result) in _done
        except TypeError:  # A class whose metaclass has no hash.
            is_done = False
        return call.finish(result) if is_done else _ended(result, call)

    return wrapper


def _run(
    function: Callable[..., Any], begin: BeginCall, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Run a function whose call has no shortcut."""
    call = begin(args, kwargs)
    return function(*args, **kwargs) if call is None else _drive_function(function, call)


def _fail(call: ActiveCall, error: BaseException, token: Token[Context]) -> None:
    """End a call with what its function raised, still in its context."""
    try:
        call.fail(error)
    finally:
        detach(token)


def _drive_function(function: Callable[..., Any], call: ActiveCall) -> Any:
    """Run a function, or what stands in for it, with the arguments of the call."""
    token = attach(call.context)
    try:
        result = what_runs(function, call)(*call.args, **call.kwargs)
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
    if len(_done) < _KINDS_MAX:
        with suppress(TypeError):
            _done.add(kind)
    return call.finish(result)


def wrap_coroutine(function: Callable[..., Any], begin: BeginCall, shortcut: Shortcut) -> Callable[..., Any]:
    """Wrap a coroutine function."""

    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        quick = shortcut.begin
        call = quick(args, kwargs)
        if call is None:
            call = begin(args, kwargs)
            if call is None:
                return await function(*args, **kwargs)
            return await _drive_coroutine(lambda: what_runs(function, call)(*call.args, **call.kwargs), call)
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


async def _drive_coroutine(start: Callable[[], Awaitable[Any]], call: ActiveCall) -> Any:
    """Await the admission, then the function, in the caller's own task."""
    if call.admission is not None:
        await admit(call, call.admission)
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


def _lazy(result: Any, call: ActiveCall) -> Any:
    """End the call when the work that a plain function handed out is done."""
    if isinstance(result, (types.GeneratorType, types.AsyncGeneratorType)):
        wrap = wrap_generator if isinstance(result, types.GeneratorType) else wrap_async_generator
        # What stands in for the function has run: this is what it handed out.
        return wrap(
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
