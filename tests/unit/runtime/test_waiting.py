"""Calls that wait for people: blocking, awaiting, refused, forgotten, overtaken by events."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator

import pytest

import agentguard
from agentguard.runtime.core import Runtime
from agentguard.seal import SigningKey
from agentguard.state import APPROVE, DENY, Scope, sign_vote
from agentguard.values import DenialKind, Effect
from tests.unit.runtime.conftest import Start, decisions

RULE = """
- id: PAY-001
  title: A person decides
  at: tool.before
  when: tool.name == 'pay'
  then: { require_approval: { from: [group:payments], expires: 15m, wait: %s } }
"""

RAN: list[float] = []


@agentguard.tool(effect="write")
def pay(usd: float) -> str:
    """Pay."""
    RAN.append(usd)
    return f"paid {usd:g}"


@agentguard.tool(name="pay", effect="write")
async def pay_async(usd: float) -> str:
    """Pay."""
    RAN.append(usd)
    return f"paid {usd:g}"


@pytest.fixture(autouse=True)
def nothing_ran() -> Iterator[None]:
    """Begin each test with nothing paid."""
    RAN.clear()
    yield
    RAN.clear()


def people(key: SigningKey) -> str:
    """A document that lists one approver."""
    return f"""---
apiVersion: agentguard/v1
kind: Approvers
metadata: {{name: people}}
groups: {{payments: [{{id: bob@corp.example, public_key: "{key.verify_key.to_text()}"}}]}}
"""


def answer(
    runtime: Runtime, key: SigningKey, verdict: str, *, before: Callable[[], object] = bool
) -> threading.Thread:
    """Answer the first request that comes, from another thread."""

    def work() -> None:
        approvals = runtime.state.approvals
        for _ in range(200):
            if waiting := [r for r in approvals.list() if r.state.value == "pending"]:
                break
            time.sleep(0.02)
        before()
        vote = sign_vote(
            key, store_id=approvals.store_id, token=waiting[0].token, digest=waiting[0].digest,
            approver="bob@corp.example", time_unix_s=runtime.clock.unix_ns() // 10**9, verdict=verdict,
        )  # fmt: skip
        approvals.grant(waiting[0].token, vote, runtime.approvers)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


@pytest.mark.parametrize("is_async", [False, True])
def test_a_call_waits_and_runs_once_it_is_granted(start: Start, is_async: bool) -> None:
    """The caller sees nothing but a slow call; the log has request, grant and outcome."""
    key = SigningKey.generate()
    runtime = start(RULE % "20s", more=people(key))
    helper = answer(runtime, key, APPROVE)
    assert (asyncio.run(pay_async(5.0)) if is_async else pay(5.0)) == "paid 5"
    helper.join()
    records = [stored.record for stored in decisions(runtime)]
    assert [(record.decision.effect, bool(record.approval_id)) for record in records] == [
        (Effect.REQUIRE_APPROVAL, False), (Effect.ALLOW, True), (Effect.ALLOW, False),
    ]  # fmt: skip


def test_a_refusal_ends_the_waiting(start: Start) -> None:
    """The call is denied as soon as a person says no."""
    key = SigningKey.generate()
    runtime = start(RULE % "20s", more=people(key))
    helper = answer(runtime, key, DENY)
    with pytest.raises(agentguard.CallDenied) as caught:
        pay(5.0)
    helper.join()
    assert "a person has refused" in caught.value.decision.reason
    assert caught.value.decision.kind is DenialKind.FORBIDDEN
    assert RAN == []


def test_nobody_answers(start: Start) -> None:
    """After its time the call is denied; the request stays, and a grant serves the next call."""
    key = SigningKey.generate()
    runtime = start(RULE % "1s", more=people(key))
    with pytest.raises(agentguard.CallDenied) as caught:
        pay(5.0)
    assert caught.value.decision.kind is DenialKind.NEEDS_APPROVAL
    assert "nobody has answered within 1 s" in caught.value.decision.reason
    answer(runtime, key, APPROVE).join()
    assert pay(5.0) == "paid 5"


def test_the_setting_is_for_rules_that_do_not_say(start: Start) -> None:
    """`approval_wait_s` waits; without it the call says at once that it is pending."""
    key = SigningKey.generate()
    runtime = start((RULE % "1s").replace(", wait: 1s", ""), more=people(key), approval_wait_s=20)
    helper = answer(runtime, key, APPROVE)
    assert pay(7.0) == "paid 7"
    helper.join()


def test_what_was_stopped_meanwhile_does_not_run(start: Start) -> None:
    """An approval is no licence against a kill order that came while people were asked."""
    key = SigningKey.generate()
    runtime = start(RULE % "20s", more=people(key))
    helper = answer(
        runtime, key, APPROVE, before=lambda: runtime.state.kill.set("tool:pay", reason="stop", by="test")
    )
    with pytest.raises(agentguard.CallDenied) as caught:
        pay(5.0)
    helper.join()
    assert caught.value.decision.effect is Effect.KILL
    assert RAN == []


def test_a_task_that_goes_away_leaves_the_grant(start: Start) -> None:
    """Who was cancelled while waiting uses nothing up."""
    key = SigningKey.generate()
    runtime = start(RULE % "20s", more=people(key))

    async def impatient() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pay_async(5.0), 0.3)

    asyncio.run(impatient())
    time.sleep(0.7)
    answer(runtime, key, APPROVE).join()
    assert asyncio.run(pay_async(5.0)) == "paid 5"
    assert RAN == [5.0]


SCOPED = """
- id: PAY-001
  title: A person decides
  at: tool.before
  when: tool.name == 'pay'
  then:
    require_approval:
      from: [group:payments]
      expires: 15m
      scopes: { uses: 3, for: 1h, arguments: pattern }
