"""
Types of conditions, and how they go together.

`dyn` stands for a value whose type is known at run time only: it goes together
with everything, and is checked when the condition runs.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple


class Type(NamedTuple):
    """One type; `params` are the element of a list, or key and value of a map."""

    kind: str
    params: tuple[Type, ...] = ()

    def __str__(self) -> str:
        """In the notation of schemas, such as `list<string>`."""
        return f"{self.kind}<{', '.join(map(str, self.params))}>" if self.params else self.kind


INT: Final = Type("int")
DOUBLE: Final = Type("double")
STRING: Final = Type("string")
BOOL: Final = Type("bool")
BYTES: Final = Type("bytes")
NULL: Final = Type("null")
DYN: Final = Type("dyn")
TIMESTAMP: Final = Type("timestamp")
DURATION: Final = Type("duration")

_SIMPLE: Final = {t.kind: t for t in (INT, DOUBLE, STRING, BOOL, BYTES, NULL, DYN, TIMESTAMP, DURATION)}
NUMBERS: Final = frozenset((INT, DOUBLE))
ORDERED: Final = frozenset((INT, DOUBLE, STRING, BOOL, BYTES, TIMESTAMP, DURATION))
KEYS: Final = frozenset((STRING, INT, BOOL, DYN))
_TYPE_CHARS_MAX: Final = 200
_TYPE_DEPTH_MAX: Final = 8
_WORD = re.compile(r"\s*([a-z]+|[<>,])")


def list_of(element: Type) -> Type:
    """The type of lists of *element*."""
    return Type("list", (element,))


def map_of(key: Type, value: Type) -> Type:
    """The type of maps from *key* to *value*."""
    return Type("map", (key, value))


@lru_cache(maxsize=1024)
def parse_type(text: str) -> Type:
    """
    Read a type in the notation of schemas.

    Args:
        text:
            Such as `int`, `list<string>`, `map<string, dyn>`; `list` and `map`
            alone hold `dyn`.

    Raises:
        ValueError: It is no such type.

    Example:
        >>> str(parse_type("map<string,list<int>>"))
        'map<string, list<int>>'
    """
    if len(text) > _TYPE_CHARS_MAX:
        raise ValueError("a type longer than any")
    words: list[str] = []
    at, stripped = 0, text.rstrip()
    while at < len(stripped):
        found = _WORD.match(stripped, at)
        if found is None:
            raise ValueError(f"`{text}` is no type")
        words.append(found.group(1))
        at = found.end()
    result, rest = _parse(words, text, 0)
    if rest:
        raise ValueError(f"`{text}` is no type")
    return result


def _parse(words: list[str], text: str, depth: int) -> tuple[Type, list[str]]:
    if not words or depth > _TYPE_DEPTH_MAX:
        raise ValueError(f"`{text}` is no type")
    head, rest = words[0], words[1:]
    if head in _SIMPLE:
        return _SIMPLE[head], rest
    count = {"list": 1, "map": 2}.get(head)
    if count is None:
        raise ValueError(f"`{text}` is no type, expected {', '.join(_SIMPLE)}, list<T> or map<K, V>")
    if not rest or rest[0] != "<":
        return (list_of(DYN) if count == 1 else map_of(DYN, DYN)), rest
    params: list[Type] = []
    for number in range(count):
        if not rest or rest[0] != ("," if number else "<"):
            raise ValueError(f"`{text}` is no type")
        param, rest = _parse(rest[1:], text, depth + 1)
        params.append(param)
    if not rest or rest[0] != ">":
        raise ValueError(f"`{text}` is no type")
    if head == "map" and params[0] not in KEYS:
        raise ValueError(f"`{text}`: the keys of a map are string, int or bool")
    return Type(head, tuple(params)), rest[1:]


def goes_with(left: Type, right: Type) -> bool:
    """Whether a value of one type may stand where the other is asked for."""
    if left is DYN or right is DYN or DYN in (left, right):
        return True
    if left.kind != right.kind:
        return False
    return all(goes_with(a, b) for a, b in zip(left.params, right.params, strict=True))


def join(left: Type, right: Type) -> Type:
    """The type of a place that may hold either; `dyn` where they differ."""
    if left == right:
        return left
    if left.kind == right.kind and left.params:
        return Type(left.kind, tuple(join(a, b) for a, b in zip(left.params, right.params, strict=True)))
    return DYN


def comparable(left: Type, right: Type) -> bool:
    """Whether `==` compiles: the same type, `dyn`, or two numbers."""
    return goes_with(left, right) or (left in NUMBERS and right in NUMBERS)


def with_article(type_: Type) -> str:
    """`an int`, `a string`: for messages."""
    return f"{'an' if type_.kind[0] in 'aeiou' else 'a'} {type_}"
