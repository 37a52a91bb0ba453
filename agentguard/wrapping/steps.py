"""Attaching a context for one step, in one frame."""

from __future__ import annotations

from contextvars import Token

from opentelemetry import context as otel_context
from opentelemetry.context import Context


def attach(context: Context) -> Token[Context]:
    """Make a context current in this frame."""
    return otel_context.attach(context)


def detach(token: Token[Context]) -> None:
    """
    Restore what was current before `attach`.

    A frame may be closed from another context (a coroutine collected at loop
    shutdown): there is nothing to restore there, and nothing to report.
    """
    try:
        token.var.reset(token)
    except ValueError:
        return
