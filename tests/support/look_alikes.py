"""Objects that look like those of an SDK, made from plain data."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


def as_objects(value: Any) -> Any:
    """Turn dicts into objects with attributes, all the way down."""
    if isinstance(value, dict):
        return SimpleNamespace(**{key: as_objects(item) for key, item in value.items()})
    if isinstance(value, list):
        return [as_objects(item) for item in value]
    return value