"""


def test_a_grant_with_a_scope_serves_several_calls(start: Start) -> None:
    """As many as granted, of the run that asked, for which the condition holds; each use names the approval."""
    key = SigningKey.generate()
    runtime = start(SCOPED, more=people(key))
    with agentguard.run():
        with pytest.raises(agentguard.ApprovalPending) as caught:
            pay(5.0)
        approvals = runtime.state.approvals
        request = approvals.show(caught.value.token)
        vote = sign_vote(
            key, store_id=approvals.store_id, token=request.token, digest=request.digest,
            approver="bob@corp.example", time_unix_s=runtime.clock.unix_ns() // 10**9,
            scope=Scope(2, 3600, request.run_id, "args.usd <= 10.0 && size(args) == 1"),
        )  # fmt: skip
        approvals.grant(request.token, vote, runtime.approvers)
        with pytest.raises(agentguard.ApprovalPending):
            pay(11.0)
        assert [pay(4.0), pay(10.0)] == ["paid 4", "paid 10"]
        with pytest.raises(agentguard.ApprovalPending):
            pay(1.0)
    with pytest.raises(agentguard.ApprovalPending):
        pay(4.0)
    used = [stored.record for stored in decisions(runtime) if stored.record.approval_id]
    assert [record.approval_id for record in used] == [request.token] * 2


def test_a_condition_that_cannot_be_evaluated_grants_nothing(start: Start) -> None:
    """People are asked instead."""
    key = SigningKey.generate()
    runtime = start(SCOPED, more=people(key))
    with agentguard.run(), pytest.raises(agentguard.ApprovalPending) as caught:
        pay(5.0)
    approvals = runtime.state.approvals
    request = approvals.show(caught.value.token)
    for condition in ("args.eur <= 10.0", "args.usd <= 'a'", "nonsense("):
        vote = sign_vote(
            key, store_id=approvals.store_id, token=request.token, digest=request.digest,
            approver="bob@corp.example", time_unix_s=runtime.clock.unix_ns() // 10**9,
            scope=Scope(2, 3600, request.run_id, condition),
        )  # fmt: skip
        if approvals.show(request.token).state.value == "pending":
            approvals.grant(request.token, vote, runtime.approvers)
    with agentguard.run(), pytest.raises(agentguard.ApprovalPending):
        pay(5.0)
    assert RAN == []
