"""
Requests that wait for people, and what became of them.

A request is bound to one frozen action. It is granted by enough valid votes,
used once, and lapses. Votes are checked again when the grant is used: a
database that somebody edited grants nothing.
"""

from __future__ import annotations

from agentguard.errors import PolicyError, StoreError
from agentguard.state.action import Action
from agentguard.state.approval_cells import INVITE, KEEP_S, REQUEST
from agentguard.state.approval_request import ApprovalRequest, RequestState
from agentguard.state.scoped_approvals import ScopedApprovals
from agentguard.state.scopes import check_scope
from agentguard.state.votes import (
    APPROVE,
    CLOCK_SKEW_S_MAX,
    DENY,
    Approvers,
    Vote,
    check_vote,
    vote_document,
)
from agentguard.values import ApprovalTerms

REQUESTS_MAX = 1000
"""Requests kept at one time, the lapsed and used ones of the last week included."""
VOTES_MAX = 64
EXPIRES_S_MAX = 366 * 86_400
TOKEN_BYTES = 8
NONCE_BYTES = 16
REASON_CHARACTERS_MAX = 4000


class Approvals(ScopedApprovals):
    """Makes requests, takes votes, gives each grant out once."""

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
        run_id: str = "",
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
            run_id:
                The run that asks: a grant may be for it alone.

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
            for cell in self._cells.linked(REQUEST, action.digest):
                known = self._decode(cell.document)
                is_open = known.state is RequestState.PENDING or (
                    # A grant with a scope that does not hold for this call does not answer it.
                    known.state is RequestState.GRANTED and known.scope is None
                )
                if is_open and known.terms == terms:
                    return known.token
            self._cells.remove_expired(now)
            if self._cells.count(REQUEST) >= REQUESTS_MAX:
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
                    "terms": [
                        list(terms.approvers),
                        terms.approvals,
                        terms.expires_s,
                        list(terms.scopes) if terms.scopes is not None else None,
                    ],
                    "rule_id": rule_id,
                    "policy": policy,
                    "title": title,
                    "reason": reason[:REASON_CHARACTERS_MAX],
                    "decision_id": decision_id,
                    "run_id": run_id,
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
        if not self._cells.linked(REQUEST, action_digest):
            return None
        now = self._now()
        with self._cells.transaction():
            for cell in self._cells.linked(REQUEST, action_digest):
                request = self._decode(cell.document)
                if request.digest != action_digest or request.requester != requester:
                    continue
                if request.state not in (RequestState.PENDING, RequestState.GRANTED):
                    continue
                granted = self._counted(request, terms, approvers)
                if granted is None or granted.scope is not None:
                    continue
                if now >= granted.time_unix_s + min(terms.expires_s, request.terms.expires_s):
                    continue
                self._put({**cell.document, "state": RequestState.USED.value, "used_unix_s": now})
                return request.token
        return None

    def revoke(self, token: str, *, by: str) -> ApprovalRequest:
        """
        Take back a grant that is not used up; without a signature, as `deny`.

        Args:
            token:
                The request, or the unique beginning of its token.
            by:
                Who revokes, for the record.

        Returns:
            The request.

        Raises:
            PolicyError: There is no such request, or it is not granted.
            StoreError: The state cannot be read or written.
        """
        return self._end(token, by, (RequestState.GRANTED,), "not granted")

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
        with self._cells.transaction():
            return self._grant(token, vote, approvers)

    def _grant(self, token: str, vote: Vote, approvers: Approvers) -> ApprovalRequest:
        """Do it inside a transaction."""
        now = self._now()
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
        if vote.verdict == APPROVE:
            if vote.scope is not None:
                check_scope(vote.scope, request.terms, run_id=request.run_id)
            if any(known.verdict == APPROVE for known in request.votes) and vote.scope != request.scope:
                raise PolicyError("approval: others have signed another scope; all must sign the same").hint(
                    f"`agentguard approvals show {request.token}` says which"
                )
        if len(request.votes) >= VOTES_MAX:
            raise PolicyError(f"approval: request {request.token} has {VOTES_MAX} votes")
        votes = [*request.votes, vote]
        changed = dict(document)
        changed["votes"] = [vote_document(item) for item in votes]
        if vote.verdict == DENY:
            changed["state"], changed["denied_by"] = RequestState.DENIED.value, vote.approver
        elif (counted := self._counted(self._decode(changed), request.terms, approvers)) is not None:
            changed["state"] = RequestState.GRANTED.value
            lasts_s = request.terms.expires_s if counted.scope is None else counted.scope.lasts_s
            changed["expires_unix_s"] = expires = now + max(int(lasts_s), 1)
            if counted.scope is not None:
                target = self._target(request)
                self._put_grant(request.token, target, 0, 0, expires)
        self._put(changed)
        return self._decode(changed)

    def invite(self, token: str) -> tuple[str, ...]:
        """
        Draw what answers from outside must show, once for each request.

        Args:
            token:
                The request.

        Returns:
            One nonce for each approval that is needed, each good for one answer; none where they were drawn before.

        Raises:
            PolicyError: There is no such request.
            StoreError: The state cannot be read or written.
        """
        with self._cells.transaction():
            request, _ = self._find(token)
            if request.state is not RequestState.PENDING or self._cells.get(INVITE, request.token):
                return ()
            nonces = tuple(self._random_bytes(NONCE_BYTES).hex() for _ in range(request.terms.approvals))
            self._put_nonces(request, list(nonces))
            return nonces

    def answer(self, token: str, nonce: str, vote: Vote, approvers: Approvers) -> ApprovalRequest:
        """
        Take a signed vote from outside; as `grant`, and its nonce is used up with it.

        Args:
            token:
                The whole token of the request.
            nonce:
                One of those that `invite` drew.
            vote:
                As `sign_vote` made it.
            approvers:
                The listed approvers.

        Returns:
            The request after the vote.

        Raises:
            PolicyError: The nonce is none, or used, or the vote does not count; nothing changed.
            StoreError: The state cannot be read or written.
        """
        with self._cells.transaction():
            invited = self._cells.get(INVITE, token)
            nonces = list(invited["nonces"]) if invited is not None else []  # type: ignore[call-overload]
            if nonce not in nonces:
                raise PolicyError("approval: the nonce is used, or of another request")
            request = self._grant(token, vote, approvers)
            self._put_nonces(request, [known for known in nonces if known != nonce])
            return request

    def _put_nonces(self, request: ApprovalRequest, nonces: list[str]) -> None:
        self._cells.put(
            INVITE, request.token, {"nonces": nonces}, expires_unix_s=request.expires_unix_s + KEEP_S
        )

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
        return self._end(token, by, (RequestState.PENDING, RequestState.GRANTED), "and cannot be refused")

    def _end(self, token: str, by: str, states: tuple[RequestState, ...], otherwise: str) -> ApprovalRequest:
        with self._cells.transaction():
            request, document = self._find(token)
            if request.state not in states:
                raise PolicyError(f"approval: request {request.token} is {request.state.value}, {otherwise}")
            changed = {**document, "state": RequestState.DENIED.value, "denied_by": by[:256]}
            self._put(changed)
            return self._decode(changed)

    def list(self) -> tuple[ApprovalRequest, ...]:
        """
        List all requests that are kept, the newest first.

        Raises:
            StoreError: The state cannot be read.
        """
        requests = [self._decode(cell.document) for cell in self._cells.changed(REQUEST)]
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
                self._cells.put(REQUEST, request.token, {}, expires_unix_s=1)
            self._cells.remove_expired(self._now())
        return len(found)
