"""
Walking structures: every text in them is looked at, whatever holds it.

Work is bounded by depth, number of values and characters, and does not depend
on a clock: the same value gives the same answer. What lies beyond a bound is
not looked at, and therefore counts as found.
"""

from __future__ import annotations

import copy
import dataclasses
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from types import SimpleNamespace
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

from agentguard.redaction._secrets import is_secret_key
from agentguard.redaction._text import DETECTORS, apply, clean, is_marker, marker, scan

UNSEARCHED: Final = "unsearched"
"""The kind of what lies beyond the bounds: it was not looked at, so it is not let through."""


class Bounds(NamedTuple):
    """How much is looked at."""

    depth_max: int = 32
    """Containers inside containers."""
    values_max: int = 50_000
    """Values in all containers together."""
    chars_max: int = 2_000_000
    """Characters looked at, decoded ones included."""


class Detection(NamedTuple):
    """Something found, by place; the text itself is not in it."""

    kind: str
    path: str
    """Such as `to[0]` or `body.text`; keys that are no plain names stand as `{number}`."""
    start: int
    """Place in the text, in characters; 0 for a whole value."""
    end: int


class Walk:
    """One walk over one value. Replaces or only notes, with the same steps and the same bounds."""

    def __init__(self, kinds: Sequence[str], bounds: Bounds, *, opaque: Literal["keep", "refuse"]) -> None:
        # In the order of the detectors, whatever order was asked for.
        self.kinds = tuple(kind for kind in DETECTORS if kind in kinds)
        self.bounds = bounds
        self.opaque = opaque
        self.values = 0
        self.chars = 0
        self.detections: list[Detection] = []
        self.count = 0

    def visit(self, value: Any, path: str, depth: int, *, is_secret: bool = False) -> Any:
        """Look at a value; give it back itself where nothing is to be replaced."""
        if value is None or value is True or value is False:
            return value
        if isinstance(value, str):
            return self.text(value, path, is_secret=is_secret)
        if isinstance(value, (int, float, complex, Decimal)):
            return self._number(value, path, is_secret=is_secret)
        if isinstance(value, (bytes, bytearray, memoryview)):
            return self._bytes(value, path, is_secret=is_secret)
        if isinstance(value, PurePath):
            before = self.count
            found = self.text(str(value), path, is_secret=is_secret)
            return value if self.count == before else found
        parts = _parts(value)
        if parts is None:
            if self.opaque == "refuse" and not _is_atom(value):
                raise TypeError(
                    f"redaction: got an object of class `{type(value).__qualname__}`, expected plain data"
                )
            return value
        if depth >= self.bounds.depth_max or self.values + len(parts) > self.bounds.values_max:
            return self.whole(UNSEARCHED, path)
        self.values += len(parts)
        if isinstance(value, Mapping):
            return self._mapping(value, path, depth, is_secret=is_secret)
        return self._container(value, parts, path, depth, is_secret=is_secret)

    def whole(self, kind: str, path: str, length: int = 0) -> str:
        """Replace a value as a whole."""
        self.count += 1
        self.note(kind, path, length)
        return marker(kind)

    def note(self, kind: str, path: str, length: int = 0) -> None:
        """Note a finding that is a value as a whole."""
        self.detections.append(Detection(kind, path, 0, length))

    def text(self, text: str, path: str, *, is_secret: bool) -> Any:
        """Look at a text."""
        if not text or is_marker(text):
            return text
        if is_secret and "secret" in self.kinds:
            return self.whole("secret", path, len(text))
        if self.chars + len(text) > self.bounds.chars_max:
            return self.whole(UNSEARCHED, path, len(text))
        plain = str.__str__(text)
        cleaned = clean(plain, self.kinds)
        if self.chars + cleaned.work_chars > self.bounds.chars_max:
            return self.whole(UNSEARCHED, path, len(text))
        self.chars += cleaned.work_chars
        if not cleaned.replaced:
            return text
        self.count += cleaned.replaced
        self.detections.extend(Detection(kind, path, start, end) for kind, start, end in cleaned.findings)
        return apply(plain, cleaned.edits)

    def _number(self, number: Any, path: str, *, is_secret: bool) -> Any:
        """Look at a number: a card number may come as one. What is found becomes a text."""
        if is_secret and "secret" in self.kinds:
            return self.whole("secret", path)
        if "card" not in self.kinds:
            return number
        try:
            whole = int(number)
        except (TypeError, ValueError, OverflowError):
            return number
        if not 10**12 <= whole < 10**19 or whole != number:
            return number
        return self.whole("card", path) if scan(str(whole), ("card",)).findings else number

    def _bytes(self, data: bytes | bytearray | memoryview, path: str, *, is_secret: bool) -> Any:
        """Look at bytes as UTF-8; bytes that are none stay as they are."""
        raw = bytes(data)
        before = self.count
        text = raw.decode("utf-8", "surrogateescape")
        found = self.text(text, path, is_secret=is_secret)
        if self.count == before:
            return data
        replaced = found.encode("utf-8", "surrogateescape")
        return bytearray(replaced) if isinstance(data, bytearray) else replaced

    def _mapping(self, value: Mapping[Any, Any], path: str, depth: int, *, is_secret: bool) -> Any:
        """Look at keys and values; keys that become equal get a number."""
        before = self.count
        replaced: dict[Any, Any] = {}
        for number, (key, item) in enumerate(list(value.items())):
            seen = self.count
            found_key = self.visit(key, f"{path}{{{number}}}", depth + 1)
            name = _name(path, key) if self.count == seen else f"{path}{{{number}}}"
            says_secret = is_secret or (isinstance(key, str) and is_secret_key(key))
            found = self.visit(item, name, depth + 1, is_secret=says_secret)
            repeats = 1
            unique = found_key
            while unique in replaced:
                repeats += 1
                unique = f"{found_key}#{repeats}"
            replaced[unique] = found
        if self.count == before:
            return value
        if type(value) is dict or not isinstance(value, dict):
            return replaced
        same = copy.copy(value)
        same.clear()
        same.update(replaced)
        return same

    def _container(
        self, value: Any, parts: Sequence[tuple[str, Any]], path: str, depth: int, *, is_secret: bool
    ) -> Any:
        """Look at the parts of a container; rebuild it where one changed."""
        before = self.count
        replaced: list[Any] = []
        for name, item in parts:
            says_secret = is_secret or is_secret_key(name.lstrip("."))
            where = f"{path}{name}" if path else name.lstrip(".")
            replaced.append(self.visit(item, where, depth + 1, is_secret=says_secret))
        if self.count == before:
            return value
        return _rebuilt(value, [name for name, _ in parts], replaced)


