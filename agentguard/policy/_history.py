"""`history.*` in conditions: what was let run before, as functions that the facts bring."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from agentguard.policy._problems import did_you_mean
from agentguard.policy.conditions import FunctionSpec
from agentguard.policy.conditions import tree as t
from agentguard.values import FactSpec

WINDOW_S_MAX = 7 * 86_400
"""The longest time that is remembered."""
_WINDOW = re.compile(r"([1-9][0-9]{0,8})(s|m|h|d)")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

HISTORY: tuple[FunctionSpec, ...] = (
    FunctionSpec(
        "history.sum",
        (
            (("string", "string", "string"), "double"),
            (("string", "duration", "string"), "double"),
        ),
    ),
    FunctionSpec(
        "history.count", ((("string", "string"), "int"), (("duration", "string"), "int"))
    ),
    FunctionSpec(
        "history.called", ((("string", "string"), "bool"), (("string", "duration"), "bool"))
    ),
)  # fmt: skip
"""Declared without a callable: the facts of a call bring it, since only they know the past."""

HISTORY_GIVEN: Mapping[str, FactSpec] = {
    "history.sum": FactSpec("history.sum", "double", "What every `history.sum` of the case gives."),
    "history.count": FactSpec("history.count", "int", "What every `history.count` of the case gives."),
    "history.called": FactSpec("history.called", "list<string>", "The tools that the run has called."),
}
"""How test cases say what the past was."""

NAMES = tuple(spec.name for spec in HISTORY)
_WINDOW_AT = {"history.sum": 1, "history.count": 0, "history.called": 1}


class Remembered(NamedTuple):
    """What must be remembered of each call, so that a rule can ask for it."""

    argument: str
    """Whose values are added up; empty: calls are counted."""
    key: str
    """The fact whose values are counted apart."""


def window_s(text: str) -> int | None:
    """
    Read a window such as `10m`.

    Args:
        text:
            A number and s, m, h or d.

    Returns:
        Seconds; None where it is none, or longer than is remembered.
    """
    found = _WINDOW.fullmatch(text)
    seconds = int(found[1]) * _UNITS_S[found[2]] if found else 0
    return seconds if 0 < seconds <= WINDOW_S_MAX else None


def _calls(tree: t.Tree) -> Iterator[t.Function]:
    pending = [tree]
    while pending:
        part = pending.pop()
        pending.extend(t.children(part))
        if isinstance(part, t.Function) and part.is_declared and part.name in NAMES:
            yield part


def remembered(tree: t.Tree) -> frozenset[Remembered]:
    """
    Say what a condition needs to be remembered.

    Args:
        tree:
            Of a checked condition, in which `wrong_history` found nothing.

    Returns:
        Arguments and keys; nothing for `history.called`, which asks the run.
    """
    found = set()
    for call in _calls(tree):
        key = call.args[-1]
        if call.name == "history.called" or not isinstance(key, t.Fact):
            continue
        argument = call.args[0] if call.name == "history.sum" else None
        name = str(argument.value) if isinstance(argument, t.Constant) else ""
        found.add(Remembered(name, key.name))
    return frozenset(found)


def wrong_history(tree: t.Tree, specs: dict[str, FactSpec]) -> Iterator[tuple[int, str, str, str]]:
    """
    Find what could not be answered, or could be talked out of it.

    Args:
        tree:
            Of a condition.
        specs:
            The catalogue.

    Yields:
        Offset in the source, code, what is wrong, and a hint.
    """
    for call in _calls(tree):
        window = call.args[_WINDOW_AT[call.name]]
        if isinstance(window, t.Constant) and isinstance(window.value, str):
            if window_s(window.value) is None:
                yield (
                    window.start,
                    "out-of-range",
                    f"`{window.value[:40]}` is no window of at most 7d",
                    "such as `10m`",
                )
        elif window.type.kind == "string":
            yield (
                window.start,
                "literal-needed",
                "the window stands in the condition itself",
                "such as `'10m'`",
            )
        if call.name == "history.called":
            continue
        if call.name == "history.sum" and not (isinstance(call.args[0], t.Constant) and call.args[0].value):
            yield (
                call.args[0].start,
                "literal-needed",
                "the name of the argument stands in the condition itself",
                "",
            )
        key = call.args[-1]
        if not isinstance(key, t.Fact) or key.name not in specs:
            yield (
                key.start, "literal-needed", "the last argument is the fact that is counted by",
                did_you_mean("principal.id", ["principal.id"]),
            )  # fmt: skip
        elif not specs[key.name].is_trusted:
            yield (
                key.start, "model-supplied-key",
                f"`{key.name}` is written by the model, which would count anew by writing something else",
                "count by names and trusted facts, such as `principal.id`",
            )  # fmt: skip
