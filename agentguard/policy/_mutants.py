"""
Rules changed in one place: what test cases must notice.

The changes are made in the checked tree, so every mutant is a rule that would
load. A mutant that no case tells from the rule shows what is not tested.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

from agentguard.policy._bundle import Bundle
from agentguard.policy._model import Action, Place, Policy, Rule
from agentguard.policy.conditions import Condition
from agentguard.policy.conditions import tree as t
from agentguard.values import DenialKind, Effect, Mode

RULE_MUTANTS_MAX = 500
"""Mutants of one rule; a condition of thousands of parts is judged by its first ones."""

_STEP = 0.01
"""Share by which a limit that is no whole number is moved."""

_FLIPS = {
    "==": ("!=",),
    "!=": ("==",),
    "<": ("<=", ">="),
    "<=": ("<", ">"),
    ">": (">=", "<="),
    ">=": (">", "<"),
}


class Mutant(NamedTuple):
    """One change of one rule or default."""

    policy: str
    rule_id: str
    """Empty: the default of the document."""
    what: str
    """Such as `> as >=`."""
    place: Place
    bundle: Bundle
    """All documents, with this one change, and the tests."""


def mutants(bundle: Bundle) -> Iterator[Mutant]:
    """
    Change every rule in every way, one at a time.

    Operators are flipped, limits moved, terms of `&&` and `||` dropped, negations taken away,
    effects exchanged, rules left out of force, and `unmatched` turned round.

    Args:
        bundle:
            With its tests.

    Yields:
        One bundle for each change.
    """
    for index, policy in enumerate(bundle.policies):
        for field in ("rules", "budgets"):
            rules: tuple[Rule, ...] = getattr(policy, field)
            for number, rule in enumerate(rules):
                for count, (what, changed) in enumerate(_of_rule(rule)):
                    if count >= RULE_MUTANTS_MAX:
                        break
                    put = (*rules[:number], changed, *rules[number + 1 :])
                    yield Mutant(
                        policy.name, rule.id, what, rule.place,
                        _with(bundle, index, _put_rules(policy, field, put)),
                    )  # fmt: skip
        for point, may in policy.unmatched.items():
            turned = dataclasses.replace(policy, unmatched={**policy.unmatched, point: not may})
            if any(point in rule.points for rule in policy.rules):
                what = f"unmatched {point.partition('.')[0]}: {'allow' if may else 'deny'} turned round"
                yield Mutant(policy.name, "", what, policy.place, _with(bundle, index, turned))


def _put_rules(policy: Policy, field: str, rules: tuple[Rule, ...]) -> Policy:
    """The document with other rules, or other budgets."""
    changed: Any = {field: rules}
    return dataclasses.replace(policy, **changed)


def _with(bundle: Bundle, index: int, policy: Policy) -> Bundle:
    """The bundle with another document in one place."""
    return dataclasses.replace(
        bundle, policies=(*bundle.policies[:index], policy, *bundle.policies[index + 1 :])
    )


def _of_rule(rule: Rule) -> Iterator[tuple[str, Rule]]:
    """Every change of one rule."""
    for what, action in _actions(rule.action):
        yield what, dataclasses.replace(rule, action=action)
    if rule.mode is Mode.ENFORCE and rule.effect is not Effect.WARN:
        yield "enforce as shadow", dataclasses.replace(rule, mode=Mode.SHADOW)
    for point, condition in rule.conditions.items():
        where = f" at {point}" if len(rule.conditions) > 1 else ""
        for what, tree in _trees(condition.tree, rule.when):
            changed = Condition(tree, source=condition.source, where=condition.where, is_bool=True)
            yield f"{what}{where}", dataclasses.replace(rule, conditions={**rule.conditions, point: changed})


def _actions(action: Action) -> Iterator[tuple[str, Action]]:
    """Every other effect that a slip might have written."""
    warns = Action(Effect.WARN)
    denies = Action(Effect.DENY, DenialKind.FORBIDDEN)
    if action.effect is Effect.WARN:
        yield "warn as deny", denies
    elif action.effect is Effect.ALLOW:
        yield "allow as deny", denies
    elif action.effect is Effect.REDACT:
        yield "redact as warn", warns
        for kind in action.redact if len(action.redact) > 1 else ():
            kept = tuple(one for one in action.redact if one != kind)
            yield f"redact without {kind}", dataclasses.replace(action, redact=kept)
    else:
        yield f"{action.effect} as warn", warns
        if action.effect is Effect.REQUIRE_APPROVAL:
            yield "require_approval as deny", denies
    limit: Any = action.limit
    if limit is not None and "limit" in limit._fields:
        step = max(1, round(limit.limit * _STEP))
        for moved in (limit.limit + step, limit.limit - step):
            if moved > 0:
                yield (
                    f"limit {limit.limit} as {moved}",
                    dataclasses.replace(action, limit=limit._replace(limit=moved)),
                )


def _trees(tree: t.Tree, source: str) -> Iterator[tuple[str, t.Tree]]:
    """Every change of a part of a condition, each in a copy of the whole."""
    match tree:
        case t.Logic(operator=operator, terms=terms):
            other = "||" if operator == "&&" else "&&"
            yield f"{operator} as {other}", dataclasses.replace(tree, operator=other)
            for index, term in enumerate(terms):
                rest = (*terms[:index], *terms[index + 1 :])
                what = f"without `{_slice(source, term)}`"
                yield what, rest[0] if len(rest) == 1 else dataclasses.replace(tree, terms=rest)
        case t.Not(operand=operand):
            yield f"`{_slice(source, operand)}` not negated", operand
        case t.Comparison(operator="in"):
            yield "in as not in", t.Not(tree.type, tree.start, tree.end, tree)
            yield from _misspelt(tree)
        case t.Comparison(operator=operator):
            for flipped in _FLIPS[operator]:
                yield f"{operator} as {flipped}", dataclasses.replace(tree, operator=flipped)
            yield from _moved(tree) if operator in ("<", "<=", ">", ">=") else _misspelt(tree)
        case t.Loop(kind="exists" | "all" as kind):
            yield (
                f"{kind} as the other",
                dataclasses.replace(tree, kind="all" if kind == "exists" else "exists"),
            )
        case t.Choice(yes=yes, no=no):
            yield "? : exchanged", dataclasses.replace(tree, yes=no, no=yes)
        case t.Constant(value=bool(value)):
            yield f"{str(value).lower()} turned round", dataclasses.replace(tree, value=not value)
    for name, index, part in _parts(tree):
        for what, changed in _trees(part, source):
            yield what, _put(tree, name, index, changed)


def _moved(tree: t.Comparison) -> Iterator[tuple[str, t.Tree]]:
    """A comparison with its limit moved both ways."""
    for side in ("left", "right"):
        limit = getattr(tree, side)
        if not isinstance(limit, t.Constant) or isinstance(limit.value, bool):
            continue
        step: float
        if isinstance(limit.value, int):
            step = max(1, round(abs(limit.value) * _STEP))
        elif isinstance(limit.value, float):
            step = abs(limit.value) * _STEP or _STEP
        else:
            continue
        for moved in (limit.value + step, limit.value - step):
            what = f"{limit.label or f'{limit.value:g}'} as {moved:g}"
            changed: Any = {side: dataclasses.replace(limit, value=moved)}
            yield what, dataclasses.replace(tree, **changed)


def _misspelt(tree: t.Comparison) -> Iterator[tuple[str, t.Tree]]:
    """A comparison with a text that has one letter more; of a list the first."""
    for side in ("left", "right"):
        part = getattr(tree, side)
        if not isinstance(part, t.Constant):
            continue
        value = part.value
        rest: list[object] = []
        if isinstance(value, (list, tuple)) and value:
            value, *rest = value
        if not isinstance(value, str):
            continue
        wrong = f"{value}x"
        changed: Any = {
            side: dataclasses.replace(part, value=wrong if value is part.value else [wrong, *rest])
        }
        yield f"'{value}' as '{wrong}'", dataclasses.replace(tree, **changed)


def _parts(tree: t.Tree) -> Iterator[tuple[str, int, t.Tree]]:
    """The parts of a tree that may hold something to change: field, place in it or -1, part."""
    for field in dataclasses.fields(tree):
        value = getattr(tree, field.name)
        if isinstance(value, t.Tree) and not isinstance(value, t.Variable):
            yield field.name, -1, value
        elif isinstance(value, tuple) and value and all(isinstance(part, t.Tree) for part in value):
            for index, part in enumerate(value):
                yield field.name, index, part


def _put(tree: t.Tree, name: str, index: int, part: t.Tree) -> t.Tree:
    """A copy of a tree with one part exchanged."""
    old = getattr(tree, name)
    changed: Any = {name: part if index < 0 else (*old[:index], part, *old[index + 1 :])}
    return dataclasses.replace(tree, **changed)


def _slice(source: str, tree: t.Tree) -> str:
    """The author's own words, short."""
    text = " ".join(source[tree.start : tree.end].split())
    return text if len(text) <= 60 else f"{text[:60]}…"
