"""
Which rules after a call can be judged while its result is still arriving.

A rule that asks of the result only whether detectors find something in it needs
no whole result: each finding can be judged when it is made. All other rules
about results, and rules about how the call ended, need its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from agentguard.policy._plan import Asked
from agentguard.policy.conditions import tree as t
from agentguard.redaction import KINDS
from agentguard.values import Effect, Mode, Point

_AT_THE_END = frozenset({"call.duration_ms", "call.error", "usage.input_tokens", "usage.output_tokens"})
_WITHHOLDING = (Effect.KILL, Effect.DENY, Effect.REDACT)


def kinds_looked_for(rules: Iterable[Asked], point: Point) -> frozenset[str] | None:
    """
    Say what detectors must look for in a result, where its pieces can be judged as they come.

    Args:
        rules:
            That could match the call.
        point:
            After the call.

    Returns:
        Kinds; None where a rule needs the whole result, or the end of the call.
    """
    found: set[str] = set()
    for asked in rules:
        tree = asked.rule.conditions[point].tree
        asks = list(_asks(tree))
        if None in asks:
            return None
        found.update(*(kinds for kinds in asks if kinds is not None))
        redacts = frozenset(asked.rule.action.redact)
        found |= redacts
        if asked.rule.mode is not Mode.ENFORCE or asked.rule.effect not in _WITHHOLDING:
            continue
        terms = tree.terms if isinstance(tree, t.Logic) and tree.operator == "&&" else (tree,)
        late = [term for term in terms if _needs_end(term)]
        if not late:
            continue
        # One finding must be enough: with two conditions on the text the first is gone when the second holds.
        kinds = _detected(late[0]) if len(late) == 1 else None
        if kinds is None or not redacts <= kinds:
            return None
    # What a language model finds depends on all of a text.
    return frozenset(found) if found <= set(KINDS) else None


def _asks(tree: t.Tree) -> Iterator[frozenset[str] | None]:
    """Give the detectors that a condition asks about the result; None for any other use of it."""
    kinds = _detected(tree)
    if kinds is not None:
        yield kinds
    elif isinstance(tree, t.Fact) and tree.name == "result":
        yield None
    else:
        for part in t.children(tree):
            yield from _asks(part)


def _detected(tree: t.Tree) -> frozenset[str] | None:
    """Read `detects(result, [...])`."""
    match tree:
        case t.Function(
            name="detects", args=(t.Fact(name="result"), t.Constant(value=list() | tuple() as kinds))
        ):
            return frozenset(str(kind) for kind in kinds)
        case _:
            return None


def _needs_end(tree: t.Tree) -> bool:
    """Whether a part of a condition reads what is known only when the call has ended."""
    if isinstance(tree, t.Fact):
        return tree.name == "result" or tree.name in _AT_THE_END
    return any(_needs_end(part) for part in t.children(tree))
