"""
What a condition says about names, so that a rule is only asked where it could match.

A rule with `tool.name == 'sql' && ...` can only match calls of that tool: in
the language an `&&` with a false term is false, whatever the other terms do,
errors included. So leaving the rule out for other tools changes no answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agentguard.policy.conditions import tree as t

INDEXED = ("tool.name", "agent.name", "model.name", "env.name")
"""Facts by which rules are found."""


@dataclass(frozen=True, slots=True)
class Terms:
    """For each fact that is pinned down, the only values with which the condition can hold."""

    names: Mapping[str, frozenset[str]]
    is_whole: bool
    """The condition holds exactly where all of these hold: it need not be run."""

    @property
    def is_never(self) -> bool:
        """Whether no value is left for one of the facts."""
        return any(not values for values in self.names.values())


_NOTHING = Terms({}, is_whole=False)
_ALWAYS = Terms({}, is_whole=True)


def terms_of(tree: t.Tree) -> Terms:
    """
    Read what a condition says about names.

    Args:
        tree:
            Of the checked condition, or a part of it.

    Returns:
        What must hold at least; `is_never` where that cannot be.
    """
    match tree:
        case t.Constant(value=True):
            return _ALWAYS
        case t.Constant(value=False):
            return Terms({"": frozenset()}, is_whole=True)
        case (
            t.Comparison(operator="==", left=t.Fact(name=name), right=t.Constant(value=str(value)))
            | t.Comparison(operator="==", left=t.Constant(value=str(value)), right=t.Fact(name=name))
        ) if name in INDEXED:
            return Terms({name: frozenset((value,))}, is_whole=True)
        case t.Comparison(operator="in", left=t.Fact(name=name), right=right) if name in INDEXED:
            values = _texts(right)
            return _NOTHING if values is None else Terms({name: values}, is_whole=True)
        case t.Logic(operator="&&", terms=parts):
            return _all([terms_of(part) for part in parts])
        case t.Logic(operator="||", terms=parts):
            return _any([terms_of(part) for part in parts])
        case _:
            return _NOTHING


def _texts(tree: t.Tree) -> frozenset[str] | None:
    """The texts of a constant list, or None."""
    if isinstance(tree, t.Constant) and isinstance(tree.value, (list, tuple)):
        values = list(tree.value)
    elif isinstance(tree, t.ListOf) and all(isinstance(item, t.Constant) for item in tree.items):
        values = [item.value for item in tree.items if isinstance(item, t.Constant)]
    else:
        return None
    return frozenset(values) if all(isinstance(value, str) for value in values) else None


def _all(parts: list[Terms]) -> Terms:
    """Every part must hold."""
    names: dict[str, frozenset[str]] = {}
    for part in parts:
        for name, values in part.names.items():
            names[name] = names[name] & values if name in names else values
    return Terms(names, is_whole=all(part.is_whole for part in parts))


def _any(parts: list[Terms]) -> Terms:
    """One part must hold: only what every part pins down is pinned down."""
    live = [part for part in parts if not part.is_never]
    if not live:
        return Terms({"": frozenset()}, is_whole=all(part.is_whole for part in parts))
    shared = set(live[0].names).intersection(*(part.names for part in live[1:]))
    names = {name: frozenset().union(*(part.names[name] for part in live)) for name in shared}
    same_one = len(shared) <= 1 and all(set(part.names) == shared for part in live)
    return Terms(names, is_whole=same_one and all(part.is_whole for part in parts))
