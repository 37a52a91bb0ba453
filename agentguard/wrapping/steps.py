"""Attaching a context for one step, and finding the one that is current: each one step of the interpreter."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextvars import Token
from typing import Final

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.environment_variables import OTEL_PYTHON_CONTEXT

_DEFAULT: Final = "contextvars_context"


def _steps() -> tuple[Callable[[], Context], Callable[[Context], Token[Context]]]:
    """
    Give what finds the current context, and what makes one current.

    OpenTelemetry's own functions are three frames around a context variable. The variable is learnt
    through them, unless the application has named another keeper of contexts.
    """
    if os.environ.get(OTEL_PYTHON_CONTEXT, _DEFAULT) != _DEFAULT:
        return otel_context.get_current, otel_context.attach
    token = otel_context.attach(otel_context.get_current())
    otel_context.detach(token)
    return token.var.get, token.var.set


current_context, attach = _steps()
"""What is current in this frame, as `opentelemetry.context.get_current`; and what makes a context current in it."""


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
