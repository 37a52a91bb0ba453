"""Rules with a memory, through real calls: throttles, breakers, budgets, kill orders."""

from __future__ import annotations

import asyncio

import pytest

import agentguard
from agentguard.runtime.active import ACTIVE
from agentguard.values import DenialKind, Effect, Usage
from tests.unit.runtime.conftest import Start, decisions

THROTTLE = """
- id: RAT-001
  title: Three searches a minute
  at: tool.before
  when: tool.name == 'search'
  then: { throttle: { key: tool.name, limit: 3, window: 1m } }
  message: { agent: Use what you have found. }
"""

BREAKER = """
- id: REL-001
  title: A failing tool is rested
  at: tool.before
  when: tool.error_rate_5m > 0.5 && tool.calls_5m >= 3
  then: { circuit_break: { key: tool.name, open_for: 2m } }
"""

KILL = """
- id: KIL-001
  title: Whoever calls the tripwire is stopped
  at: tool.before
  when: tool.name == 'tripwire'
  then: { kill: { scope: agent } }
"""

NOTHING = """
- id: NOP-001
  title: Nothing
  at: tool.before
  when: "false"
  then: warn
"""

BUDGETS = """\
budgets:
  - { id: BUD-001, title: Two cents a day, key: [agent.name], measure: cost.usd, limit: 0.02, window: 1d,
      reserve: estimate, soft: 0.5, then: deny }
  - { id: BUD-002, title: Five searches an hour, key: [], measure: calls, limit: 5, window: 1h, reserve: max,
      when: tool.name == 'search', then: deny }
"""


@agentguard.tool(effect="read")
def search(query: str) -> str:
    """Search."""
    if query == "fail":
        raise OSError("down")
    return f"found {query}"


@agentguard.tool(name="search", effect="read")
async def search_async(query: str) -> str:
    """Search."""
    return f"found {query}"


@agentguard.tool(effect="none")
def tripwire() -> str:
    """Ought never to be called."""
    raise AssertionError("ran")


@agentguard.model(name="chat", model="no-price-known", provider="test")
def chat(tokens: int) -> str:
    """Answer."""
    agentguard.record_usage(input_tokens=tokens, output_tokens=0)
    return "answer"


@agentguard.agent(name="clerk")
def clerk() -> str:
    """Do as told."""
    return tripwire()


def test_a_throttle_stops_the_fourth_call(start: Start) -> None:
    """Sync and async calls share a count; the model is told to wait, and the log has the rule."""
    runtime = start(THROTTLE)
    assert [search("a"), search("b"), asyncio.run(search_async("c"))] == ["found a", "found b", "found c"]
    denied = 0
    while denied < 10:
        with pytest.raises(agentguard.CallDenied) as caught:
            search("d")
        denied += 1
        decision = caught.value.decision
        if decision.retry_after_s != 1.0:
            break  # With a second a disk is waited for that takes long to answer; the next answer is at hand.
    assert (decision.effect, decision.kind, decision.rule_id) == (Effect.THROTTLE, DenialKind.WAIT, "RAT-001")
    assert decision.retry_after_s is not None
    assert 50 < decision.retry_after_s <= 63
    text = str(caught.value)
    assert "Kind: wait. Retry after" in text
    assert "Use what you have found." in text
    with pytest.raises(agentguard.CallDenied):
        asyncio.run(search_async("e"))
    logged = [
        stored.record.decision.effect for stored in decisions(runtime) if stored.record.point != "outcome"
    ]
    assert logged.count(Effect.THROTTLE) == denied + 1


def test_a_breaker_rests_a_failing_tool(start: Start) -> None:
    """After enough failures the tool is not called any more."""
    start(BREAKER)
    for _ in range(3):
        with pytest.raises(OSError, match="down"):
            search("fail")
    with pytest.raises(agentguard.CallDenied) as caught:
        search("fine")
    assert caught.value.decision.effect is Effect.CIRCUIT_BREAK
    assert caught.value.decision.retry_after_s == pytest.approx(120, abs=1)


def test_a_rule_can_stop_an_agent_everywhere(start: Start) -> None:
    """The order is written, in the log, and stops the next call before any rule is asked."""
    runtime = start(KILL)
    with pytest.raises(agentguard.CallDenied) as caught:
        clerk()
    assert caught.value.decision.rule_id == "KIL-001"
    [order] = runtime.state.kill.orders()
    assert (order.scope, order.by) == ("agent:clerk", "rule test/KIL-001")
    with pytest.raises(agentguard.CallDenied) as again:
        clerk()
    assert "kill switch (agent:clerk)" in again.value.decision.reason
    assert search("a") == "found a"


