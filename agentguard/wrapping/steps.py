"""Attaching a context for one step, and finding the one that is current: each one step of the interpreter."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextvars import Token
from typing import Final, TypeAlias

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.environment_variables import OTEL_PYTHON_CONTEXT

_DEFAULT: Final = "contextvars_context"


_Steps: TypeAlias = tuple[
    Callable[[], Context], Callable[[Context], Token[Context]], Callable[[Token[Context]], None]
]


def _reset(token: Token[Context]) -> None:
    token.var.reset(token)


def _steps() -> _Steps:
    """
    Give what finds the current context, what makes one current, and what takes that back.

    OpenTelemetry's own functions are three frames around a context variable. The variable is learnt
    through them, unless the application has named another keeper of contexts.
    """
    if os.environ.get(OTEL_PYTHON_CONTEXT, _DEFAULT) != _DEFAULT:
        return otel_context.get_current, otel_context.attach, _reset
    token = otel_context.attach(otel_context.get_current())
    otel_context.detach(token)
    return token.var.get, token.var.set, token.var.reset


current_context, attach, reset = _steps()
"""
What is current in this frame, as `opentelemetry.context.get_current`; what makes a context current in it; and
what takes that back where nothing is awaited in between, as `detach`, which asks no more than that, in a frame of its own.
"""


def detach(token: Token[Context]) -> None:
    """
    Restore what was current before `attach`.

    A frame may be closed from another context (a coroutine collected at loop
    shutdown): there is nothing to restore there, and nothing to report.
    """
    try:
        reset(token)
    except ValueError:
        return
