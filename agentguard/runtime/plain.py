"""From objects of an application to the plain data that conditions read."""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal

DEPTH_MAX = 32
NODES_MAX = 100_000

FLAT = frozenset({str, int, float, bool, bytes, type(None)})
"""Types of single values: what holds nothing else is plain as it is."""

COMPARABLE = FLAT - {float}
"""Those of which every value compares with every other; of floats NaN and infinity do not."""


def plain(value: object) -> object:
    """
    Turn a value into data that a condition can read, without calling the application's methods.

    Mappings become dicts, sequences and sets become lists, dataclasses and
    pydantic models become dicts, enumerations their values. Anything else stays
    as it is, and a condition that reads it cannot be evaluated.

    Args:
        value:
            Any object. It is not changed.

    Returns:
        Plain data where the value has such a form; what lies deeper than 32
        levels or beyond 100,000 nodes stays as it is.
    """
    if type(value) in FLAT or (type(value) is dict and FLAT.issuperset(map(type, value.values()))):
        return value
    return _plain(value, DEPTH_MAX, [NODES_MAX])


def _plain(value: object, depth: int, left: list[int]) -> object:
    left[0] -= 1
    if type(value) in FLAT or depth <= 0 or left[0] <= 0:
        return value
    if isinstance(value, enum.Enum):
        return _plain(value.value, depth - 1, left)
    if isinstance(value, bool | str | int | float | bytes | datetime | timedelta):
        return value
    if isinstance(value, Decimal):
        # Exact amounts of money compare as doubles; NaN and infinity are refused by the engine.
        return float(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {k: _plain(v, depth - 1, left) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(v, depth - 1, left) for v in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: _plain(getattr(value, field.name, None), depth - 1, left)
            for field in dataclasses.fields(value)
        }
    fields = getattr(type(value), "model_fields", None)
    if isinstance(fields, Mapping):
        # A pydantic model: read from its dict, so that no serializer of the application runs.
        # What its class does not declare is part of it, and must not slip past a rule.
        more = getattr(value, "__pydantic_extra__", None)
        declared = getattr(value, "__dict__", {})
        own = {**declared, **more} if isinstance(more, dict) else declared
        return {k: _plain(v, depth - 1, left) for k, v in own.items() if isinstance(k, str)}
    return value


def fingerprint(arguments: object) -> int:
    """
    Give equal arguments the same number, within this process.

    Args:
        arguments:
            Arguments by name; objects count by their class.

    Returns:
        A hash. What cannot be written, such as a list that contains itself,
        has the same number as all else of that kind.
    """
    try:
        return hash(
            json.dumps(plain(arguments), skipkeys=True, default=lambda value: type(value).__qualname__)
        )
    except (TypeError, ValueError, RecursionError):
        return 0