def _name(path: str, key: object) -> str:
    """Extend a path by a key, if the key is a plain name."""
    if isinstance(key, str) and len(key) <= 64 and key.isascii() and key.replace("-", "_").isidentifier():
        return f"{path}.{key}" if path else str.__str__(key)
    return f"{path}{{?}}"


_ATOMS: Final = (Enum, date, time, timedelta, UUID)


def _is_atom(value: object) -> bool:
    """Whether a value holds no text that somebody could have written."""
    return isinstance(value, _ATOMS)


def _parts(value: Any) -> list[tuple[str, Any]] | None:
    """Take a container apart: names of the places and what stands there. None for what is no container."""
    if isinstance(value, Mapping):
        return [("", item) for item in value.items()]
    if isinstance(value, (list, tuple, deque)):
        return [(f"[{number}]", item) for number, item in enumerate(list(value))]
    if isinstance(value, (set, frozenset)):
        return [("{?}", item) for item in list(value)]
    if isinstance(value, type):
        return None
    if dataclasses.is_dataclass(value):
        names = (field.name for field in dataclasses.fields(value))
        return [(f".{name}", getattr(value, name)) for name in names if hasattr(value, name)]
    if isinstance(value, SimpleNamespace) or _is_model(value):
        return [(f".{name}", item) for name, item in fields_of(value).items()]
    return None


def fields_of(value: Any) -> dict[str, Any]:
    """Give the fields of an object, those of a pydantic model that its class does not declare included."""
    fields = dict(getattr(value, "__dict__", None) or {})
    extra = getattr(value, "__pydantic_extra__", None)
    if isinstance(extra, dict):
        fields.update(extra)
    return fields


def _is_model(value: object) -> bool:
    """Whether an object is a model of pydantic, told without importing it."""
    kind = type(value)
    return hasattr(kind, "__pydantic_fields__") and callable(getattr(kind, "model_copy", None))


def _rebuilt(value: Any, names: Sequence[str], replaced: Sequence[Any]) -> Any:
    """Make a container like another one, with other parts."""
    if isinstance(value, list):
        if type(value) is list:
            return list(replaced)
        same = copy.copy(value)
        same[:] = replaced
        return same
    if isinstance(value, tuple):
        make = getattr(type(value), "_make", None)
        return make(replaced) if make is not None else tuple(replaced)
    if isinstance(value, deque):
        return deque(replaced, maxlen=value.maxlen)
    if isinstance(value, (set, frozenset)):
        return frozenset(replaced) if isinstance(value, frozenset) else set(replaced)
    fields = {name.lstrip("."): item for name, item in zip(names, replaced, strict=True)}
    if isinstance(value, SimpleNamespace):
        return SimpleNamespace(**fields)
    if _is_model(value):
        before = fields_of(value)
        changed = {name: item for name, item in fields.items() if item is not before.get(name)}
        return value.model_copy(update=changed)
    same = copy.copy(value)
    for name, item in fields.items():
        if item is not getattr(value, name):
            # Frozen dataclasses refuse plain assignment; this copy is not anybody's yet.
            object.__setattr__(same, name, item)
    return same
