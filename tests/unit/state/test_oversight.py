"""Figures about how people decide."""

from __future__ import annotations

from agentguard.seal import SigningKey
from agentguard.state import APPROVE, DENY, Approver, freeze_action, oversight, sign_vote
from agentguard.values import ApprovalTerms
from tests.support.clock import FrozenClock
from tests.unit.state.conftest import AnyState


def test_answers_are_counted(state: AnyState, clock: FrozenClock) -> None:
    """How many, how fast, how often yes, and by whom; what nobody answered is no answer."""
    keys = {name: SigningKey.generate() for name in ("ann", "bob")}
    approvers = {name: Approver(key.verify_key.raw) for name, key in keys.items()}
    terms = ApprovalTerms(("ann", "bob"), 1, 600.0)
    for number, (who, verdict, after_s) in enumerate(
        [("ann", APPROVE, 1), ("ann", APPROVE, 61), ("bob", DENY, 31), ("", "", 0)]
    ):
        action = freeze_action("tool.before", tool="pay", args={"n": number})
        token = state.approvals.request(action, terms)
        clock.advance(after_s)
        if who:
            vote = sign_vote(
                keys[who], store_id=state.approvals.store_id, token=token, digest=action.digest, approver=who,
                time_unix_s=clock.unix_ns() // 10**9, verdict=verdict,
            )  # fmt: skip
            state.approvals.grant(token, vote, approvers)
    found = oversight(state.approvals.list())
    assert (found.requests, found.pending) == (4, 1)
    assert found.everyone == (3, 2, 31, 1)
    assert found.everyone.approve_rate == 2 / 3
    assert found.by_approver["ann"] == (2, 2, 31.0, 1)
    assert found.by_approver["bob"].approve_rate == 0.0
    assert (
        oversight(state.approvals.list(), since_unix_s=clock.unix_ns() // 10**9 + 1).everyone.median_s is None
    )
