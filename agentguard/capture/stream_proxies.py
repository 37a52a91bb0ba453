"""
Proxies for streams: they behave as the streams did, and tell the watch of each step.

Same chunks, same exceptions, same attributes, usable in `with`.

A context token never lives across a step: the context of the call is attached
for the one step that asks the inner stream for a chunk.
"""

# ruff: noqa: SIM105 - `suppress` would be dearer than the step

from __future__ import annotations

import inspect
import types
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, Self, TypeVar

from agentguard.capture.cost import Rate
from agentguard.capture.stream import StreamObserver, Watch
from agentguard.capture.usage_quick import UNPRICED
from agentguard.values import attributes as names
from agentguard.wrapping import attach, reset

_REBOUND: Final = frozenset(
    {"until_done", "get_final_message", "get_final_text", "get_final_completion", "get_final_response"}
)
"""Methods of SDK streams that consume the stream themselves: they run on the proxy instead."""

_TYPES_MAX: Final = 256
"""Classes of results of which it is remembered whether they are streams."""


class _Proxy:
    """Attributes, class and representation are those of the inner stream."""

    __slots__ = ("__weakref__", "_agentguard_inner", "_agentguard_watch")

    _agentguard_inner: Any
    _agentguard_watch: Watch

    def __getattr__(self, name: str) -> Any:
        inner = self._agentguard_inner
        found = getattr(inner, name)
        if name in _REBOUND:
            function = getattr(type(inner), name, None)
            if isinstance(function, types.FunctionType):
                return types.MethodType(function, self)
        if name == "text_stream":
            return put_before(found, self._agentguard_watch)
        return found

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._agentguard_inner, name, value)

    def __repr__(self) -> str:
        return repr(self._agentguard_inner)

    @property
    def __class__(self) -> type:
        # `isinstance(stream, openai.Stream)` stays true.
        return type(self._agentguard_inner)

    @__class__.setter
    def __class__(self, value: type) -> None:
        raise TypeError("the class of a watched stream cannot be changed")


_AnyProxy = TypeVar("_AnyProxy", bound=_Proxy)
_new: Final = object.__new__
_set_inner: Final = vars(_Proxy)["_agentguard_inner"].__set__
_set_watch: Final = vars(_Proxy)["_agentguard_watch"].__set__
"""Set the slots of a proxy, whose own way of setting attributes is that of the inner stream."""


def _made(kind: type[_AnyProxy], inner: Any, watch: Watch) -> _AnyProxy:
    """Make a proxy."""
    proxy = _new(kind)
    _set_inner(proxy, inner)
    _set_watch(proxy, watch)
    return proxy


class WatchedStream(_Proxy):
    """A synchronous stream, or a manager that hands one out in `with`."""

    __slots__ = ()

    def __iter__(self) -> Iterator[Any]:
        inner = self._agentguard_inner
        if hasattr(inner, "__next__"):
            return self
        return _made(WatchedStream, iter(inner), self._agentguard_watch)

    def __next__(self) -> Any:
        watch: Watch = self._agentguard_watch
        context = watch.context
        token = None if context is None else attach(context)
        try:
            item = self._agentguard_inner.__next__()
        except StopIteration:
            watch.end(names.OUTCOME_OK)
            raise
        except BaseException as error:
            watch.fail(error)
            raise
        finally:
            if token is not None:
                reset(token)
        passes = watch.passes
        if passes is None:
            watch.note(item)
        elif not (found := passes(item)):
            watch.note(item, found)
        return item

    def __enter__(self) -> Self:
        inner = self._agentguard_inner
        entered = inner.__enter__()
        if entered is inner:
            return self
        self._agentguard_watch.follow(entered)
        return _made(type(self), entered, self._agentguard_watch)

    def __exit__(self, *exc_info: object) -> Any:
        try:
            return self._agentguard_inner.__exit__(*exc_info)
        finally:
            self._agentguard_watch.leave(_raised(exc_info))

    def close(self) -> Any:
        """Close the inner stream; if it was not read to its end, it is abandoned."""
        try:
            # Of a stream that can be read both ways this may be something to be awaited; some have none at all.
            close = getattr(self._agentguard_inner, "close", None)
            return None if close is None else close()
        finally:
            self._agentguard_watch.leave()


