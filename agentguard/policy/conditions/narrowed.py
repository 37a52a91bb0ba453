"""
Conditions of which part is known beforehand: one function that says whether any of them holds.

Of the calls of one callable much is the same: the name of the tool, the agent. What follows from that is worked
out once here, and what is left reads the other facts where they are, without a mapping between.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from agentguard.policy.conditions import nodes as n
from agentguard.policy.conditions import tree as t
from agentguard.policy.conditions.generate import Generator
from agentguard.policy.conditions.types import BOOL, INT, STRING, Type

_CALL: Final = "call"
_ARGS: Final = "args"


@dataclass(frozen=True, slots=True)
class CountedFact:
    """A fact that is sure to be an integer of 64 bits: an attribute of the call, or what a function makes of one."""

    path: tuple[str, ...]
    """Attributes from the call on, never a part of a condition."""
    function: Callable[[Any], int] | None = None


@dataclass(frozen=True, slots=True)
class FactSources:
    """Where facts come from."""

    known: Mapping[str, str]
    """Texts that are the same for each call."""
    counters: Mapping[str, CountedFact]
    others: Mapping[str, Callable[[Any], object]] = field(repr=False)
    """What reads a fact of the call. `args` is not among them: it is handed in."""


AskAny: TypeAlias = Callable[[Any, object], object]


def ask_any(
    trees: Sequence[t.Tree], sources: FactSources, *, trees_max: int
) -> tuple[AskAny | None, frozenset[str]] | None:
    """
    Make one function that says whether any condition holds.

    Args:
        trees:
            Checked conditions whose answer is a bool.
        sources:
            Of all facts that they read, but for `args`.
        trees_max:
            Conditions that may be left when all is taken out that is sure not to hold.

    Returns:
        A function of the call and its `args`, which gives False where none of the conditions holds, and anything
        else where one does, or met an error; it raises nothing; None where none can hold. With it the names of the
        facts it reads. None where more conditions are left, or facts without a source.
    """
    left = [narrowed for tree in trees if not _is(False, narrowed := narrow(tree, sources.known))]
    reads = frozenset[str]().union(*map(_facts, left))
    if len(left) > trees_max or not reads <= {"args", *sources.known, *sources.counters, *sources.others}:
        return None
    return _Narrowed(sources).any_of(left) if left else None, reads


def narrow(tree: t.Tree, known: Mapping[str, str]) -> t.Tree:
    """
    Work out what follows from the facts that are known.

    Args:
        tree:
            A checked condition, or a part of one.
        known:
            Texts by the name of the fact.

    Returns:
        A tree with the same answer where there is one; where this one meets an error it may have an answer, which
        CEL gives too: what is false beside an error in `&&` is false, and what is true in `||` is true.
    """
    match tree:
        case t.Fact(name=name) if name in known and tree.type == STRING:
            return t.Constant(tree.type, tree.start, tree.end, known[name])
        case t.Not(operand=operand):
            inner = narrow(operand, known)
            if isinstance(inner, t.Constant) and type(inner.value) is bool:
                return _truth(tree, not inner.value)
            return replace(tree, operand=inner)
        case t.Logic(operator=operator, terms=terms):
            return _logic(tree, decided=operator == "||", terms=[narrow(term, known) for term in terms])
        case t.Comparison(operator=operator, left=left, right=right):
            one, other = narrow(left, known), narrow(right, known)
            answer = _compared(operator, one, other)
            return replace(tree, left=one, right=other) if answer is None else _truth(tree, answer)
        case _:
            return tree


def _logic(tree: t.Logic, *, decided: bool, terms: list[t.Tree]) -> t.Tree:
    """`&&` or `||`, in which a term that is `decided` says all, and one that is its opposite nothing."""
    if any(_is(decided, term) for term in terms):
        return _truth(tree, decided)
    left = [term for term in terms if not _is(not decided, term)]
    if not left:
        return _truth(tree, not decided)
    if len(left) == 1:
        # What is not sure to be a bool is checked where it is a term.
        return left[0] if left[0].type == BOOL else replace(tree, terms=tuple(terms))
    return replace(tree, terms=tuple(left))


def _compared(operator: str, left: t.Tree, right: t.Tree) -> bool | None:
    """Compare texts, where both sides are known."""
    if not (isinstance(left, t.Constant) and isinstance(right, t.Constant) and type(left.value) is str):
        return None
    value = right.value
    if operator == "in" and isinstance(value, (list, tuple)) and all(type(item) is str for item in value):
        return left.value in value
    if operator in ("==", "!=") and type(value) is str:
        return (left.value == value) is (operator == "==")
    return None


def _is(value: bool, tree: t.Tree) -> bool:
    return isinstance(tree, t.Constant) and tree.value is value


def _truth(tree: t.Tree, value: bool) -> t.Tree:
    return t.Constant(BOOL, tree.start, tree.end, value)


def _facts(tree: t.Tree) -> frozenset[str]:
    """Names of the facts that a tree reads, functions that are facts included."""
    own = (
        {tree.name}
        if isinstance(tree, t.Fact) or (isinstance(tree, t.Function) and tree.run is None)
        else set()
    )
    return frozenset(own).union(*map(_facts, t.children(tree)))


class _Narrowed(Generator):
    """Makes the function."""

    def __init__(self, sources: FactSources) -> None:
        super().__init__(is_exact=False)
        self._sources = sources

    def any_of(self, trees: Sequence[t.Tree]) -> Callable[[Any, object], object]:
        """Build it."""
        parts = [self._answer(tree) for tree in trees]
        # One after the other until one holds: what those before it have read is known to each.
        found = n.BoolOp(ast.Or(), parts) if len(parts) > 1 else parts[0]
        return self._made([self._guarded([n.Return(found)], n.Constant(None))], _CALL, _ARGS)

    def _raw(self, tree: t.Tree) -> ast.expr | None:
        if not isinstance(tree, t.Fact):
            return super()._raw(tree)
        name = tree.name
        if name == "args":
            return self._get(_ARGS)
        if name in self._sources.known:
            return self._constant(self._sources.known[name])
        counter = self._sources.counters.get(name)
        if counter is None:
            return self._call(self._sources.others[name], self._get(_CALL))
        found: ast.expr = self._get(_CALL)
        for attribute in counter.path:
            found = n.Attribute(found, attribute, n.LOAD)
        return found if counter.function is None else self._call(counter.function, found)

    def _fact(self, tree: t.Tree, name: str, of: Type) -> ast.expr:
        if name in self._known or name not in self._sources.counters or of != INT:
            return super()._fact(tree, name, of)
        # Of our own numbers nothing has to be found out.
        raw = self._raw(tree)
        assert raw is not None
        self._known[name] = local = self._local()
        return self._set(local, raw)
