"""`agentguard kill`: stop agents at once, on the whole machine."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from agentguard import escape
from agentguard.cli._common import FINDINGS, FINE, Place, emit, format_option, note
from agentguard.cli._machine import open_state, record_event
from agentguard.errors import StoreError
from agentguard.runtime import user_name

if TYPE_CHECKING:
    from agentguard.state import MachineState

_SCOPE_HELP = "SCOPE is all, agent:NAME, tool:NAME or model:NAME."


@click.group()
def kill() -> None:
    """Stop agents at once, on the whole machine."""


@kill.command()
@format_option()
@click.option(
    "--accept-reset",
    is_flag=True,
    help="Begin the machine's state anew, where its file was removed or replaced.",
)
@click.pass_obj
def status(place: Place, output_format: str, accept_reset: bool) -> int:
    """Say what is stopped. Exit status: 1 where something is."""
    with open_state(place, accept_reset=accept_reset) as state:
        orders = state.kill.orders()
    if accept_reset:
        record_event(place, "state.reset", {"by": user_name()})
    emit(
        [
            {
                "scope": order.scope,
                "since": datetime.fromtimestamp(order.since_unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S"),
                "by": order.by,
                "reason": order.reason,
            }
            for order in orders
        ],
        columns=("scope", "since", "by", "reason"),
        output_format=output_format,
        empty="nothing is stopped",
    )
    return FINDINGS if orders else FINE


@kill.command("set", epilog=_SCOPE_HELP)
@click.argument("scope", default="all")
@click.option("--reason", required=True, help="Why; shown to whoever looks.")
@click.option("--by", default=user_name, show_default="the user's name", help="Who orders it.")
@click.pass_obj
def set_order(place: Place, scope: str, reason: str, by: str) -> int:
    """Stop calls from the next one on, in every process of this machine."""
    with open_state(place) as state:
        order = _set(state, scope, reason, by)
    record_event(place, "kill.set", {"scope": scope, "reason": reason, "by": by})
    note(f"stopped: {escape.terminal(order)}; `agentguard kill clear {escape.terminal(order)}` lifts it")
    return FINE


@kill.command(epilog=_SCOPE_HELP)
@click.argument("scope", default="all")
@click.option("--by", default=user_name, show_default="the user's name", help="Who lifts it.")
@click.pass_obj
def clear(place: Place, scope: str, by: str) -> int:
    """Lift an order. Exit status: 1 where there was none."""
    with open_state(place) as state:
        was_set = state.kill.clear(scope)
        left = state.kill.orders()
    if was_set:
        record_event(place, "kill.cleared", {"scope": scope, "by": by})
        note(f"lifted: {escape.terminal(scope)}")
    else:
        note(f"there was no order for {escape.terminal(scope)}")
    if left:
        note("still stopped: " + escape.terminal(", ".join(order.scope for order in left)))
    return FINE if was_set else FINDINGS


def _set(state: MachineState, scope: str, reason: str, by: str) -> str:
    if not reason.strip():
        raise StoreError("kill: the reason is empty, expected why")
    return state.kill.set(scope, reason=reason, by=by).scope
