"""
Scopes: for how much an approver grants, where a rule lets them grant more than one exact call.

Pure. A scope is signed with the vote; it can be narrower than the rule allows, and never wider.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

from agentguard.errors import PolicyError
from agentguard.state.action import Action
from agentguard.state.canonical import canonical_json
from agentguard.values import ApprovalTerms

WHEN_CHARACTERS_MAX = 1_000
"""Length of the condition of a scope."""


class Scope(NamedTuple):
    """What one approval is for."""

    uses: int
    """Calls."""
    lasts_s: int
    """Seconds from the approval that completed the number."""
    run: str = ""
    """The only run that may use it; empty: any."""
    when: str = ""
    """A condition over `args`, for which calls of the same tool it holds; empty: exactly the arguments asked for."""


def scope_document(scope: Scope) -> dict[str, object]:
    """Write a scope as plain data, as it is signed."""
    return {"uses": scope.uses, "lasts_s": scope.lasts_s, "run": scope.run, "when": scope.when}


def scope_of(document: object) -> Scope | None:
    """
    Read what `scope_document` wrote; None stands for once.

    Raises:
        PolicyError: It is no scope.
    """
    if document is None:
        return None
    if not isinstance(document, Mapping) or set(document) != {"uses", "lasts_s", "run", "when"}:
        raise PolicyError("approval: not a scope")
    uses, lasts_s, run, when = (document[name] for name in ("uses", "lasts_s", "run", "when"))
    if (
        type(uses) is not int
        or type(lasts_s) is not int
        or not isinstance(run, str)
        or not isinstance(when, str)
    ):
        raise PolicyError("approval: a scope has two whole numbers and two texts")
    return Scope(uses, lasts_s, run, when)


def check_scope(scope: Scope, terms: ApprovalTerms, *, run_id: str) -> None:
    """
    Refuse a scope that is wider than its rule allows.

    Args:
        scope:
            What is to be granted.
        terms:
            Of the rule.
        run_id:
            The run that asked.

    Raises:
        PolicyError: It is wider, or grants nothing; the message says in what.
    """
    widest = terms.scopes
    if widest is None:
        raise PolicyError("approval: the rule lets nobody grant more than this one call").hint(
            "a rule that does has `scopes` in `require_approval`"
        )
    if not 1 <= scope.uses <= widest.uses:
        raise PolicyError(f"approval: got {scope.uses} uses, the rule allows 1 to {widest.uses}")
    if not 1 <= scope.lasts_s <= widest.lasts_s:
        raise PolicyError(f"approval: got {scope.lasts_s} s, the rule allows 1 to {widest.lasts_s:g} s")
    if not scope.run and not widest.any_run:
        raise PolicyError("approval: the rule allows no other run than the one that asked")
    if scope.run and scope.run != run_id:
        raise PolicyError("approval: the scope names another run than the one that asked")
    if scope.when and not widest.any_arguments:
        raise PolicyError("approval: the rule allows no other arguments than those that were asked for")
    if len(scope.when) > WHEN_CHARACTERS_MAX:
        raise PolicyError(
            f"approval: a condition of {len(scope.when)} characters, at most {WHEN_CHARACTERS_MAX} are allowed"
        )


def target_of(action: Action, *, policy: str, rule_id: str) -> str:
    """Name what a grant with a scope is for, whatever the arguments: who calls what, held by which rule."""
    fields: dict[str, object] = {
        "point": action.point, "tool": action.tool, "model": action.model, "agent": action.agent,
        "principal": action.principal, "policy": policy, "rule_id": rule_id,
    }  # fmt: skip
    return hashlib.sha256(canonical_json(fields)).hexdigest()


def scope_in_words(scope: Scope) -> str:
    """Say a scope as people do; the condition is the approver's own text."""
    calls = "one call" if scope.uses == 1 else f"up to {scope.uses} calls"
    run = "this run" if scope.run else "any run"
    what = f"where {scope.when}" if scope.when else "with exactly these arguments"
    return f"{calls} of {run} within {scope.lasts_s} s, {what}"
