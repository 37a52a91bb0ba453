"""
Clients of OpenAI and Anthropic, and others made with the same generator.

All calls of such a client, helpers and raw responses included, end in its
method `request`, which gets the path and the body and retries by itself. It is
shadowed on the one object. Knows the client by its shape: openai 2 and 3,
anthropic 2.

Source: `_base_client.py` of openai 3.54 and 2.54 and of anthropic 2.12.
"""

from __future__ import annotations

import copy
import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from agentguard.integrations.parameters import request_attributes
from agentguard.integrations.raw_response import finish_raw, finish_raw_async, is_raw
from agentguard.runtime import Declaration, RequestCall, declare_request, send_request, send_request_async
from agentguard.values import AttributeValue
from agentguard.values import attributes as names

_OPENAI: Final = (
    (r"chat/completions|responses|responses/compact|threads/runs|threads/[^/]+/runs", "chat"),
    (r"completions", "text_completion"),
    (r"embeddings", "embeddings"),
    (r"images/(?:generations|edits|variations)|videos(?:/[^/]+/remix)?", "generate_content"),
    (r"audio/(?:speech|transcriptions|translations)", "generate_content"),
    (r"batches", "batch"),
)
_ANTHROPIC: Final = (
    (r"messages", "chat"),
    (r"complete", "text_completion"),
    (r"messages/batches", "batch"),
)

_PROVIDERS: Final[Mapping[str, str]] = {
    "AzureOpenAI": "azure.ai.openai",
    "AsyncAzureOpenAI": "azure.ai.openai",
    "AnthropicBedrock": "aws.bedrock",
    "AsyncAnthropicBedrock": "aws.bedrock",
    "AnthropicVertex": "gcp.vertex_ai",
    "AsyncAnthropicVertex": "gcp.vertex_ai",
}
"""By class, where the provider is another one than the maker of the SDK."""


class _Paths(NamedTuple):
    """Which requests of a client go to a model."""

    rows: tuple[tuple[re.Pattern[str], str], ...]

    def operation(self, options: Any) -> str | None:
        """Say what a request asks of a model; None where it asks nothing of one."""
        if str(options.method).lower() != "post":
            return None
        path = str(options.url).partition("?")[0].rstrip("/")
        for pattern, operation in self.rows:
            if pattern.fullmatch(path):
                return operation
        return None


def _paths(table: tuple[tuple[str, str], ...]) -> _Paths:
    return _Paths(tuple((re.compile(rf"(?:.*/)?(?:{paths})"), operation) for paths, operation in table))


# The first row that fits counts: `chat/completions` ends like `completions`.
_TABLES: Final = {"anthropic": _paths(_ANTHROPIC)}
_DEFAULT_TABLE: Final = _paths(_OPENAI)


def wrap_stainless(client: Any, base: type, *, then: Callable[[Any], object]) -> None:
    """
    Govern the requests of a client, and of the copies it makes of itself.

    Args:
        client:
            Changed in place; a client that is wrapped already stays as it is.
        base:
            The class of the SDK that has the requests.
        then:
            Called with each copy.
    """
    request, make_copy = client.request, client.copy
    if hasattr(request, "_agentguard"):
        return
    requests = _Requests(client, base)
    shadow = (
        requests.guarded_async(request) if base.__name__ == "AsyncAPIClient" else requests.guarded(request)
    )
    shadow._agentguard = True  # type: ignore[attr-defined]  # noqa: SLF001 - a mark on our own function

    @functools.wraps(make_copy)
    def copy_wrapped(*args: Any, **kwargs: Any) -> Any:
        made = make_copy(*args, **kwargs)
        wrap_stainless(made, base, then=then)
        then(made)
        return made

    client.request = shadow
    client.copy = client.with_options = copy_wrapped


