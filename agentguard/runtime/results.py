"""
Results that are not there yet: streams of model calls and agents.

Without an enforcing after-rule a stream passes through, and is watched. With
one nothing of it is shown before it was judged (`holding`), since what a
caller has seen cannot be taken back.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, Self

from opentelemetry.context import Context

from agentguard.capture import is_stream, watch_stream
from agentguard.event_loop import in_thread
from agentguard.runtime.holding import StreamingCall
from agentguard.values import Usage
from agentguard.values import attributes as names
from agentguard.wrapping import Hold

_PAST_THE_RULES: Final = frozenset(
    {
        "current_completion_snapshot", "current_message_snapshot", "get_final_completion", "get_final_message",
        "get_final_response", "get_final_text", "text_stream", "until_done",
    }
)  # fmt: skip
"""What SDK streams have that gives their text without giving their items."""


class StreamEnd:
    """Ends the call when its stream ends; implements `capture.StreamObserver`."""

    __slots__ = ("_call", "_is_held", "context")

    def __init__(self, call: StreamingCall, *, is_held: bool) -> None:
        self._call = call
        self._is_held = is_held
        self.context: Context | None = call.context

    def first_chunk(self) -> Callable[[], object] | None:
        """Note the time to the first content; that of further content, where somebody measures it."""
        call = self._call
        call.span.first_chunk()
        return call.span.chunk if call.services.environment.measures_chunks else None

    def end(self, usage: Usage | None, outcome: str, error: BaseException | None) -> None:
        """Take the tokens, and end the call unless it waits for a judgement."""
        call = self._call
        if call.is_ended:
            return  # A rule has stopped it.
        if usage is not None:
            call.span.record_usage(usage)
        if outcome == names.OUTCOME_ABANDONED:
            call.abandon()
        elif error is not None:
            call.fail(error)
        elif not self._is_held:
            call.complete(None)


def returns_stream(result: object, call: StreamingCall) -> bool:
    """Whether the result is a stream whose consumption belongs to the call."""
    return call.spec.governed_as != "tool" and is_stream(result)


def follow_stream(result: Any, call: StreamingCall) -> Any:
    """Put a watcher before a stream, and hold it back where a rule is to judge it."""
    is_held = call.holds_back
    watched = watch_stream(result, StreamEnd(call, is_held=is_held))
    if not is_held:
        return watched
    if not hasattr(watched, "__anext__"):
        return HeldStream(watched, call)
    return HeldEitherStream(watched, call) if hasattr(watched, "__next__") else HeldAsyncStream(watched, call)


class _Held:
    """All but the items, and the text of all items together, is the stream's own."""

    def __init__(self, stream: Any, call: StreamingCall, hold: Hold | None = None) -> None:
        self._stream = stream
        self._call = call
        self._hold = call.hold() if hold is None else hold
        self._ready: deque[Any] = deque()
        self._is_over = False

    def __getattr__(self, name: str) -> Any:
        if name in _PAST_THE_RULES:
            raise AttributeError(
                f"`{name}` would show what no rule has judged: a rule after the call judges this stream "
                f"item by item, so read its items"
            )
        return getattr(self._stream, name)

    @property
    def __class__(self) -> type:
        # `isinstance(stream, openai.Stream)` stays true.
        kind: type = self._stream.__class__
        return kind

    @__class__.setter
    def __class__(self, value: type) -> None:
        raise TypeError("the class of a held stream cannot be changed")

    def _end(self) -> None:
        """Judge what is left; may wait."""
        self._is_over = True
        items, _ = self._hold.end(None)
        self._ready.extend(items)


class HeldStream(_Held):
    """A synchronous stream of which nothing is shown before it was judged."""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        hold = self._hold
        while not self._ready:
            if self._is_over:
                raise StopIteration
            if hold.must_judge:
                self._is_over = True
                try:
                    hold.judge()
                finally:
                    close = getattr(self._stream, "close", None)
                    if close is not None:
                        close()
            try:
                item = next(self._stream)
            except StopIteration:
                self._end()
                continue
            self._ready.extend(hold.feed(item))
        return self._ready.popleft()

    def __enter__(self) -> Self:
        entered = self._stream.__enter__()
        return self if entered is self._stream else type(self)(entered, self._call, self._hold)

    def __exit__(self, *exc_info: object) -> Any:
        return self._stream.__exit__(*exc_info)


class HeldAsyncStream(_Held):
    """The same for an asynchronous stream; judging runs in a thread, since it may wait for the disk."""

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        hold = self._hold
        while not self._ready:
            if self._is_over:
                raise StopAsyncIteration
            if hold.must_judge:
                self._is_over = True
                try:
                    await in_thread(hold.judge)
                finally:
                    await self._stop()
            try:
                item = await anext(self._stream)
            except StopAsyncIteration:
                await in_thread(self._end)
                continue
            self._ready.extend(hold.feed(item))
        return self._ready.popleft()

    async def _stop(self) -> None:
        """Close the stream, by whichever name it has for that."""
        close = getattr(self._stream, "aclose", None) or getattr(self._stream, "close", None)
        closing = close() if close is not None else None
        if inspect.isawaitable(closing):
            await closing

    async def __aenter__(self) -> Self:
        entered = await self._stream.__aenter__()
        return self if entered is self._stream else type(self)(entered, self._call, self._hold)

    async def __aexit__(self, *exc_info: object) -> Any:
        return await self._stream.__aexit__(*exc_info)


class HeldEitherStream(HeldStream, HeldAsyncStream):
    """The same for a stream that can be read both ways."""
