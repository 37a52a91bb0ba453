"""
Reading facts: what a value is to a condition, and refusing what is none.

Facts come from outside. A value is taken as it is, made plain (an enum member
of `str` becomes its text, a date its moment in UTC), or refused with a `Fault`.
Nothing here calls a method of a class it does not know, but for mappings.
Plain values are: None, bool, int of 64 bits, finite float, str, bytes, list,
tuple, dict, datetime in UTC, timedelta.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Any, Final

from agentguard.policy.conditions.faults import Fault

INT_MIN: Final = -(1 << 63)
INT_MAX: Final = (1 << 63) - 1
EXACT_MAX: Final = 1 << 53
"""Integers up to here are doubles, too."""
DURATION_MAX: Final = timedelta(seconds=315_576_000_000)
"""Ten thousand years, as CEL has it."""

_KINDS: Final[dict[type, str]] = {
    type(None): "null",
    bool: "bool",
    int: "int",
    float: "double",
    str: "string",
    bytes: "bytes",
    list: "list",
    tuple: "list",
    dict: "map",
    datetime: "timestamp",
    timedelta: "duration",
}


def kind(value: object) -> str:
    """The kind of a plain value, such as `int`; for messages and dispatch."""
    return _KINDS.get(type(value), "other")


def integer(value: object) -> int:
    """A value where an int is declared."""
    of = type(value)
    if of is not int:
        if of is bool or not issubclass(of, int):
            raise Fault(f"got {_name(value)}, expected int")
        value = int.__int__(value)  # type: ignore[arg-type] # checked above
    if not INT_MIN <= value <= INT_MAX:  # type: ignore[operator] # it is an int
        raise Fault("an integer larger than 64 bits")
    return value  # type: ignore[return-value] # it is an int


def real(value: object) -> float:
    """A value where a double is declared; an int that a double can hold counts as one."""
    of = type(value)
    if of is not float:
        if issubclass(of, float):
            value = float.__float__(value)  # type: ignore[arg-type] # checked above
        elif of is not bool and issubclass(of, int):
            value = int.__int__(value)  # type: ignore[arg-type] # checked above
            if not -EXACT_MAX <= value <= EXACT_MAX:
                raise Fault("an integer that no double holds exactly, expected double")
            return float(value)
        else:
            raise Fault(f"got {_name(value)}, expected double")
    if not isfinite(value):  # type: ignore[arg-type] # it is a float
        raise Fault("a number that is not finite")
    return value  # type: ignore[return-value] # it is a float


def text(value: object) -> str:
    """A value where a string is declared."""
    if type(value) is str:
        return value
    if issubclass(type(value), str):
        return str.__str__(value)
    raise Fault(f"got {_name(value)}, expected string")


def truth(value: object) -> bool:
    """A value where a bool is declared, or a dyn that a condition hangs on."""
    if value is True or value is False:
        return value
    raise Fault(f"got {_name(value)}, expected bool")


def raw_bytes(value: object) -> bytes:
    """A value where bytes are declared."""
    if type(value) is bytes:
        return value
    if issubclass(type(value), bytes):
        return bytes.__getitem__(value, slice(None))  # type: ignore[call-overload, no-any-return]
    if type(value) is bytearray:
        return bytes(value)
    raise Fault(f"got {_name(value)}, expected bytes")


def null(value: object) -> None:
    """A value where null is declared."""
    if value is not None:
        raise Fault(f"got {_name(value)}, expected null")


def moment(value: object) -> datetime:
    """A value where a timestamp is declared: a datetime that knows its zone, in UTC."""
    if not issubclass(type(value), datetime):
        raise Fault(f"got {_name(value)}, expected timestamp")
    if type(value) is datetime and value.tzinfo is UTC:
        return value
    aware: datetime = value  # type: ignore[assignment] # checked above
    if aware.tzinfo is None:
        raise Fault("a datetime without a time zone, expected timestamp")
    try:
        moved = aware.astimezone(UTC)
    except (OverflowError, ValueError):
        raise Fault("a timestamp outside the years 1 to 9999") from None
    return datetime(
        moved.year, moved.month, moved.day, moved.hour, moved.minute, moved.second, moved.microsecond, tzinfo=UTC
    )  # fmt: skip


def span(value: object) -> timedelta:
    """A value where a duration is declared."""
    if not issubclass(type(value), timedelta):
        raise Fault(f"got {_name(value)}, expected duration")
    if type(value) is not timedelta:
        value = timedelta(value.days, value.seconds, value.microseconds)  # type: ignore[attr-defined]
    if not -DURATION_MAX <= value <= DURATION_MAX:
        raise Fault("a duration longer than 10000 years")
    return value


def items(value: object) -> list[Any] | tuple[Any, ...]:
    """A value where a list is declared."""
    of = type(value)
    if of is list or of is tuple:
        return value  # type: ignore[return-value] # checked above
    if issubclass(of, list):
        return list(list.__iter__(value))  # type: ignore[arg-type] # checked above
    if issubclass(of, tuple):
        return tuple(tuple.__iter__(value))  # type: ignore[arg-type] # checked above
    raise Fault(f"got {_name(value)}, expected list")


def mapping(value: object) -> dict[Any, Any]:
    """A value where a map is declared; other mappings than dicts are copied."""
    if type(value) is dict:
        return value
    try:
        if issubclass(type(value), Mapping):
            return {key: value[key] for key in value}  # type: ignore[index, attr-defined] # it is a Mapping
    except Exception as error:
        raise Fault(f"a map that cannot be read ({type(error).__name__})") from None
    raise Fault(f"got {_name(value)}, expected map")


def anything(value: object) -> Any:
    """A value of type dyn, made plain on its outside; what is inside is checked when it is read."""
    of = type(value)
    if of is str or value is None or of is bool or of is dict or of is list or of is tuple or of is bytes:
        return value
    if of is int:
        if INT_MIN <= value <= INT_MAX:  # type: ignore[operator] # it is an int
            return value
        raise Fault("an integer larger than 64 bits")
    if of is float:
        if isfinite(value):  # type: ignore[arg-type] # it is a float
            return value
        raise Fault("a number that is not finite")
    for base, read in _READERS:
        if issubclass(of, base):
            return read(value)
    raise Fault(f"got {_name(value)}, which is no plain data")


_READERS: Final[tuple[tuple[type, Any], ...]] = (
    (str, text),
    (int, integer),
    (float, real),
    (bytes, raw_bytes),
    (bytearray, raw_bytes),
    (list, items),
    (tuple, items),
    (datetime, moment),
    (timedelta, span),
    (Mapping, mapping),
)


def member(container: dict[Any, Any], name: object) -> Any:
    """The value of a text key."""
    try:
        return container[name]
    except KeyError:
        raise Fault("no such key in the map") from None


def fact(facts: Mapping[str, object], name: str) -> object:
    """The value of a fact, as it was handed in."""
    try:
        return facts[name]
    except KeyError:
        raise Fault(f"the fact `{name}` has no value") from None
    except RecursionError:
        raise
    except Exception as error:
        raise Fault(f"the fact `{name}` cannot be read ({type(error).__name__})") from None


def _name(value: object) -> str:
    """What kind of value it is, for a message; never the value."""
    found = _KINDS.get(type(value))
    if found is not None:
        return found
    name = type.__getattribute__(type(value), "__name__")
    return f"a value of class {name[:60]}" if isinstance(name, str) else "a value of an unknown class"
