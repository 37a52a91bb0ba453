"""
The checked tree of a condition: every name resolved, every part typed.

Code generator, English rendering and explanation read this tree. Instances are
immutable. `is_raw` says that the value, or something inside it, comes from
facts as they were handed in and is checked where it is read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agentguard.policy.conditions.types import Type


@dataclass(frozen=True, slots=True)
class Tree:
    """Any part of a checked condition."""

    type: Type
    start: int
    """Characters before it in the source."""
    end: int
    """Behind its last character."""


@dataclass(frozen=True, slots=True)
class Constant(Tree):
    """A literal, or a constant of the document; lists and dicts are never changed."""

    value: object
    label: str = ""
    """The name under which the document has it, such as `vars.cap_usd`, or empty."""


@dataclass(frozen=True, slots=True)
class Fact(Tree):
    """A declared fact, read from the mapping by its full name."""

    name: str


@dataclass(frozen=True, slots=True)
class Variable(Tree):
    """The variable of the macro around it."""

    name: str
    slot: int
    """Tells variables of the same name apart."""
    is_raw: bool


@dataclass(frozen=True, slots=True)
class Member(Tree):
    """`operand.name` or `operand['name']`, of a map."""

    operand: Tree
    key: Tree
    is_raw: bool


@dataclass(frozen=True, slots=True)
class Item(Tree):
    """`operand[number]`, of a list."""

    operand: Tree
    key: Tree
    is_raw: bool


@dataclass(frozen=True, slots=True)
class Has(Tree):
    """`has(operand.name)`: whether a map has the key."""

    operand: Tree
    name: str


@dataclass(frozen=True, slots=True)
class ListOf(Tree):
    """A list that is put together when the condition runs."""

    items: tuple[Tree, ...]
    is_raw: bool


@dataclass(frozen=True, slots=True)
class MapOf(Tree):
    """A map that is put together when the condition runs."""

    entries: tuple[tuple[Tree, Tree], ...]
    is_raw: bool


@dataclass(frozen=True, slots=True)
class Not(Tree):
    """`!operand`."""

    operand: Tree


@dataclass(frozen=True, slots=True)
class Negative(Tree):
    """`-operand`."""

    operand: Tree


@dataclass(frozen=True, slots=True)
class Comparison(Tree):
    """`==`, `!=`, `<`, `<=`, `>`, `>=` or `in`."""

    operator: str
    left: Tree
    right: Tree


@dataclass(frozen=True, slots=True)
class Arithmetic(Tree):
    """`+`, `-`, `*`, `/` or `%`."""

    operator: str
    left: Tree
    right: Tree
    is_raw: bool


@dataclass(frozen=True, slots=True)
class Logic(Tree):
    """`&&` or `||` over two terms or more."""

    operator: str
    terms: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class Choice(Tree):
    """`test ? yes : no`."""

    test: Tree
    yes: Tree
    no: Tree
    is_raw: bool


@dataclass(frozen=True, slots=True)
class Loop(Tree):
    """
    A macro over the items of a list, or the keys of a map.

    `kind` is exists, all, exists_one, filter or map; `test` is None for a map
    of two arguments, `result` is None for all but map.
    """

    kind: str
    source: Tree
    variable: Variable
    test: Tree | None
    result: Tree | None
    is_raw: bool


@dataclass(frozen=True, slots=True)
class Function(Tree):
    """A function of the language, with its arguments; a method has its target first."""

    name: str
    args: tuple[Tree, ...]
    is_method: bool
    run: Callable[..., object] | None
    """What to call; None: the callable is itself a fact, under `name`."""
    extra: tuple[object, ...] = ()
    """Further arguments, made ready at compile: a pattern, a time zone."""
    is_raw: bool = False
    is_declared: bool = False
    """Whether the application brings it, so that its answer is checked."""
    literal: int = -1
    """The argument that was made ready at compile and stands in `extra`; -1: none."""


def is_raw(tree: Tree) -> bool:
    """Whether the value may hold unchecked data from facts inside; a scalar is checked when it is read."""
    if tree.type.kind not in ("list", "map", "dyn"):
        return False
    return isinstance(tree, Fact) or bool(getattr(tree, "is_raw", False))


def children(tree: Tree) -> tuple[Tree, ...]:
    """The parts of a tree, in the order of the source."""
    match tree:
        case Member(operand=operand, key=key) | Item(operand=operand, key=key):
            return (operand, key)
        case Has(operand=operand) | Not(operand=operand) | Negative(operand=operand):
            return (operand,)
        case ListOf(items=items):
            return items
        case MapOf(entries=entries):
            return tuple(part for entry in entries for part in entry)
        case Comparison(left=left, right=right) | Arithmetic(left=left, right=right):
            return (left, right)
        case Logic(terms=terms):
            return terms
        case Choice(test=test, yes=yes, no=no):
            return (test, yes, no)
        case Loop(source=source, test=loop_test, result=result):
            return tuple(part for part in (source, loop_test, result) if part is not None)
        case Function(args=args):
            return args
        case _:
            return ()
