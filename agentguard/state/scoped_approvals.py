"""Grants for more than one call: used one by one, never one more than granted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

from agentguard.errors import PolicyError
from agentguard.state.action import Action
from agentguard.state.approval_cells import GRANT, REQUEST, ApprovalCells
from agentguard.state.approval_request import ApprovalRequest, RequestState, whole
from agentguard.state.scopes import Scope, check_scope, target_of
from agentguard.state.votes import Approvers
from agentguard.values import ApprovalTerms

Covers: TypeAlias = Callable[[str, Mapping[str, object]], bool]
"""Whether arguments fulfil the condition of a scope."""


class ScopedGrant(NamedTuple):
    """A grant for more than one call, and what is left of it."""

    request: ApprovalRequest
    scope: Scope
    used: int
    last_unix_s: int
    """When it was used last; 0: never."""


class ScopedApprovals(ApprovalCells):
    """Counts the uses of grants with a scope."""

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
        if terms.scopes is None or not self._cells.linked(GRANT, target):
            return None
        now = self._now()
        with self._cells.transaction():
            for cell in self._cells.linked(GRANT, target):
                known = self._cells.get(REQUEST, cell.key)
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
        for cell in self._cells.changed(GRANT):
            document = self._cells.get(REQUEST, cell.key)
            request = self._decode(document) if document is not None else None
            if request is None or request.state is not RequestState.GRANTED or request.scope is None:
                continue
            used, last = whole(cell.document["used"]), whole(cell.document["last_unix_s"])
            found.append(ScopedGrant(request, request.scope, used, last))
        return tuple(
            sorted(found, key=lambda one: (one.request.created_unix_s, one.request.token), reverse=True)
        )
