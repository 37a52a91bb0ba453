"""
A condition in English, from its checked tree.

What is said comes from the tree alone, never from a title or a comment, so that
a reviewer reads what is enforced.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from agentguard.policy.conditions import times
from agentguard.policy.conditions import tree as t
from agentguard.policy.conditions.types import BOOL, DYN

_RELATIONS: Final = {
    "==": "is",
    "!=": "is not",
    "<": "is less than",
    "<=": "is at most",
    ">": "is greater than",
    ">=": "is at least",
}
_TIME_RELATIONS: Final = {"<": "is before", "<=": "is not after", ">": "is after", ">=": "is not before"}
_NEGATED: Final = {"==": "!=", "!=": "==", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}
_TESTS: Final = {
    "startsWith": ("begins with", "does not begin with"),
    "endsWith": ("ends with", "does not end with"),
    "contains": ("contains", "does not contain"),
    "matches": ("matches the pattern", "does not match the pattern"),
    "glob": ("fits", "does not fit"),
    "cidr": ("lies in the network", "does not lie in the network"),
}
_CALLS: Final = {
    "size": "the length of {}",
    "lowerAscii": "{} in lower case",
    "upperAscii": "{} in upper case",
    "trim": "{} without outer spaces",
    "int": "{} as an integer",
    "double": "{} as a number",
    "string": "{} as text",
    "bytes": "{} as bytes",
    "timestamp": "the time {}",
    "duration": "the duration {}",
    "dyn": "{}",
    "getFullYear": "the year of {}",
    "getMonth": "the month of {} (January is 0)",
    "getDate": "the day of the month of {}",
    "getDayOfMonth": "the day of the month of {} (the first is 0)",
    "getDayOfWeek": "the weekday of {} (Sunday is 0)",
    "getDayOfYear": "the day of the year of {} (the first is 0)",
    "getHours": "the hours of {}",
    "getMinutes": "the minutes of {}",
    "getSeconds": "the seconds of {}",
    "getMilliseconds": "the milliseconds of {}",
}
_WORDS: Final = {"+": "plus", "-": "minus", "*": "times", "/": "divided by", "%": "modulo"}
_LOOPS: Final = {
    "exists": "some {} of {} has: {}",
    "all": "every {} of {} has: {}",
    "exists_one": "exactly one {} of {} has: {}",
}


def render_plain(tree: t.Tree) -> str:
    """
    Say in English what a condition asks.

    Returns:
        One sentence without its full stop. Brackets stand wherever `and` and
        `or` meet, so that it can be read in one way only.

    Example:
        >>> from agentguard.policy.conditions import Condition
        >>> source = "tool.name == 'sql' && !(cost.usd_today <= 50)"
        >>> schema = {"tool.name": "string", "cost.usd_today": "double"}
        >>> render_plain(Condition.compile(source, schema).tree)
        'tool.name is "sql" and cost.usd_today is greater than 50'
    """
    return _say(tree) if tree.type in (BOOL, DYN) else _value(tree)


def _say(tree: t.Tree, *, negated: bool = False) -> str:
    """A part that is true or false."""
    match tree:
        case t.Not(operand=operand):
            return _say(operand, negated=not negated)
        case t.Logic(operator=operator, terms=terms):
            if negated:
                return f"not ({_say(tree)})"
            word = " and " if operator == "&&" else " or "
            return word.join(
                f"({_say(x)})" if isinstance(x, t.Logic | t.Choice | t.Loop) else _say(x) for x in terms
            )
        case t.Comparison():
            return _comparison(tree, negated=negated)
        case t.Has(operand=operand, name=name):
            return f"{_value(operand)} has {'no ' if negated else ''}{name}"
        case t.Loop(kind=kind) if kind in _LOOPS and tree.test is not None:
            said = _LOOPS[kind].format(_item(tree), _value(tree.source), _say(tree.test))
            return f"not ({said})" if negated else said
        case t.Choice(test=test, yes=yes, no=no):
            said = f"if {_say(test)}, then {_say(yes)}, else {_say(no)}"
            return f"not ({said})" if negated else said
        case t.Function(name=name, args=args) if name in _TESTS:
            return f"{_value(args[0])} {_TESTS[name][negated]} {_value(args[1])}"
        case t.Function(name="detects", args=(where, t.Constant(value=list(kinds)))):
            held = "holds nothing" if negated else "holds something"
            return f"{_value(where)} {held} that {say_detectors([str(kind) for kind in kinds])}"
        case t.Constant(value=bool(value), label=label):
            said = "always" if value is not negated else "never"
            return f"{said} ({label})" if label else said
        case _:
            return f"{_value(tree)} is {'false' if negated else 'true'}"


def _item(loop: t.Loop) -> str:
    return f"{loop.variable.name} {'among the keys' if loop.source.type.kind == 'map' else 'among the items'}"


def _comparison(tree: t.Comparison, *, negated: bool) -> str:
    left, right, operator = tree.left, tree.right, tree.operator
    if operator == "in":
        items = right.value if isinstance(right, t.Constant) and not right.label else None
        if isinstance(items, list):
            between = ", " if negated else " or "
            listed = between.join(map(_literal, items))
            if not items:
                return "always (the list is empty)" if negated else "never (the list is empty)"
            return f"{_value(left)} is {'none of: ' if negated else ''}{listed}"
        return f"{_value(left)} is {'not ' if negated else ''}among {_value(right)}"
    if negated and operator not in ("==", "!=") and (_may_be_nan(left) or _may_be_nan(right)):
        return f"not ({_comparison(tree, negated=False)})"
    shown = _NEGATED[operator] if negated else operator
    is_time = "timestamp" in (left.type.kind, right.type.kind)
    word = _TIME_RELATIONS.get(shown, _RELATIONS[shown]) if is_time else _RELATIONS[shown]
    return f"{_value(left)} {word} {_value(right)}"


def _may_be_nan(tree: t.Tree) -> bool:
    """Whether neither `<` nor `>=` may hold: facts are finite, what is computed of them need not be."""
    is_made = isinstance(tree, t.Arithmetic) and tree.type.kind in ("double", "dyn")
    return is_made or any(map(_may_be_nan, t.children(tree)))


def _value(tree: t.Tree) -> str:
    """A part that stands for a value."""
    match tree:
        case t.Constant(value=value, label=label):
            return f"{_literal(value)} ({label})" if label else _literal(value)
        case t.Fact(name=name) | t.Variable(name=name):
            return name
        case t.Member(operand=operand, key=key):
            if isinstance(key, t.Constant) and isinstance(key.value, str) and key.value.isidentifier():
                return f"{_value(operand)}.{key.value}"
            return f"{_value(operand)}[{_value(key)}]"
        case t.Item(operand=operand, key=key):
            return f"{_value(operand)}[{_value(key)}]"
        case t.ListOf(items=items):
            return f"[{', '.join(map(_value, items))}]"
        case t.MapOf(entries=entries):
            return f"{{{', '.join(f'{_value(k)}: {_value(v)}' for k, v in entries)}}}"
        case t.Negative(operand=operand):
            return f"minus {_bracketed(operand)}"
        case t.Arithmetic(operator=operator, left=left, right=right):
            return f"{_bracketed(left)} {_WORDS[operator]} {_bracketed(right)}"
        case t.Choice(test=test, yes=yes, no=no):
            return f"({_value(yes)} if {_say(test)}, else {_value(no)})"
        case t.Loop():
            return _made(tree)
        case t.Function(name=name, args=args):
            if name in _CALLS and args:
                said = _CALLS[name].format(_value(args[0]))
                return f"{said} in {_value(args[1])}" if len(args) > 1 else said
            if name not in _TESTS:
                return f"{name}({', '.join(map(_value, args))})"
    return f"({_say(tree)})"


def _made(loop: t.Loop) -> str:
    """The list that `filter` or `map` makes."""
    if loop.kind not in ("filter", "map"):
        return f"({_say(loop)})"
    kept = f" with {_say(loop.test)}" if loop.test is not None else ""
    of = f"each {loop.variable.name} of {_value(loop.source)}{kept}"
    return f"[{_value(loop.result)} for {of}]" if loop.result is not None else f"[{of}]"


def _bracketed(tree: t.Tree) -> str:
    return f"({_value(tree)})" if isinstance(tree, t.Arithmetic | t.Negative) else _value(tree)


def _literal(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + "".join(c if c.isprintable() and c != '"' else f"\\u{ord(c):04x}" for c in value) + '"'
    if isinstance(value, float):
        return f"{value:.15g}"
    if isinstance(value, datetime):
        return times.timestamp_text(value)
    if isinstance(value, timedelta):
        return times.duration_text(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_literal(k)}: {_literal(v)}' for k, v in value.items())}}}"
    return str(value)


def say_detectors(kinds: Sequence[str]) -> str:
    """`the detector card finds`, `the detectors card and iban find`."""
    *others, last = kinds
    return f"the detectors {', '.join(others)} and {last} find" if others else f"the detector {last} finds"
