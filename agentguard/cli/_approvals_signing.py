"""What approvers sign: for how much, and who they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from agentguard.cli._common import Place, fail
from agentguard.cli._times import DURATION_S
from agentguard.errors import PolicyError

if TYPE_CHECKING:
    from agentguard.state import Approver, Scope
    from agentguard.values import ApprovalTerms

_F = TypeVar("_F", bound=Callable[..., Any])


def scope_options(command: _F) -> _F:
    """Add what an approver may say about how much is granted."""
    for option in (
        click.option("--when", help="For other arguments too: a condition such as 'args.amount_usd <= 100'."),
        click.option("--any-run", is_flag=True, help="For any run, not only the one that asked."),
        click.option(
            "--for", "lasts", type=DURATION_S, help="For so long, such as 30m, where the rule allows it."
        ),
        click.option(
            "--uses", type=click.IntRange(min=1), help="For so many calls, where the rule allows it."
        ),
    ):
        command = option(command)
    return command


class Wanted(NamedTuple):
    """What an approver asks to grant, as far as they say."""

    uses: int | None = None
    lasts_s: int | None = None
    any_run: bool = False
    when: str | None = None


def granted_scope(
    wanted: Wanted, terms: ApprovalTerms, run_id: str, types: Mapping[str, str] | None
) -> Scope | None:
    """
    Fill in what the approver leaves to the rule; None: this one call.

    Raises:
        PolicyError: It is wider than the rule allows.
        PolicyDocumentError: The condition does not type-check.
    """
    from agentguard.policy import grant_condition
    from agentguard.state import Scope, check_scope

    widest = terms.scopes
    if wanted == Wanted():
        return None
    scope = Scope(
        wanted.uses if wanted.uses is not None else widest.uses if widest else 1,
        wanted.lasts_s if wanted.lasts_s is not None else int(widest.lasts_s) if widest else 1,
        "" if wanted.any_run else run_id,
        wanted.when or "",
    )
    check_scope(scope, terms, run_id=run_id)
    if scope.when:
        grant_condition(scope.when, types)
    return scope


def approvers_in_force(place: Place) -> tuple[dict[str, Approver], Mapping[str, Mapping[str, str]]]:
    """Read who is listed, and the types of tools' arguments, from the configured policies."""
    from agentguard.policy import load_bundle
    from agentguard.runtime import registered_specs
    from agentguard.state import approvers_of

    if not place.config.policies:
        fail(
            PolicyError("approvals: no policies are configured, so nobody is listed as approver").hint(
                "set `policies` in agentguard.toml"
            )
        )
    bundle = load_bundle(place.config.policies, extra_facts=registered_specs())
    return approvers_of(bundle.approvers), bundle.tool_schemas
