"""Find numbers that slip past every comparison: NaN, and infinity."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal

ARGUMENT_VALUES_MAX = 200_000
"""Values that the arguments of one call may hold; more cannot be judged, and are denied."""

ARGUMENT_DEPTH_MAX = 64

_FINE = frozenset((str, int, bool, type(None), bytes))


def find_not_finite(args: object) -> str:
    """
    Look through the arguments of a call.

    Comparisons with NaN are false, whatever they compare, and infinity passes
    every lower limit: a number like that must not reach a rule as a number.

    Args:
        args:
            What the fact `args` holds: a mapping of arguments by name.

    Returns:
        Empty where all numbers are finite; else one clause that says where the first is not, or
        that there is too much to look through. No value and no text of an argument is in it.
    """
    if type(args) is not dict and not isinstance(args, Mapping):
        return "" if type(args) in _FINE else _search([("args", args)])
    hard: list[tuple[str, object]] | None = None
    for name, value in args.items():
        kind = type(value)
        if kind in _FINE:
            continue
        if kind is float:
            # x - x is 0 for every finite x, and for no other.
            if value - value != 0.0:
                return f"args.{_name(name)} is not a finite number"
            continue
        if hard is None:
            hard = []
        hard.append((f"args.{_name(name)}", value))
    return _search(hard) if hard is not None else ""


def _search(values: list[tuple[str, object]]) -> str:
    """Look through nested values, without recursion."""
    pending: list[tuple[str, object, int]] = [(where, value, 1) for where, value in values]
    count = 0
    while pending:
        where, value, depth = pending.pop()
        count += 1
        if count > ARGUMENT_VALUES_MAX:
            return f"the arguments hold more than {ARGUMENT_VALUES_MAX} values"
        if type(value) in _FINE:
            continue
        if depth > ARGUMENT_DEPTH_MAX:
            return f"{where} is nested deeper than {ARGUMENT_DEPTH_MAX} levels"
        if isinstance(value, Mapping):
            inner = [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple, set, frozenset)):
            inner = list(value)
        elif _is_not_finite(value):
            return (
                f"{where} holds a number that is not finite"
                if depth > 1
                else f"{where} is not a finite number"
            )
        else:
            continue
        if count + len(pending) + len(inner) > ARGUMENT_VALUES_MAX:
            return f"the arguments hold more than {ARGUMENT_VALUES_MAX} values"
        pending.extend((where, item, depth + 1) for item in inner)
    return ""


def _is_not_finite(value: object) -> bool:
    """Whether a single value is NaN or infinite, in any type of number."""
    if isinstance(value, Decimal):
        return not value.is_finite()
    if isinstance(value, complex):
        return not (math.isfinite(value.real) and math.isfinite(value.imag))
    if isinstance(value, (str, int, bytes)):
        return False
    convert = getattr(type(value), "__float__", None)
    if convert is None:
        return False
    try:
        return not math.isfinite(convert(value))
    except (TypeError, ValueError, OverflowError):
        # No single number (an array with a shape, say): conditions cannot read it as one either.
        return False


def _name(name: object) -> str:
    """The name of an argument, which a model may have made up: cut to what a name can be."""
    text = str(name)
    return text if text.isidentifier() and len(text) <= 100 else "(an argument)"
