"""
The client of google-genai: Gemini API and Vertex AI.

What sends one request to a model is shadowed on the client's `models`, sync and
async, so that chats, automatic function calling and automatic continuation give
one governed call for each request. Knows the client by its shape: google-genai 3.

Source: `models.py`, `client.py` and `batches.py` of google-genai 3.4.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from agentguard.capture import http_hooks
from agentguard.integrations.parameters import request_attributes
from agentguard.runtime import Declaration, declare_request, send_request, send_request_async
from agentguard.values import AttributeValue
from agentguard.values import attributes as names

_MODEL_METHODS: Final[Mapping[str, str]] = {
    "_generate_content": "generate_content",
    "_generate_content_stream": "generate_content",
    "_embed_content": "embeddings",
    "_generate_images": "generate_content",
    "_edit_image": "generate_content",
    "_upscale_image": "generate_content",
    "_generate_videos": "generate_content",
}
_BATCH_METHODS: Final[Mapping[str, str]] = {"create": "batch", "create_embeddings": "batch"}
_NEEDED: Final = ("_generate_content", "_generate_content_stream", "_embed_content")


def wrap_google(client: Any) -> bool:
    """
    Govern the requests of a client, and of the async client inside it.

    Args:
        client:
            A `Client` or an `AsyncClient`; changed in place.

    Returns:
        Whether it is such a client.

    Raises:
        TypeError: It is one, of a version whose requests cannot be found.
    """
    found = False
    for part in (client, getattr(client, "aio", None)):
        models = getattr(part, "models", None)
        if models is None:
            continue
        missing = [name for name in _NEEDED if not callable(getattr(models, name, None))]
        if missing:
            raise TypeError(
                f"agentguard.wrap does not know this version of google-genai: "
                f"`{type(models).__name__}` has no {', '.join(missing)}"
            )
        found = True
        _watch_attempts(getattr(part, "_api_client", None))
        _shadow(part, models, _MODEL_METHODS)
        batches = getattr(part, "batches", None)
        if batches is not None:
            _shadow(part, batches, _BATCH_METHODS)
    return found


def _shadow(part: Any, owner: Any, methods: Mapping[str, str]) -> None:
    """Put a governed method before each of the methods that send requests."""
    api = getattr(part, "_api_client", None)
    provider = "gcp.vertex_ai" if getattr(api, "vertexai", False) else "gcp.gemini"
    for name, operation in methods.items():
        method = getattr(owner, name, None)
        if method is None or hasattr(method, "_agentguard"):
            continue
        is_async = inspect.iscoroutinefunction(method)
        declaration = declare_request(provider=provider, operation=operation, is_async=is_async)
        is_stream = name.endswith("_stream")
        guarded = _guarded_async if is_async else _guarded_stream if is_stream else _guarded
        shadow = guarded(method, declaration, _Request(is_stream, api))
        shadow._agentguard = True  # type: ignore[attr-defined]  # noqa: SLF001 - a mark on our own function
        setattr(owner, name, shadow)


class _Answered(NamedTuple):
    """An attempt that failed with a status, in the shape that the hooks read."""

    status_code: object
    request: Any


def _watch_attempts(api: Any) -> None:
    """
    Show each attempt to the hooks for retries.

    The async HTTP client of this SDK keeps an inner client for each event loop,
    which hooks that are added later do not reach, and may be one of aiohttp.
    """
    once = getattr(api, "_request_once", None)
    if callable(once) and not hasattr(once, "_agentguard"):
        hooks = http_hooks()

        @functools.wraps(once)
        def attempt(request: Any, *args: Any, **options: Any) -> Any:
            hooks.request(request)
            try:
                return once(request, *args, **options)
            except Exception as error:
                hooks.response(_Answered(getattr(error, "code", None), request))
                raise

        attempt._agentguard = True  # type: ignore[attr-defined]  # noqa: SLF001 - a mark on our own function
        api._request_once = attempt  # noqa: SLF001 - the one way to its attempts
    once_async = getattr(api, "_async_request_once", None)
    if callable(once_async) and not hasattr(once_async, "_agentguard"):
        async_hooks = http_hooks()

        @functools.wraps(once_async)
        async def attempt_async(request: Any, *args: Any, **options: Any) -> Any:
            async_hooks.request(request)
            try:
                return await once_async(request, *args, **options)
            except Exception as error:
                async_hooks.response(_Answered(getattr(error, "code", None), request))
                raise

        attempt_async._agentguard = True  # type: ignore[attr-defined]  # noqa: SLF001 - a mark on our own function
        api._async_request_once = attempt_async  # noqa: SLF001 - the one way to its attempts


class _Request(NamedTuple):
    """What the requests of one method have in common."""

    is_stream: bool
    api: Any

    def attributes(self, body: Mapping[str, Any]) -> dict[str, AttributeValue]:
        """Read the parameters, which stand in `config`, and where the request goes."""
        found = request_attributes(body.get("config"))
        if self.is_stream:
            found[names.REQUEST_STREAM] = True
        try:
            address = urlsplit(self.api._http_options.base_url)  # noqa: SLF001 - nothing public tells it
            host, port = address.hostname, address.port
        except Exception:
            # Law 1: a client without an address of that form is recorded without one.
            return found
        if isinstance(host, str) and host:
            found[names.SERVER_ADDRESS] = host
            found[names.SERVER_PORT] = port or (80 if address.scheme == "http" else 443)
        return found


def _guarded(method: Callable[..., Any], declaration: Declaration, request: _Request) -> Callable[..., Any]:
    @functools.wraps(method)
    def guarded(**body: Any) -> Any:
        return send_request(
            declaration,
            body,
            lambda changed: method(**(body if changed is None else changed)),
            attributes=request.attributes(body),
        )

    return guarded


def _guarded_stream(
    method: Callable[..., Any], declaration: Declaration, request: _Request
) -> Callable[..., Any]:
    @functools.wraps(method)
    def guarded(**body: Any) -> Iterator[Any]:
        # The SDK's own method is a generator: nothing is sent before its first step.
        stream: Iterator[Any] = send_request(
            declaration,
            body,
            lambda changed: method(**(body if changed is None else changed)),
            attributes=request.attributes(body),
        )
        return stream

    return guarded


def _guarded_async(
    method: Callable[..., Any], declaration: Declaration, request: _Request
) -> Callable[..., Any]:
    @functools.wraps(method)
    async def guarded(**body: Any) -> AsyncIterator[Any] | Any:
        return await send_request_async(
            declaration,
            body,
            lambda changed: method(**(body if changed is None else changed)),
            attributes=request.attributes(body),
        )

    return guarded