class _Requests:
    """What the requests of one client have in common."""

    def __init__(self, client: Any, base: type) -> None:
        maker = base.__module__.partition(".")[0]
        self._client = client
        self._is_async = base.__name__ == "AsyncAPIClient"
        self._paths = _TABLES.get(maker, _DEFAULT_TABLE)
        self._provider = next(
            (_PROVIDERS[kind.__name__] for kind in type(client).__mro__ if kind.__name__ in _PROVIDERS), maker
        )
        self._declarations: dict[str, Declaration] = {}

    def _declaration(self, operation: str) -> Declaration:
        found = self._declarations.get(operation)
        if found is None:
            found = self._declarations[operation] = declare_request(
                provider=self._provider, operation=operation, is_async=self._is_async
            )
        return found

    def _attributes(self, body: Mapping[str, Any]) -> dict[str, AttributeValue]:
        found = request_attributes(body)
        try:
            address = self._client.base_url
            host, port = address.host, address.port
        except Exception:
            # Law 1: a client without an address of that form is recorded without one.
            return found
        if isinstance(host, str) and host:
            found[names.SERVER_ADDRESS] = host
            found[names.SERVER_PORT] = port if isinstance(port, int) else 443
        return found

    def guarded(self, request: Callable[..., Any]) -> Callable[..., Any]:
        """Make what stands before the client's own `request`."""

        @functools.wraps(request)
        def guarded_request(cast_to: Any, options: Any, **more: Any) -> Any:
            operation = self._paths.operation(options)
            if operation is None:
                return request(cast_to, options, **more)
            body = _body(options)

            def send(changed: Mapping[str, Any] | None) -> Any:
                return request(cast_to, _changed(options, changed), **more)

            def finish(call: RequestCall, result: Any) -> Any:
                if is_raw(result):
                    return finish_raw(call, result, is_stream=bool(more.get("stream")))
                return call.finish(result)

            return send_request(
                self._declaration(operation), body, send, attributes=self._attributes(body), finish=finish
            )

        return guarded_request

    def guarded_async(self, request: Callable[..., Any]) -> Callable[..., Any]:
        """Make the same for a client that is awaited."""

        @functools.wraps(request)
        async def guarded_request(cast_to: Any, options: Any, **more: Any) -> Any:
            operation = self._paths.operation(options)
            if operation is None:
                return await request(cast_to, options, **more)
            body = _body(options)

            async def send(changed: Mapping[str, Any] | None) -> Any:
                return await request(cast_to, _changed(options, changed), **more)

            async def finish(call: RequestCall, result: Any) -> Any:
                if is_raw(result):
                    return await finish_raw_async(call, result, is_stream=bool(more.get("stream")))
                return await call.finish_async(result)

            return await send_request_async(
                self._declaration(operation), body, send, attributes=self._attributes(body), finish=finish
            )

        return guarded_request


def _body(options: Any) -> dict[str, Any]:
    """
    Read the body as it will be sent: `extra_body` goes over what the method was called with.

    A body that was given as bytes is read where it is JSON, so that no request
    hides its model.
    """
    body = getattr(options, "json_data", None)
    if body is None:
        body = getattr(options, "content", None)
    if isinstance(body, (bytes, bytearray, str)):
        try:
            body = json.loads(body)
        except ValueError:
            body = {"body": body}
    if body is None:
        body = {}
    found = dict(body) if isinstance(body, Mapping) else {"body": body}
    extra = getattr(options, "extra_json", None)
    if isinstance(extra, Mapping):
        found = _merge(found, extra)
    for name, value in found.items():
        if isinstance(value, Iterator):
            # Read once, here and in the request: policy must not use it up.
            found[name] = listed = list(value)
            given = getattr(options, "json_data", None)
            if isinstance(given, dict) and given.get(name) is value:
                given[name] = listed
    return {name: value for name, value in found.items() if not _is_absent(value)}


def _merge(body: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Put one body over another, objects inside objects too."""
    merged = dict(body)
    for name, value in extra.items():
        old = merged.get(name)
        merged[name] = (
            _merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
        )
    return merged


def _is_absent(value: object) -> bool:
    """Whether a value is the SDK's sign for one that was not given."""
    return type(value).__name__ in {"NotGiven", "Omit"} and not value


def _changed(options: Any, body: Mapping[str, Any] | None) -> Any:
    """Give the options for a body that a rule has changed."""
    if body is None:
        return options
    changed = copy.copy(options)
    changed.json_data = dict(body)
    changed.extra_json = None
    if getattr(changed, "content", None) is not None:
        changed.content = None
    return changed
