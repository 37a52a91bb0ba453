"""
`wrap`: the clients of model SDKs, whose calls become governed model calls.

The client stays the object it is. What sends its requests is shadowed on this
one object, and hooks are added to its HTTP client; no class is changed.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, TypeVar
from weakref import WeakSet

from agentguard.runtime import guard

T = TypeVar("T")

_WAYS = (
    ("_client",),
    ("http_client",),
    ("_http_client",),
    ("_api_client", "_httpx_client"),
    ("_api_client", "_async_httpx_client"),
)
"""From a client of a model SDK to its HTTP client: OpenAI and Anthropic, others, Google."""

_FUNCTIONS = (FunctionType, MethodType, BuiltinFunctionType, staticmethod, classmethod, partial)
_STAINLESS = frozenset({"SyncAPIClient", "AsyncAPIClient"})

_watched: WeakSet[Any] = WeakSet()


def wrap(thing: T) -> T:
    """
    Govern the model calls of a client, or guard a function.

    Each request to a model of an OpenAI, Anthropic or Google client, sync or
    async, becomes a governed model call: a span `chat MODEL` with parameters,
    tokens, time to first chunk and retries; policy before it and after it. A
    denied request is not sent, and raises `CallDenied`. Copies that the client
    makes of itself (`with_options`) are wrapped too. Of other clients on httpx
    or httpx2 the retries are recorded, on the span of the call that is running.
    A function is guarded as by `@agentguard.guard`.

    Inside a function with `@agentguard.model` a request has no span of its own:
    it is judged, and recorded on the span of that function.

    Args:
        thing:
            The client, an HTTP client, or a function. A client is changed in
            place, once; wrapping it again does nothing.

    Returns:
        The client itself; for a function its guarded form, of the same type.

    Raises:
        TypeError: It is neither, or a client of a version whose requests
            cannot be found.
    """
    if isinstance(thing, _FUNCTIONS):
        return guard(thing)  # type: ignore[type-var] # by the line above
    is_known = _wrap_requests(thing)
    is_watched = _watch_http(thing)
    if not (is_known or is_watched):
        raise TypeError(
            f"agentguard.wrap takes a model client or a function, got `{type(thing).__name__}` "
            "without an httpx client in it"
        )
    return thing


def _wrap_requests(thing: Any) -> bool:
    """Shadow what sends the requests of a client that is known."""
    kinds = type(thing).__mro__
    # Imported where a client is there: `import agentguard` loads neither capture nor policy.
    for kind in kinds:
        if kind.__name__ in _STAINLESS:
            from agentguard.integrations.stainless import wrap_stainless

            wrap_stainless(thing, kind, then=_watch_http)
            return True
    if any(kind.__module__.startswith("google.genai") for kind in kinds):
        from agentguard.integrations.google_genai import wrap_google

        return wrap_google(thing)
    return False


def _watch_http(thing: object) -> bool:
    """Add hooks for retries to the HTTP clients inside a client."""
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
    return found


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
