"""
Retries as data: hooks for HTTP clients and retry libraries.

Takes what httpx, httpx2, tenacity and stamina hand to their hooks, by duck
typing; records a retry on the span that is current when the next attempt begins.
Never raises, and sleeps and decides nothing.

Source: the OpenAI and Anthropic SDKs send `x-stainless-retry-count` with each
attempt; tenacity 9 `RetryCallState`; stamina 26 `RetryDetails`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from agentguard.capture.context import current_span
from agentguard.capture.span import Span

_RETRY_COUNT_HEADER: Final = "x-stainless-retry-count"
_RETRIABLE_CODES: Final = frozenset({408, 409, 429})
_COUNT_MAX: Final = 1_000


class HttpHooks(NamedTuple):
    """Hooks for one client, sync or async: `httpx.Client(event_hooks=hooks.as_event_hooks())`."""

    request: Callable[[Any], Any]
    response: Callable[[Any], Any]

    def as_event_hooks(self) -> dict[str, list[Callable[[Any], Any]]]:
        """Shape them for the argument `event_hooks` of a client."""
        return {"request": [self.request], "response": [self.response]}


class _Attempts:
    """
    Sees every request and response of one client, and records those sent again.

    The span remembers the last attempt that failed inside it, so that the retry
    carries status and wait; the memory dies with the span.
    """

    def __init__(self, find_span: Callable[[], Span | None]) -> None:
        self._find_span = find_span

    def on_request(self, request: Any) -> None:
        """Record a retry where this request is one."""
        span = self._find_span()
        if span is None or not span.is_recording():
            return
        try:
            number = _retry_number(request)
            if number == 0:
                return
            failed = span.take_failed_attempt(_target(request))
            if number is None and failed is None:
                return
            span.record_retry(
                number,
                None if failed is None else str(failed.status_code),
                None if failed is None else failed.waited_s,
                source="http" if number is None else "sdk",
                status_code=None if failed is None else failed.status_code,
            )
        except Exception as error:
            # Law 1: a request of unknown shape must still be sent.
            span.report("capture.retry", error)

    def on_response(self, response: Any) -> None:
        """Remember the attempt where its response says that another one may follow."""
        span = self._find_span()
        if span is None or not span.is_recording():
            return
        try:
            status = response.status_code
            if type(status) is int and (status in _RETRIABLE_CODES or 500 <= status <= 599):
                span.note_failed_attempt(_target(response.request), status)
        except Exception as error:
            # Law 1: a response of unknown shape must still be read.
            span.report("capture.retry", error)


def _target(request: Any) -> str:
    """Name where a request goes, to tell a re-sent request from another one."""
    return f"{request.method} {request.url}"


def _retry_number(request: Any) -> int | None:
    """Read the number of the retry from a request; None where the client does not count."""
    text = request.headers.get(_RETRY_COUNT_HEADER)
    if not isinstance(text, str) or not text.isascii() or not text.isdigit() or len(text) > 4:
        return None
    return min(int(text), _COUNT_MAX)


def http_hooks(find_span: Callable[[], Span | None] = current_span) -> HttpHooks:
    """
    Make request and response hooks for a synchronous httpx or httpx2 client.

    Args:
        find_span:
            Gives the span of the call that is running.

    Returns:
        The hooks; add them to `client.event_hooks`, beside those that are there.

    """
    attempts = _Attempts(find_span)
    return HttpHooks(attempts.on_request, attempts.on_response)


def async_http_hooks(find_span: Callable[[], Span | None] = current_span) -> HttpHooks:
    """Make the same hooks for an asynchronous client."""
    attempts = _Attempts(find_span)

    async def on_request(request: Any) -> None:
        attempts.on_request(request)

    async def on_response(response: Any) -> None:
        attempts.on_response(response)

    hooks: tuple[Callable[[Any], Awaitable[None]], Callable[[Any], Awaitable[None]]] = (
        on_request,
        on_response,
    )
    return HttpHooks(*hooks)


def tenacity_hook(retry_state: Any) -> None:
    """
    Record a retry of tenacity on the current span; use as `before_sleep=tenacity_hook`.

    Args:
        retry_state:
            Tenacity's `RetryCallState` after a failed attempt.

    """
    span = current_span()
    if span is None:
        return
    try:
        outcome = retry_state.outcome
        error = outcome.exception() if outcome is not None and outcome.failed else None
        action = retry_state.next_action
        backoff_s = None if action is None else float(action.sleep)
        span.record_retry(retry_state.attempt_number, error, backoff_s, source="tenacity")
    except Exception as problem:
        # Law 1: a state of unknown shape must not stop the retry.
        span.report("capture.retry", problem)


def stamina_hook(details: Any) -> None:
    """
    Record a retry of stamina on the current span.

    Install with `stamina.instrumentation.set_on_retry_hooks([*get_on_retry_hooks(), stamina_hook])`.

    Args:
        details:
            Stamina's `RetryDetails`.

    """
    span = current_span()
    if span is None:
        return
    try:
        span.record_retry(details.retry_num, details.caused_by, float(details.wait_for), source="stamina")
    except Exception as problem:
        # Law 1: details of unknown shape must not stop the retry.
        span.report("capture.retry", problem)
