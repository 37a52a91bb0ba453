"""What a YAML file holds: texts, lists and mappings that know their place; nothing is constructed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TypeAlias

from agentguard.policy._problems import quoted

NODES_MAX = 200_000
"""Keys, values and collections of one file."""

DEPTH_MAX = 24
"""Collections within collections."""

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_SPECIAL = {".inf": float("inf"), "+.inf": float("inf"), "-.inf": float("-inf"), ".nan": float("nan")}
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_NUMBER_DIGITS_MAX = 40


@dataclass(slots=True, eq=False)
class Scalar:
    """One text, with its style: what is not quoted may be a number, a boolean or null."""

    text: str
    line: int
    column: int
    style: str = ""
    """Empty for plain, else the quote or block mark."""

    @property
    def is_plain(self) -> bool:
        """Whether it stands without quotes."""
        return not self.style

    @property
    def value(self) -> str | bool | int | float | None:
        """The value by the core schema of YAML 1.2: `on`, `no` and `12:30` stay text."""
        text = self.text
        if self.style:
            return text
        if text in _NULL:
            return None
        if text in _BOOL:
            return _BOOL[text]
        if text.lower() in _SPECIAL:
            return _SPECIAL[text.lower()]
        if len(text) <= _NUMBER_DIGITS_MAX:
            if _INT.fullmatch(text):
                return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
            if _FLOAT.fullmatch(text):
                return float(text)
        return text

    @property
    def says(self) -> str:
        """The value in words, for messages."""
        value = self.value
        if value is None:
            return "nothing"
        if isinstance(value, bool):
            return f"the boolean {quoted(self.text)}"
        if isinstance(value, (int, float)):
            return f"the number {quoted(self.text)}"
        return f"the text {quoted(self.text, 40)}"


@dataclass(slots=True, eq=False)
class Items:
    """A list."""

    line: int
    column: int
    items: list[Node] = field(default_factory=list)
    says: str = "a list"


@dataclass(slots=True, eq=False)
class Fields:
    """A mapping; keys are text and unique."""

    line: int
    column: int
    entries: dict[str, tuple[Scalar, Node]] = field(default_factory=dict)
    says: str = "a mapping"


Node: TypeAlias = Scalar | Items | Fields
