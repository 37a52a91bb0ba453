"""
What a wrapper knows of a call: how it begins, what runs in it, and how it is told of its end.

What a call means (policy, span, store) is not known here; it is behind these protocols.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeAlias

from opentelemetry.context import Context

from agentguard.wrapping.held import Hold

Passes: TypeAlias = Callable[[Any], object]
"""Whether nothing is to be noted of an item of a generator; never raises."""


class ActiveCall(Protocol):
    """
    One call between its beginning and its end. Only policy makes these methods raise.

    A call that is a `LazyContext` is its own context, and runs as it was called: nothing is to be awaited,
    nothing stands in for the function, and its arguments are those that were given.
    """

    @property
    def args(self) -> tuple[Any, ...]:
        """Positional arguments to call with; redacted copies where a rule asked for it."""
        ...

    @property
    def kwargs(self) -> Mapping[str, Any]:
        """Keyword arguments to call with."""
        ...

    @property
    def context(self) -> Context:
        """The context in which the function runs; the call itself where it runs as it was called."""
        ...

    @property
    def replacement(self) -> Callable[..., Any] | None:
        """What runs instead of the function, in the same shape; or None."""
        ...

    @property
    def admission(self) -> Callable[[], Awaitable[None]] | None:
        """What a coroutine awaits before the function may run, or None."""
        ...

    def finish(self, result: Any) -> Any:
        """End the call with its result; returns what the caller gets."""
        ...

    async def finish_async(self, result: Any) -> Any:
        """Do the same without blocking the event loop."""
        ...

    def fail(self, error: BaseException) -> None:
        """End the call with what it raised."""
        ...

    def chunk(self, item: Any, found: object = False, /) -> Passes | None:
        """
        Note one item of a generator.

        Args:
            item:
                The item.
            found:
                What was told of it by what this gave for the item before.

        Returns:
            What tells of a further one that it need not be noted: then it gives something true. None for nothing.

        """
        ...

    def abandon(self) -> None:
        """End a generator that was closed before its end."""
        ...

    @property
    def holds_back(self) -> bool:
        """Whether items are to be judged before the caller sees them."""
        ...

    def hold(self) -> Hold:
        """Begin to judge the items of a generator."""
        ...


class BeginCall(Protocol):
    """Begins a call; None means that the function runs as if it were not wrapped."""

    def __call__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], /) -> ActiveCall | None:
        """May raise what policy raises."""
        ...


class Shortcut(Protocol):
    """By which most calls begin."""

    @property
    def begin(self) -> Callable[[tuple[Any, ...], dict[str, Any]], Any]:
        """
        Begins a call that is a `LazyContext`; None means that `BeginCall` is to be asked.

        It may be another function at each call.
        """
        ...


class NoShortcut:
    """What there is where no call has a shortcut."""

    def begin(self, _args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
        """Have `BeginCall` asked."""


def with_shortcut(begin: BeginCall, shortcut: Shortcut) -> BeginCall:
    """Make one function of both."""

    def begin_either_way(args: tuple[Any, ...], kwargs: dict[str, Any]) -> ActiveCall | None:
        call: ActiveCall | None = shortcut.begin(args, kwargs)
        return begin(args, kwargs) if call is None else call

    return begin_either_way  # type: ignore[return-value] # what wrappers hand over is a dict


def what_runs(function: Callable[..., Any], call: ActiveCall) -> Callable[..., Any]:
    """What runs: the function itself, or what stands in for it, which may be an object that counts as false."""
    return function if call.replacement is None else call.replacement


async def admit(call: ActiveCall, admission: Callable[[], Awaitable[None]]) -> None:
    """Wait for the admission; a call that is cancelled meanwhile has ended too."""
    try:
        await admission()
    except BaseException as error:
        call.fail(error)
        raise
