"""What a condition may name, the types of constants, and ways out of a type mistake."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agentguard.policy.conditions import tree
from agentguard.policy.conditions.functions import FunctionSpec
from agentguard.policy.conditions.tree import Tree
from agentguard.policy.conditions.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    DYN,
    INT,
    KEYS,
    NULL,
    NUMBERS,
    STRING,
    TIMESTAMP,
    Type,
    join,
    list_of,
    map_of,
)


@dataclass(frozen=True, slots=True)
class Scope:
    """What a condition may name."""

    facts: Mapping[str, Type]
    constants: Mapping[str, tuple[Type, object]]
    arguments: Mapping[str, Type] | None
    """Types of the keys of the fact `args`, or None where any key goes."""
    functions: Mapping[str, FunctionSpec]


def type_of_constant(value: object) -> Type:
    """
    The type of a plain value.

    Raises:
        TypeError: It is none that a condition can hold.
    """
    if isinstance(value, list | tuple):
        found = [type_of_constant(item) for item in value]
        return list_of(joined(found))
    if isinstance(value, dict):
        keys = [type_of_constant(key) for key in value]
        if any(key not in KEYS for key in keys):
            raise TypeError("a map with keys other than string, int, bool")
        return map_of(joined(keys), joined([type_of_constant(item) for item in value.values()]))
    simple: dict[type, Type] = {
        bool: BOOL, int: INT, float: DOUBLE, str: STRING, bytes: BYTES, type(None): NULL,
    }  # fmt: skip
    if type(value) not in simple:
        raise TypeError(f"a value of class {type(value).__name__}")
    return simple[type(value)]


def joined(found: list[Type]) -> Type:
    """The type of a place that may hold any of these."""
    if not found:
        return DYN
    result = found[0]
    for other in found[1:]:
        result = join(result, other)
    return result


def way_out(left: Tree, right: Tree) -> str:
    """The way out of a comparison that does not compile."""
    for text, other in ((left, right), (right, left)):
        if other.type in NUMBERS and isinstance(text, tree.Constant) and text.type == STRING:
            shown = str(text.value)
            if shown.replace(".", "", 1).lstrip("-").isdigit():
                return f"write {shown[:40]} without quotes"
        if other.type == BOOL and isinstance(text, tree.Constant) and text.value in ("true", "false"):
            return f"write {text.value} without quotes"
        if text.type == NULL:
            return "a declared fact is never null; ask `has(...)` for a key of a map"
        if text.type == DURATION and other.type in NUMBERS:
            return "write duration('...') on both sides"
        if text.type in (TIMESTAMP, DURATION) and other.type == STRING:
            return f"write {text.type}(...) around the text"
        if text.type.kind == "list" and other.type not in NUMBERS:
            return "`in` looks for one value in a list"
    return ""
