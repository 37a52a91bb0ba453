"""
What may stand as the value of an attribute, and how it is cut to size.

Source: OpenTelemetry specification 1.50, common/README.md: attribute values are
strings, booleans, 64-bit integers, doubles, or homogeneous arrays of these.
"""

from __future__ import annotations

from typing import Final

from agentguard.values import AttributeValue

INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1


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
        The value to keep, or None where OpenTelemetry does not allow it: other
        types, mixed or nested sequences, integers beyond 64 bits.

    Example:
        >>> clean_value([1, 2], chars_max=10, items_max=10)
        (1, 2)
        >>> clean_value([1, "a"], chars_max=10, items_max=10) is None
        True

    """
    scalar = _clean_scalar(value, chars_max)
    if scalar is not None:
        return scalar
    if isinstance(value, (list, tuple)):
        return _clean_sequence(value, chars_max, items_max)
    return None


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
    items = [_clean_scalar(item, chars_max) for item in snapshot]
    if not items:
        return ()
    first = type(items[0])
    if first is type(None) or any(type(item) is not first for item in items):
        return None
    return tuple(items)  # type: ignore[return-value] # one plain type, by the check above
