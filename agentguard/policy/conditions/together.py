"""
Many conditions as one function, so that what they share is read once.

The answers are those of each condition's own function. When anything fails in
any of them there is no answer at all, and each has to be asked by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from agentguard.policy.conditions import nodes as n
from agentguard.policy.conditions import tree as t
from agentguard.policy.conditions.generate import Generator


def ask_together(trees: Sequence[t.Tree]) -> Callable[[Mapping[str, object]], tuple[bool, ...] | None]:
    """
    Make one function of conditions that are asked one after the other.

    A fact that one condition reads in any case is not read again by those
    after it. Nothing else is shared: macros count anew in each condition.

    Args:
        trees:
            Checked conditions whose answer is a bool.

    Returns:
        Takes facts; gives the answers in order, or None where one condition
        met an error. It raises nothing.
    """
    return _Together(is_exact=False).answers(trees)


class _Together(Generator):
    """Makes the function."""

    def answers(self, trees: Sequence[t.Tree]) -> Callable[[Mapping[str, object]], tuple[bool, ...] | None]:
        """Build it."""
        parts = [self._answer(tree) for tree in trees]
        found = n.Return(n.Tuple(parts, n.LOAD))
        return self._made([self._guarded([found], n.Constant(None))])
