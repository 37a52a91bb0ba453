"""What exactly is asked for: one frozen action, its canonical text and its digest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

from agentguard.errors import PolicyEvaluationError
from agentguard.state.canonical import canonical_json, copy_plain


class Action(NamedTuple):
    """
    One call, frozen: decide on it, hash it, and run `args` of it.

    The digest covers everything that a person approves: the point, what is
    called, by whom, on whose behalf, and every argument.
    """

    point: str
    tool: str
    model: str
    agent: str
    principal: str
    args: Mapping[str, object]
    """A copy that belongs to the action; run the function with it, not with the original."""
    canonical: bytes
    """RFC 8785 JSON of all fields above."""
    digest: str
    """SHA-256 of `canonical`, 64 hexadecimal digits."""


def freeze_action(
    point: str,
    *,
    args: Mapping[str, object],
    tool: str = "",
    model: str = "",
    agent: str = "",
    principal: str = "",
) -> Action:
    """
    Copy the arguments of a call and hash the whole question.

    Args:
        point:
            Intervention point, such as `tool.before`.
        args:
            Arguments by parameter name.
        tool:
            Name of the tool, or empty.
        model:
            Name of the model, or empty.
        agent:
            Name of the innermost agent, or empty.
        principal:
            On whose behalf; that person can never approve the action.

    Returns:
        The frozen action.

    Raises:
        PolicyEvaluationError: The arguments are no plain data, or hold a number that other
            programs would read differently. Such a call cannot be approved.

    Example:
        >>> freeze_action("tool.before", tool="pay", args={"usd": 5.0}).digest[:8]
        '3687ff1c'
        >>> freeze_action("tool.before", tool="pay", args={"usd": float("nan")})
        Traceback (most recent call last):
            ...
        agentguard.errors.PolicyEvaluationError: args.usd: not a finite number
    """
    if not all(type(key) is str for key in args):
        raise PolicyEvaluationError("args: a key that is not text, expected parameter names")
    fields: dict[str, object] = {
        "point": str(point),
        "tool": tool,
        "model": model,
        "agent": agent,
        "principal": principal,
        "args": {key: args[key] for key in args},
    }
    canonical = canonical_json(fields)
    frozen = copy_plain(fields["args"])
    assert isinstance(frozen, dict)
    # What is hashed is the copy: a list that another thread changed meanwhile must not slip through.
    if canonical_json({**fields, "args": frozen}) != canonical:
        raise PolicyEvaluationError("args: changed while they were frozen")
    return Action(
        str(point), tool, model, agent, principal, frozen, canonical, hashlib.sha256(canonical).hexdigest()
    )
