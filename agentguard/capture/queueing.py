"""
Time that a call waited in somebody's queue before it could begin.

Whoever puts work into a queue wraps it in `queued`; the first guarded call that
begins inside the work takes the wait, and carries it on its span.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from opentelemetry import context as otel_context
from opentelemetry.context import Context

from agentguard.wrapping import attach, detach

P = ParamSpec("P")
T = TypeVar("T")

QUEUED_KEY: Final = otel_context.create_key("agentguard-queued")


class Wait:
    """Seconds waited, to be taken once."""

    __slots__ = ("_seconds",)

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def take(self) -> float | None:
        """Give the seconds to the first who asks, and None to all others."""
        try:
            seconds = self._seconds
            # Deleting a slot is one step of the interpreter: of two threads, one gets here.
            del self._seconds
        except AttributeError:
            return None
        return seconds


def queued(function: Callable[P, T], monotonic_ns: Callable[[], int]) -> Callable[P, T]:
    """
    Note how long work waits from now until it is called.

    Args:
        function:
            What is put into a queue, and called once from it.
        monotonic_ns:
            The clock that measures, in nanoseconds.

    Returns:
        The function to put into the queue.

    Example:
        >>> import time
        >>> queued(len, time.perf_counter_ns)("abc")
        3

    """
    since_ns = monotonic_ns()

    @functools.wraps(function)
    def begin(*args: P.args, **kwargs: P.kwargs) -> T:
        wait = Wait(max(monotonic_ns() - since_ns, 0) / 1e9)
        token = attach(Context({**otel_context.get_current(), QUEUED_KEY: wait}))
        try:
            return function(*args, **kwargs)
        finally:
            detach(token)

    return begin


def take_wait(context: Context) -> float | None:
    """Give the seconds that the work of this context waited, if no other call has taken them."""
    wait = context.get(QUEUED_KEY)
    return wait.take() if isinstance(wait, Wait) else None
