"""
The smallest change that turns a condition round.

Worked out on the checked tree, from what is known of the facts: which
comparisons, memberships and booleans would have to come out otherwise, and how
few of them do. It is for reviewers: a model that reads it learns to split payments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agentguard.policy._explain import compare, shorten, show
from agentguard.policy._model import Rule
from agentguard.policy._terms import INDEXED
from agentguard.policy.conditions import render_plain
from agentguard.policy.conditions import tree as t
from agentguard.values import FactSpec, Point

CHANGES_MAX = 8
"""Parts of one change; what needs more is not worked out."""

_OPPOSITE = {"==": "!=", "!=": "==", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}
_NUMBER, _TRUTH, _PART, _NAME = 1.0, 2.0, 4.0, 16.0
"""What a change costs: a number is moved more easily than a truth, and a name hardly ever."""


@dataclass(frozen=True, slots=True)
class Change:
    """One part of a condition that would have to come out otherwise."""

    text: str
    """Such as `cost.usd_today <= 50`."""
    fact: str = ""
    """Where it is about one fact or argument alone: its name."""
    operator: str = ""
    """How that would have to compare: `<=`, `==`, `in`, `not in` …"""
    value: object = None
    """With what."""
    now: object = None
    """What it is, where that is known."""
    cost: float = _PART


class _Unknown:
    """Stands for a value that is not known."""


_UNKNOWN = _Unknown()


def smallest_change(
    rule: Rule, point: Point, facts: Mapping[str, object], specs: Mapping[str, FactSpec], *, matches: bool
) -> tuple[Change, ...] | None:
    """
    Say what would have to be otherwise for a rule to match, or not to.

    Args:
        rule:
            The rule.
        point:
            Where it was asked.
        facts:
            What is known, by the names of the catalogue; single arguments may stand as
            `args.amount_usd`.
        specs:
            The catalogue, which says what text may be shown.
        matches:
            What the rule is to do after the change.

    Returns:
        The changes, all of which are needed; the fewest and the smallest. Empty: it does so now.
        None: no change of the facts does it, or more than `CHANGES_MAX` are needed.
    """
    found = _Search(rule.when, facts, specs).turn(rule.conditions[point].tree, want=matches)
    return None if found is None or len(found) > CHANGES_MAX else tuple(found)


class _Search:
    """Looks through one condition."""

    def __init__(self, source: str, facts: Mapping[str, object], specs: Mapping[str, FactSpec]) -> None:
        self._source = source
        self._facts = facts
        self._specs = specs

    def turn(self, tree: t.Tree, *, want: bool) -> list[Change] | None:
        """The changes after which a part is as wanted; None where it cannot be."""
        truth = self.truth(tree)
        if truth is want:
            return []
        match tree:
            case t.Constant():
                return None
            case t.Not(operand=operand):
                return self.turn(operand, want=not want)
            case t.Logic(operator=operator, terms=terms):
                each = [self.turn(term, want=want) for term in terms]
                return _every(each) if (operator == "&&") is want else _least(each)
            case t.Choice(test=test, yes=yes, no=no):
                return _least([
                    _every([self.turn(test, want=True), self.turn(yes, want=want)]),
                    _every([self.turn(test, want=False), self.turn(no, want=want)]),
                ])  # fmt: skip
            case t.Comparison():
                return self._comparison(tree, want=want)
            case t.Has(operand=operand, name=name):
                of = self._slice(operand)
                return [Change(f"{of} has {'a' if want else 'no'} `{name}`")]
            case t.Fact() | t.Member():
                now = self.value(tree)
                name = self._slice(tree)
                return [
                    Change(f"{name} is {'true' if want else 'false'}", self._name(tree), "==", want,
                           None if isinstance(now, _Unknown) else now, _TRUTH)
                ]  # fmt: skip
            case _:
                said = render_plain(tree if want else t.Not(tree.type, tree.start, tree.end, tree))
                return [Change(shorten(said))]

    def _comparison(self, tree: t.Comparison, *, want: bool) -> list[Change] | None:
        """Turn one comparison round, where one of its sides can move."""
        left, right, operator = tree.left, tree.right, tree.operator
        if isinstance(left, t.Constant) and isinstance(right, t.Constant):
            return None
        if isinstance(left, t.Constant) and operator != "in":
            left, right = right, left
            operator = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}.get(operator, operator)
        wanted = operator if want else "not in" if operator == "in" else _OPPOSITE[operator]
        limit = self.value(right)
        now = self.value(left)
        is_known = not isinstance(limit, _Unknown)
        if wanted in ("in", "not in") and isinstance(left, t.Constant):
            verb = "has" if wanted == "in" else "has no"
            return [
                Change(
                    f"{self._slice(right)} {verb} {self._slice(left)}", self._name(right), wanted, left.value
                )
            ]
        shown = self._shown(right, limit)
        cost = _PART
        if self._name(left) in INDEXED:
            cost = _NAME
        elif isinstance(now, (int, float)) and isinstance(limit, (int, float)) and not isinstance(now, bool):
            # A smaller step is the smaller change; every step of a number is smaller than a turned truth.
            distance = abs(now - limit)
            cost = _NUMBER + distance / (1.0 + distance + abs(float(limit)))
        elif isinstance(limit, bool):
            cost = _TRUTH
        elif left.type.kind in ("int", "double", "duration", "timestamp"):
            cost = _NUMBER + 0.9
        name = self._name(left) if is_known else ""
        known_now = None if isinstance(now, _Unknown) else now
        return [
            Change(
                f"{self._slice(left)} {wanted} {shown}",
                name,
                wanted,
                limit if is_known else None,
                known_now,
                cost,
            )
        ]

    def truth(self, tree: t.Tree) -> bool | None:
        """Whether a part holds; None where that is not known."""
        match tree:
            case t.Logic(operator=operator, terms=terms):
                truths = [self.truth(term) for term in terms]
                decisive = operator == "||"
                if decisive in truths:
                    return decisive
                return None if None in truths else not decisive
            case t.Not(operand=operand):
                inner = self.truth(operand)
                return None if inner is None else not inner
            case t.Choice(test=test, yes=yes, no=no):
                chosen = self.truth(test)
                return None if chosen is None else self.truth(yes if chosen else no)
            case t.Comparison(operator=operator, left=left, right=right):
                return compare(operator, self.value(left), self.value(right))
            case _:
                value = self.value(tree)
                return value if isinstance(value, bool) else None

    def value(self, tree: t.Tree) -> object:
        """What a part is worth, or that it is not known."""
        match tree:
            case t.Constant(value=value):
                return value
            case t.Fact(name=name):
                return self._get(name)
            case t.Negative(operand=operand):
                inner = self.value(operand)
                return -inner if _is_number(inner) else _UNKNOWN  # type: ignore[operator]
            case t.Arithmetic(operator=operator, left=left, right=right) if operator in "+-*":
                a, b = self.value(left), self.value(right)
                if not (_is_number(a) and _is_number(b)):
                    return _UNKNOWN
                return {"+": a + b, "-": a - b, "*": a * b}[operator]  # type: ignore[operator]
            case t.Member():
                name = self._name(tree)
                known = self._get(name) if name else _UNKNOWN
                if not isinstance(known, _Unknown):
                    return known
                of, key = self.value(tree.operand), self.value(tree.key)
                if isinstance(of, Mapping) and isinstance(key, str) and key in of:
                    return of[key]
        return _UNKNOWN

    def _get(self, name: str) -> object:
        try:
            return self._facts[name]
        except Exception:
            # Missing, or failing while it is computed: then nothing is known of it.
            return _UNKNOWN

    @staticmethod
    def _name(tree: t.Tree) -> str:
        """The fact, or the single argument, that a part is."""
        if isinstance(tree, t.Fact):
            return tree.name
        if (
            isinstance(tree, t.Member)
            and isinstance(tree.operand, t.Fact)
            and isinstance(tree.key, t.Constant)
        ):
            return f"{tree.operand.name}.{tree.key.value}"
        return ""

    def _shown(self, tree: t.Tree, value: object) -> str:
        """One side of a comparison, as a reviewer may read it."""
        if isinstance(tree, t.Constant):
            return show(tree.value, is_plain=True)
        spec = self._specs.get(tree.name) if isinstance(tree, t.Fact) else None
        if isinstance(value, _Unknown) or (isinstance(value, str) and not (spec and spec.is_plain)):
            return self._slice(tree)
        return f"{self._slice(tree)} ({show(value, is_plain=True)})"

    def _slice(self, tree: t.Tree) -> str:
        """The author's own words."""
        return shorten(self._source[tree.start : tree.end])


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _every(parts: Iterable[list[Change] | None]) -> list[Change] | None:
    """All of several; None where one of them cannot be."""
    found: dict[str, Change] = {}
    for part in parts:
        if part is None:
            return None
        found.update({change.text: change for change in part})
    return list(found.values())


def _least(parts: Iterable[list[Change] | None]) -> list[Change] | None:
    """The cheapest of several that can be."""
    possible = [part for part in parts if part is not None]
    return min(possible, key=lambda part: sum(change.cost for change in part), default=None)
