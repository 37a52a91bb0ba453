"""
What the parser gives: the source as a tree, names and types not yet looked up.

Offsets count characters of the source from 0. `at` is where a reader looks:
the operator of a comparison, the first character of anything else.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Node:
    """Any part of a source."""

    at: int
    start: int
    """The first character of the whole part."""
    end: int
    """Behind its last character."""


@dataclass(frozen=True, slots=True)
class Literal(Node):
    """A number, text, bytes, true, false or null."""

    value: object


@dataclass(frozen=True, slots=True)
class Name(Node):
    """A word that stands for a fact, or for the variable of a macro."""

    name: str


@dataclass(frozen=True, slots=True)
class Select(Node):
    """`operand.field`."""

    operand: Node
    field: str


@dataclass(frozen=True, slots=True)
class Index(Node):
    """`operand[key]`."""

    operand: Node
    key: Node


@dataclass(frozen=True, slots=True)
class Call(Node):
    """`function(args)`, or `target.function(args)`."""

    function: str
    target: Node | None
    args: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class ListNode(Node):
    """`[a, b]`."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class MapNode(Node):
    """`{k: v}`."""

    entries: tuple[tuple[Node, Node], ...]


@dataclass(frozen=True, slots=True)
class Unary(Node):
    """`!a` or `-a`."""

    operator: str
    operand: Node


@dataclass(frozen=True, slots=True)
class Binary(Node):
    """A comparison, `in`, or arithmetic."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Logic(Node):
    """`a && b && c` or `a || b`: two terms or more, left to right."""

    operator: str
    terms: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Conditional(Node):
    """`test ? yes : no`."""

    test: Node
    yes: Node
    no: Node


@dataclass(frozen=True, slots=True)
class Broken(Node):
    """A part that could not be read; its problem is noted, nothing more is said of it."""
