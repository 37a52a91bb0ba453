"""Where requests, uses and nonces lie: how they are found, written and read back."""

from __future__ import annotations

import os
from collections.abc import Callable

from agentguard.errors import PolicyError
from agentguard.state.action import Action
from agentguard.state.approval_request import ApprovalRequest, request_of
from agentguard.state.cells import Cells, Document
from agentguard.state.scopes import target_of
from agentguard.state.votes import Approvers, Counted, counted_at
from agentguard.values import ApprovalTerms, Clock

KEEP_S = 7 * 86_400
"""How long what is over is kept."""

REQUEST = "approval"
GRANT = "grant"
"""How often a grant with a scope was used."""
INVITE = "approval-nonces"
"""What answers from outside must show; one is used up with each."""


class ApprovalCells:
    """The cells of approvals."""

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

    @staticmethod
    def _target(request: ApprovalRequest) -> str:
        fields = {
            name: str(request.action[name]) for name in ("point", "tool", "model", "agent", "principal")
        }
        action = Action(**fields, args={}, canonical=b"", digest="")
        return target_of(action, policy=request.policy, rule_id=request.rule_id)

    def _put_grant(self, token: str, target: str, used: int, last_unix_s: int, expires_unix_s: int) -> None:
        self._cells.put(
            GRANT,
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
        document = self._cells.get(REQUEST, token)
        if document is None:
            matching = [
                cell.document for cell in self._cells.changed(REQUEST) if token and cell.key.startswith(token)
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
            REQUEST,
            str(document["token"]),
            document,
            link=str(document["digest"]),
            expires_unix_s=expires + KEEP_S,
        )

    def _decode(self, document: Document) -> ApprovalRequest:
        return request_of(document, now_unix_s=self._now())

    def _now(self) -> int:
        return self._clock.unix_ns() // 1_000_000_000
