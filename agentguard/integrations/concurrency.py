"""
Threads and processes: what is started in a run stays in it.

`asyncio.to_thread`, tasks and anyio carry the context by themselves. Pools of
`concurrent.futures`, threads and processes do not: the spans that begin there
would stand alone, and policy would see another run.
"""

from __future__ import annotations

import contextvars
import functools
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, ParamSpec, Self, TypeVar

from opentelemetry import context as otel_context
from opentelemetry.propagate import extract, inject

from agentguard.capture import queued
from agentguard.runtime import current_run, run

P = ParamSpec("P")
T = TypeVar("T")


def in_context(function: Callable[P, T]) -> Callable[P, T]:
    """
    Bind a function to the run and the span that are current now, for a thread of this process.

    Args:
        function:
            What the thread is to call; for a coroutine function the
            coroutine is made in the context, not run in it.

    Returns:
        A function that may be called many times, from many threads at once.

    Example:
        >>> import threading
        >>> thread = threading.Thread(target=in_context(print), args=("in the run",))
    """
    context = contextvars.copy_context()

    @functools.wraps(function)
    def bound(*args: P.args, **kwargs: P.kwargs) -> T:
        # A context can be entered by one thread at a time, so each call has a copy.
        return context.copy().run(function, *args, **kwargs)

    return bound


class ContextThreadPoolExecutor(ThreadPoolExecutor):
    """A `ThreadPoolExecutor` whose work runs in the context of who submitted it; `map` too."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Submit work as in the base class; how long it waits is on the first guarded call in it."""
        return super().submit(_in_queue(functools.partial(fn, *args, **kwargs)))


def submit(executor: Executor, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
    """
    Submit work to any executor, with the run and the span that are current now.

    Args:
        executor:
            Of threads or of processes; for one of processes the function and its
            arguments must be picklable, as ever, and the process must set
            agentguard up itself.
        function:
            What to call.
        args:
            For it.
        kwargs:
            For it.

    Returns:
        The executor's future.
    """
    if isinstance(executor, ProcessPoolExecutor):
        return executor.submit(carry().call, function, *args, **kwargs)
    return executor.submit(_in_queue(functools.partial(function, *args, **kwargs)))


def _in_queue(work: Callable[[], T]) -> Callable[[], T]:
    """Bind work to this context, and note how long it waits for a thread: its first guarded call says so."""
    return functools.partial(contextvars.copy_context().run, queued(work, time.monotonic_ns))


class Carried:
    """
    The identity of a run and of the span in it, to be sent to another process.

    A context manager: inside it calls belong to that run and trace. It holds
    what `agentguard.run` was given, so it is as confidential as that; no
    counters, which are of one process. Picklable; made by `carry`.
    """

    def __init__(self, headers: Mapping[str, str], facts: Mapping[str, Any]) -> None:
        self._headers = dict(headers)
        self._facts = dict(facts)
        self._stacks: list[ExitStack] = []

    def __getstate__(self) -> dict[str, Any]:
        return {"_headers": self._headers, "_facts": self._facts, "_stacks": []}

    def __enter__(self) -> Self:
        stack = ExitStack()
        stack.callback(otel_context.detach, otel_context.attach(extract(self._headers)))
        if self._facts:
            stack.enter_context(run(**self._facts))
        self._stacks.append(stack)
        return self

    def __exit__(self, *_: object) -> None:
        self._stacks.pop().close()

    def call(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function inside."""
        with self:
            return function(*args, **kwargs)


def carry() -> Carried:
    """
    Take along the run and the span that are current now, as W3C headers and facts of the run.

    Example:
        >>> with run(principal="ann"):
        ...     carried = carry()
        >>> with carried:
        ...     current_run().principal
        'ann'
    """
    headers: dict[str, str] = {}
    inject(headers)
    this = current_run()
    facts: dict[str, Any] = {}
    if this is not None:
        facts = {
            "run_id": this.run_id,
            "conversation_id": this.conversation_id,
            "principal": this.principal,
            "roles": this.roles,
            "labels": dict(this.labels),
        }
    return Carried(headers, facts)
