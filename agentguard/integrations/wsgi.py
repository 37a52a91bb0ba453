"""
Middleware for WSGI: Flask and anything else that speaks it.

Each request is a run with a span of its own, under the caller's trace. A body
that is produced piece by piece is produced inside them, and the span ends with
the body.

Source: PEP 3333; W3C Trace Context, Baggage.
"""

from __future__ import annotations

import contextvars
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from agentguard.errors import ApprovalPending, CallDenied
from agentguard.integrations.web import CONVERSATION_HEADER, WebRequest, is_skipped

Environ: TypeAlias = dict[str, Any]
StartResponse: TypeAlias = Callable[..., Any]
Application: TypeAlias = Callable[[Environ, StartResponse], Iterable[bytes]]


class AgentGuardMiddleware:
    """
    Opens a run and a span for each request.

    The arguments are those of the middleware for ASGI; `facts` is given the
    environ. The application runs in a copy of the context, so that nothing of
    one request is left in the thread for the next.

    With Flask: `app.wsgi_app = AgentGuardMiddleware(app.wsgi_app)`.
    """

    def __init__(
        self,
        app: Application,
        *,
        conversation_header: str = CONVERSATION_HEADER,
        facts: Callable[[Environ], Mapping[str, Any]] | None = None,
        skip: Sequence[str] = (),
        answer_denials: bool = False,
    ) -> None:
        self.app = app
        self._conversation_header = conversation_header.lower()
        self._facts = facts
        self._skip = tuple(skip)
        self._answers_denials = answer_denials

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        if is_skipped(environ.get("PATH_INFO", ""), self._skip):
            return self.app(environ, start_response)
        facts = {} if self._facts is None else self._facts(environ)
        request = WebRequest(str(environ.get("REQUEST_METHOD", "")))
        context = contextvars.copy_context()

        def watched_start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            code = status[:3]
            request.status = int(code) if code.isdigit() else 0
            # Read here: Flask takes its request out of the environ before the answer is over.
            request.route = _route(environ)
            return start_response(status, headers, exc_info) if exc_info else start_response(status, headers)

        def answer() -> Iterable[bytes]:
            request.enter(_headers(environ), facts, self._conversation_header)
            try:
                return self.app(environ, watched_start)
            except (CallDenied, ApprovalPending) as denied:
                if not self._answers_denials or request.status:
                    raise
                return [_denial(denied, watched_start)]

        try:
            body = context.run(answer)
        except BaseException as error:
            _finish(context, request, error=error)
            raise
        if isinstance(body, (list, tuple)):
            # All of it is there; servers look at the length of a list.
            _finish(context, request)
            return body
        return _Body(body, context, request)


def _finish(
    context: contextvars.Context,
    request: WebRequest,
    *,
    error: BaseException | None = None,
    is_whole: bool = True,
) -> None:
    """End the span, and leave the run in the context in which it was entered."""
    if request.is_ended:
        return
    request.end(error=error, is_whole=is_whole)
    context.run(request.leave)


class _Body:
    """A body whose pieces are made in the context of the request; closing it ends the request."""

    def __init__(self, body: Iterable[bytes], context: contextvars.Context, request: WebRequest) -> None:
        self._body = body
        self._context = context
        self._request = request
        self._steps: Iterator[bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            if self._steps is None:
                self._steps = self._context.run(iter, self._body)
            return self._context.run(next, self._steps)
        except StopIteration:
            _finish(self._context, self._request)
            raise
        except BaseException as error:
            _finish(self._context, self._request, error=error)
            raise

    def close(self) -> None:
        """Close the application's body; one that was not sent to its end is abandoned."""
        close = getattr(self._body, "close", None)
        try:
            if close is not None:
                self._context.run(close)
        except BaseException as error:
            _finish(self._context, self._request, error=error)
            raise
        finally:
            _finish(self._context, self._request, is_whole=False)

    def __del__(self) -> None:
        # Some servers and test clients forget to close; the request is then recorded all the same.
        if not self._request.is_ended:
            self._request.end(is_whole=False)


def _headers(environ: Environ) -> dict[str, str]:
    """Read the headers out of the environ."""
    return {
        name[5:].replace("_", "-").lower(): value
        for name, value in environ.items()
        if name.startswith("HTTP_") and isinstance(value, str)
    }


def _route(environ: Environ) -> str | None:
    """Give the template of the path, where Flask or Werkzeug has said which one answers."""
    rule = getattr(getattr(environ.get("werkzeug.request"), "url_rule", None), "rule", None)
    return rule if isinstance(rule, str) else None


def _denial(denied: CallDenied | ApprovalPending, start_response: StartResponse) -> bytes:
    """Begin the answer for a denial and give its body: its text holds no values and no thresholds."""
    error = {"type": type(denied).__name__, "message": str(denied), "decision_id": denied.decision_id}
    body = json.dumps({"error": error}).encode()
    start_response(
        "403 Forbidden", [("content-type", "application/json"), ("content-length", str(len(body)))]
    )
    return body
