"""
Say why a rule matched: its condition, with the values that it read.

The tree is walked a second time, only for decisions that act. Values stand for
themselves where they are numbers, booleans, or texts that the catalogue calls
plain; what a model or a person wrote is only described.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from agentguard.policy._plan import Asked
from agentguard.policy._terms import INDEXED
from agentguard.policy.conditions import tree as t
from agentguard.values import FactSpec, Point

PARTS_MAX = 12
"""Comparisons that one explanation shows."""

_LIST_ITEMS_MAX = 20
_OPPOSITE = {"==": "!=", "!=": "==", "<": ">=", "<=": ">", ">": "<=", ">=": "<", "in": "not in"}
_TEXT_CHARACTERS_MAX = 200


class _Unknown:
    """Stands for a value that the explanation does not work out."""


_UNKNOWN = _Unknown()


def explain(asked: Asked, point: Point, facts: Mapping[str, object], specs: Mapping[str, FactSpec]) -> str:
    """
    Put one rule that matched into words, for a reviewer.

    Args:
        asked:
            The rule.
        point:
            Where.
        facts:
            What it read.
        specs:
            The catalogue, which says what text is plain.

    Returns:
        Such as `FIN-001 (Stop SQL once ...): tool.name 'sql'; cost.usd_today 51.20 > 50`.
    """
    rule = asked.rule
    condition = rule.conditions[point]
    try:
        parts = _Words(rule.when, facts, specs).parts(condition.tree)
    except Exception:
        # The decision stands; only its words are missing. They must never change it.
        parts = [shorten(rule.when)]
    shown = "; ".join(parts[:PARTS_MAX]) or shorten(rule.when)
    return f"{rule.id} ({rule.title}): {shown}"


def values_read(
    acting: Iterable[Asked], point: Point, facts: Mapping[str, object], specs: Mapping[str, FactSpec]
) -> dict[str, object]:
    """
    Gather what the acting rules read, for the decision log.

    Args:
        acting:
            Rules that restricted, or would have.
        point:
            Where.
        facts:
            Their values.
        specs:
            The catalogue.

    Returns:
        Numbers and booleans by name of the fact, and texts where they are plain. Arguments have
        their own names, such as `args.amount_usd`; their texts are left out.
    """
    found: dict[str, object] = {}
    for asked in acting:
        condition = asked.rule.conditions[point]
        for name in sorted(condition.reads):
            if name == "args":
                continue
            value = _get(facts, name)
            spec = specs.get(name)
            if isinstance(value, (bool, int, float)) or (
                spec is not None and spec.is_plain and _is_text(value)
            ):
                found[name] = list(value) if isinstance(value, (list, tuple)) else value
        args = _get(facts, "args")
        if isinstance(args, Mapping):
            for key in sorted(condition.arg_keys):
                value = args.get(key)
                if isinstance(value, (bool, int, float)):
                    found[f"args.{key}"] = value
    return found


class _Words:
    """Renders the parts of one condition that made it true."""

    def __init__(self, source: str, facts: Mapping[str, object], specs: Mapping[str, FactSpec]) -> None:
        self._source = source
        self._facts = facts
        self._specs = specs

    def parts(self, tree: t.Tree) -> list[str]:
        """The terms that held, each with its values."""
        if isinstance(tree, t.Logic):
            if tree.operator == "&&":
                parts = [part for term in tree.terms for part in self.parts(term)]
                names = [part for part in parts if part.startswith(INDEXED)]
                return [part for part in parts if part not in names] or names
            held = [term for term in tree.terms if self._truth(term) is not False]
            return [part for term in held or tree.terms for part in self.parts(term)]
        if isinstance(tree, t.Not) and isinstance(tree.operand, t.Comparison):
            inner = tree.operand
            return [
                f"{self._side(inner.left)} {_OPPOSITE[inner.operator]} {self._side(inner.right, is_limit=True)}"
            ]
        if isinstance(tree, t.Comparison):
            return [f"{self._side(tree.left)} {tree.operator} {self._side(tree.right, is_limit=True)}"]
        return [self._slice(tree)]

    def _side(self, tree: t.Tree, *, is_limit: bool = False) -> str:
        """One side of a comparison: its name and its value."""
        if isinstance(tree, t.Constant):
            shown = show(tree.value, is_plain=True)
            return f"{tree.label} ({shown})" if tree.label else shown
        value = self._value(tree)
        if isinstance(value, _Unknown):
            return self._slice(tree)
        name = self._slice(tree)
        is_plain = isinstance(tree, t.Fact) and tree.name in self._specs and self._specs[tree.name].is_plain
        shown = show(value, is_plain=is_plain, is_money="usd" in name)
        return f"{name} ({shown})" if is_limit else f"{name} {shown}"

    def _value(self, tree: t.Tree) -> object:
        """Work out a fact, a member of one, or a constant."""
        if isinstance(tree, t.Constant):
            return tree.value
        if isinstance(tree, t.Fact):
            return _get(self._facts, tree.name)
        if isinstance(tree, t.Member):
            operand = self._value(tree.operand)
            key = self._value(tree.key)
            if isinstance(operand, Mapping) and isinstance(key, str) and key in operand:
                return operand[key]
        return _UNKNOWN

    def _truth(self, tree: t.Tree) -> bool | None:
        """Whether a term held; None where that is not worked out here."""
        if isinstance(tree, t.Logic):
            truths = [self._truth(term) for term in tree.terms]
            if tree.operator == "&&":
                return False if False in truths else None if None in truths else True
            return True if True in truths else None if None in truths else False
        if isinstance(tree, t.Not):
            inner = self._truth(tree.operand)
            return None if inner is None else not inner
        if isinstance(tree, t.Comparison):
            return compare(tree.operator, self._value(tree.left), self._value(tree.right))
        value = self._value(tree)
        return value if isinstance(value, bool) else None

    def _slice(self, tree: t.Tree) -> str:
        """The author's own words."""
        return shorten(self._source[tree.start : tree.end])