def test_an_unnamed_agent_stops_everything(start: Start) -> None:
    """Where there is no name to stop, everything is."""
    runtime = start(KILL)
    with pytest.raises(agentguard.CallDenied):
        tripwire()
    assert [order.scope for order in runtime.state.kill.orders()] == ["all"]
    with pytest.raises(agentguard.CallDenied):
        search("a")


def test_a_budget_of_calls_is_exact(start: Start) -> None:
    """Five run, the sixth waits for the next hour; other tools are not counted."""
    start(NOTHING, more=BUDGETS)
    for number in range(5):
        assert search(str(number))
    with pytest.raises(agentguard.CallDenied) as caught:
        search("6")
    assert (caught.value.decision.effect, caught.value.decision.rule_id) == (Effect.DENY, "BUD-002")
    assert caught.value.decision.kind is DenialKind.WAIT


def test_a_model_without_a_price_is_charged_the_ceiling(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """100 dollars a million tokens by default: 150 tokens are a cent and a half, and the log says so."""
    runtime = start(NOTHING, more=BUDGETS)
    chat(150)
    assert "has no price" in caplog.text
    assert runtime.state.spend.usd_today() == pytest.approx(0.015)
    runtime.state.flush()
    with pytest.raises(agentguard.CallDenied) as caught:
        chat(150)
    assert caught.value.decision.rule_id == "BUD-001"


def test_what_did_not_run_costs_nothing(start: Start) -> None:
    """A call that another rule holds back gives back what was set aside."""
    runtime = start(
        """
        - id: APP-001
          title: A person decides
          at: tool.before
          when: tool.name == 'search'
          then: { require_approval: { from: [ann], expires: 1h } }
        """,
        more=BUDGETS,
    )
    for _ in range(8):
        with pytest.raises(agentguard.ApprovalPending):
            search("a")
    assert ACTIVE.runtime is runtime


def test_a_limit_that_cannot_be_asked_denies(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the state never lets a call run."""
    runtime = start(THROTTLE, strict=False)

    def broken(*_: object) -> None:
        raise OSError("gone")

    monkeypatch.setattr(runtime.state.ledger, "draw", broken)
    with pytest.raises(agentguard.CallDenied) as caught:
        search("a")
    assert caught.value.decision.errors == ("RAT-001: OSError",)


def test_what_has_no_price_counts_beside_what_has_one(start: Start) -> None:
    """A budget of an agent is charged the ceiling for the models inside that nobody has a price for."""
    start(
        NOTHING,
        more="""\
budgets:
  - { id: BUD-003, title: A dollar a day for one agent, key: [agent.name], measure: cost.usd, limit: 1, window: 1d,
      at: agent.before, reserve: none, then: deny }
""",
        unpriced_usd_per_million=1000.0,
    )

    @agentguard.model(name="known", model="known")
    def known() -> None:
        agentguard.record_usage(input_tokens=10, output_tokens=0, cost_usd=0.001)

    @agentguard.tool(effect="read")
    def look() -> None:
        chat(900)

    @agentguard.agent(name="mixed")
    def mixed() -> None:
        known()
        look()

    mixed()
    mixed()
    with pytest.raises(agentguard.CallDenied) as caught:
        mixed()
    assert caught.value.decision.rule_id == "BUD-003"
    assert "1.802 of 1" in caught.value.decision.reason


def test_an_attempt_without_a_price_is_charged_beside_one_with_a_price(start: Start) -> None:
    """A call that went on to a model without a price is charged both, whichever came first."""
    runtime = start(
        NOTHING,
        more="""\
budgets:
  - { id: BUD-004, title: A dollar a day, key: [model.name], measure: cost.usd, limit: 1, window: 1d,
      at: model.before, reserve: none, then: deny }
""",
        unpriced_usd_per_million=1000.0,
    )

    @agentguard.model(name="ask", model="first")
    def ask(*attempts: Usage) -> None:
        for attempt in attempts:
            agentguard.record_usage(attempt)

    priced = Usage(10, 0, model="first", response_id="a", cost_usd=0.001)
    unpriced = Usage(900, 0, model="nobodys", response_id="b")
    ask(priced, unpriced)
    ask(unpriced, priced)
    with pytest.raises(agentguard.CallDenied) as caught:
        ask(priced)
    assert "1.802 of 1" in caught.value.decision.reason
    assert runtime.flush(10).is_complete
    first, second, _ = sorted(runtime.store.query().spans(), key=lambda span: span.start_unix_ns)
    for span in (first, second):
        assert span.attributes["agentguard.usage.billed.input_tokens"] == 910
        assert "agentguard.cost.billed_usd" not in span.attributes
