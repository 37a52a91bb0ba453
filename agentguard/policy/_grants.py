"""Conditions that approvers sign: for which arguments of a tool a grant holds."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from agentguard.policy.conditions import Condition, compile_condition

_FACTS = {"args": "map<string, dyn>"}


def grant_condition(source: str, arguments: Mapping[str, str] | None = None) -> Condition:
    """
    Compile the condition of a grant.

    Args:
        source:
            A condition that reads nothing but `args`.
        arguments:
            Declared types of the arguments of the tool; None where it is not declared.

    Returns:
        The condition; evaluate it with the one fact `args`.

    Raises:
        PolicyDocumentError: It does not type-check.

    Example:
        >>> grant_condition("args.amount_usd <= 100.0").evaluate({"args": {"amount_usd": 99}})
        True
        >>> grant_condition("args.amont_usd <= 100.0", {"amount_usd": "double"})  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        agentguard.errors.PolicyDocumentError: the condition:1:6: unknown argument `amont_usd`...
    """
    return _compiled(source, None if arguments is None else tuple(sorted(arguments.items())))


@lru_cache(maxsize=256)
def _compiled(source: str, arguments: tuple[tuple[str, str], ...] | None) -> Condition:
    return compile_condition(
        source, _FACTS, path="the condition", arguments=None if arguments is None else dict(arguments)
    )
