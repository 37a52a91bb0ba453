"""
Wrapping of callables: a wrapper of the same shape for each shape of callable.

Takes a callable and the function that begins a call, gives a callable that
behaves as the first: same result, exception, signature and `inspect` answers,
same task, same generator protocol.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

from agentguard.wrapping.call import BeginCall, NoShortcut, Shortcut, with_shortcut
from agentguard.wrapping.functions import wrap_coroutine, wrap_function
from agentguard.wrapping.generators import wrap_async_generator, wrap_generator
from agentguard.wrapping.guarded_object import GuardedObject

_F = TypeVar("_F", bound=Callable[..., Any])
_Wrapper = Callable[[Callable[..., Any], BeginCall, Shortcut], Callable[..., Any]]
_NO_SHORTCUT: Final = NoShortcut()


def wrap(callable_: _F, begin: BeginCall, shortcut: Shortcut = _NO_SHORTCUT) -> _F:
    """
    Wrap a callable in one of its own shape.

    Args:
        callable_:
            Function, coroutine function, generator function, async generator
            function, method, `staticmethod`, `classmethod`, partial, or an
            object with `__call__`.
        begin:
            Called with the arguments of each call that has no shortcut.
        shortcut:
            Asked first.

    Returns:
        The wrapper; `__wrapped__` is the original.

    Raises:
        TypeError: It cannot be called.
    """
    if isinstance(callable_, (staticmethod, classmethod)):
        return cast("_F", type(callable_)(wrap(callable_.__func__, begin, shortcut)))
    if not callable(callable_):
        raise TypeError(f"agentguard wraps callables, got `{type(callable_).__name__}`")
    wrap_shape = _wrapper_for(callable_)
    if wrap_shape is wrap_function and not isinstance(
        callable_, (types.FunctionType, types.BuiltinFunctionType, types.MethodType)
    ):
        if inspect.isclass(callable_):
            raise TypeError(
                f"agentguard wraps callables, got the class `{callable_.__name__}`; decorate its methods"
            )
        return cast("_F", GuardedObject(callable_, lambda target: _called(target, begin, shortcut)))
    return cast("_F", functools.wraps(callable_)(wrap_shape(callable_, begin, shortcut)))


def _wrapper_for(function: Callable[..., Any]) -> _Wrapper:
    """Choose by the shape."""
    if inspect.isasyncgenfunction(function):
        return _wrap_async_steps
    if inspect.iscoroutinefunction(function):
        return wrap_coroutine
    if inspect.isgeneratorfunction(function):
        return _wrap_steps
    return wrap_function


def _wrap_steps(function: Callable[..., Any], begin: BeginCall, shortcut: Shortcut) -> Callable[..., Any]:
    return wrap_generator(function, with_shortcut(begin, shortcut))


def _wrap_async_steps(
    function: Callable[..., Any], begin: BeginCall, shortcut: Shortcut
) -> Callable[..., Any]:
    return wrap_async_generator(function, with_shortcut(begin, shortcut))


def _called(target: Any, begin: BeginCall, shortcut: Shortcut) -> Callable[..., Any]:
    """Wrap the `__call__` of an object, or what a partial stands for, whose shape it has."""
    called = target if isinstance(target, functools.partial) else target.__call__
    return _wrapper_for(called.func if isinstance(called, functools.partial) else called)(
        called, begin, shortcut
    )
