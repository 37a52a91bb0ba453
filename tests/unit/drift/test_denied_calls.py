"""What a policy stops is no evidence of drift: a rule that holds calls while there is drift lets go again."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import agentguard
from agentguard import drift
from agentguard.values import DriftStatus, Verdict
from tests.support.clock import FrozenClock
from tests.support.feature_store import MemoryStore
from tests.support.governed import Governed

HOLD = """
- id: HOLD
  title: A person decides while the agent drifts
  at: tool.before
  when: tool.name == 'pay' && drift.status == 'drift'
  then: {require_approval: {from: [group:payments], approvals: 1, expires: 15m, on_timeout: deny}}
"""


@pytest.fixture
def governed(tmp_path: Path) -> Iterator[Governed]:
    """Agentguard, not yet started."""
    made = Governed(tmp_path)
    yield made
    made.stop()


@agentguard.tool(effect="write")
def pay(amount: int) -> int:
    """Pay."""
    return amount


@agentguard.tool(effect="read")
def look(amount: int) -> int:
    """Look something up."""
    return amount


@agentguard.agent(name="clerk")
def clerk(amount: int) -> int:
    """Look, then pay."""
    look(amount)
    return pay(amount)


def test_held_calls_do_not_keep_the_alarm_that_holds_them(governed: Governed) -> None:
    """Sixty payments held by a drift verdict, and their agent's runs, raise no error rate: the rule lets go."""
    runtime = governed.start(HOLD)
    for amount in range(60):
        clerk(amount)
    assert runtime.flush(10.0).is_complete
    drift.save_reference(runtime.store, drift.fit_reference(runtime.store))
    runtime.publish(Verdict(DriftStatus.DRIFT, kind="drift"))
    for amount in range(60):
        with pytest.raises(agentguard.ApprovalPending):
            clerk(amount)
    assert runtime.flush(10.0).is_complete
    seen: list[Verdict] = []
    checker = drift.Checker(runtime.store, clock=runtime.clock, publish=seen.append)
    checker.check_once()
    rows = {one.feature: one for one in seen[0].features}
    assert rows["tool.error_rate"].n_current == 60
    assert rows["tool.error_rate"].effect == 0.0
    assert not any(one.n_current for name, one in rows.items() if name.startswith("agent."))
    # How long such tiny calls take is another matter.
    assert [name for name in seen[0].drifted if not name.endswith("_ms")] == []
    runtime.publish(Verdict(DriftStatus.STABLE))
    assert clerk(1) == 1


def test_a_gateway_that_drops_usage_is_quality() -> None:
    """Usage missing, another shape of attributes and a renamed finish reason are about the data."""
    store, second = MemoryStore(), 10**9
    for start, reason, schema, tokens in ((0, "stop", "aa", 50), (600, "end", "bb", -1)):
        store.add(
            start_unix_ns=[(start + i) * second for i in range(200)],
            duration_ns=[400 * 10**6 + i % 7 for i in range(200)],
            input_tokens=[tokens] * 200,
            output_tokens=[tokens] * 200,
            is_usage_missing=[int(tokens < 0)] * 200,
            finish_reason=reason,
            schema=schema,
        )
    drift.save_reference(store, drift.fit_reference(store, until_unix_ns=500 * second))
    seen: list[Verdict] = []
    drift.Checker(store, clock=FrozenClock(unix_ns=900 * second), publish=seen.append).check_once()
    assert set(seen[0].drifted) == {"model.token_count (missing)", "model.schema", "model.finish_reason"}
    assert seen[0].kind == "quality"
