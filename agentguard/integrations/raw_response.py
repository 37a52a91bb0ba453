"""
Raw responses: `with_raw_response` and `with_streaming_response` of a wrapped client.

The caller gets the SDK's response object itself. Its answer is read for tokens
and for the after-rules where the body is there; where it comes later, the call
ends when the caller parses or closes the response, or lets go of it.
"""

from __future__ import annotations

import inspect
import weakref
from typing import Any

from agentguard.runtime import RequestCall

_UNJUDGED = "a raw response cannot be judged or redacted before its body is read"


def is_raw(result: object) -> bool:
    """Whether a result is a response that the caller parses."""
    return hasattr(result, "http_response") and callable(getattr(result, "parse", None))


def finish_raw(call: RequestCall, response: Any, *, is_stream: bool) -> Any:
    """
    End a call whose result is a raw response.

    Args:
        call:
            The call.
        response:
            The SDK's response.
        is_stream:
            Whether it parses to a stream.

    Returns:
        The response itself.

    Raises:
        CallDenied: A rule withholds the answer, or would have to judge one that
            is not there yet.
    """
    if is_stream or not response.http_response.is_closed:
        _defer(call, response)
        return response
    is_read = True
    try:
        parsed = response.parse()
    except Exception:
        # The caller may never parse it; when it does, it gets the error.
        is_read, parsed = False, None
    if not is_read and call.holds_back:
        # Its text would still be readable, and no rule has seen it.
        call.withhold(_UNJUDGED)
    _judge(call, call.finish(parsed), parsed)
    return response


async def finish_raw_async(call: RequestCall, response: Any, *, is_stream: bool) -> Any:
    """Do as `finish_raw`; some responses of async clients are parsed by awaiting."""
    if is_stream or not response.http_response.is_closed:
        _defer(call, response)
        return response
    is_read = True
    try:
        parsed = response.parse()
        if inspect.isawaitable(parsed):
            parsed = await parsed
    except Exception:
        # The caller may never parse it; when it does, it gets the error.
        is_read, parsed = False, None
    if not is_read and call.holds_back:
        # Its text would still be readable, and no rule has seen it.
        call.withhold(_UNJUDGED)
    _judge(call, await call.finish_async(parsed), parsed)
    return response


def _judge(call: RequestCall, judged: object, parsed: object) -> None:
    """Refuse a redacted answer: the raw one beside it would still be readable."""
    if judged is not parsed:
        call.withhold(_UNJUDGED)


def _defer(call: RequestCall, response: Any) -> None:
    """End the call when the caller parses, closes or drops the response."""
    if call.holds_back:
        call.withhold(_UNJUDGED)
    try:
        _end_later(call, response)
    except Exception as error:
        # Law 1: a response of unknown shape must still be handed over.
        call.span.report("integrations.raw_response", error)
        call.complete(None)


def _end_later(call: RequestCall, response: Any) -> None:
    parse, close = response.parse, getattr(response, "close", None)
    kept: dict[object, Any] = {}

    def take(parsed: Any, key: object) -> Any:
        """Follow the answer the first time; the SDK keeps what it has parsed."""
        if key not in kept:
            kept[key] = call.finish(parsed)
        return kept[key]

    def left() -> None:
        """End a call whose answer nobody has asked for: its usage is unknown."""
        if not call.is_ended:
            if kept:
                call.abandon()
            else:
                call.complete(None)

    if inspect.iscoroutinefunction(parse):

        async def parse_async(**options: Any) -> Any:
            return take(await parse(**options), options.get("to"))

        response.parse = parse_async
    else:

        def parse_sync(**options: Any) -> Any:
            return take(parse(**options), options.get("to"))

        response.parse = parse_sync
    if inspect.iscoroutinefunction(close):

        async def close_async() -> None:
            try:
                await close()
            finally:
                left()

        response.close = close_async
    elif close is not None:

        def close_sync() -> None:
            try:
                close()
            finally:
                left()

        response.close = close_sync
    weakref.finalize(response, left)
