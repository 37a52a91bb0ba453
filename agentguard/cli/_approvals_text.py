"""How a request for approval is shown: the rule first, and all that a model wrote escaped and marked."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from agentguard import escape

if TYPE_CHECKING:
    from agentguard.state import ApprovalRequest


def request_row(request: ApprovalRequest) -> dict[str, object]:
    """One line of a listing."""
    granted = sum(1 for vote in request.votes if vote.verdict == "approve")
    return {
        "token": request.token,
        "state": request.state.value,
        "rule": request.rule_id,
        "title": request.title,
        "action": target(request),
        "votes": f"{granted} of {request.terms.approvals}",
        "expires": show_time(request.expires_unix_s),
    }


def request_document(request: ApprovalRequest) -> dict[str, object]:
    """All of it as plain data."""
    return {
        "token": request.token,
        "state": request.state.value,
        "rule_id": request.rule_id,
        "policy": request.policy,
        "title": request.title,
        "action": request.action,
        "action_sha256": request.digest,
        "untrusted_reason": request.reason,
        "terms": {
            **request.terms._asdict(),
            "scopes": request.terms.scopes._asdict() if request.terms.scopes else None,
        },
        "run_id": request.run_id,
        "decision_id": request.decision_id,
        "created_unix_s": request.created_unix_s,
        "expires_unix_s": request.expires_unix_s,
        "used_unix_s": request.used_unix_s,
        "denied_by": request.denied_by,
        "votes": [
            {
                "approver": v.approver,
                "verdict": v.verdict,
                "time_unix_s": v.time_unix_s,
                "scope": v.scope._asdict() if v.scope else None,
            }
            for v in request.votes
        ],
    }


def print_request(request: ApprovalRequest) -> None:
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
        ("runs", target(request)),
        ("for", request.requester or "(nobody named)"),
        ("approvers", f"{request.terms.approvals} of {', '.join(request.terms.approvers)}"),
        ("at most", _widest(request)),
        ("run", request.run_id),
        ("made", show_time(request.created_unix_s)),
        ("expires", show_time(request.expires_unix_s)),
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
    from agentguard.state import scope_in_words

    for vote in request.votes:
        what = f" for {escape.terminal(scope_in_words(vote.scope))}" if vote.scope else ""
        click.echo(
            f"vote: {escape.terminal(vote.approver)} {vote.verdict}{what}, {show_time(vote.time_unix_s)}"
        )


def _widest(request: ApprovalRequest) -> str:
    """How wide it may be granted."""
    scopes = request.terms.scopes
    if scopes is None:
        return ""
    run = "any run" if scopes.any_run else "this run"
    what = "other arguments by a condition" if scopes.any_arguments else "these arguments"
    return f"{scopes.uses} calls of {run} within {scopes.lasts_s:g} s, {what}"


def _json(value: object) -> str:
    from agentguard.state import canonical_json

    return canonical_json(value).decode()


def target(request: ApprovalRequest) -> str:
    """Name who calls what."""
    action = request.action
    name = str(action.get("tool") or action.get("model") or action.get("agent") or "")
    agent = str(action.get("agent") or "")
    return f"{agent} > {name}" if agent and agent != name else name


def show_time(unix_s: int) -> str:
    """A moment in UTC."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S")
