"""
Operators on plain values, as CEL defines them.

Typed code calls these only where Python's own operator would answer
differently. Operands of unknown type are dispatched here. Every refusal is a
`Fault`.

Source: google/cel-spec, doc/langdef.md, Standard Definitions; overflow, division
and numbers of different types.
"""

from __future__ import annotations

from datetime import timedelta
from math import inf, nan
from typing import Any, Final

from agentguard.policy.conditions.faults import Fault
from agentguard.policy.conditions.limits import COMPARED_MAX, DEPTH_MAX, ITEMS_MAX, TEXT_CHARS_MAX
from agentguard.policy.conditions.values import INT_MAX, INT_MIN, anything, kind

_NANOSECONDS_MAX: Final = timedelta(microseconds=INT_MAX // 1000)
_NUMERIC: Final = frozenset(("int", "double"))
_ORDERED: Final = frozenset(("string", "bool", "bytes", "timestamp", "duration"))


class Budget:
    """How much work is left to one evaluation."""

    __slots__ = ("compared", "iterations")

    def __init__(self, iterations: int, compared: int = COMPARED_MAX) -> None:
        self.iterations = iterations
        self.compared = compared


# Integers


def int_overflow() -> int:
    """Say that a result does not fit 64 bits."""
    raise Fault("the result is larger than 64 bits")


def int_divide(left: int, right: int) -> int:
    """Divide towards zero."""
    if right == 0:
        raise Fault("division by zero")
    result = abs(left) // abs(right)
    if (left < 0) != (right < 0):
        return -result
    return result if result <= INT_MAX else int_overflow()


def int_modulo(left: int, right: int) -> int:
    """The rest of that division; it has the sign of the left side."""
    if right == 0:
        raise Fault("modulo by zero")
    if right == -1 and left == INT_MIN:
        # The rest is 0, and CEL's own runtimes call it an overflow all the same.
        return int_overflow()
    result = abs(left) % abs(right)
    return -result if left < 0 else result


def _fit(value: int) -> int:
    return value if INT_MIN <= value <= INT_MAX else int_overflow()


# Doubles


def double_divide(left: float, right: float) -> float:
    """Divide as IEEE 754 does: by zero it is infinite, or no number."""
    if right != 0.0:
        return left / right
    if left == 0.0 or left != left:  # noqa: PLR0124 - NaN is what differs from itself
        return nan
    negative = (left < 0) != (str(right)[0] == "-")
    return -inf if negative else inf


# Equality


def equal(left: object, right: object, budget: Budget | None = None) -> bool:
    """Whether two plain values are equal; values of different kinds are not."""
    return _equal(left, right, 0, budget or Budget(0), (False, False))


def equal_raw(
    left: object, right: object, raw_left: bool, raw_right: bool, budget: Budget | None = None
) -> bool:
    """
    The same where a side comes from facts: what lies inside that side is checked, too.

    A number there that is not finite, or an integer of more than 64 bits, is a
    fault wherever the comparison comes to it.
    """
    return _equal(left, right, 0, budget or Budget(0), (raw_left, raw_right))


def _equal(left: object, right: object, depth: int, budget: Budget, raw: tuple[bool, bool]) -> bool:
    a, b = kind(left), kind(right)
    if a != b:
        if a in _NUMERIC and b in _NUMERIC:
            # CEL's runtimes compare as doubles, also where a double cannot hold the integer.
            return float(left) == float(right)  # type: ignore[arg-type] # both are numbers
        return False
    if a == "list":
        return _lists(left, right, depth, budget, raw)  # type: ignore[arg-type] # both are lists
    if a == "map":
        return _maps(left, right, depth, budget, raw)  # type: ignore[arg-type] # both are dicts
    return left == right


def charge(count: int, depth: int, budget: Budget) -> None:
    """Take a list or map of so many values off the budget of an evaluation."""
    if depth >= DEPTH_MAX:
        raise Fault(f"lists and maps nested deeper than {DEPTH_MAX}")
    budget.compared -= count + 1
    if budget.compared < 0:
        raise Fault(f"a comparison of more than {COMPARED_MAX} values")


def _lists(left: list[Any], right: list[Any], depth: int, budget: Budget, raw: tuple[bool, bool]) -> bool:
    if len(left) != len(right):
        return False
    charge(len(left), depth, budget)
    return all(
        _equal(anything(a) if raw[0] else a, anything(b) if raw[1] else b, depth + 1, budget, raw)
        for a, b in zip(left, right, strict=False)
    )


def _maps(
    left: dict[Any, Any], right: dict[Any, Any], depth: int, budget: Budget, raw: tuple[bool, bool]
) -> bool:
    if len(left) != len(right):
        return False
    charge(len(left), depth, budget)
    for key, value in list(left.items()):
        found = lookup(right, key)
        if found is _MISSING:
            return False
        a = anything(value) if raw[0] else value
        b = anything(found) if raw[1] else found
        if not _equal(a, b, depth + 1, budget, raw):
            return False
    return True


_MISSING: Final = object()


def lookup(container: dict[Any, Any], key: object) -> Any:
    """
    The value under a key, or a mark where there is none.

    Python takes True and 1 for one key, CEL does not; 1.0 finds 1 in both.
    """
    of = type(key)
    if of is str:
        return container.get(key, _MISSING)
    if of is not int and of is not bool and of is not float:
        return _MISSING
    found = container.get(key, _MISSING)
    if found is not _MISSING and (key == 0 or key == 1):
        stored_bool = any(type(other) is bool and other == key for other in container)
        if stored_bool != (of is bool):
            return _MISSING
    return found


def item_at(container: object, key: object) -> Any:
    """`container[key]` of unknown types; the answer is as raw as the container."""
    of = kind(container)
    if of == "map":
        found = lookup(container, key)  # type: ignore[arg-type] # it is a dict
        if found is _MISSING:
            raise Fault("no such key in the map")
        return found
    if of != "list":
        raise Fault(f"got {of}, expected a list or a map")
    if type(key) is float and key.is_integer():
        key = int(key)
    if type(key) is not int:
        raise Fault(f"got {kind(key)}, expected an integer for the place in a list")
    if not 0 <= key < len(container):  # type: ignore[arg-type] # it is a list
        raise Fault("the place is outside the list")
    return container[key]  # type: ignore[index] # it is a list


def list_at(container: Any, key: int) -> Any:
    """`container[key]` of a list and an int: negative places do not exist."""
    if not 0 <= key < len(container):
        raise Fault("the place is outside the list")
    return container[key]


def has_name(container: object, name: str) -> bool:
    """`has(container.name)` of an unknown type."""
    if type(container) is not dict:
        raise Fault(f"got {kind(container)}, expected a map")
    return name in container


def contains(
    container: object, value: object, raw_items: bool, raw_value: bool, budget: Budget | None = None
) -> bool:
    """`value in container`, both of unknown type."""
    if type(container) is dict:
        return in_map(container, value)
    return in_list(container, value, raw_items, raw_value, budget)


def in_map(container: dict[Any, Any], value: object) -> bool:
    """Whether a map has a key."""
    if kind(value) not in _KEYS:
        raise Fault(f"`in` does not look for {kind(value)} among the keys of a map")
    return lookup(container, value) is not _MISSING


_KEYS: Final = frozenset(("string", "int", "bool", "double"))


def in_list(
    container: object, value: object, raw_items: bool, raw_value: bool, budget: Budget | None = None
) -> bool:
    """Whether a list holds a value equal to this one; what comes from facts is checked on the way."""
    if type(container) is not list and type(container) is not tuple:
        raise Fault(f"got {kind(container)}, expected a list or a map")
    count = len(container)
    if budget is not None:
        budget.compared -= count
        count = COMPARED_MAX - budget.compared
    if count > COMPARED_MAX:
        raise Fault(f"a comparison of more than {COMPARED_MAX} values")
    if type(value) is str:
        for item in container:
            if type(item) is str:
                if item == value:
                    return True
            elif raw_items:
                plain = anything(item)  # a text of another class, or a number that must be finite
                if type(plain) is str and plain == value:
                    return True
        return False
    shared = budget or Budget(0)
    return any(
        _equal(anything(item) if raw_items else item, value, 0, shared, (raw_items, raw_value))
        for item in container
    )


# Order


def _ordered(left: object, right: object, operator: str) -> tuple[Any, Any]:
    a, b = kind(left), kind(right)
    if a != b:
        if a in _NUMERIC and b in _NUMERIC:
            return float(left), float(right)  # type: ignore[arg-type] # both are numbers
    elif a in _ORDERED or a in _NUMERIC:
        return left, right
    raise Fault(f"`{operator}` does not compare {a} with {b}")


def less(left: object, right: object) -> bool:
    """`left < right` of unknown types."""
    a, b = _ordered(left, right, "<")
    return bool(a < b)


def less_equal(left: object, right: object) -> bool:
    """`left <= right` of unknown types."""
    a, b = _ordered(left, right, "<=")
    return bool(a <= b)


def greater(left: object, right: object) -> bool:
    """`left > right` of unknown types."""
    a, b = _ordered(left, right, ">")
    return bool(a > b)


def greater_equal(left: object, right: object) -> bool:
    """`left >= right` of unknown types."""
    a, b = _ordered(left, right, ">=")
    return bool(a >= b)


# Texts, lists, time


def join_texts(left: Any, right: Any) -> Any:
    """Put two texts together."""
    if len(left) + len(right) > TEXT_CHARS_MAX:
        raise Fault(f"a text of more than {TEXT_CHARS_MAX} characters")
    return left + right


def join_lists(left: Any, right: Any) -> list[Any]:
    """Put two lists together."""
    if len(left) + len(right) > ITEMS_MAX:
        raise Fault(f"a list of more than {ITEMS_MAX} items")
    return [*left, *right]


def _span(value: timedelta) -> timedelta:
    if not -_NANOSECONDS_MAX <= value <= _NANOSECONDS_MAX:
        raise Fault("a duration of more than 292 years")
    return value


def time_add(left: Any, right: Any) -> Any:
    """Add a duration to a duration, or to a timestamp on either side."""
    try:
        result = left + right
    except (OverflowError, TypeError):
        raise Fault("a timestamp outside the years 1 to 9999") from None
    return _span(result) if type(result) is timedelta else result


def time_subtract(left: Any, right: Any) -> Any:
    """Subtract a duration, or a timestamp from a timestamp."""
    try:
        result = left - right
    except (OverflowError, TypeError):
        raise Fault("a timestamp outside the years 1 to 9999") from None
    return _span(result) if type(result) is timedelta else result


# Arithmetic of unknown types


def _no(operator: str, left: object, right: object) -> Fault:
    return Fault(f"`{operator}` does not take {kind(left)} and {kind(right)}")


def add(left: Any, right: Any) -> Any:
    """`left + right` of unknown types."""
    a, b = kind(left), kind(right)
    if a == b:
        if a == "int":
            return _fit(left + right)
        if a == "double":
            return left + right
        if a in ("string", "bytes"):
            return join_texts(left, right)
        if a == "list":
            return join_lists(left, right)
    if (a, b) in (("duration", "duration"), ("timestamp", "duration"), ("duration", "timestamp")):
        return time_add(left, right)
    raise _no("+", left, right)


def subtract(left: Any, right: Any) -> Any:
    """`left - right` of unknown types."""
    a, b = kind(left), kind(right)
    if a == b == "int":
        return _fit(left - right)
    if a == b == "double":
        return left - right
    if a in ("timestamp", "duration") and (b == "duration" or a == b):
        return time_subtract(left, right)
    raise _no("-", left, right)


def multiply(left: Any, right: Any) -> Any:
    """`left * right` of unknown types."""
    a, b = kind(left), kind(right)
    if a == b == "int":
        return _fit(left * right)
    if a == b == "double":
        return left * right
    raise _no("*", left, right)


def divide(left: Any, right: Any) -> Any:
    """`left / right` of unknown types."""
    a, b = kind(left), kind(right)
    if a == b == "int":
        return int_divide(left, right)
    if a == b == "double":
        return double_divide(left, right)
    raise _no("/", left, right)


def modulo(left: Any, right: Any) -> Any:
    """`left % right` of unknown types."""
    if kind(left) == kind(right) == "int":
        return int_modulo(left, right)
    raise _no("%", left, right)


def negate(value: Any) -> Any:
    """`-value` of an unknown type."""
    of = kind(value)
    if of == "int":
        return _fit(-value)
    if of == "double":
        return -value
    raise Fault(f"`-` does not take {of}")
