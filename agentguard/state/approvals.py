"""
Requests that wait for people, and what became of them.

A request is bound to one frozen action. It is granted by enough valid votes,
used once, and lapses. Votes are checked again when the grant is used: a
database that somebody edited grants nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from agentguard.errors import PolicyError, StoreError
from agentguard.state.action import Action
from agentguard.state.cells import Cells, Document
from agentguard.state.votes import (
    CLOCK_SKEW_S_MAX,
    DENY,
    Approvers,
    Vote,
    check_vote,
    counted_at,
    vote_document,
    vote_of,
)
from agentguard.values import ApprovalTerms, Clock

REQUESTS_MAX = 1000
"""Requests kept at one time, the lapsed and used ones of the last week included."""
VOTES_MAX = 64
EXPIRES_S_MAX = 366 * 86_400
KEEP_S = 7 * 86_400
TOKEN_BYTES = 8
REASON_CHARACTERS_MAX = 4000

_KIND = "approval"


class RequestState(StrEnum):
    """Where a request stands."""

    PENDING = "pending"
    GRANTED = "granted"
    """Enough valid votes; the action may run once."""
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

    @property
    def requester(self) -> str:
        """On whose behalf the action would run."""
        return str(self.action.get("principal", ""))


class Approvals:
    """Makes requests, takes votes, gives each grant out once."""

    def __init__(
        self,
        cells: Cells,
        clock: Clock,
        store_id: bytes,
        *,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._cells = cells
        self._clock = clock
        self.store_id = store_id
        self._random_bytes = random_bytes

    def request(
        self,
        action: Action,
        terms: ApprovalTerms,
        *,
        rule_id: str = "",
        policy: str = "",
        title: str = "",
        reason: str = "",
        decision_id: str = "",
    ) -> str:
        """
        Ask people for an action; the same action that is asked for already gets the same token.

        Args:
            action:
                Exactly what would run.
            terms:
                Who may approve, how many, for how long.
            rule_id:
                The rule that asks.
            policy:
                Its document.
            title:
                Its title: the first thing that the approver reads.
            reason:
                The agent's own words; kept and shown as untrusted.
            decision_id:
                The decision in the log.

        Returns:
            The token.

        Raises:
            StoreError: The state cannot be written, or too many requests wait.
            PolicyError: The terms ask for nobody, or for no bounded time.
        """
        if terms.approvals < 1 or not terms.approvers or not 0 < terms.expires_s <= EXPIRES_S_MAX:
            raise PolicyError(
                f"approval: terms of {terms.approvals} approvals from {len(terms.approvers)} names within "
                f"{terms.expires_s:g} s, expected at least one of each and at most {EXPIRES_S_MAX} s"
            )
        now = self._now()
        with self._cells.transaction():
            for cell in self._cells.linked(_KIND, action.digest):
                known = self._decode(cell.document)
                if known.state in (RequestState.PENDING, RequestState.GRANTED) and known.terms == terms:
                    return known.token
            self._cells.remove_expired(now)
            if self._cells.count(_KIND) >= REQUESTS_MAX:
                raise StoreError(f"approvals: {REQUESTS_MAX} requests are kept already").hint(
                    "answer or deny some: `agentguard approvals list`"
                )
            token = self._random_bytes(TOKEN_BYTES).hex()
            expires = now + max(int(terms.expires_s), 1)
            self._put(
                {
                    "token": token,
                    "digest": action.digest,
                    "canonical": action.canonical.decode(),
                    "terms": [list(terms.approvers), terms.approvals, terms.expires_s],
                    "rule_id": rule_id,
                    "policy": policy,
                    "title": title,
                    "reason": reason[:REASON_CHARACTERS_MAX],
                    "decision_id": decision_id,
                    "created_unix_s": now,
                    "expires_unix_s": expires,
                    "state": RequestState.PENDING.value,
                    "votes": [],
                    "used_unix_s": 0,
                    "denied_by": "",
                }
            )
        return token

    def find_grant(
        self, action_digest: str, terms: ApprovalTerms, approvers: Approvers, *, requester: str
    ) -> str | None:
        """
        Use up a grant for an action, if there is one.

        Args:
            action_digest:
                Of exactly what is about to run.
            terms:
                What the rule asks for now; a rule that became stricter counts.
            approvers:
                Who is listed now; who left the list does not count.
            requester:
                On whose behalf the action runs.

        Returns:
            The token of the request, which is the approval's id; None where there is no grant.
            It is used then, whether or not the call succeeds.

        Raises:
            StoreError: The state cannot be read or written.
        """
        # Most calls have no grant: look before the lock.
        if not self._cells.linked(_KIND, action_digest):
            return None
        now = self._now()
        with self._cells.transaction():
            for cell in self._cells.linked(_KIND, action_digest):
                request = self._decode(cell.document)
                if request.digest != action_digest or request.requester != requester:
                    continue
                if request.state not in (RequestState.PENDING, RequestState.GRANTED):
                    continue
                granted = self._granted_at(request, terms, approvers)
                if granted is None or now >= granted + min(terms.expires_s, request.terms.expires_s):
                    continue
                self._put({**cell.document, "state": RequestState.USED.value, "used_unix_s": now})
                return request.token
        return None

    def grant(self, token: str, vote: Vote, approvers: Approvers) -> ApprovalRequest:
        """
        Take a signed vote.

        Args:
            token:
                The request, or the unique beginning of its token.
            vote:
                As `sign_vote` made it; a signed denial ends the request.
            approvers:
                The listed approvers.

        Returns:
            The request after the vote.

        Raises:
            PolicyError: The vote does not count, or the request is past voting; nothing changed.
            StoreError: The state cannot be read or written.
        """
        now = self._now()
        with self._cells.transaction():
            request, document = self._find(token)
            if request.state is not RequestState.PENDING:
                raise PolicyError(
                    f"approval: request {request.token} is {request.state.value}, nobody can vote on it"
                )
            check_vote(
                vote,
                store_id=self.store_id,
                token=request.token,
                digest=request.digest,
                requester=request.requester,
                terms=request.terms,
                approvers=approvers,
                created_unix_s=request.created_unix_s,
            )
            if vote.time_unix_s > now + CLOCK_SKEW_S_MAX:
                raise PolicyError("approval: signed in the future; check the approver's clock")
            if any(known.approver == vote.approver for known in request.votes):
                raise PolicyError(f"approval: `{vote.approver}` has voted on request {request.token}")
            if len(request.votes) >= VOTES_MAX:
                raise PolicyError(f"approval: request {request.token} has {VOTES_MAX} votes")
            votes = [*request.votes, vote]
            changed = dict(document)
            changed["votes"] = [vote_document(item) for item in votes]
            if vote.verdict == DENY:
                changed["state"], changed["denied_by"] = RequestState.DENIED.value, vote.approver
            elif self._granted_at(self._decode(changed), request.terms, approvers) is not None:
                changed["state"] = RequestState.GRANTED.value
                changed["expires_unix_s"] = now + max(int(request.terms.expires_s), 1)
            self._put(changed)
            return self._decode(changed)

    def deny(self, token: str, *, by: str) -> ApprovalRequest:
        """
        End a request without a signature: a denial can only make the machine do less.

        Args:
            token:
                The request, or the unique beginning of its token.
            by:
                Who denies, for the record.

        Returns:
            The request.

        Raises:
            PolicyError: There is no such request, or it is used or over.
            StoreError: The state cannot be read or written.
        """
        with self._cells.transaction():
            request, document = self._find(token)
            if request.state not in (RequestState.PENDING, RequestState.GRANTED):
                raise PolicyError(f"approval: request {request.token} is {request.state.value} already")
            changed = {**document, "state": RequestState.DENIED.value, "denied_by": by[:256]}
            self._put(changed)
            return self._decode(changed)

    def list(self) -> tuple[ApprovalRequest, ...]:
        """
        List all requests that are kept, the newest first.

        Raises:
            StoreError: The state cannot be read.
        """
        requests = [self._decode(cell.document) for cell in self._cells.changed(_KIND)]
        return tuple(
            sorted(requests, key=lambda request: (request.created_unix_s, request.token), reverse=True)
        )

    def show(self, token: str) -> ApprovalRequest:
        """
        Give one request.

        Args:
            token:
                Its token, or the unique beginning of it.

        Returns:
            The request.

        Raises:
            PolicyError: There is none, or more than one.
            StoreError: The state cannot be read.
        """
        return self._find(token)[0]

    def forget(self, principal: str) -> int:
        """
        Remove all requests on behalf of somebody, answered or not; returns how many.

        Raises:
            StoreError: The state cannot be read or written.
        """
        with self._cells.transaction():
            found = [request for request in self.list() if request.requester == principal]
            for request in found:
                # What has expired is removed, and written over, by the line behind this loop.
                self._cells.put(_KIND, request.token, {}, expires_unix_s=1)
            self._cells.remove_expired(self._now())
        return len(found)

    # -- inside --------------------------------------------------------------------------------

    def _granted_at(self, request: ApprovalRequest, terms: ApprovalTerms, approvers: Approvers) -> int | None:
        return counted_at(
            request.votes,
            store_id=self.store_id,
            token=request.token,
            digest=request.digest,
            requester=request.requester,
            terms=terms,
            approvers=approvers,
            created_unix_s=request.created_unix_s,
        )

    def _find(self, token: str) -> tuple[ApprovalRequest, Document]:
        document = self._cells.get(_KIND, token)
        if document is None:
            matching = [
                cell.document for cell in self._cells.changed(_KIND) if token and cell.key.startswith(token)
            ]
            if len(matching) > 1:
                raise PolicyError(f"approval: {len(matching)} requests begin with `{token}`, expected one")
            if not matching:
                raise PolicyError(f"approval: no request `{token}`").hint(
                    "`agentguard approvals list` shows all"
                )
            document = matching[0]
        return self._decode(document), document

    def _put(self, document: Document) -> None:
        expires = document["expires_unix_s"]
        assert isinstance(expires, int)
        self._cells.put(
            _KIND,
            str(document["token"]),
            document,
            link=str(document["digest"]),
            expires_unix_s=expires + KEEP_S,
        )

    def _decode(self, document: Document) -> ApprovalRequest:
        try:
            return self._request_of(document)
        except (LookupError, TypeError, ValueError) as error:
            raise StoreError("approvals: a request does not decode") from error

    def _request_of(self, document: Document) -> ApprovalRequest:
        terms = document["terms"]
        assert isinstance(terms, list)
        approvers, approvals, expires_s = terms
        state = RequestState(str(document["state"]))
        expires = int(str(document["expires_unix_s"]))
        if state in (RequestState.PENDING, RequestState.GRANTED) and self._now() >= expires:
            state = RequestState.EXPIRED
        votes = document["votes"]
        assert isinstance(votes, list)
        return ApprovalRequest(
            token=str(document["token"]),
            state=state,
            digest=str(document["digest"]),
            action=json.loads(str(document["canonical"])),
            terms=ApprovalTerms(tuple(approvers), int(approvals), float(expires_s)),
            rule_id=str(document["rule_id"]),
            policy=str(document["policy"]),
            title=str(document["title"]),
            reason=str(document["reason"]),
            decision_id=str(document["decision_id"]),
            created_unix_s=int(str(document["created_unix_s"])),
            expires_unix_s=expires,
            votes=tuple(vote_of(item) for item in votes),
            used_unix_s=int(str(document["used_unix_s"])),
            denied_by=str(document["denied_by"]),
        )

    def _now(self) -> int:
        return self._clock.unix_ns() // 1_000_000_000
