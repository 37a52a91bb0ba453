"""
Requests that wait for people, and what became of them.

A request is bound to one frozen action. It is granted by enough valid votes,
used once, and lapses. Votes are checked again when the grant is used: a
database that somebody edited grants nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

from agentguard.errors import PolicyError, StoreError
from agentguard.state.action import Action
from agentguard.state.approval_request import ApprovalRequest, RequestState, request_of, whole
from agentguard.state.cells import Cells, Document
from agentguard.state.scopes import Scope, check_scope, target_of
from agentguard.state.votes import (
    APPROVE,
    CLOCK_SKEW_S_MAX,
    DENY,
    Approvers,
    Counted,
    Vote,
    check_vote,
    counted_at,
    vote_document,
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
_GRANT = "grant"
"""How often a grant with a scope was used."""

Covers: TypeAlias = Callable[[str, Mapping[str, object]], bool]
"""Whether arguments fulfil the condition of a scope."""


class ScopedGrant(NamedTuple):
    """A grant for more than one call, and what is left of it."""

    request: ApprovalRequest
    scope: Scope
    used: int
    last_unix_s: int
    """When it was used last; 0: never."""


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
            for cell in self._cells.linked(_KIND, action.digest):
                known = self._decode(cell.document)
                is_open = known.state is RequestState.PENDING or (
                    # A grant with a scope that does not hold for this call does not answer it.
                    known.state is RequestState.GRANTED and known.scope is None
                )
                if is_open and known.terms == terms:
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
                granted = self._counted(request, terms, approvers)
                if granted is None or granted.scope is not None:
                    continue
                if now >= granted.time_unix_s + min(terms.expires_s, request.terms.expires_s):
                    continue
                self._put({**cell.document, "state": RequestState.USED.value, "used_unix_s": now})
                return request.token
        return None

    def use_scoped(
        self, action: Action, terms: ApprovalTerms, approvers: Approvers, *, policy: str, rule_id: str,
        run_id: str, covers: Covers,
    ) -> str | None:  # fmt: skip
        """
        Use a grant with a scope once, if there is one for an action.

        Args:
            action:
                Exactly what is about to run.
            terms:
                What the rule asks for now; a rule that became stricter counts.
            approvers:
                Who is listed now.
            policy:
                The document of the rule that asks.
            rule_id:
                The rule.
            run_id:
                The run of the call.
            covers:
                Says whether arguments fulfil a condition; what it cannot say is no.

        Returns:
            The token of the request, which is the approval's id; None where no grant is for this call, or all
            are used up. It is counted then, whether or not the call succeeds.

        Raises:
            StoreError: The state cannot be read or written.
        """
        target = target_of(action, policy=policy, rule_id=rule_id)
        if terms.scopes is None or not self._cells.linked(_GRANT, target):
            return None
        now = self._now()
        with self._cells.transaction():
            for cell in self._cells.linked(_GRANT, target):
                known = self._cells.get(_KIND, cell.key)
                if known is None:
                    continue
                request = self._decode(known)
                scope = self._usable(request, terms, approvers, now)
                used = whole(cell.document["used"])
                if scope is None or used >= scope.uses or (scope.run and scope.run != run_id):
                    continue
                is_for = covers(scope.when, action.args) if scope.when else request.digest == action.digest
                if not is_for:
                    continue
                self._put_grant(request.token, target, used + 1, now, request.expires_unix_s)
                if used + 1 >= scope.uses:
                    self._put({**known, "state": RequestState.USED.value, "used_unix_s": now})
                return request.token
        return None

    def _usable(
        self, request: ApprovalRequest, terms: ApprovalTerms, approvers: Approvers, now: int
    ) -> Scope | None:
        """Give the scope of a grant that counts now, by what the rule says now."""
        if request.state is not RequestState.GRANTED:
            return None
        counted = self._counted(request, terms, approvers)
        if counted is None or counted.scope is None or now >= counted.time_unix_s + counted.scope.lasts_s:
            return None
        try:
            check_scope(counted.scope, terms, run_id=request.run_id)
        except PolicyError:
            return None
        return counted.scope

    def scoped(self) -> tuple[ScopedGrant, ...]:
        """
        List the grants with a scope that are in force by the machine's clock, the newest first.

        Raises:
            StoreError: The state cannot be read.
        """
        found = []
        for cell in self._cells.changed(_GRANT):
            document = self._cells.get(_KIND, cell.key)
            request = self._decode(document) if document is not None else None
            if request is None or request.state is not RequestState.GRANTED or request.scope is None:
                continue
            used, last = whole(cell.document["used"]), whole(cell.document["last_unix_s"])
            found.append(ScopedGrant(request, request.scope, used, last))
        return tuple(
            sorted(found, key=lambda one: (one.request.created_unix_s, one.request.token), reverse=True)
        )

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
            if vote.verdict == APPROVE:
                if vote.scope is not None:
                    check_scope(vote.scope, request.terms, run_id=request.run_id)
                if any(known.verdict == APPROVE for known in request.votes) and vote.scope != request.scope:
                    raise PolicyError(
                        "approval: others have signed another scope; all must sign the same"
                    ).hint(f"`agentguard approvals show {request.token}` says which")
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

    @staticmethod
    def _target(request: ApprovalRequest) -> str:
        fields = {
            name: str(request.action[name]) for name in ("point", "tool", "model", "agent", "principal")
        }
        action = Action(**fields, args={}, canonical=b"", digest="")
        return target_of(action, policy=request.policy, rule_id=request.rule_id)

    def _put_grant(self, token: str, target: str, used: int, last_unix_s: int, expires_unix_s: int) -> None:
        self._cells.put(
            _GRANT,
            token,
            {"used": used, "last_unix_s": last_unix_s},
            link=target,
            expires_unix_s=expires_unix_s + KEEP_S,
        )

    def _counted(
        self, request: ApprovalRequest, terms: ApprovalTerms, approvers: Approvers
    ) -> Counted | None:
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
        return request_of(document, now_unix_s=self._now())

    def _now(self) -> int:
        return self._clock.unix_ns() // 1_000_000_000
