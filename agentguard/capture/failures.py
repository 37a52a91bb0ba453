"""
How an exception is named on a span: by class or provider's code, never by its message.

Source: OpenTelemetry GenAI conventions, `error.type`: the code of the provider
where there is one, else the fully qualified class.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from agentguard.values import attributes as names

_CODE_ATTRIBUTES: Final[Mapping[str, tuple[str, ...]]] = {
    "openai": ("code",),
    "anthropic": ("error_code", "type"),
    "google": ("status",),
    "groq": ("code",),
    "litellm": ("code",),
    "cohere": ("code",),
}
"""By top-level package of the exception's class: where its provider's code stands."""

_CODE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.\-]{0,63}")
_CANCELLED: Final = frozenset(
    {
        "asyncio.exceptions.CancelledError",
        "concurrent.futures._base.CancelledError",
        "trio.Cancelled",
        "trio._core._exceptions.Cancelled",
    }
)


def class_name(error: BaseException) -> str:
    """
    Name the class of an exception, with its module unless it is a builtin.

    Example:
        >>> class_name(ValueError("secret"))
        'ValueError'

    """
    kind = type(error)
    module = kind.__module__
    return kind.__qualname__ if module in {"builtins", None, ""} else f"{module}.{kind.__qualname__}"


def is_cancellation(error: BaseException) -> bool:
    """Whether the exception says that the call was cancelled, in asyncio, trio or a pool."""
    return any(f"{kind.__module__}.{kind.__qualname__}" in _CANCELLED for kind in type(error).__mro__[:-2])


def error_type(error: BaseException) -> str:
    """
    Choose the value of `error.type`.

    Args:
        error:
            What the guarded function raised. Its message is not read.

    Returns:
        `cancelled` for a cancellation; else the provider's code, where the
        exception comes from the SDK of a provider and has one; else its class.

    Example:
        >>> error_type(KeyError("x"))
        'KeyError'

    """
    if is_cancellation(error):
        return names.OUTCOME_CANCELLED
    module = type(error).__module__ or ""
    for attribute in _CODE_ATTRIBUTES.get(module.partition(".")[0], ()):
        try:
            code = getattr(error, attribute, None)
        except Exception:  # noqa: S112 - a property of somebody's exception may raise; the class is known anyway
            continue
        if isinstance(code, str) and _CODE.fullmatch(code):
            return str.__str__(code)
    return class_name(error)


def looks_like_a_class(text: str) -> bool:
    """
    Whether a status description can be the name of a class, and no message.

    Example:
        >>> looks_like_a_class("httpx.ReadTimeout")
        True
        >>> looks_like_a_class("no such user: ann")
        False

    """
    return len(text) <= 200 and text.replace(".", "a").isidentifier()
