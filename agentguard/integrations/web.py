"""What the middleware for ASGI and WSGI shares: one run and one span for each request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import context as otel_context
from opentelemetry.propagate import extract
from opentelemetry.trace import StatusCode

from agentguard.runtime import run, span
from agentguard.values import attributes as names

if TYPE_CHECKING:
    # Only the type: middleware is loaded before `init()`.
    from agentguard.capture import Span

CONVERSATION_HEADER: Final = "x-conversation-id"
_CONVERSATION_CHARS_MAX: Final = 256
_METHODS: Final = frozenset(
    {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY", "WEBSOCKET"}
)


class WebRequest:
    """
    One request while it is answered.

    `enter` and `leave` run in the same context; `span` is None before `init()`.
    """

    __slots__ = ("_method", "_stack", "is_ended", "route", "span", "status")

    def __init__(self, method: str) -> None:
        # A method that nobody has defined is one name, or callers could make any number of names.
        self._method = method if method in _METHODS else "HTTP"
        self._stack = ExitStack()
        self.span: Span | None = None
        self.status = 0
        """What the application answered; 0 where it has not yet."""
        self.route: str | None = None
        """The template of the path, as the framework has it."""
        self.is_ended = False

    def enter(self, headers: Mapping[str, str], facts: Mapping[str, Any], conversation_header: str) -> None:
        """
        Take trace context and baggage from the headers, open the run, begin the span.

        Args:
            headers:
                Lower-case names and values.
            facts:
                Arguments of `agentguard.run` that the application knows.
            conversation_header:
                Lower-case name of the header with the id of the conversation.
        """
        # The standard propagators, or those that the application has set; they skip what is malformed.
        token = otel_context.attach(extract(headers))
        self._stack.callback(otel_context.detach, token)
        known = dict(facts)
        conversation = headers.get(conversation_header, "")
        if "conversation_id" not in known and _is_id(conversation):
            known["conversation_id"] = conversation
        self._stack.enter_context(run(**known))
        self.span = self._stack.enter_context(span(self._method, kind="request"))

    def end(self, *, error: BaseException | None = None, is_whole: bool = True) -> None:
        """
        End the span; the run lasts until `leave`. Only the first call does anything.

        Args:
            error:
                What the application raised.
            is_whole:
                Whether the answer went out to its end.
        """
        if self.is_ended:
            return
        self.is_ended = True
        made = self.span
        if made is None:
            return
        if self.route:
            made.update_name(f"{self._method} {self.route}")
        if self.status:
            made.set_attribute(names.HTTP_STATUS_CODE, self.status)
        if error is not None:
            made.fail(error)
        elif self.status >= 500:
            made.set_attribute(names.ERROR_TYPE, str(self.status))
            made.set_status(StatusCode.ERROR)
        elif not is_whole:
            made.abandon()
        made.end()

    def leave(self) -> None:
        """Close the run; whatever is still open ends."""
        self._stack.close()


def _is_id(text: str) -> bool:
    """Whether a header can be the id of a conversation; it comes from outside."""
    return 0 < len(text) <= _CONVERSATION_CHARS_MAX and text.isascii() and text.isprintable()


def is_skipped(path: str, skip: Sequence[str]) -> bool:
    """Whether a path is one of those, or below one of them."""
    return any(path == prefix or path.startswith(prefix.rstrip("/") + "/") for prefix in skip)