def compare(operator: str, left: object, right: object) -> bool | None:
    """Compare plain values; None where they are not plain."""
    plain = (str, bool, int, float)
    if operator == "in":
        return left in right if isinstance(left, plain) and isinstance(right, (list, tuple)) else None
    if not (isinstance(left, plain) and isinstance(right, plain)):
        return None
    if operator in ("==", "!="):
        return (left == right) is (operator == "==")
    if isinstance(left, str) != isinstance(right, str):
        return None
    less, equal = left < right, left == right  # type: ignore[operator]
    return {"<": less, "<=": less or equal, ">": not (less or equal), ">=": not less}[operator]


def _get(facts: Mapping[str, object], name: str) -> object:
    """A fact, or that it is not known."""
    try:
        return facts[name]
    except Exception:
        # Missing, or failing while it is computed: the rule has been judged already.
        return _UNKNOWN


def _is_text(value: object) -> bool:
    """A text, or a list of texts."""
    return isinstance(value, str) or (
        isinstance(value, (list, tuple))
        and len(value) <= _LIST_ITEMS_MAX
        and all(isinstance(v, str) for v in value)
    )


def show(value: object, *, is_plain: bool, is_money: bool = False) -> str:
    """Write a value for a reader."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if abs(value) < 10**18 else f"{value:.3e}"
    if isinstance(value, float):
        if is_money and round(value, 2) == value:
            return f"{value:.2f}"
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    if value is None:
        return "null"
    if isinstance(value, str):
        return f"'{shorten(value, 60)}'" if is_plain else f"<text of {len(value)} characters>"
    if isinstance(value, (list, tuple)):
        if is_plain and len(value) <= _LIST_ITEMS_MAX:
            return "[" + ", ".join(show(item, is_plain=True) for item in value) + "]"
        return f"<list of {len(value)}>"
    return f"<{type(value).__name__}>"


def shorten(text: str, characters_max: int = _TEXT_CHARACTERS_MAX) -> str:
    """One line, not too long, without what could confuse a terminal."""
    line = "".join(c if c.isprintable() else "·" for c in " ".join(text.split()))
    return line if len(line) <= characters_max else f"{line[:characters_max]}…"