class WatchedAsyncStream(_Proxy):
    """An asynchronous stream, or a manager that hands one out in `async with`."""

    __slots__ = ()

    def __aiter__(self) -> AsyncIterator[Any]:
        inner = self._agentguard_inner
        if hasattr(inner, "__anext__"):
            return self
        return _made(WatchedAsyncStream, aiter(inner), self._agentguard_watch)

    async def __anext__(self) -> Any:
        watch: Watch = self._agentguard_watch
        # The token stays in this task: a step is awaited in the frame that attached it.
        context = watch.context
        token = None if context is None else attach(context)
        try:
            item = await self._agentguard_inner.__anext__()
        except StopAsyncIteration:
            watch.end(names.OUTCOME_OK)
            raise
        except BaseException as error:
            watch.fail(error)
            raise
        finally:
            if token is not None:
                try:  # As `detach`, without its frame.
                    reset(token)
                except ValueError:
                    pass
        passes = watch.passes
        if passes is None:
            watch.note(item)
        elif not (found := passes(item)):
            watch.note(item, found)
        return item

    async def __aenter__(self) -> Self:
        inner = self._agentguard_inner
        entered = await inner.__aenter__()
        if entered is inner:
            return self
        self._agentguard_watch.follow(entered)
        return _made(type(self), entered, self._agentguard_watch)

    async def __aexit__(self, *exc_info: object) -> Any:
        try:
            return await self._agentguard_inner.__aexit__(*exc_info)
        finally:
            self._agentguard_watch.leave(_raised(exc_info))

    async def close(self) -> Any:
        """Close the inner stream; if it was not read to its end, it is abandoned."""
        return await self._agentguard_close("close", "aclose")

    async def aclose(self) -> Any:
        """Do what `close` does, under the name that generators use."""
        return await self._agentguard_close("aclose", "close")

    async def _agentguard_close(self, name: str, other: str) -> Any:
        """Close by one name or the other: streams have the one, or the other, or none."""
        inner = self._agentguard_inner
        try:
            close = getattr(inner, name, None) or getattr(inner, other, None)
            closing = None if close is None else close()
            return await closing if inspect.isawaitable(closing) else closing
        finally:
            self._agentguard_watch.leave()


class WatchedEitherStream(WatchedStream, WatchedAsyncStream):
    """A stream that can be read with `for` and with `async for`, as those of some gateways can."""

    __slots__ = ()


def _raised(exc_info: tuple[object, ...]) -> BaseException | None:
    """Take the exception out of what `__exit__` gets."""
    error = exc_info[1] if len(exc_info) > 1 else None
    return error if isinstance(error, BaseException) else None


def put_before(inner: Any, watch: Watch) -> Any:
    """Put the proxy before an object that is right for it."""
    # Not `type`: a proxy of somebody else may have the methods of both, its `__class__` says what it stands for.
    kind = inner.__class__
    try:
        proxy = _new(_proxy_for(kind))
    except TypeError:  # A class whose metaclass has no hash.
        proxy = _new(_proxy_for.__wrapped__(kind))
    # As `_made`, without its frame.
    _set_inner(proxy, inner)
    _set_watch(proxy, watch)
    return proxy


@lru_cache(maxsize=_TYPES_MAX)
def _proxy_for(kind: type) -> type[WatchedStream | WatchedAsyncStream]:
    """Choose the proxy by what objects of a class can do."""
    is_async = any(hasattr(kind, name) for name in ("__anext__", "__aiter__", "__aenter__"))
    is_sync = any(hasattr(kind, name) for name in ("__next__", "__iter__", "__enter__"))
    if is_async:
        return WatchedEitherStream if is_sync else WatchedAsyncStream
    return WatchedStream


def is_stream(value: object) -> bool:
    """
    Whether an object is a stream that is worth watching.

    Returns:
        True for iterators, async iterators, and the stream managers of SDKs;
        False for containers, strings, files and generators (a decorator
        handles generators itself).

    """
    kind = type(value)
    try:
        return _is_stream_type(kind)  # type: ignore[arg-type] # classes have a hash, or the line below answers
    except TypeError:  # A class whose metaclass has no hash.
        return _is_stream_type.__wrapped__(kind)


@lru_cache(maxsize=_TYPES_MAX)
def _is_stream_type(kind: type) -> bool:
    """Look at a class; once, since most calls return objects of a few classes."""
    if issubclass(kind, (types.GeneratorType, types.AsyncGeneratorType)):
        return False
    is_iterator = hasattr(kind, "__next__") or hasattr(kind, "__anext__")
    is_manager = kind.__name__.endswith("StreamManager") and (
        hasattr(kind, "__enter__") or hasattr(kind, "__aenter__")
    )
    # A stand-in of a test has the methods of everything; a proxy of `wrapt` too, and may be of a stream.
    is_mock = any(base.__module__ == "unittest.mock" for base in kind.__mro__)
    return (is_iterator or is_manager) and not (is_mock or hasattr(kind, "readline"))


def watch_stream(stream: Any, observer: StreamObserver, rates: Mapping[str, Rate] = UNPRICED) -> Any:
    """
    Put a proxy before a stream.

    Args:
        stream:
            An iterator, an async iterator, or the stream or stream manager of an SDK.
        observer:
            Hears of the first content and of the end.
        rates:
            As for `StreamUsage`, where the observer wants prices.

    Returns:
        The proxy. It holds the stream; when nobody holds the proxy any more and
        the stream was not read to its end, the observer hears `abandoned`.

    """
    return put_before(stream, Watch(stream, observer, rates))
