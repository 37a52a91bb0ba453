"""The one exception inside a running condition; it never leaves this package."""

from __future__ import annotations


class Fault(Exception):  # noqa: N818 - CEL's error value; the error for callers is PolicyEvaluationError
    """
    A part of a condition has no value.

    `&&` and `||` absorb it where the other side decides, as CEL has it. The
    text names kinds of values, never values.
    """
