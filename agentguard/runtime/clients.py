"""
`wrap`: what a decorator cannot see from outside, because the client keeps it to itself.

Model SDKs retry in silence. Their HTTP clients offer hooks, and `wrap` adds
ours beside those that are there; nothing is patched or replaced.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import FunctionType, MethodType
from typing import Any, TypeVar
from weakref import WeakSet

from agentguard.runtime.decorators import guard

T = TypeVar("T")

_WAYS = (
    ("_client",),
    ("http_client",),
    ("_http_client",),
    ("_api_client", "_httpx_client"),
    ("_api_client", "_async_httpx_client"),
)
"""From a client of a model SDK to its HTTP client: OpenAI and Anthropic, others, Google."""

_watched: WeakSet[Any] = WeakSet()


def wrap(thing: T) -> T:
    """
    Watch a model client, or guard a function.

    For the client of a model SDK (OpenAI, Anthropic and others on httpx or
    httpx2, sync or async) retries are recorded on the span of the call that is
    running. A function is guarded as by `@agentguard.guard`.

    Args:
        thing:
            The client, its HTTP client, or a function. A client is changed in
            place: hooks are added to its HTTP client, once.

    Returns:
        The client itself; for a function its guarded form, of the same type.

    Raises:
        TypeError: It is neither.
    """
    if isinstance(thing, (FunctionType, MethodType)):
        return guard(thing)
    # Imported here: this file is loaded by `import agentguard`.
    from agentguard.capture import async_http_hooks, http_hooks

    found = False
    for http in _http_clients(thing):
        found = True
        if http not in _watched:
            _watched.add(http)
            is_async = inspect.iscoroutinefunction(getattr(http, "send", None))
            ours = (async_http_hooks() if is_async else http_hooks()).as_event_hooks()
            theirs = http.event_hooks
            # The setter of httpx copies the lists; hooks that are there run first.
            http.event_hooks = {
                name: [*theirs.get(name, ()), *ours.get(name, ())] for name in {*theirs, *ours}
            }
    if not found:
        raise TypeError(
            f"agentguard.wrap takes a model client or a function, got `{type(thing).__name__}` "
            "without an httpx client in it"
        )
    return thing


def _http_clients(thing: object) -> Iterator[Any]:
    """Find the HTTP clients inside a client, by the names that SDKs give them."""
    if _has_hooks(thing):
        yield thing
        return
    for way in _WAYS:
        inner: object = thing
        for name in way:
            inner = getattr(inner, name, None)
        if inner is not None and _has_hooks(inner):
            yield inner


def _has_hooks(thing: object) -> bool:
    return isinstance(getattr(thing, "event_hooks", None), dict) and hasattr(thing, "send")
