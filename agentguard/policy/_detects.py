"""`detects(value, ['card', ...])` in conditions: the detectors of redaction, as a function."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agentguard.policy._problems import did_you_mean, quoted
from agentguard.policy.conditions import FunctionSpec
from agentguard.policy.conditions import tree as t
from agentguard.redaction import EXTRA_KINDS, KINDS, detect, why_not


def _detects(value: object, kinds: Sequence[str]) -> bool:
    """Whether a value holds something of one of the kinds."""
    return bool(detect(value, list(kinds)))


DETECTS = FunctionSpec("detects", ((("dyn", "list<string>"), "bool"),), _detects)
"""The function, as conditions declare it."""


def wrong_kinds(tree: t.Tree) -> Iterator[tuple[int, str, str]]:
    """
    Find detectors that there are not.

    Args:
        tree:
            Of a condition.

    Yields:
        Offset in the source, what is wrong, and a hint.
    """
    pending = [tree]
    while pending:
        part = pending.pop()
        pending.extend(t.children(part))
        if not isinstance(part, t.Function) or part.name != "detects" or part.is_method:
            continue
        kinds = part.args[1]
        if not isinstance(kinds, t.Constant) or not isinstance(kinds.value, (list, tuple)):
            yield kinds.start, "the second argument of `detects` must be a list of names, written out", ""
            continue
        if not kinds.value:
            yield (
                kinds.start,
                "`detects` with no detector finds nothing",
                "name one: " + ", ".join(sorted(KINDS)),
            )
        for kind in kinds.value:
            if kind in EXTRA_KINDS:
                if missing := why_not(kind):
                    # A detector that is not there would find nothing.
                    yield kinds.start, missing, ""
            elif kind not in KINDS:
                yield (
                    kinds.start,
                    f"unknown detector {quoted(str(kind))}",
                    did_you_mean(str(kind), sorted((*KINDS, *EXTRA_KINDS))),
                )
