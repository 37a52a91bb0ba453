"""What moves inside this package as exceptions; none of it ever leaves it."""

from __future__ import annotations


class _Signal(Exception):  # noqa: N818 - control flow, not an error for callers
    """Base of both."""


class Fault(_Signal):
    """
    A part of a condition has no value: CEL's error, as a value on its way.

    `&&` and `||` absorb it where the other side decides, as CEL has it. What is
    left of it becomes a `PolicyEvaluationError`. The text names kinds of values,
    never values.
    """


class TooManyProblems(_Signal):
    """The limit of problems is reached: reading stops, what was found is reported."""
