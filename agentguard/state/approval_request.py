"""One request for approval: what people are asked, where it stands, and how it is read back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from agentguard.errors import StoreError
from agentguard.state.cells import Document
from agentguard.state.scopes import Scope
from agentguard.state.votes import APPROVE, Vote, vote_of
from agentguard.values import ApprovalTerms, GrantScopes


class RequestState(StrEnum):
    """Where a request stands."""

    PENDING = "pending"
    GRANTED = "granted"
    """Enough valid votes; the action may run once, or as often as their scope says."""
    DENIED = "denied"
    USED = "used"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """One request, as a person reads it. Arguments and reason are untrusted text."""

    token: str
    """16 hexadecimal digits."""
    state: RequestState
    digest: str
    action: Mapping[str, object]
    """Point, tool, model, agent, principal and args, as they were hashed."""
    terms: ApprovalTerms
    rule_id: str
    policy: str
    title: str
    reason: str
    """What the agent says it wants it for. A model wrote it."""
    decision_id: str
    created_unix_s: int
    expires_unix_s: int
    votes: tuple[Vote, ...]
    used_unix_s: int = 0
    denied_by: str = ""
    run_id: str = ""
    """The run that asked."""

    @property
    def scope(self) -> Scope | None:
        """What the approvals so far are for; None: for one call."""
        return next((vote.scope for vote in self.votes if vote.verdict == APPROVE), None)

    @property
    def requester(self) -> str:
        """On whose behalf the action would run."""
        return str(self.action.get("principal", ""))


def request_of(document: Document, *, now_unix_s: int) -> ApprovalRequest:
    """
    Read a request back.

    Args:
        document:
            As it was written.
        now_unix_s:
            What has expired by then is expired.

    Returns:
        The request.

    Raises:
        StoreError: It is none.
    """
    try:
        return _request_of(document, now_unix_s)
    except (LookupError, TypeError, ValueError) as error:
        raise StoreError("approvals: a request does not decode") from error


def _request_of(document: Document, now_unix_s: int) -> ApprovalRequest:
    terms, votes = document["terms"], document["votes"]
    if not (isinstance(terms, list) and isinstance(votes, list)):
        raise TypeError("expected lists")
    approvers, approvals, expires_s, scopes = terms
    widest = None
    if scopes is not None:
        uses, lasts_s, any_run, any_arguments = scopes
        widest = GrantScopes(int(uses), float(lasts_s), any_run is True, any_arguments is True)
    state = RequestState(str(document["state"]))
    expires = whole(document["expires_unix_s"])
    if state in (RequestState.PENDING, RequestState.GRANTED) and now_unix_s >= expires:
        state = RequestState.EXPIRED
    return ApprovalRequest(
        token=str(document["token"]),
        state=state,
        digest=str(document["digest"]),
        action=json.loads(str(document["canonical"])),
        terms=ApprovalTerms(tuple(approvers), int(approvals), float(expires_s), widest),
        rule_id=str(document["rule_id"]),
        policy=str(document["policy"]),
        title=str(document["title"]),
        reason=str(document["reason"]),
        decision_id=str(document["decision_id"]),
        created_unix_s=whole(document["created_unix_s"]),
        expires_unix_s=expires,
        votes=tuple(vote_of(item) for item in votes),
        used_unix_s=whole(document["used_unix_s"]),
        denied_by=str(document["denied_by"]),
        run_id=str(document["run_id"]),
    )


def whole(value: object) -> int:
    """
    Read a whole number of a document.

    Raises:
        TypeError: It is none.
    """
    if type(value) is not int:
        raise TypeError("expected a whole number")
    return value
