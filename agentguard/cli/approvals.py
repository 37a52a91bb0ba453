"""`agentguard approvals`: requests that wait for a person."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agentguard import escape
from agentguard.cli._approvals_remote import serve, sign_answer
from agentguard.cli._approvals_signing import Wanted, approvers_in_force, granted_scope, scope_options
from agentguard.cli._approvals_text import print_request, request_document, request_row, show_time, target
from agentguard.cli._common import (
    FINDINGS,
    FINE,
    Place,
    emit,
    emit_document,
    fail,
    format_option,
    listing_options,
    note,
)
from agentguard.cli._machine import open_state, record_event
from agentguard.errors import KeyUnavailableError, PolicyError
from agentguard.runtime import user_name

if TYPE_CHECKING:
    from agentguard.state import ApprovalRequest, Approver

_STYLES = {"pending": "yellow", "granted": "green", "denied": "red", "expired": "dim", "used": "dim"}
_token_argument = click.argument("token")


@click.group()
@click.option(
    "--app", metavar="MODULE", help="Import MODULE first: facts that it registers are known to rules."
)
def approvals(app: str | None) -> None:
    """Requests that wait for a person."""
    if app is not None:
        from agentguard.cli.policy._shared import import_module

        import_module(app)


@approvals.command("list")
@listing_options()
@click.option("--all", "show_all", is_flag=True, help="Also those that are used, denied or expired.")
@click.option(
    "--grants", "only_grants", is_flag=True, help="Grants for more than one call that are in force."
)
@click.pass_obj
def list_requests(place: Place, limit: int, output_format: str, show_all: bool, only_grants: bool) -> int:
    """List requests, the newest first."""
    if only_grants:
        return _list_grants(place, limit, output_format)
    with open_state(place) as state:
        requests = state.approvals.list()
    shown = [r for r in requests if show_all or r.state.value in ("pending", "granted")]
    as_text = output_format == "text"
    emit(
        [request_row(request) if as_text else request_document(request) for request in shown],
        columns=("token", "state", "rule", "title", "action", "votes", "expires"),
        output_format=output_format,
        limit=limit,
        styles={"state": lambda value: _STYLES.get(str(value), "")},
        empty="nothing waits" + ("" if show_all else "; --all shows what is over too"),
    )
    return FINE


def _list_grants(place: Place, limit: int, output_format: str) -> int:
    """List what is granted for more than one call, and how much of it is left."""
    from agentguard.state import scope_in_words

    with open_state(place) as state:
        grants = state.approvals.scoped()
    emit(
        [
            {
                "token": one.request.token,
                "rule": one.request.rule_id,
                "action": target(one.request),
                "for": scope_in_words(one.scope),
                "used": f"{one.used} of {one.scope.uses}",
                "expires": show_time(one.request.expires_unix_s),
                "last_used": show_time(one.last_unix_s) if one.last_unix_s else "",
                "by": ", ".join(vote.approver for vote in one.request.votes),
            }
            for one in grants
        ],
        columns=("token", "rule", "action", "for", "used", "expires", "last_used", "by"),
        output_format=output_format,
        limit=limit,
        empty="no grants for more than one call",
    )
    return FINE


@approvals.command()
@_token_argument
@click.option("--yes", is_flag=True, help="Do not ask; needed where nobody can answer.")
@click.pass_obj
def revoke(place: Place, token: str, yes: bool) -> int:
    """
    Take a grant back before it is used up; without a key, since it can only make the machine do less.

    Exit status: 1 where it is not granted, and nothing changed.
    """
    with open_state(place) as state:
        request = state.approvals.show(token)
        _confirm(request, "Revoke", yes=yes)
        try:
            request = state.approvals.revoke(request.token, by=user_name())
        except PolicyError as error:
            fail(error, FINDINGS)
    record_event(
        place,
        "approval.revoked",
        {"token": request.token, "by": request.denied_by, "action_sha256": request.digest},
    )
    note(f"the grant {request.token} is revoked")
    return FINE


@approvals.command()
@_token_argument
@format_option()
@click.pass_obj
def show(place: Place, token: str, output_format: str) -> int:
    """Show one request whole: the rule, exactly what would run, who voted."""
    with open_state(place) as state:
        request = state.approvals.show(token)
    if output_format == "text":
        print_request(request)
    else:
        emit_document(request_document(request))
    return FINE


@approvals.command()
@_token_argument
@click.option(
    "--key",
    "key_file",
    required=True,
    type=click.Path(path_type=Path),
    help="Your private key; `keygen` makes one.",
)
@click.option("--as", "approver", required=True, help="Your id in the policy documents.")
@scope_options
@click.option("--yes", is_flag=True, help="Do not ask; needed where nobody can answer.")
@click.pass_obj
def approve(
    place: Place, token: str, key_file: Path, approver: str, uses: int | None, lasts: int | None,
    any_run: bool, when: str | None, yes: bool,
) -> int:  # fmt: skip
    """
    Sign that one exact action may run once; with options, that calls like it may run.

    What is not said of uses and time is the widest that the rule allows. Exit status: 1 where the
    approval does not count, and nothing changed.
    """
    wanted = Wanted(uses, lasts, any_run, when)
    _vote(place, token, key_file, approver, "approve", yes=yes, wanted=wanted)
    return FINE


@approvals.command()
@_token_argument
@click.option(
    "--key", "key_file", type=click.Path(path_type=Path), help="Your private key: the denial is signed."
)
@click.option("--as", "approver", help="Your id in the policy documents, with --key.")
@click.option("--yes", is_flag=True, help="Do not ask; needed where nobody can answer.")
@click.pass_obj
def deny(place: Place, token: str, key_file: Path | None, approver: str | None, yes: bool) -> int:
    """Refuse a request; without a key too, since a refusal can only make the machine do less."""
    if key_file is not None:
        if approver is None:
            raise click.UsageError("--key needs --as")
        _vote(place, token, key_file, approver, "deny", yes=yes)
        return FINE
    with open_state(place) as state:
        request = state.approvals.show(token)
        _confirm(request, "Refuse", yes=yes)
        try:
            request = state.approvals.deny(request.token, by=approver or user_name())
        except PolicyError as error:
            fail(error, FINDINGS)
    record_event(
        place,
        "approval.denied",
        {"token": request.token, "by": request.denied_by, "action_sha256": request.digest},
    )
    note(f"request {request.token} is denied")
    return FINE


@approvals.command()
@click.option(
    "--days", type=click.IntRange(1, 7), default=7, show_default=True, help="Requests of so many days."
)
@listing_options()
@click.pass_obj
def stats(place: Place, days: int, limit: int, output_format: str) -> int:
    """
    Say how people answer: how fast, how often yes, how often in less than two seconds.

    What is over is kept for a week. Exit status: 1 where most approvals took less than two seconds.
    """
    from agentguard.state import oversight

    with open_state(place) as state:
        found = oversight(state.approvals.list(), since_unix_s=int(time.time()) - days * 86_400)
    rows = [
        {
            "approver": name,
            "answers": reviewing.answers,
            "approved": reviewing.approved,
            "approve_rate": reviewing.approve_rate,
            "median_s": reviewing.median_s,
            "under_2_s": reviewing.fast,
        }
        for name, reviewing in (("(all)", found.everyone), *found.by_approver.items())
    ]
    note(f"{found.requests} requests: {found.pending} wait, {found.used} used, {found.expired} expired")
    emit(
        rows, columns=("approver", "answers", "approved", "approve_rate", "median_s", "under_2_s"),
        output_format=output_format, limit=limit, empty="no answers",
    )  # fmt: skip
    everyone = found.everyone
    return FINDINGS if everyone.approved and 2 * everyone.fast > everyone.approved else FINE


@approvals.command()
@click.option("--out", required=True, type=click.Path(path_type=Path), help="New file for the private key.")
@click.option(
    "--id", "approver", default="you@example.com", show_default=True, help="Your id, for the lines to paste."
)
def keygen(out: Path, approver: str) -> int:
    """
    Make an approver's key pair.

    Run it on your own machine: a key that lies where the agent runs approves
    nothing that the agent could not approve itself.
    """
    from agentguard.state import create_approver_key

    public = create_approver_key(out)
    note(f"private key: {escape.terminal(str(out))} (0600; keep it away from the agent's machine)")
    note("list the public key in a policy document of kind Approvers:")
    click.echo(f"- id: {escape.terminal(approver)}\n  public_key: {public.to_text()}")
    return FINE


def _vote(
    place: Place, token: str, key_file: Path, approver: str, verdict: str, *, yes: bool,
    wanted: Wanted = Wanted(),  # noqa: B008 - frozen
) -> None:  # fmt: skip
    """Show the request, ask, sign, and hand the vote in."""
    from agentguard.state import load_approver_key, scope_in_words, sign_vote

    approvers, types = approvers_in_force(place)
    with open_state(place) as state:
        request = state.approvals.show(token)
        key = load_approver_key(key_file)
        _check_key(approvers, approver, key.verify_key.raw)
        try:
            declared = types.get(str(request.action.get("tool") or ""))
            scope = (
                granted_scope(wanted, request.terms, request.run_id, declared)
                if verdict == "approve"
                else None
            )
        except PolicyError as error:
            fail(error, FINDINGS)
        what = f" for {scope_in_words(scope)}" if scope else ""
        _confirm(request, f"Approve{what}" if verdict == "approve" else "Refuse", yes=yes)
        vote = sign_vote(
            key,
            store_id=state.approvals.store_id,
            token=request.token,
            digest=request.digest,
            approver=approver,
            time_unix_s=int(time.time()),
            verdict=verdict,
            scope=scope,
        )
        try:
            request = state.approvals.grant(request.token, vote, approvers)
        except PolicyError as error:
            fail(error, FINDINGS)
    record_event(
        place,
        "approval.vote",
        {
            "token": request.token,
            "approver": approver,
            "verdict": verdict,
            "action_sha256": request.digest,
            "state": request.state.value,
            "signature": vote.signature.hex(),
            **({"scope": scope._asdict()} if scope else {}),
        },
    )
    missing = request.terms.approvals - sum(1 for known in request.votes if known.verdict == "approve")
    more = f", {missing} more needed" if request.state.value == "pending" else ""
    note(f"request {request.token} is {request.state.value}{what}{more}")


def _check_key(approvers: dict[str, Approver], approver: str, public_key: bytes) -> None:
    """Say early and plainly when the wrong key is about to sign."""
    entry = approvers.get(approver)
    if entry is None:
        fail(
            PolicyError(f"approval: `{approver}` is no listed approver").hint(
                "approvers stand in policy documents of kind Approvers"
            ),
            FINDINGS,
        )
    if entry.public_key != public_key:
        fail(KeyUnavailableError(f"approval: the key is not the one listed for `{approver}`"), FINDINGS)


def _confirm(request: ApprovalRequest, what: str, *, yes: bool) -> None:
    """Show what it is about, and ask."""
    if yes:
        return
    print_request(request)
    if not sys.stdin.isatty():
        raise click.UsageError("nobody can be asked here; --yes says that the request was read")
    click.confirm(f"{what} exactly this?", abort=True, err=True)


approvals.add_command(serve)
approvals.add_command(sign_answer)
