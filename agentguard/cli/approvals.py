"""`agentguard approvals`: requests that wait for a person."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agentguard import escape
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
    user_name,
)
from agentguard.cli._machine import open_state, record_event
from agentguard.errors import KeyUnavailableError, PolicyError

if TYPE_CHECKING:
    from agentguard.state import ApprovalRequest, Approver

_STYLES = {"pending": "yellow", "granted": "green", "denied": "red", "expired": "dim", "used": "dim"}
_token_argument = click.argument("token")


@click.group()
def approvals() -> None:
    """Requests that wait for a person."""


@approvals.command("list")
@listing_options()
@click.option("--all", "show_all", is_flag=True, help="Also those that are used, denied or expired.")
@click.pass_obj
def list_requests(place: Place, limit: int, output_format: str, show_all: bool) -> int:
    """List requests, the newest first."""
    with open_state(place) as state:
        requests = state.approvals.list()
    shown = [r for r in requests if show_all or r.state.value in ("pending", "granted")]
    as_text = output_format == "text"
    emit(
        [_row(request) if as_text else _document(request) for request in shown],
        columns=("token", "state", "rule", "title", "action", "votes", "expires"),
        output_format=output_format,
        limit=limit,
        styles={"state": lambda value: _STYLES.get(str(value), "")},
        empty="nothing waits" + ("" if show_all else "; --all shows what is over too"),
    )
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
        _print_request(request)
    else:
        emit_document(_document(request))
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
@click.option("--yes", is_flag=True, help="Do not ask; needed where nobody can answer.")
@click.pass_obj
def approve(place: Place, token: str, key_file: Path, approver: str, yes: bool) -> int:
    """
    Sign that one exact action may run once.

    Exit status: 1 where the approval does not count, and nothing changed.
    """
    _vote(place, token, key_file, approver, "approve", yes=yes)
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


def _vote(place: Place, token: str, key_file: Path, approver: str, verdict: str, *, yes: bool) -> None:
    """Show the request, ask, sign, and hand the vote in."""
    from agentguard.state import load_approver_key, sign_vote

    approvers = _approvers(place)
    with open_state(place) as state:
        request = state.approvals.show(token)
        key = load_approver_key(key_file)
        _check_key(approvers, approver, key.verify_key.raw)
        _confirm(request, "Approve" if verdict == "approve" else "Refuse", yes=yes)
        vote = sign_vote(
            key,
            store_id=state.approvals.store_id,
            token=request.token,
            digest=request.digest,
            approver=approver,
            time_unix_s=int(time.time()),
            verdict=verdict,
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
        },
    )
    missing = request.terms.approvals - sum(1 for known in request.votes if known.verdict == "approve")
    more = f", {missing} more needed" if request.state.value == "pending" else ""
    note(f"request {request.token} is {request.state.value}{more}")


def _approvers(place: Place) -> dict[str, Approver]:
    """Read who is listed, from the configured policies."""
    from agentguard.policy import load_bundle
    from agentguard.state import approvers_of

    if not place.config.policies:
        fail(
            PolicyError("approvals: no policies are configured, so nobody is listed as approver").hint(
                "set `policies` in agentguard.toml"
            )
        )
    return approvers_of(load_bundle(place.config.policies).approvers)


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
    _print_request(request)
    if not sys.stdin.isatty():
        raise click.UsageError("nobody can be asked here; --yes says that the request was read")
    click.confirm(f"{what} exactly this?", abort=True, err=True)


def _row(request: ApprovalRequest) -> dict[str, object]:
    granted = sum(1 for vote in request.votes if vote.verdict == "approve")
    return {
        "token": request.token,
        "state": request.state.value,
        "rule": request.rule_id,
        "title": request.title,
        "action": _target(request),
        "votes": f"{granted} of {request.terms.approvals}",
        "expires": _time(request.expires_unix_s),
    }


def _document(request: ApprovalRequest) -> dict[str, object]:
    return {
        "token": request.token,
        "state": request.state.value,
        "rule_id": request.rule_id,
        "policy": request.policy,
        "title": request.title,
        "action": request.action,
        "action_sha256": request.digest,
        "untrusted_reason": request.reason,
        "terms": request.terms._asdict(),
        "decision_id": request.decision_id,
        "created_unix_s": request.created_unix_s,
        "expires_unix_s": request.expires_unix_s,
        "used_unix_s": request.used_unix_s,
        "denied_by": request.denied_by,
        "votes": [
            {"approver": v.approver, "verdict": v.verdict, "time_unix_s": v.time_unix_s}
            for v in request.votes
        ],
    }


def _print_request(request: ApprovalRequest) -> None:
    """Print one request; the rule comes first, and all that a model wrote is escaped and marked."""
    title = request.title or "(the rule has no title)"
    click.echo(click.style(escape.terminal(title), bold=True))
    lines = [
        ("rule", f"{request.rule_id} of {request.policy}"),
        (
            "request",
            f"{request.token}, {request.state.value}"
            + (f" by {request.denied_by}" if request.denied_by else ""),
        ),
        ("runs", _target(request)),
        ("for", request.requester or "(nobody named)"),
        ("approvers", f"{request.terms.approvals} of {', '.join(request.terms.approvers)}"),
        ("made", _time(request.created_unix_s)),
        ("expires", _time(request.expires_unix_s)),
        ("decision", request.decision_id),
        ("SHA-256", request.digest),
    ]
    for name, value in lines:
        if value:
            click.echo(f"  {name:<9} {escape.terminal(value)}")
    click.echo("arguments, exactly as they would run")
    args = request.action.get("args")
    for name, value in args.items() if isinstance(args, dict) else ():
        click.echo(f"  {escape.terminal(str(name))} = {escape.terminal(_json(value))}")
    if request.reason:
        click.echo(click.style("the agent's own words (untrusted: a model wrote them)", fg="yellow"))
        click.echo(f"  {escape.terminal(request.reason)}")
    for vote in request.votes:
        click.echo(f"vote: {escape.terminal(vote.approver)} {vote.verdict}, {_time(vote.time_unix_s)}")


def _json(value: object) -> str:
    from agentguard.state import canonical_json

    return canonical_json(value).decode()


def _target(request: ApprovalRequest) -> str:
    action = request.action
    target = str(action.get("tool") or action.get("model") or action.get("agent") or "")
    agent = str(action.get("agent") or "")
    return f"{agent} > {target}" if agent and agent != target else target


def _time(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S")
