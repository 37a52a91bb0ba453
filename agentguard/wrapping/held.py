"""
Generators whose items somebody judges before the caller sees them.

What is judged and when is not known here: a `Hold` takes each item and says which
may be shown.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from typing import Any, Final, Protocol

from opentelemetry.context import Context

from agentguard.event_loop import in_thread
from agentguard.wrapping.steps import attach, detach

_STOPPED: Final = object()


class Hold(Protocol):
    """Stands between what a stream gives and what its consumer sees."""

    @property
    def must_judge(self) -> bool:
        """Whether `judge` is to be called now: nothing more may be shown before."""
        ...

    def feed(self, item: Any) -> list[Any]:
        """Take an item; give those that may be shown. Never waits, never raises."""
        ...

    def judge(self) -> None:
        """Stop the stream: always raises what policy raises; may wait for the disk."""
        ...

    def end(self, value: Any) -> tuple[list[Any], Any]:
        """Judge what is left and the return value, and end the call; may wait, may raise."""
        ...


class HeldCall(Protocol):
    """What is needed of the call."""

    @property
    def context(self) -> Context:
        """In which each step runs."""
        ...

    def chunk(self, item: Any) -> object:
        """Note one item."""
        ...

    def fail(self, error: BaseException) -> None:
        """End the call with what was raised."""
        ...

    def abandon(self) -> None:
        """End a call whose items nobody wants any more."""
        ...

    def hold(self) -> Hold:
        """Begin to judge."""
        ...


def held_generator(inner: Generator[Any, Any, Any], call: HeldCall) -> Generator[Any, Any, Any]:
    """
    Run a generator, and show its items when they have been judged.

    What the consumer sends reaches nobody: the generator is ahead of what is shown.
    """
    hold = call.hold()
    try:
        while not hold.must_judge:
            token = attach(call.context)
            try:
                item = next(inner)
            except StopIteration as stop:
                value = stop.value
                break
            finally:
                detach(token)
            call.chunk(item)
            yield from hold.feed(item)
        else:
            value = _STOPPED
    except GeneratorExit:
        _close(inner, call)
        raise
    except BaseException as error:
        inner.close()
        call.fail(error)
        raise
    if value is _STOPPED:
        inner.close()
        hold.judge()
    items, value = hold.end(value)
    yield from items
    return value


def _close(inner: Generator[Any, Any, Any], call: HeldCall) -> None:
    """Close the inner generator in its context."""
    token = attach(call.context)
    try:
        inner.close()
    except BaseException as error:
        call.fail(error)
        raise
    finally:
        detach(token)
    call.abandon()


async def held_async_generator(inner: AsyncGenerator[Any, Any], call: HeldCall) -> AsyncGenerator[Any, Any]:
    """Do the same for an async generator; judging runs in a thread, since it may wait for the disk."""
    hold = call.hold()
    try:
        while not hold.must_judge:
            token = attach(call.context)
            try:
                item = await anext(inner)
            except StopAsyncIteration:
                break
            finally:
                detach(token)
            call.chunk(item)
            for ready in hold.feed(item):
                yield ready
    except GeneratorExit:
        token = attach(call.context)
        try:
            await inner.aclose()
        finally:
            detach(token)
        call.abandon()
        raise
    except BaseException as error:
        await inner.aclose()
        call.fail(error)
        raise
    if hold.must_judge:
        await inner.aclose()
        await in_thread(hold.judge)
    items, _ = await in_thread(hold.end, None)
    for ready in items:
        yield ready
