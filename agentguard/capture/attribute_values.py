"""
What may stand as the value of an attribute, and how it is cut to size.

Strings, booleans, 64-bit integers, doubles and arrays of one of these are kept as
they are. What else OpenTelemetry allows (bytes, maps, mixed and nested arrays) is
written as text.

Source: OpenTelemetry specification 1.50, common/README.md, "Attribute" and "AnyValue
representation for non-OTLP protocols".
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from typing import Final

from agentguard.values import AttributeValue

INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1

_DEPTH_MAX: Final = 16
_KEY_CHARS_MAX: Final = 1_024
_NAME_CHARS_MAX: Final = 1_024
_NULLS: Final[Mapping[type, str | bool | int | float]] = {str: "", bool: False, int: 0, float: 0.0}
"""What stands for a null in an array of a type; the specification allows it where null cannot be kept."""


def clean_value(value: object, *, chars_max: int, items_max: int) -> AttributeValue | None:
    """
    Make a value that is safe to keep: plain types only, cut to size.

    Subclasses of the plain types (enumerations, NumPy's float64) become the
    plain type, without running code of theirs. Lists and tuples become tuples.

    Args:
        value:
            Whatever the caller set.
        chars_max:
            Longer strings are cut to this many characters.
        items_max:
            Longer sequences are cut to this many items.

    Returns:
        The value to keep, or None where OpenTelemetry does not allow it: null,
        other types, integers beyond 64 bits, also inside arrays and maps.

    Example:
        >>> clean_value([1, 2], chars_max=10, items_max=10)
        (1, 2)
        >>> clean_value({"a": [1, None]}, chars_max=100, items_max=10)
        '{"a":[1,null]}'
        >>> clean_value(object(), chars_max=10, items_max=10) is None
        True

    """
    try:
        return _clean(value, chars_max, items_max)
    except Exception:
        # An object may raise when it is asked for its class; then it is none of those that are allowed.
        return None


def _clean(value: object, chars_max: int, items_max: int) -> AttributeValue | None:
    """Do it, for an object that does not raise."""
    scalar = _clean_scalar(value, chars_max)
    if scalar is not None:
        return scalar
    if isinstance(value, (list, tuple)):
        items = _clean_sequence(value, chars_max, items_max)
        if items is not None:
            return items
    if isinstance(value, (bytes, list, tuple, dict)):
        return _as_text(value, chars_max, items_max)
    return None


def clean_key(key: object) -> str | None:
    """
    Make a name of an attribute that is safe to keep: plain text, neither empty nor huge.

    Example:
        >>> clean_key(b"key") is None
        True

    """
    if not issubclass(type(key), str):
        return None
    text = str.__str__(key)
    return text if 0 < len(text) <= _KEY_CHARS_MAX else None


def clean_attributes(
    attributes: Mapping[str, object], *, chars_max: int = 16_384, items_max: int = 256
) -> dict[str, AttributeValue]:
    """
    Keep of some attributes what is safe to keep; the rest is left out.

    Example:
        >>> clean_attributes({"a": 1, "b": None})
        {'a': 1}

    """
    cleaned: dict[str, AttributeValue] = {}
    for key, value in attributes.items():
        name, kept = clean_key(key), clean_value(value, chars_max=chars_max, items_max=items_max)
        if name is not None and kept is not None:
            cleaned[name] = kept
    return cleaned


def clean_name(name: object) -> str:
    """
    Make a name of a span or an event that is safe to keep; what is no text stands as its class.

    Example:
        >>> clean_name(None)
        'NoneType'

    """
    if issubclass(type(name), str):
        return str.__str__(name)[:_NAME_CHARS_MAX]
    return type(name).__name__


def clean_time(time_unix_ns: object) -> int | None:
    """
    Make a time in nanoseconds since 1970 that 64 bits hold; None where it is none.

    Example:
        >>> clean_time(1.5e18), clean_time("now")
        (1500000000000000000, None)

    """
    kind = type(time_unix_ns)
    try:
        if issubclass(kind, float):
            number = float.__int__(time_unix_ns)  # type: ignore[arg-type] # by the line above
        elif issubclass(kind, int) and kind is not bool:
            number = int.__int__(time_unix_ns)  # type: ignore[arg-type] # by the line above
        else:
            return None
    except (ValueError, OverflowError):  # Not a number, or infinite.
        return None
    return number if 0 <= number <= INT64_MAX else None


def _clean_scalar(value: object, chars_max: int) -> str | bool | int | float | None:
    """Reduce one value to a plain type, or None."""
    kind = type(value)
    if kind is str or isinstance(value, str):
        text = str.__str__(value)
        return text if len(text) <= chars_max else text[:chars_max]
    if kind is bool:
        return value  # type: ignore[return-value]
    if isinstance(value, int):
        number = int.__int__(value)
        return number if INT64_MIN <= number <= INT64_MAX else None
    if isinstance(value, float):
        return float.__float__(value)
    return None


def _clean_sequence(
    value: list[object] | tuple[object, ...], chars_max: int, items_max: int
) -> AttributeValue | None:
    """Reduce a sequence to a tuple of one plain type, or None."""
    # One call into C makes a snapshot that no other thread can change, and runs no code of a subclass.
    if isinstance(value, list):
        snapshot = list.__getitem__(value, slice(items_max))
    else:
        snapshot = list(tuple.__getitem__(value, slice(items_max)))
    if not snapshot:
        return ()
    items = [_clean_scalar(item, chars_max) for item in snapshot]
    kinds = {type(item) for item in items if item is not None}
    if len(kinds) != 1:
        return None
    if None in items:
        null = _NULLS[kinds.pop()]
        if any(item is None and given is not None for item, given in zip(items, snapshot, strict=True)):
            return None
        items = [null if item is None else item for item in items]
    return tuple(items)  # type: ignore[return-value] # one plain type, by the check above


def _as_text(value: object, chars_max: int, items_max: int) -> str | None:
    """Write what is no plain value as JSON, bytes as base64; None where that is not possible."""
    try:
        plain = _plain(value, items_max, 0)
    except (TypeError, ValueError):
        return None
    if isinstance(plain, str):
        return plain[:chars_max]
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))[:chars_max]


def _plain(value: object, items_max: int, depth: int) -> object:
    """
    Make plain data of a value of OpenTelemetry's `AnyValue`.

    Raises:
        TypeError: It is of a type that OpenTelemetry does not allow.
        ValueError: It is too deep, or a number is too large.
    """
    if depth > _DEPTH_MAX:
        raise ValueError("too deep")
    if value is None:
        return None
    scalar = _clean_scalar(value, INT64_MAX)
    if isinstance(scalar, float) and not math.isfinite(scalar):
        return "NaN" if math.isnan(scalar) else "Infinity" if scalar > 0 else "-Infinity"
    if scalar is not None:
        return scalar
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, list):
        return [_plain(item, items_max, depth + 1) for item in list.__getitem__(value, slice(items_max))]
    if isinstance(value, tuple):
        return [_plain(item, items_max, depth + 1) for item in tuple.__getitem__(value, slice(items_max))]
    if isinstance(value, dict):
        snapshot = list(dict.items(value))[:items_max]
        if any(not isinstance(key, str) for key, _ in snapshot):
            raise TypeError("a key is no string")
        return {str.__str__(key): _plain(item, items_max, depth + 1) for key, item in snapshot}
    raise TypeError("not a value of an attribute")
