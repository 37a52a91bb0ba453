"""
Results that are not there yet: streams of model calls and agents.

Without an enforcing after-rule a stream passes through, and is watched. With
one it is held back: read to its end, judged as a whole, and only then handed
on, since what a caller has seen cannot be taken back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any, Protocol, Self

from opentelemetry.context import Context

from agentguard.capture import Span, is_stream, watch_stream
from agentguard.runtime.spec import CallSpec
from agentguard.values import Usage
from agentguard.values import attributes as names


class StreamingCall(Protocol):
    """What a stream needs of the call that returned it."""

    spec: CallSpec
    span: Span
    context: Context

    @property
    def holds_back(self) -> bool:
        """Whether a rule judges the result before the caller may see any of it."""
        ...

    def complete(self, result: Any) -> Any:
        """End the call."""
        ...

    def release(self, items: list[Any], value: Any) -> tuple[list[Any], Any]:
        """Judge all chunks at once, and end the call."""
        ...

    def fail(self, error: BaseException) -> None:
        """End the call with an error."""
        ...

    def abandon(self) -> None:
        """End the call of a stream that was not read to its end."""
        ...


class StreamEnd:
    """Ends the call when its stream ends; implements `capture.StreamObserver`."""

    __slots__ = ("_call", "context")

    def __init__(self, call: StreamingCall) -> None:
        self._call = call
        self.context: Context | None = call.context

    def first_chunk(self) -> None:
        """Note the time to the first content."""
        self._call.span.first_chunk()

    def later_chunk(self) -> None:
        """Note the time of further content, where somebody measures it."""
        self._call.span.chunk()

    def end(self, usage: Usage | None, outcome: str, error: BaseException | None) -> None:
        """Take the tokens, and end the call unless it waits for a judgement."""
        call = self._call
        if usage is not None:
            call.span.record_usage(usage)
        if outcome == names.OUTCOME_ABANDONED:
            call.abandon()
        elif error is not None:
            call.fail(error)
        elif not call.holds_back:
            call.complete(None)


def returns_stream(result: object, call: StreamingCall) -> bool:
    """Whether the result is a stream whose consumption belongs to the call."""
    return call.spec.governed_as != "tool" and is_stream(result)


def follow_stream(result: Any, call: StreamingCall) -> Any:
    """Put a watcher before a stream, and hold it back where a rule is to judge it."""
    watched = watch_stream(result, StreamEnd(call))
    if not call.holds_back:
        return watched
    is_async = hasattr(watched, "__anext__")
    return HeldAsyncStream(watched, call) if is_async else HeldStream(watched, call)


class _Held:
    """All but the chunks is the stream's own."""

    def __init__(self, stream: Any, call: StreamingCall) -> None:
        self._stream = stream
        self._call = call
        self._judged: Iterator[Any] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @property
    def __class__(self) -> type:
        # `isinstance(stream, openai.Stream)` stays true.
        kind: type = self._stream.__class__
        return kind

    @__class__.setter
    def __class__(self, value: type) -> None:
        raise TypeError("the class of a held stream cannot be changed")

    def _release(self, items: list[Any]) -> Iterator[Any]:
        judged, _ = self._call.release(items, None)
        return iter(judged)


class HeldStream(_Held):
    """A synchronous stream that shows nothing before all of it has been judged."""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        if self._judged is None:
            self._judged = self._release(list(self._stream))
        return next(self._judged)

    def __enter__(self) -> Self:
        self._stream.__enter__()
        return self

    def __exit__(self, *exc_info: object) -> Any:
        return self._stream.__exit__(*exc_info)


class HeldAsyncStream(_Held):
    """The same for an asynchronous stream; judging runs in a thread, since it may wait for the disk."""

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        if self._judged is None:
            items = [item async for item in self._stream]
            self._judged = await asyncio.to_thread(self._release, items)
        try:
            return next(self._judged)
        except StopIteration:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> Any:
        return await self._stream.__aexit__(*exc_info)
